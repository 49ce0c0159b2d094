"""What a fitted estimator is, on one screen: its data, networks, loss, noise, and how the fit has ended."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .candidates import described
from .estimator import table_and_target
from .fitted import feature_names, fitted_network
from .regressor import GNRegressor
from .report import filled
from .target import Target
from .targets import ClassificationTarget, RegressionTarget
from .wording import SHOWN, counted

__all__ = ["Summary", "SummaryOfMember", "summarize"]

#: Letters of the names of features and topics.
_NAME_WIDTH, _TOPIC_WIDTH = 20, 11

#: Members that are listed.
_MOST_MEMBERS = 12


@dataclass(frozen=True)
class SummaryOfMember:
    """One network of a fit.

    Parameters
    ----------
    weight : float
        Its part of a prediction.
    kind : str
        Hidden layers and activation, or the class of the module; scaling of its inputs; prior.
    n_weights : int
        Number of its weights.
    n_iter : int
        Number of iterations of its training.
    status : str
        Why its training has ended, as ``status_`` has it.
    """

    weight: float
    kind: str
    n_weights: int
    n_iter: int
    status: str


@dataclass(frozen=True)
class Summary:
    """What :func:`skgn.summarize` says of a fitted estimator; ``print(summary)`` shows all of it.

    Parameters
    ----------
    name : str
        Name of the estimator's class.
    n_rows : float
        Sum of the weights of the rows that the networks were trained on: the number of rows, if they had no weights.
        Copies of rows in a regression count as fewer.
    n_features, n_outputs : int
        Numbers of columns of X, and of outputs of a network.
    loss : str
        What the networks minimise, in words.
    noise : str or None
        Distribution of the noise of a regression, its standard deviation in the units of y, and whether it depends on
        the input. None for a classification.
    left_out_score : float
        ``left_out_score_``, nan if it is not known.
    seconds : float
        Time that the training of the members took, added up.
    status, status_message : str
        ``status_`` and ``status_message_``.
    members : tuple of SummaryOfMember
        The networks, in the order of ``estimators_``.
    relevance : tuple of (str, float)
        Features and their shares in ``feature_relevance_``, the largest first; empty if it is not known.
    codes : tuple of str
        Features whose numbers are taken for codes, because the target jumps between them.
    slopes : tuple of (str, str)
        Features whose levels or codes have slopes of their own, and the features along which they have them.
    pairs : tuple of (str, str)
        Two features whose pairs of levels or codes have effects of their own.
    waves : tuple of (str, float)
        Features along which the target repeats, and the periods in their units. What tells the most comes first.
    """

    name: str
    n_rows: float
    n_features: int
    n_outputs: int
    loss: str
    noise: str | None
    left_out_score: float
    seconds: float
    status: str
    status_message: str
    members: tuple[SummaryOfMember, ...]
    relevance: tuple[tuple[str, float], ...]
    codes: tuple[str, ...]
    slopes: tuple[tuple[str, str], ...]
    pairs: tuple[tuple[str, str], ...]
    waves: tuple[tuple[str, float], ...]

    def __repr__(self) -> str:
        return f"<Summary of {self.name}: {counted(len(self.members), 'network')}, {self.status}>"

    def __str__(self) -> str:
        data = f"{counted(self.n_rows, 'row')}, {counted(self.n_features, 'column')}"
        lines = [f"{self.name}: {data}, {counted(self.n_outputs, 'output')}"]
        lines += [_line("loss", self.loss)] + ([_line("noise", self.noise)] if self.noise else [])
        lines += [_line("left out", self._skill), _line("relevance", self._features)]
        if self.codes:
            lines += [
                _line(
                    "codes", f"{_listed([_short(name) for name in self.codes])}: numbers between which the target jumps"
                )
            ]
        if self.slopes:
            pairs = [f"{_short(along)} by {_short(name)}" for name, along in self.slopes]
            lines += [_line("slopes", f"{_listed(pairs)}: slopes that differ between levels")]
        if self.pairs:
            pairs = [f"{_short(name)} x {_short(other)}" for name, other in self.pairs]
            lines += [_line("pairs", f"{_listed(pairs)}: effects of pairs of levels")]
        if self.waves:
            of_features = [f"{_short(name)} {period:.4g}" for name, period in self.waves]
            lines += [_line("waves", f"{_listed(of_features)}: periods at which the target repeats")]
        lines += [_line("time", f"{self.seconds:.3g} s of training, of all networks together")]
        lines += [_line("status", f"{self.status_message} ({self.status})"), *self._table()]
        return "\n".join(lines)

    @property
    def _skill(self) -> str:
        if math.isnan(self.left_out_score):
            return "not known: training rows were not predicted without themselves"
        return f"D2 {self.left_out_score:.3f} of training rows, each predicted without itself"

    @property
    def _features(self) -> str:
        used = [(name, share) for name, share in self.relevance if share > 0]
        if not used:
            return "not known"
        off = len(self.relevance) - len(used)
        return _listed([f"{_short(name)} {share:.0%}" for name, share in used]) + (
            f"; {off} of {len(self.relevance)} switched off" if off else ""
        )

    def _table(self) -> list[str]:
        """Lines of the members that count the most."""
        listed, others = self.members[:_MOST_MEMBERS], self.members[_MOST_MEMBERS:]
        names = "network, inputs, prior"
        width = max(len(names), *(len(member.kind) for member in listed))
        lines = [f"weight  {names:{width}}  weights  iterations  status"]
        lines += [f"{m.weight:6.2f}  {m.kind:{width}}  {m.n_weights:7d}  {m.n_iter:10d}  {m.status}" for m in listed]
        if others:
            lines.append(f"{sum(member.weight for member in others):6.2f}  {counted(len(others), 'other')}")
        return lines


def summarize(estimator: Any) -> Summary:
    """Say on one screen what a fitted estimator is; :func:`skgn.diagnose` says what it is worth.

    Parameters
    ----------
    estimator : fitted estimator
        GNRegressor or GNClassifier, of dask as well, a pipeline that ends with one, or a search over one.

    Returns
    -------
    summary : Summary
        Data, loss, noise, D2 of left-out rows, relevance of the features, time, status and networks.

    Raises
    ------
    TypeError
        If ``estimator`` is not one of these.
    sklearn.exceptions.NotFittedError
        If ``estimator`` is not fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor, summarize
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> summary = summarize(GNRegressor(random_state=0).fit(X, y))
    >>> print(str(summary).splitlines()[0])
    GNRegressor: 442 rows, 10 columns, 1 output
    >>> len(summary.members), sorted(name for name, share in summary.relevance[:3])
    (6, ['bmi', 'bp', 's5'])
    """
    model = fitted_network(estimator)
    members, (table, target), names = model.estimators_, table_and_target(model), feature_names(estimator)
    # Relevance is not known of what a callback is shown, nor of weights that are those of the start.
    known = model.n_iter_ > 0 and hasattr(model, "feature_relevance_")
    share = model.feature_relevance_ if known else np.zeros(0)
    return Summary(
        name=type(model).__name__,
        n_rows=_n_rows(members[0].total_weight, target),
        n_features=model.n_features_in_,
        n_outputs=model.n_outputs_,
        loss=_loss(model, target),
        noise=_noise(model) if isinstance(model, GNRegressor) else None,
        left_out_score=float(model.left_out_score_),
        seconds=sum(float(member.history["time"][-1]) for member in members),
        status=model.status_,
        status_message=model.status_message_,
        members=tuple(
            SummaryOfMember(
                float(weight),
                described(member.network, member.scaling, member.prior_kind)
                + (", leading directions" if member.in_leading_directions else ""),
                member.network.n_weights,
                member.n_iter,
                member.status,
            )
            for member, weight in zip(members, model.weights_, strict=True)
        ),
        relevance=tuple((names[j], float(share[j])) for j in np.argsort(-share, kind="stable")),
        codes=tuple(names[j] for j in table.codes),
        slopes=tuple((names[j], names[along]) for j, along in table.slopes),
        pairs=tuple((names[j], names[other]) for j, other in table.pairs),
        waves=tuple((names[j], period) for j, period in table.waves),
    )


def _short(name: str) -> str:
    return textwrap.shorten(name, _NAME_WIDTH, placeholder="...")


def _listed(parts: Sequence[str]) -> str:
    """Write some of the parts, and how many others there are."""
    more = [counted(len(parts) - SHOWN, "other")] if len(parts) > SHOWN else []
    return ", ".join([*parts[:SHOWN], *more])


def _n_rows(total_weight: float, target: Target) -> float:
    # Of several quantiles, each is a part of a sample.
    given = target.as_given(np.asarray(total_weight)) if isinstance(target, RegressionTarget) else total_weight
    return float(given)


def _loss(model: Any, target: Target) -> str:
    if isinstance(target, ClassificationTarget):
        what = "labels" if target.multilabel else "classes"
        return f"log loss of {len(target.classes)} {what}, temperature {model.temperature_:.3g}"
    assert isinstance(target, RegressionTarget)
    return f"quantile {target.quantile}" if target.loss == "quantile" else target.loss


def _noise(model: GNRegressor) -> str:
    known = np.ravel(model.noise_std_)
    std = ", ".join(f"{value:.3g}" for value in known[:SHOWN]) if np.isfinite(known).all() else "not known"
    depends = {"constant": "constant", "input": "depends on the input"}[model.noise_]
    nu = model.noise_degrees_of_freedom_
    tails = f", tails of {nu:.2g} degrees of freedom" if model.noise_distribution_ == "normal" and nu < np.inf else ""
    return f"{model.noise_distribution_}, std {std}, {depends}{tails}"


def _line(topic: str, text: str) -> str:
    return filled(topic.ljust(_TOPIC_WIDTH), text)
