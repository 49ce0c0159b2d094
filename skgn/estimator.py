"""The base of `GNRegressor` and `GNClassifier`: fit, streams and the fitted state."""

from __future__ import annotations

import copy
import dataclasses
import time
from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .backend import written
from .callbacks import CallbackSupportMixin, begin_fit, with_callbacks
from .candidates import Start
from .choices import Choices
from .conformal import Residuals
from .directions import UNTRAINED, lacking
from .draws import Draw
from .ensemble import Ensemble, Member, make_member
from .failure import failure
from .inputs import Table
from .limits import Limits
from .losses import Loss
from .mixture import equal_weights, voters
from .noise import InputNoise, Noisy
from .objective import Objective
from .outcome import (
    warn_of_failure,
    warn_of_few_observations,
    warn_of_inputs,
    warn_of_large_networks,
    warn_of_near_copies,
    warn_of_penalty,
    warn_of_short_block,
    warn_of_single_precision,
    warn_of_uneven_weights,
)
from .parameters import Parameters
from .persistence import Persistent, restore, restored_on_error
from .plan import side_by_side
from .posterior import Posterior
from .problem import Problem
from .progress import end_line
from .relevance import feature_sensitivity, relevance
from .rows import Raw, RawRows, TrainingRows, read_rows, read_validation_rows
from .scaler import Made
from .search import train_members
from .state import Linearisation, State
from .status import Status
from .stream import Stream, streams_of, train_block
from .tables import TablePreprocessor
from .target import Target
from .threads import one_blas_thread
from .units import Seen, follow, warn_of_far_rows, warn_of_small_rows
from .workers import members_at_once

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BaseGN", "fitted_likelihood", "known_posteriors", "network_on", "table_and_target"]


#: What becomes of a warm start without time.
_KEPT = " Nothing was trained: the fit before is kept."


