"""Examination of a fitted estimator: each line answers one question, with the number that the answer follows from.

This module makes the findings about the fit itself. :mod:`skgn.residual_findings`, :mod:`skgn.quantile_findings` and
:mod:`skgn.probabilities` make those about its predictions.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.validation import _check_sample_weight, check_consistent_length

from .advice import ELSEWHERE, against_extremes, more_regularisation
from .backend import DTYPES, memory_budget
from .classifier import GNClassifier
from .comparison import Case
from .directions import lacking
from .encoders import column_features
from .ensemble import Member
from .estimator import fitted_likelihood, table_and_target
from .fitted import feature_names, fitted_network, rows_of_network
from .memory import system_memory
from .prior_groups import PriorKind
from .probabilities import probability_findings
from .quantile_findings import quantile_findings
from .regressor import GNRegressor
from .report import Finding, Report
from .residual_findings import residual_findings
from .spectrum import extreme_eigenvalues
from .status import Status
from .tables import dense
from .targets import ClassificationTarget, RegressionTarget
from .unfamiliar import unwatched
from .weighted_rows import first_of_equals
from .wording import counted, first_few

__all__ = ["diagnose"]

#: Relative error of a step, condition number times rounding unit, above which fewer than three digits are right.
_STEP_ERROR = 1e-3

#: If the data determine more than this part of the weights, the network may be too small.
_SATURATED = 0.9

#: Part of the observations that the weights may use up. Above it a float l2 is too small to keep noise out of them. A
#: fit with evidence then follows the noise, if there is any.
_USED_UP = 0.5

#: Part of the features switched off, from which dropping them is worth while. And observations for each weight that
#: show whether a feature matters: with fewer, half of the features that matter are switched off at times.
_MANY_SWITCHED_OFF, _OBSERVATIONS_PER_WEIGHT = 1 / 3, 3

#: Least sum of sample weights; weights that sum to less cannot be repetitions.
_TWO_ROWS = 2

#: A fit on fewer rows has intervals that are too narrow.
_DOZEN = 12

#: Largest number of rows, and largest system, for eigenvalues: they take about a second.
_SPECTRUM_ROWS, _SPECTRUM_SIZE = 2000, 1500


def diagnose(estimator: Any, X: Any, y: Any, *, sample_weight: Any = None, verbose: bool = True) -> Report:
    """Examine a fit and its predictions: say in words what is well, what is not, and what to try next.

    Each line follows from the numbers it shows. X and y should be rows that the fit has not seen; the report cannot
    tell whether they are. For rows of the training data everything below the second heading looks better than it is.

    Parameters
    ----------
    estimator : fitted estimator
        GNRegressor or GNClassifier, a pipeline that ends with one, or a search over one.
    X : array-like of shape (n_samples, n_features)
        Rows that ``estimator.predict`` can take.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets as in training. The training data must have contained all classes of y.
    sample_weight : array-like of shape (n_samples,), default=None
        Number of repetitions of each row. A row of weight 2 counts twice, also in the standard errors.
    verbose : bool, default=True
        Print the report.

    Returns
    -------
    report : Report
        The findings, to iterate over. ``report[topic]`` is one finding, with its ``numbers``, ``verdict`` and
        ``advice``; ``report.advice`` is the advice of all findings. The topics are

        - from the fit: "convergence", "left_out" (``left_out_score_``), "weights" and "effective", "conditioning", and
          "features" (which are switched off). "weights" has the numbers of weights and of observations, "effective"
          the number of weights that the data determine. "conditioning" has eigenvalues of the smaller of the best
          member's Gram matrix and kernel, at the final weights on at most 2,000 rows of X.
        - from X and y: "skill" (against a constant prediction, and what left-out rows promise), "baselines",
          "members", "residuals" and "noise" (regression), "outliers" and "calibration". "baselines" has scores of a
          linear model and of gradient boosting, cross-validated on at most 1,000 rows of X. It names features of twelve
          numbers or more that may be codes, where what the fit leaves over jumps between the numbers. It also names two
          features on which this depends together, where the levels of one have mean targets. "members" has
          those of the members alone, and the share of their loss that averaging takes away. The residuals of a
          regression are divided by their predicted standard deviations. Counts, positive targets and observations with
          Cauchy noise have normal scores of their predicted distributions for "outliers" and "calibration". Of
          quantiles the signs of residuals are tested, and "calibration" has the part of y below each quantile. Below 12
          rows nothing is said of what residuals depend on. The confidence of a classifier is the probability of the
          class that it predicts. Under class weights a row counts by the weight of its class, but is one observation;
          "outliers" takes rows as they are.

    Raises
    ------
    TypeError
        If ``estimator`` is not one of these.
    ValueError
        If X, y and sample_weight do not fit together or do not fit the estimator, or if no weight is positive.
    sklearn.exceptions.NotFittedError
        If ``estimator`` is not fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor, diagnose
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = GNRegressor(random_state=0).fit(X[:300], y[:300])
    >>> report = diagnose(model, X[300:], y[300:], verbose=False)
    >>> report["convergence"].verdict
    'converged'
    >>> print(f"R2 {report['skill'].numbers['r2']:.1f}: {report['skill'].verdict}")
    R2 0.5: better than the mean
    """
    # What overflows is infinite or nan, and the findings show it.
    with unwatched(), np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        case = _case(estimator, X, y, sample_weight)
        on_data = _on_data(case)
        on_fit: tuple[Finding, ...] = _convergence(case), _left_out(case), _weights(case)
        on_fit += _effective(case, on_data), _conditioning(case)
    on_fit += (_features(case, on_fit + on_data),)
    report = Report(type(case.model).__name__, on_fit, on_data, len(case.rows))
    if verbose:
        print(report)
    return report


def _on_data(case: Case) -> tuple[Finding, ...]:
    """Findings about predictions, by what is predicted."""
    if isinstance(case.model, GNClassifier):
        return probability_findings(case)
    return (quantile_findings if fitted_likelihood(case.model).predicts_quantiles else residual_findings)(case)


@dataclass(frozen=True)
class _Case(Case):
    """A case, and what is known of the training of its model."""

    model: GNRegressor | GNClassifier

    @property
    def member(self) -> Member:
        return self.model.estimators_[0]

    @property
    def columns(self) -> int:
        """Number of columns of the loss's curvature: the outputs, or one less for a softmax."""
        return fitted_likelihood(self.model).columns(self.member.network.n_outputs)

    @property
    def n_observations(self) -> float:
        """Number of training samples times columns."""
        return self.member.total_weight * self.columns

    @property
    def fixed_l2(self) -> float | None:
        """The l2 if it was given as a float, else None."""
        return self.member.prior_kind.l2


