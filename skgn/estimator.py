"""The base of `GNRegressor` and `GNClassifier`: parameters and their validation, fit, and the fitted state."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted
from torch import Tensor, nn

from .backend import DTYPES, linear_algebra_device, resolve_device
from .callbacks import CallbackSupportMixin, begin_fit, with_callbacks
from .candidates import (
    COMPARED_ROWS,
    Kind,
    Level,
    Start,
    candidate_count,
    draw_starts,
    layer_choices,
    level_choices,
    member_count,
    prior_choices,
    rectified_kind,
    redrawn_count,
)
from .damping import as_rule
from .ensemble import Ensemble, Member, make_member, member_outputs
from .feedforward import FeedForward
from .inputs import Inputs
from .jacobian import gram_flops
from .losses import Loss
from .mixture import equal_weights, voters
from .module import ModuleNetwork
from .network import Network
from .objective import Objective
from .persistence import Persistent
from .preprocessing import Scaler, merge_rows
from .problem import Problem, Validation
from .relevance import feature_sensitivity, relevance
from .search import train_members
from .settings import Settings
from .state import Linearisation, State
from .status import Status
from .stream import Stream, train_block

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BaseGN", "Parts"]

#: Least mean of sample weights; weights with a smaller mean were probably not meant as repetitions.
_SMALL_WEIGHT = 0.1


class Parts(NamedTuple):
    """The surroundings of the members in a prediction, for ``skgn.export``.

    ``encoder`` turns rows as read into the columns that are scaled. Without an encoder, ``medians`` (d,) replace nan
    where they are known. ``scalings`` are named as in ``Member.inputs``. ``target`` is the transformation of a
    regressor's target. ``multilabel`` tells whether the classes are labels.
    """

    encoder: ColumnTransformer | None
    medians: np.ndarray | None
    scalings: Mapping[str, Scaler | None]
    target: Any
    multilabel: bool


class BaseGN(CallbackSupportMixin, Persistent, Inputs, metaclass=ABCMeta):
    """Fit and fitted state of a damped Gauss-Newton network. Subclasses give the targets their meaning."""

    # Fitted attributes; the docstrings of the estimators explain them.
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

    _needed: ClassVar[tuple[str, ...]] = ("n_features_in_", "preprocessor_", "_input_scalers", "_reader")

    if TYPE_CHECKING:
        # scikit-learn's own attributes have no types.
        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Self: ...
        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...

    @abstractmethod
    def _validate_target(self, y: Any) -> np.ndarray:
        """Check y, store its classes or shape, and encode it as floats (n, m)."""

    @abstractmethod
    def _encode_target(self, y: Any) -> np.ndarray:
        """Check y against the stored classes or shape, and encode it as floats (n, m)."""

    @abstractmethod
    def _weigh_classes(self, Y: np.ndarray, sample_weight: np.ndarray) -> np.ndarray:
        """Multiply sample weights with class weights."""

    @abstractmethod
    def _fit_target(self, Y: np.ndarray, sample_weight: np.ndarray) -> None:
        """Estimate the transformation of the targets from merged targets (n, m)."""

    @abstractmethod
    def _training_loss(self) -> Loss:
        """Make the loss of the training; the targets must be known."""

    @abstractmethod
    def _transform_target(self, Y: np.ndarray) -> np.ndarray:
        """Transform encoded targets (n, m) into targets of the network (n, k)."""

    def _strata(self, Y: np.ndarray) -> np.ndarray | None:
        """Labels (n,) that the validation set contains in equal parts; None if there are none."""
        return None

    def _target_type(self, Y: np.ndarray) -> str | None:
        """Name of the target type for a target encoder; None if the encoder cannot take these targets (n, m)."""
        return None

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
            numbers are an error. Float32 and float64 are taken as they are; other types are converted.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights. A row of weight 2 counts as two equal rows; a row of weight 0 counts as absent.
        X_val, y_val, sample_weight_val : array-like, default=None
            A validation set of your own for ``early_stopping=True``. It replaces the part of X and y that would be kept
            for validation.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not as described, or if the linear system does not fit in memory. The error
            comes before any work, and an earlier fit is kept.

        Warns
        -----
        ConvergenceWarning
            If ``max_iter``, ``max_time`` or Ctrl-C cut training short. Ctrl-C ends training with the best weights so
            far. Also if no damping and no step length lowers the objective (``status_`` "no_descent").
        UserWarning
            If the fit predicts left-out samples worse than a constant does (``status_`` "no_skill").
        """
        return self._fit_or_restore(X, y, sample_weight, X_val, y_val, sample_weight_val)

    def _fit_or_restore(self, *data: Any) -> Self:
        """Fit and warn, on behalf of :meth:`fit`. If anything ends the fit early, restore the state before it."""
        before = self.__dict__.copy()
        try:
            self._fit(*data)
        except BaseException:
            # An earlier fit is neither lost nor mixed with half of a new one, whatever the error was.
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        if self.status_ == Status.NO_SKILL:
            message = f"{self.status_message_} Their D2, left_out_score_, is {self.left_out_score_:.2g}; see diagnose."
            warnings.warn(message, UserWarning, stacklevel=3)
        elif not Status(self.status_).converged and self.status_ != Status.CALLBACK:
            limits = f"max_iter={self.max_iter}, max_time={self.max_time}, tol={self.tol:g}"
            message = f"{self.status_message_} ({limits})"
            warnings.warn(message, ConvergenceWarning, stacklevel=3)
        return self

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, X_val: Any = None, y_val: Any = None, sample_weight_val: Any = None
    ) -> None:
        as_given = X, y, sample_weight
        hidden = self._check_parameters()
        X, y, sample_weight = self._check_data(X, y, sample_weight)
        Y = self._validate_target(y)
        given = self._check_validation_set(X_val, y_val, sample_weight_val)
        self._warn_of_few_observations(sample_weight[sample_weight > 0])
        Xm, Ym, weight = merge_rows(X, Y, self._weigh_classes(Y, sample_weight))
        if self.early_stopping and given is None:
            Xm, X_val, Ym, y_val, weight, sample_weight_val = self._split(Xm, Ym, weight)
            given = X_val, y_val, sample_weight_val
        # After the split: medians and target codes are those of the training rows.
        Xm, Ym, weight, seen = self._fit_encoder(Xm, Ym, weight, self._target_type(Ym))
        starts = self._begin(seen, Ym, weight, hidden, self._compares)
        problem = self._problem(Xm, Ym, weight, starts, None if given is None else self._validation(*given))
        self._train(problem, starts, *as_given)

    @with_callbacks  # type: ignore[untyped-decorator]
    def _train(self, problem: Problem, starts: list[Start], X: Any, y: Any, sample_weight: Any) -> Ensemble:
        """Train on a problem; X, y and weights are given as the user gave them."""
        # Callbacks do not see what an earlier fit has learned.
        for name in ("_streams", "feature_relevance_"):
            self.__dict__.pop(name, None)
        n_members = self._member_count(problem.n_samples, [start.network for start in starts], self._compares)
        at_most = len(starts) + redrawn_count(starts, n_members)
        tasks = begin_fit(self, X, y, sample_weight, self._attributes, at_most)
        try:
            ensemble = train_members(problem, starts, n_members, self.n_jobs, tasks)
            self._store(ensemble)
            self._find_relevance(ensemble, problem)
            if tasks is not None:
                tasks.end()
        finally:
            if tasks is not None:
                tasks.close()
        return ensemble

    def _attributes(self, state: State, linearisation: Linearisation, start: Start, loss: Loss) -> dict[str, Any]:
        """Fitted attributes of an estimator whose only member is a training that ended at this state."""
        here, member = copy.copy(self), make_member(state, linearisation.apart(), start)
        here._store(Ensemble([member], equal_weights(1), loss, 1.0))
        return {name: value for name, value in vars(here).items() if vars(self).get(name) is not value}

    def network_on(
        self, X: Any, y: Any, sample_weight: Any = None, loss: Loss | None = None
    ) -> tuple[Objective, Tensor]:
        """Data loss of one network on X and y, in float64 on the CPU, and its weights (P,), for inspection.

        The network is the best member. Before a fit it is the network of ``n_estimators=1``, at its initial weights.
        Rows of weight 0 are left out; all others stay in their order. The estimator does not change. ``loss`` replaces
        the loss at the start of training, for example by one with estimated noise levels.
        """
        fitted = hasattr(self, "estimators_")
        viewer = copy.copy(self) if fitted else clone(self)
        hidden = viewer._check_parameters()
        X, y, weight = viewer._check_data(X, y, sample_weight, reset=not fitted)
        Y = viewer._encode_target(y) if fitted else viewer._validate_target(y)
        weight = viewer._weigh_classes(Y, weight)
        if fitted:
            best = viewer.estimators_[0]
            start = Start(best.network, best.inputs, best.prior, None, best.weights, best.anchor, 0)
        else:
            _, Ym, merged, seen = viewer._fit_encoder(*merge_rows(X, Y, weight), viewer._target_type(Y))
            start = viewer._begin(seen, Ym, merged, hidden, compares=False)[0]
        kept = weight > 0
        problem = viewer._problem(viewer._encode(X[kept]), Y[kept], weight[kept], [start])
        there = {"device": torch.device("cpu"), "dtype": torch.float64, "loss": loss or problem.loss}
        problem = dataclasses.replace(problem, **there)
        return problem.objective_from(start, problem.n_samples), problem.tensor(start.weights.copy())

    def _begin(
        self,
        seen: tuple[np.ndarray, np.ndarray],
        Y: np.ndarray,
        weight: np.ndarray,
        hidden: tuple[int, ...] | None,
        compares: bool,
    ) -> list[Start]:
        """Fit the scalings and the target transformation, and return the starts of the candidates.

        ``seen`` holds the inputs that the scalings are fitted to, with their weights; Y holds merged targets.
        """
        self._input_scalers = self._fit_scalers(*seen, hidden, compares)
        self._fit_target(Y, weight)
        k, has_noise = self._transform_target(Y[:1]).shape[1], self._training_loss().has_scale
        starts = self._starts(hidden, k, len(Y), weight.sum() * k, has_noise, compares)
        self._keep_scalers({start.inputs for start in starts})
        return starts

    def _problem(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        weight: np.ndarray,
        starts: Sequence[Start],
        validation: Validation | None = None,
    ) -> Problem:
        """Make the problem: merged rows and encoded targets in training units, and how to train on them."""
        Yt, loss = np.ascontiguousarray(self._transform_target(Y)), self._training_loss()
        flops = max(gram_flops(start.network, len(X), loss.columns(Yt.shape[1])) for start in starts)
        return Problem(
            inputs=self._scaled(X),
            Y=Yt,
            sample_weight=weight,
            validation=validation,
            solver=self.solver,
            batch_size=self.batch_size,
            device=resolve_device(self.device, flops),
            **self._how_to_train(loss),
        )

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        """Train in one pass over a block of rows; see the subclasses."""
        before = self.__dict__.copy()
        try:
            self._take_block(X, y, sample_weight, classes)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _take_block(self, X: Any, y: Any, sample_weight: Any, classes: Any) -> None:
        hidden = self._check_parameters()
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True: it sees each row once.")
        first = not hasattr(self, "estimators_")
        X, y, weight = self._check_data(X, y, sample_weight, reset=first)
        self._begin_classes(y, classes)
        if first:
            self._learn_target_shape(y)
        Y = self._encode_target(y)
        Xm, Ym, weight = merge_rows(X, Y, self._weigh_classes(Y, weight))
        if first:
            # Target codes of one block would rest on few rows.
            Xm, Ym, weight, seen = self._fit_encoder(Xm, Ym, weight, None)
            streams = [Stream(start) for start in self._begin(seen, Ym, weight, hidden, compares=False)]
        else:
            Xm = self._encode(Xm)
            streams = getattr(self, "_streams", None) or self._streams_of_members()
        problem = self._problem(Xm, Ym, weight, [stream.start for stream in streams])
        ensemble, self._streams = train_block(problem, streams, self.n_jobs)
        self._store(ensemble)
        self._find_relevance(ensemble, problem)

    def _streams_of_members(self) -> list[Stream]:
        """Turn the members of a fit into streams that begin with their weights; nothing else is known of their data."""
        noise = self._levels(self._training_loss().has_scale, compares=False)[0].noise_precision
        seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=len(self.estimators_))
        return [
            Stream(Start(m.network, m.inputs, m.prior, noise, m.weights, m.anchor, seed))
            for m, seed in zip(self.estimators_, seeds.tolist(), strict=True)
        ]

    def _begin_classes(self, y: np.ndarray, classes: Any) -> None:
        """Store the classes of a stream; only classifiers do so."""

    def _learn_target_shape(self, y: np.ndarray) -> None:
        """Store the shape that targets of later blocks must have."""

    def _how_to_train(self, loss: Loss) -> dict[str, Any]:
        """Fields of a :class:`~skgn.problem.Problem` that depend on the kind of loss, but on no data."""
        return {
            "loss": loss,
            "rule": as_rule(self.damping),
            "settings": self._settings(),
            "max_time": np.inf if self.max_time is None else float(self.max_time),
            "dtype": DTYPES[self.dtype],
        }

    def _settings(self) -> Settings:
        return Settings(
            step_size=float(self.step_size),
            max_iter=self.max_iter,
            tol=float(self.tol),
            n_iter_no_change=self.n_iter_no_change,
            project_readout=self._projects_readout,
            record_spectrum=self.record_spectrum,
            report=_print_line if self.verbose else None,
        )

    def _check_validation_set(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The user's own validation set with encoded targets; None if there is none."""
        if X is None and y is None and sample_weight is None:
            return None
        if X is None or y is None:
            raise ValueError("A validation set needs both X_val and y_val.")
        if not self.early_stopping:
            raise ValueError("X_val and y_val have no use with early_stopping=False; set it to True.")
        X = self._read(X)
        check_consistent_length(X, y)
        weight = self._check_weight(sample_weight, X)
        Y = self._encode_target(y)
        kept = weight > 0
        return X[kept], Y[kept], self._weigh_classes(Y, weight)[kept]

    def _warn_of_few_observations(self, weight: np.ndarray) -> None:
        """Warn if weights seem normalised to a sum of 1: the evidence would see a single observation."""
        if not self._fixed_l2 and weight.mean() < _SMALL_WEIGHT:
            warnings.warn(
                f"sample_weight has a mean of {weight.mean():.2g} over {len(weight)} rows. Weights are "
                f"repetitions, so the evidence sees {weight.sum():.3g} observation(s) and regularises accordingly: "
                "rescale them to a mean of 1, or set a float l2_regularization.",
                UserWarning,
                stacklevel=5,
            )

    def _split(self, X: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> list[np.ndarray]:
        """Split merged rows into training and validation rows; no row is in both parts."""
        strata = self._strata(Y)
        # At least one row of each class.
        counts = np.ones(1) if strata is None else np.unique(strata, return_counts=True)[1]
        size = max(round(self.validation_fraction * len(Y)), len(counts))
        if len(Y) < 2 * len(counts) or (strata is not None and counts.min() < 2):
            raise ValueError(
                "early_stopping=True needs two different rows at least, of each class, for training and validation; "
                f"got n_samples={len(Y)}. Pass X_val and y_val, or set early_stopping=False."
            )
        return train_test_split(
            X,
            Y,
            weight,
            test_size=min(size, len(Y) - len(counts)),
            random_state=check_random_state(self.random_state).randint(np.iinfo(np.int32).max),
            stratify=strata,
        )

    def _validation(self, X: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> Validation:
        return Validation(self._scaled(self._encode(X)), np.ascontiguousarray(self._transform_target(Y)), weight)

    @property
    def _projects_readout(self) -> bool:
        """Whether training may take any path to the minimum, rather than the path of a given damping rule.

        The objective must be fixed. A warm start goes on from where it is.
        """
        warm = self.warm_start and hasattr(self, "estimators_")
        return self._fixed_l2 and isinstance(self.damping, str) and self.step_size == 1 and not warm

    def _starts(
        self,
        hidden: tuple[int, ...] | None,
        k: int,
        n_rows: int,
        n_observations: float,
        has_noise: bool,
        compares: bool,
    ) -> list[Start]:
        """Draw the candidates: of all kinds that are left to the fit, or as many members of one kind."""
        priors: Sequence[str | float] = (float(self.l2_regularization),) if self._fixed_l2 else (self.prior_groups,)
        if priors == ("auto",):
            priors = prior_choices(compares, features=self.network is None)
        levels = self._levels(has_noise, compares)
        networks = self._networks(hidden, k, n_observations, compares)
        n = self._member_count(n_rows, [network for _, network in networks], compares)
        # A single network is compared with others of its kind.
        kinds = [Kind(*each) for each in itertools.product(networks if n > 1 else networks[:1], levels, priors)]
        few = compares and n_rows <= COMPARED_ROWS
        beside = self._beside(*networks[0], levels[0], hidden) if few else None
        every = kinds if beside is None else [*kinds, beside]
        count = candidate_count(n, n_rows, len(every), compares)
        fresh = draw_starts(kinds, count, n > 1, check_random_state(self.random_state), beside)
        if not (self.warm_start and hasattr(self, "estimators_")):
            return fresh
        kept = [
            Start(m.network, m.inputs, m.prior, levels[0].noise_precision, m.weights, m.anchor, start.seed)
            for m, start in zip(self.estimators_[:n], fresh, strict=False)
            if m.inputs in self._input_scalers and m.prior in {kind.prior for kind in every}
        ]
        if any((start.inputs, start.network) not in {kind.network for kind in every} for start in kept):
            raise ValueError(
                "warm_start=True needs the network of the previous fit: the same number of features, outputs and "
                f"classes, hidden_layer_sizes, activation, linear_path, network, alpha and init. It was "
                f"{kept[0].network}, "
                f"now it is {networks[0][1]}."
            )
        return kept if len(kept) == n else kept + fresh

    def _beside(self, inputs: str, network: Network, level: Level, hidden: tuple[int, ...] | None) -> Kind | None:
        """Choose the kind beside the others for two classes on few rows, if activation and prior are left to the fit.

        On periodic inputs, networks of rectified units are surer than they should be.
        """
        left_to_fit = self.activation == self.prior_groups == "auto" and hidden != () and inputs != "periodic"
        if not left_to_fit or not isinstance(network, FeedForward) or network.n_outputs > 1:
            return None
        return rectified_kind(inputs, network, level, hidden)

    def _levels(self, has_noise: bool, compares: bool) -> tuple[Level, ...]:
        steep = self.network is None and self.hidden_layer_sizes != ()
        return level_choices(has_noise and not self._fixed_l2, compares, steep)

    def _member_count(self, n_rows: int, networks: Sequence[Network], compares: bool) -> int:
        return member_count(self.n_estimators, n_rows, networks, compares)

    def _networks(
        self, hidden: tuple[int, ...] | None, k: int, n_observations: float, compares: bool
    ) -> list[tuple[str, Network]]:
        """Networks to choose from, each with the name of its input scaling."""
        n_inputs = {name: len(features) for name, features in self._input_features.items()}
        n_straight = {name: 0 if scaler is None else scaler.n_straight for name, scaler in self._input_scalers.items()}
        alpha, init = float(self.alpha), self.init
        if self.network is not None:
            # Each network tries the module out, so that all scalings with as many columns share one.
            networks = {d: ModuleNetwork(self.network, d, k, alpha, init) for d in dict.fromkeys(n_inputs.values())}
            return [(name, networks[d]) for name, d in n_inputs.items()]
        bent = {name: n_inputs[name] - n_straight[name] for name in n_inputs}
        choices = layer_choices(bent, k, n_observations, hidden)
        activation = "tanh" if self.activation == "auto" else self.activation
        given = activation, self.linear_path, alpha, init
        return [
            (name, FeedForward(n_inputs[name], k, sizes, *given, n_straight[name]))
            for name, sizes in (choices if compares else choices[:1])
        ]

    def _find_relevance(self, ensemble: Ensemble, problem: Problem) -> None:
        sensitivity = feature_sensitivity(ensemble, problem.inputs, self._input_features, problem.sample_weight)
        self.feature_relevance_ = relevance(sensitivity, problem.n_outputs)

    def _store(self, ensemble: Ensemble) -> None:
        members, best = ensemble.members, ensemble.members[0]
        self.estimators_, self.weights_ = members, ensemble.weights
        self._keep_scalers({member.inputs for member in members})
        self.coefs_, self.intercepts_ = best.network.arrays(best.weights)
        self.n_outputs_ = best.network.n_outputs
        self.n_iter_ = best.n_iter
        self.loss_ = best.loss
        self.history_ = best.history
        self.loss_curve_ = best.history["loss"][1:].tolist()
        self.solver_ = best.solver
        self.damping_ = best.damping
        self.left_out_score_ = ensemble.skill.score
        status = Status(best.status)
        status = Status.NO_SKILL if status.converged and ensemble.skill.failed else status
        self.status_, self.status_message_ = status.value, status.sentence
        self.log_evidence_ = best.log_evidence
        self.n_effective_parameters_ = best.n_effective_parameters

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
        if not isinstance(best.network, ModuleNetwork):
            raise AttributeError("network_ is there for a fit with network= only; coefs_ and intercepts_ have weights.")
        return best.network.trained(best.weights)

    def parts(self) -> Parts:
        """Return the surroundings of the members in a prediction."""
        check_is_fitted(self)
        encoder, medians = (None, self._medians) if self.preprocessor_ is None else (self.preprocessor_[-1], None)
        target, multilabel = getattr(self, "_target_scaler", None), getattr(self, "_multilabel", False)
        return Parts(encoder, medians, self._input_scalers, target, multilabel)

    def voters(self) -> tuple[list[Member], np.ndarray]:
        """Return the members that count in a prediction, best first, and their positive weights."""
        return voters(self.estimators_, self.weights_)

    def _outputs(self, scaled: dict[str, np.ndarray]) -> np.ndarray:
        """Outputs at scaled inputs of every member that counts, (members, n, k), always in float64."""
        flops = 2.0 * len(next(iter(scaled.values()))) * self.estimators_[0].network.n_weights
        device = linear_algebra_device(resolve_device(self.device, flops))
        return np.stack([member_outputs(member, scaled[member.inputs], device) for member in self.voters()[0]])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.input_tags.allow_nan = True
        return tags


def _print_line(line: str) -> None:
    """Print the line and its end in one call, because several threads print."""
    print(line + "\n", end="")