class BaseGN(CallbackSupportMixin, Persistent, Parameters, metaclass=ABCMeta):
    """Fit and fitted state of a damped Gauss-Newton network. Subclasses say which target it has.

    What a fit learns of X is a :class:`~skgn.inputs.Table`, and of y a :class:`~skgn.targets.Target`. Neither ever
    changes: a later fit makes others, so that the ones before can be restored.
    """

    # Fitted attributes; the docstrings of the estimators explain them.
    n_features_in_: int
    feature_names_in_: np.ndarray
    coefs_: list[np.ndarray]
    intercepts_: list[np.ndarray]
    estimators_: list[Member]
    weights_: np.ndarray
    n_outputs_: int
    n_iter_: int
    loss_: float
    loss_curve_: list[float]
    history_: dict[str, np.ndarray]
    status_: str
    status_message_: str
    solver_: str
    damping_: float
    log_evidence_: float | None
    n_effective_parameters_: float
    left_out_score_: float
    feature_relevance_: np.ndarray
    _table: Table
    _target: Target
    _streams: list[Stream]
    _residuals: Residuals | None
    _seen: Seen
    _rests_on_copies: bool = False
    _needed: ClassVar[tuple[str, ...]] = ("estimators_", "weights_", "n_features_in_", "_table", "_target")

    if TYPE_CHECKING:
        # scikit-learn's own attributes have no types.
        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Self: ...
        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...

    @abstractmethod
    def _new_target(self, raw: RawRows) -> Target:
        """Make the target of a fit to these rows."""

    @abstractmethod
    def _next_target(self, raw: RawRows, classes: Any) -> Target:
        """Make the target of the next block of a stream."""

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train on data.

        Parameters
        ----------
        X : array-like or data frame of shape (n_samples, n_features)
            Numbers and, with ``categorical_features``, categories. Missing cells are nan, None or null; infinite
            numbers are an error. Float32 and float64 are taken as they are. Other types are converted, and sparse X is.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights. A row of weight 2 counts as two equal rows; a row of weight 0, or of less than 1e-18
            of the largest, counts as absent. The sum lies between 1e-15 and 1e15. Of rates they are exposures.
        X_val, y_val, sample_weight_val : array-like, default=None
            A validation set of your own for ``early_stopping=True``. It replaces the part of X and y that would be kept
            for validation. It is an error without ``early_stopping=True``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not as described. Also if the linear system, or a sparse X as a dense array,
            does not fit in memory. The error comes before any work, and an earlier fit is kept.
        KeyboardInterrupt
            If Ctrl-C is pressed. While networks train, it comes once the best weights so far are stored: the estimator
            is fitted. A second Ctrl-C, or one before the first iteration has ended, keeps an earlier fit.

        Warns
        -----
        ConvergenceWarning
            If ``max_iter`` or ``max_time`` cut training short. Also if no damping and no step length lowers the
            objective (``status_`` "no_descent").
        UserWarning
            If the fit predicts left-out samples clearly worse than a constant does (``status_`` "no_skill"), of 30 rows
            at least. If extreme targets hide from a regression what the other rows tell ("extremes"). If most rows, or
            most of a class, are near copies of others or lie between these (up to 20,000 rows, without a given l2).
            Also if ``noise="input"`` could not be learned. If ``alpha`` is below 0.1, as penalties are, or weights have
            a mean below 0.1, or are very uneven, without an l2. If fractions in y vary too little for "poisson".
        """
        return self._fit_or_restore(X, y, sample_weight, X_val, y_val, sample_weight_val)

    def _fit_or_restore(self, *data: Any) -> Self:
        """Fit for :meth:`fit`, and warn. An interrupt comes once weights are stored. What underflows is 0."""
        with one_blas_thread(), np.errstate(under="ignore"), restored_on_error(self) as before:
            interrupted = self._fit(*data)
            if self.warm_start and "estimators_" in before and self.solver_ == UNTRAINED:
                restore(self, before)
                self.status_, self.status_message_ = Status.MAX_TIME.value, Status.MAX_TIME.sentence + _KEPT
        if interrupted:
            raise KeyboardInterrupt("The fit was interrupted; the estimator has the best weights so far.")
        warn_of_failure(self, fitted_likelihood(self))
        warn_of_single_precision(self)
        return self

    @property
    def _unfulfilled(self) -> str:
        """Sentence on what was asked for and could not be had; empty if nothing."""
        return ""

    def _fit(self, X: Any, y: Any, sample_weight: Any, *validation: Any) -> bool:
        """Check parameters, read and merge rows, learn from them, train; return whether the user interrupted that."""
        choices = self._choices()
        table, raw = self._read(X, y, sample_weight)
        target = self._new_target(raw)
        held_out = read_validation_rows(self, table, target, *validation)
        warn_of_penalty(self)
        if isinstance(raw, Raw):
            warn_of_uneven_weights(self, target, raw.weight)
        given, total_weight = raw.observations
        raw = raw.in_time(table, target, choices)
        taken = raw.observations[0]
        rows = raw.merge(target)
        del raw  # Rows that are on workers take memory there.
        if self.early_stopping and held_out is None:
            rows, held_out = rows.split(target, choices)
        # After the split: medians and target codes are those of the training rows.
        rows, draw = self._begin(table, target, rows, choices, target_codes=True)
        warn_of_few_observations(self, given, total_weight)
        self._rests_on_copies = warn_of_near_copies(self, rows)
        problem = rows.problem(self._table, self._target, draw.starts, choices, held_out)
        if taken < given:
            problem = dataclasses.replace(problem, drawn=(taken, given))
        del rows
        return self._train(problem, draw, X, y, sample_weight)

    def _choices(self, may_compare: bool = True) -> Choices:
        """Check the parameters; return what they leave open, and the members that a warm start goes on from."""
        self._check_parameters()
        warm = self.warm_start and hasattr(self, "estimators_")
        return Choices(self, may_compare, self.estimators_, self._table) if warm else Choices(self, may_compare)

    def _read(self, X: Any, y: Any, sample_weight: Any) -> tuple[Table, RawRows]:
        """Check the data; return a table that can read X, and the rows."""
        return read_rows(self, X, y, sample_weight)

    def _begin(
        self, table: Table, target: Target, rows: TrainingRows, choices: Choices, target_codes: bool
    ) -> tuple[TrainingRows, Draw]:
        """Fit table and target to merged rows; return the rows encoded, and the candidates."""
        table, target, rows = rows.fit(table, target, choices, target_codes)
        if choices.members:
            table.check_columns(self._table)
        warn_of_inputs(self, table, rows)
        draw = choices.draw(table, target, rows.n_rows, rows.total_weight / (target.exposure or 1.0), rows.in_memory)
        warn_of_large_networks(self, draw)
        self._table, self._target = table.only({start.scaling for start in draw.starts}), target
        return rows, draw

    @with_callbacks  # type: ignore[untyped-decorator]
    def _train(self, problem: Problem, draw: Draw, X: Any, y: Any, sample_weight: Any) -> bool:
        """Train on a problem, and store; X, y and weights are given as the user gave them."""
        # Callbacks do not see what an earlier fit has learned.
        for name in [name for name in vars(self) if name in ("_streams", "_seen") or _is_learned(name)]:
            del self.__dict__[name]
        tasks = begin_fit(self, X, y, sample_weight, self._attributes, draw.numbers.end)
        limits = Limits(problem.max_time, members_at_once(self.n_jobs, side_by_side(problem, draw.starts, tasks)))
        try:
            with limits.interruptible():
                began = time.perf_counter()
                ensemble = train_members(problem, draw, limits, tasks)
                if limits.interrupted and not ensemble.is_trained:
                    raise KeyboardInterrupt("The fit was interrupted before anything was trained.")
                rest = dataclasses.replace(problem, max_time=problem.max_time - (time.perf_counter() - began))
                limits.go_on()
                ensemble, noise = self._with_noise(rest, draw.starts, ensemble, limits)
                self._store(ensemble._replace(failure=failure(ensemble, problem.scaled)).widened(), noise)
                self.feature_relevance_ = self._relevance(ensemble, problem.with_more(_of_features(ensemble.scalings)))
                problem.settings.report(end_line(self, time.perf_counter() - began))
                if tasks is not None:
                    tasks.end()
        finally:
            if tasks is not None:
                tasks.close()
        return limits.interrupted

    def _attributes(self, state: State, linearisation: Linearisation, start: Start, loss: Loss) -> dict[str, Any]:
        """Fitted attributes of an estimator whose only member is a training that ended at this state."""
        here, member = copy.copy(self), make_member(state, linearisation.apart(), start)
        here._store(Ensemble([member], equal_weights(1), loss, 1.0, starts=[start]))
        return {name: value for name, value in vars(here).items() if vars(self).get(name) is not value}

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        """Train in one pass over a block of rows; see the subclasses."""
        with restored_on_error(self):
            self._take_block(X, y, sample_weight, classes)
        return self

    def _take_block(self, X: Any, y: Any, sample_weight: Any, classes: Any) -> None:
        choices = self._choices(may_compare=False)
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True: it sees each row once.")
        first = not hasattr(self, "estimators_")
        table, raw = read_rows(self, X, y, sample_weight, None if first else self._table)
        target = self._next_target(raw, classes)
        # Of a fit, and of streams of earlier versions, no rows are known.
        seen = getattr(self, "_seen", None) or Seen.nothing(raw, target, whole=first)
        merged = raw.merge(target, seen.factor)
        if first:
            warn_of_penalty(self)
            # Target codes of one block would rest on few rows.
            rows, draw = self._begin(table, target, merged, choices, target_codes=False)
            streams = [Stream(start) for start in draw.starts]
        else:
            streams = getattr(self, "_streams", [])
            if not streams:
                warn_of_short_block(self.estimators_, merged.total_weight)
                loss = fitted_likelihood(self)
                streams = streams_of(self.estimators_, self.weights_, loss, check_random_state(self.random_state))
            if not seen.whole:
                warn_of_far_rows(table, raw.X)
            self._table, self._target, streams = follow(table, target, streams, seen, merged)
            rows = merged.encoded(self._table)
            warn_of_small_rows(self._table, self._target, rows)
        warn_of_few_observations(self, *raw.observations)
        self._seen = seen.and_then(merged)
        problem = rows.problem(self._table, self._target, [stream.start for stream in streams], choices)
        ensemble, self._streams = train_block(problem, streams, self.n_jobs)
        self._store(ensemble)
        self.feature_relevance_ = self._relevance(ensemble, problem)

    def _relevance(self, ensemble: Ensemble, problem: Problem) -> np.ndarray:
        """Share of each feature in what the predictions react to."""
        sensitivity = feature_sensitivity(ensemble, problem.scaled, self._table.all_features, problem.sample_weight)
        return relevance(sensitivity, problem.n_outputs)

    def _with_noise(self, problem: Problem, starts: list[Start], ensemble: Ensemble, limits: Limits) -> Noisy:
        """Fit how the noise depends on the inputs, where there is a noise level; the ensemble may change."""
        return Noisy(ensemble, None)

    def _store(self, ensemble: Ensemble, noise: InputNoise | None = None) -> None:
        members, best = ensemble.members, ensemble.members[0]
        best.check_loss()
        self.estimators_, self.weights_ = members, ensemble.weights
        used = {member.scaling for member in members} | (noise.scalings if noise else set())
        self._table = self._table.with_more(ensemble.scalings).only(used)
        self.coefs_, self.intercepts_ = best.network.arrays(best.weights)
        self.n_outputs_ = best.network.n_outputs
        self.n_iter_ = best.n_iter
        self.loss_ = best.loss
        self.history_ = best.history
        self.loss_curve_ = best.history["loss"][1:].tolist()
        self.solver_ = best.solver
        self.damping_ = best.damping
        self.left_out_score_, self._residuals = ensemble.skill.score, ensemble.residuals
        status = ensemble.cut_by or Status(best.status)
        if ensemble.shortened:
            status = status if status is Status.INTERRUPTED else Status.MAX_TIME
        elif status.converged or (status is Status.MAX_ITER and best.n_iter):
            # A fit that is short of the tolerance may be useless all the same.
            status = ensemble.failure or status
        self.status_, self.status_message_ = status.value, status.sentence + ensemble.shortened
        self.log_evidence_ = best.log_evidence
        self.n_effective_parameters_ = best.n_effective_parameters

    @property
    def preprocessor_(self) -> TablePreprocessor | None:
        """The transformers that X goes through before it is scaled."""
        check_is_fitted(self)
        return self._table.preprocessor

    @property
    def feature_importances_(self) -> np.ndarray:
        """Alias of ``feature_relevance_`` (n_features,) for scikit-learn's feature selection."""
        check_is_fitted(self)
        return self.feature_relevance_

    @property
    def network_(self) -> nn.Module:
        """The trained ``network`` of the best member.

        It is a copy in float64, takes scaled inputs, and leaves out ``alpha``.
        """
        check_is_fitted(self)
        best = self.estimators_[0]
        module = best.network.trained(best.weights)
        if module is None:
            raise AttributeError("network_ is there for a fit with network= only; coefs_ and intercepts_ have weights.")
        return module