def _case(estimator: Any, X: Any, y: Any, sample_weight: Any) -> _Case:
    model = fitted_network(estimator)
    if not isinstance(model, (GNRegressor, GNClassifier)):
        raise TypeError(f"diagnose takes a GNRegressor or a GNClassifier, got {type(model).__name__}.")
    if hasattr(model, "to_local"):
        raise TypeError("diagnose takes rows in memory: pass to_local() of the dask fit, and such rows.")
    table, target = table_and_target(model)
    names = feature_names(estimator)
    X = dense(rows_of_network(estimator, X))
    check_consistent_length(X, y, sample_weight)
    expected = np.asarray(model.predict(X)).shape
    if isinstance(target, RegressionTarget) and target.levels is not None:
        expected = expected[:1] + expected[2:]
    regression = isinstance(model, GNRegressor)
    y = check_array(y, ensure_2d=False, allow_nd=True, dtype=np.float64 if regression else None, input_name="y")
    if y.ndim == 2 and y.shape[1] == 1 and len(expected) == 1:
        y = y[:, 0]
    if y.shape != expected:
        raise ValueError(f"y has shape {y.shape}; predictions for X are of a y of shape {expected}.")
    if not regression:
        unknown = np.setdiff1d(y, (0, 1) if y.ndim == 2 else model.classes_)
        if len(unknown):
            raise ValueError(f"y contains the labels {unknown.tolist()}, which were not there in training.")
    weight = _check_sample_weight(sample_weight, np.empty((len(y), 1)), dtype=np.float64)
    if isinstance(target, ClassificationTarget):
        # Probabilities under class weights are those of rows with these weights.
        repetitions, weight = weight.sum(), weight * target.row_factors(target.encode(y))
        weight = weight * (repetitions / (weight.sum() or 1.0))
    if weight.min() < 0 or not weight.any():
        of_classes = " times the weights of the classes" if getattr(model, "class_weight", None) else ""
        raise ValueError(f"sample_weight{of_classes} must not be negative, nor zero for every sample.")
    # Equal rows are repetitions of one, as in a fit: no model may learn from one what it predicts of another.
    first, place = first_of_equals(np.column_stack([table.read(model, X), target.encode(y)]))
    weight = np.bincount(place, weights=weight)
    rows, weight = first[weight > 0], weight[weight > 0]
    if len(rows) < len(y):
        X = _safe_indexing(X, rows)
    return _Case(model, X, y[rows], weight, rows, names)