def _of_features(scalings: Mapping[str, Made]) -> dict[str, Made]:
    """Return those of the scalings that were made in a fit whose columns belong to a feature each."""
    return {name: scaler for name, scaler in scalings.items() if scaler.features is not None}


def _is_learned(name: str) -> bool:
    """Whether an attribute of this name is stored at the end of a fit."""
    return name.endswith("_") and name not in ("n_features_in_", "feature_names_in_")


def table_and_target(estimator: BaseGN) -> tuple[Table, Target]:
    """Return what a fitted estimator has learned of X and y, around its members."""
    check_is_fitted(estimator)
    return estimator._table, estimator._target


def known_posteriors(estimator: BaseGN, asked: str) -> list[Posterior]:
    """Return the posteriors of the members that count; a ValueError says what is lacking for what was ``asked``."""
    members = voters(estimator.estimators_, estimator.weights_)[0]
    for member in members:
        if member.posterior is None:
            lacks = lacking(member.solver, in_batches=estimator.batch_size is not None) or (
                f"weights determined by data and prior; this fit had {_undetermined(estimator)}"
            )
            raise ValueError(f"{asked} needs {lacks}.")
    return [member.posterior for member in members if member.posterior is not None]


def _undetermined(estimator: BaseGN) -> str:
    """Say why the weights of a fit are undetermined, and what helps."""
    l2 = f"l2_regularization={written(estimator.l2_regularization)}"
    if estimator.l2_regularization == 0:
        return f"{l2}: refit with a positive one or 'evidence'"
    helps = "rescale X, or try another solver" if estimator.dtype == "float64" else 'fit with dtype="float64"'
    return f"{l2}, and inputs beside which the prior is a rounding error: {helps}"