def _has_converged(status: str) -> bool:
    """Whether training has come to its end, of which a stream does not know."""
    return Status(status).converged and status != Status.STREAM


def _convergence(case: _Case) -> Finding:
    model, members = case.model, case.model.estimators_
    cut_by = Status.INTERRUPTED, Status.MAX_TIME, Status.CALLBACK
    status = model.status_ if model.status_ in cut_by else members[0].status
    path = model.history_["objective" if model.log_evidence_ is None else "log_evidence"]
    change = float(abs(path[-1] - path[-2])) if len(path) > 1 else math.nan
    if model.log_evidence_ is None:
        # Relative to the start, because the last value may be close to 0.
        change /= max(abs(float(path[0])), np.finfo(float).tiny)
    converged = _has_converged(status)
    numbers = {
        "status": status,
        "n_iter": model.n_iter_,
        "last_change": change,
        "members": len(members),
        "members_converged": sum(_has_converged(member.status) for member in members),
    }
    why = {
        "max_iter": f"max_iter={model.max_iter}",
        "max_time": f"max_time={model.max_time}",
    }.get(status, status)
    if status == "stream":
        text = f"not known: {counted(model.n_iter_, 'block')} of partial_fit, one pass over each"
        return Finding("convergence", "not known", numbers, text)
    text = f"{'converged' if converged else 'NOT converged'} after {counted(model.n_iter_, 'iteration')} ({why})"
    if math.isfinite(change):
        moved = f"objective last moved {change:.2g} of its start"
        text += f"; {moved if model.log_evidence_ is None else f'evidence last moved {change:.2g} nats'}"
    advice = None
    if not converged:
        seconds = float(model.history_["time"][-1]) / max(model.n_iter_, 1)
        took = f" (an iteration took {seconds:.2g} s)" if model.n_iter_ else ""
        advice = {
            "max_iter": f"max_iter={max(2 * model.max_iter, 20)}, or fit again with warm_start=True",
            "max_time": f"more max_time{took}",
            "interrupted": "fit again with warm_start=True to go on",
            "callback": "fit again with warm_start=True to go on, without the callback that stopped it",
        }.get(status, _when_stuck(model))
    return Finding("convergence", "converged" if converged else "not converged", numbers, text, advice)


def _left_out(case: _Case) -> Finding:
    model, score = case.model, case.model.left_out_score_
    numbers = {"left_out_score": score}
    if not math.isfinite(score):
        return Finding("left_out", "unknown", numbers, "unknown: training rows cannot be predicted without themselves")
    text = f"D2 {score:.2g} of training rows, each predicted without itself"
    if model._rests_on_copies:
        copied = text + ", but with its near copies: it promises too much"
        return Finding("left_out", "rests on copies", numbers, copied, _without_copies(model))
    if model.status_ == "extremes":
        hidden = text + ": extreme targets hide what the others tell"
        return Finding("left_out", "hidden", numbers, hidden, against_extremes(model))
    if model.status_ != "no_skill":
        return Finding("left_out", "better than a constant" if score > 0 else "like a constant", numbers, text)
    advice = more_regularisation(model)
    if advice is None and case.member.prior_kind != PriorKind("layer"):
        advice = 'prior_groups="layer"'
    elif advice is None:
        advice = "hidden_layer_sizes=()" if case.member.network.hidden_layer_sizes else "fewer features"
    return Finding("left_out", "worse than a constant", numbers, text + ": worse than a constant", advice)