def fitted_likelihood(estimator: BaseGN) -> Loss:
    """Return the loss of a fit, whatever the parameters are now, at the noise level of the best member if known."""
    return table_and_target(estimator)[1].likelihood(estimator.estimators_[0].posterior)


def network_on(
    estimator: BaseGN, X: Any, y: Any, sample_weight: Any = None, loss: Loss | None = None
) -> tuple[Objective, Tensor]:
    """Data loss of one network on X and y, in float64 on the CPU, and its weights (P,), for inspection.

    The network is the best member. Before a fit it is the network of ``n_estimators=1``, at its initial weights. Rows
    of weight 0 are left out; all others stay in their order. The estimator does not change. ``loss`` replaces the loss
    at the start of training, for example by one with estimated noise levels.
    """
    viewer = estimator if hasattr(estimator, "estimators_") else clone(estimator)
    choices = viewer._choices(may_compare=False)
    if viewer is estimator:
        table, raw = read_rows(viewer, X, y, sample_weight, viewer._table)
        start = viewer.estimators_[0].start(seed=0)
    else:
        table, raw = read_rows(viewer, X, y, sample_weight)
        target = viewer._new_target(raw)
        _, draw = viewer._begin(table, target, raw.merge(target), choices, target_codes=True)
        start = draw.starts[0]
    table, target = viewer._table, viewer._target
    problem = raw.encode(target).present().encoded(table).problem(table, target, [start], choices)
    cpu, loss = torch.device("cpu"), loss or problem.loss
    problem = dataclasses.replace(problem, device=cpu, dtype=torch.float64, loss=loss)
    return problem.objective_from(start, problem.n_samples), problem.tensor(start.weights.copy())