def _without_copies(model: GNRegressor | GNClassifier) -> str:
    advice = "a fit without near copies of rows, and without rows made between others"
    if isinstance(model, GNRegressor):
        advice += ", or a sample_weight of 1 for all copies of a row together"
    return advice


def _when_stuck(model: GNRegressor | GNClassifier) -> str:
    if model.dtype == "float32":
        return 'dtype="float64": the objective cannot be told apart in float32'
    if not isinstance(model.damping, str):
        return 'damping="adaptive"'
    return "standardize=True and a larger l2_regularization: look for extreme values in X and y"


def _weights(case: _Case) -> Finding:
    model, P, N = case.model, case.member.network.n_weights, case.n_observations
    over = P > N
    effective = model.n_effective_parameters_
    numbers = {"n_weights": P, "n_observations": N, "solver": model.solver_}
    text = f"{P} for {counted(N, 'observation')}: {'over' if over else 'under'}-parameterised; solver {model.solver_}"
    advice = None
    l2, rows = case.fixed_l2, case.member.total_weight
    if l2 is None and rows < _TWO_ROWS:
        advice = f"rescale sample_weight to a mean of 1: weights are repetitions, and these sum to {rows:g}"
        if rows == 1:
            # A row without a weight is one observation, and so are rows whose weights were made to sum to 1.
            advice = "more rows; or, where sample_weight was given, rescale it to a mean of 1, as it sums to 1"
        return Finding("weights", "fewer than two rows", numbers, text, advice)
    if rows < _DOZEN:
        text += "; intervals of so few rows are too narrow"
    if over and l2 is not None and (effective > _USED_UP * N or (math.isnan(effective) and l2 == 0)):
        text += f"; l2 {l2:g} leaves them free"
        advice = more_regularisation(model)
    return Finding("weights", "over-parameterised" if over else "under-parameterised", numbers, text, advice)


def _effective(case: _Case, others: tuple[Finding, ...]) -> Finding:
    model, network = case.model, case.member.network
    P, effective = network.n_weights, model.n_effective_parameters_
    encoder = None if model.preprocessor_ is None else model.preprocessor_[-1]
    linear = ((model.n_features_in_ if encoder is None else len(column_features(encoder))) + 1) * case.columns
    numbers = {"n_effective": effective, "n_weights": P, "share": effective / P, "linear": linear}
    if not math.isfinite(effective):
        unknown = lacking(model.solver_, model.batch_size is not None)
        why = f"solver {model.solver_} does not tell" if unknown else "data and l2 do not determine them"
        return Finding("effective", "unknown", numbers, f"unknown: {why}")
    text = f"the data determine {effective:.1f} of {P} weights ({effective / P:.0%})"
    if effective > _USED_UP * case.n_observations and case.fixed_l2 is None:
        text += f", more than half as many as there are observations ({case.n_observations:g})"
        advice = "a score on new rows: so flexible a fit follows the noise, if there is any"
        return Finding("effective", "many", numbers, text, advice)
    if network.hidden_layer_sizes and effective > _SATURATED * P and case.fixed_l2 is None:
        wider = tuple(2 * h for h in network.hidden_layer_sizes)
        # Rows of groups determine the weights as well, and a wider network knows no more of other groups.
        elsewhere = any(finding.advice == ELSEWHERE for finding in others)
        change = None if elsewhere else f"hidden_layer_sizes={wider}, a wider one"
        return Finding("effective", "saturated", numbers, text + ": a small network", change)
    if effective <= linear:
        return Finding("effective", "nearly linear", numbers, text + f", no more than a linear model has ({linear:g})")
    return Finding("effective", "between", numbers, text + f"; a linear model has {linear:g}")


def _conditioning(case: _Case) -> Finding:
    model, member = case.model, case.member
    lowest, highest, n_rows = _extreme_eigenvalues(case)
    # The weakest prior precision; a float l2 gives it to every weight. A fit without iterations has no damping.
    shift = min(float(a.min()) for a in member.precision) + (model.damping_ if math.isfinite(model.damping_) else 0.0)
    condition = float(np.divide(highest, lowest))
    damped = float(np.divide(highest + shift, lowest + shift))
    numbers = {
        "min_eigenvalue": lowest,
        "max_eigenvalue": highest,
        "damping": model.damping_,
        "shift": shift,
        "condition": condition,
        "damped_condition": damped,
        "n_rows": n_rows,
    }
    if n_rows == 0:
        text = "unknown: the system is large, skgn.spectrum.extreme_eigenvalues would tell"
        return Finding("conditioning", "unknown", numbers, text)
    source = f"{counted(n_rows, 'row')} of X"
    if not math.isfinite(highest):
        text = f"unknown: derivatives by the weights overflow ({source})"
        cure = None if model.standardize else "standardize=True, or rescale the columns of X"
        return Finding("conditioning", "unknown", numbers, text, cure)
    eps = float(torch.finfo(DTYPES[model.dtype]).eps)
    text = f"eigenvalues {lowest:.2g} to {highest:.2g} ({source}); condition with prior + damping {damped:.0e}"
    if model.damping_ > highest and (not isinstance(model.damping, str) or not Status(model.status_).converged):
        text = f"damping {model.damping_:.1g} is above the largest eigenvalue {highest:.1g} ({source}): tiny steps"
        return Finding("conditioning", "damping dominates", numbers, text, _less_damping(model, highest))
    if not damped * eps > _STEP_ERROR:
        return Finding("conditioning", "fine", numbers, text)
    advice: str | None = 'dtype="float64"'
    if model.dtype != "float32":
        # Where the evidence leaves so little prior, the data have next to no noise.
        advice = None if case.fixed_l2 is None else f"l2_regularization={highest * eps / _STEP_ERROR:.0e} or more"
    return Finding("conditioning", "ill-conditioned", numbers, text + ": digits are lost", advice)


def _less_damping(model: GNRegressor | GNClassifier, highest: float) -> str | None:
    if not isinstance(model.damping, str):
        return f'damping="adaptive", or one well below {highest:.1g}'
    return None if model.standardize else "standardize=True"


def _extreme_eigenvalues(case: _Case) -> tuple[float, float, int]:
    """Extreme eigenvalues of the best member on at most so many rows of X, and their number; nan and 0 if unknown."""
    some = np.unique(np.linspace(0, len(case.y) - 1, min(len(case.y), _SPECTRUM_ROWS)).astype(int))
    size = min(case.member.network.n_weights, len(some) * case.columns)
    if size > _SPECTRUM_SIZE or system_memory(size) > memory_budget():
        return math.nan, math.nan, 0
    X = _safe_indexing(case.X, some)
    return *extreme_eigenvalues(case.model, X, case.y[some], case.weight[some]), len(some)


def _features(case: _Case, others: tuple[Finding, ...]) -> Finding:
    """Find the features that are switched off.

    The advice is to drop them if nothing else is amiss and the data could have told that they matter.
    """
    share = case.model.feature_relevance_
    off = np.flatnonzero(share == 0)
    order = np.argsort(-share, kind="stable")
    names = [case.names[j] for j in off]
    numbers = {"n_features": len(share), "switched_off": names, "largest": float(share[order[0]])}
    top = f"most relevant {_shown([case.names[order[0]]])} ({share[order[0]]:.0%})"
    if case.model.n_iter_ == 0:
        return Finding("features", "unknown", numbers, "unknown: nothing is trained yet")
    if not names:
        return Finding("features", "all in use", numbers, f"none of {len(share)} is switched off; {top}")
    they = "it matters" if len(off) == 1 else "they matter"
    text = f"{len(off)} of {len(share)} switched off ({_shown(names)}): the data do not show that {they}; {top}"
    many = len(off) >= _MANY_SWITCHED_OFF * len(share)
    told = case.n_observations >= _OBSERVATIONS_PER_WEIGHT * case.member.network.n_weights
    well = not any(finding.advice for finding in others) and _has_converged(case.model.status_)
    skilful = any(finding.topic == "skill" and finding.verdict.startswith("better") for finding in others)
    drop = many and told and well and skilful
    advice = f"fit without what is switched off ({_shown(names)}) and compare" if drop else None
    return Finding("features", "some switched off", numbers, text, advice)


def _shown(names: list[str]) -> str:
    return ", ".join(first_few([textwrap.shorten(name, 20, placeholder="...") for name in names]))
