"""DaskGNRegressor and DaskGNClassifier: the estimators of the package on dask arrays and dataframes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import dask
import dask.array as da
import distributed
import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted, validate_data

from ..backend import resolve_device
from ..classifier import GNClassifier, one_hot
from ..ensemble import Ensemble, Sensitivity, feature_sensitivity, train_members
from ..estimator import BaseGN, relevance
from ..losses import NoiseLoss
from ..preprocessing import Scaler, TargetScaler
from ..regressor import GNRegressor
from .objective import DistributedProblem, numbers_per_iteration
from .rows import (
    Merged,
    Scaled,
    Summary,
    assemble,
    fit_input_scaler,
    fit_target_scaler,
    is_frame,
    last_hash,
    merge,
    place,
    row_blocks,
    scale,
    summarise,
)
from .shards import Shards

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DaskGNClassifier", "DaskGNRegressor"]

#: Rows from which the relevance of features is estimated.
_SENSITIVITY_ROWS = 512

_BYTES = 8


def _signature_of(base: type[BaseGN]) -> Callable[..., None]:
    """An ``__init__`` with the parameters of ``base`` and ``client``; they are written down once, there."""

    def __init__(self: Any, *args: Any, client: Any = None, **parameters: Any) -> None:
        base.__init__(self, *args, **parameters)
        self.client = client

    signature = inspect.signature(base.__init__)
    last = inspect.Parameter("client", inspect.Parameter.KEYWORD_ONLY, default=None)
    __init__.__signature__ = signature.replace(parameters=[*signature.parameters.values(), last])  # type: ignore[attr-defined]
    return __init__


def _count(rows: Merged) -> np.ndarray:
    return np.array([len(rows.X), rows.weight.sum()])


def _class_totals(rows: Any, classes: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(classes, rows.y), weights=rows.weight, minlength=len(classes))


def _sensitivity(
    rows: Scaled, ensemble: Ensemble, features: dict[str, np.ndarray], until: int | None
) -> np.ndarray | None:
    n = rows.count_until(until)
    if n == 0:
        return None
    inputs = {name: values[:n] for name, values in rows.inputs.items()}
    weight = rows.weight[:n]
    found = feature_sensitivity(ensemble, inputs, features, weight)
    return np.concatenate([[weight.sum()], weight.sum() * found.squares, found.evidence])


class _DaskGN(BaseGN):
    """Fit on rows that stay on their workers; predictions of every block where it is."""

    _local: ClassVar[type[BaseGN]]
    _is_classifier: ClassVar[bool]

    # Without a validation set: there is no early stopping.
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # type: ignore[override]
        """Train on dask collections.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)
            Finite numbers; chunk sizes need not be known.
        y : dask array, series or dataframe of shape (n_samples,) or (n_samples, n_outputs)
            Targets, partitioned like X. Arrays of known chunk sizes are cut like X.
        sample_weight : dask array or series of shape (n_samples,), default=None
            Non-negative weights; weight 2 is the row twice, weight 0 its absence.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not as described, or the linear system cannot fit in the memory of this
            process; an earlier fit is kept.
        """
        return self._fit_or_restore(X, y, sample_weight)

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> None:  # type: ignore[override]
        self._validate_params()
        hidden = self._check_hidden_layer_sizes()
        self._check_distributed()
        blocks = row_blocks(X, y, sample_weight)
        client = self._client()
        raw = place(client, blocks, partial(assemble, is_classifier=self._is_classifier))
        self._check_summaries(X, raw.collect(partial(summarise, is_classifier=self._is_classifier)))
        merged = raw.map(self._merge(raw))
        del raw
        n, total = merged.sum(_count).tolist()
        if n == 0:
            raise ValueError("sample_weight or class_weight is zero for every sample; at least one must be positive.")
        self._input_scalers: Mapping[str, Scaler | None] = (
            {"robust": fit_input_scaler(merged)} if self.standardize else {"raw": None}
        )
        encode, k = self._encoder(merged)
        loss = self._training_loss()
        starts = self._starts(hidden, k, total * k, isinstance(loss, NoiseLoss))
        shards = merged.map(partial(scale, scalers=dict(self._input_scalers), encode=encode))
        del merged
        nothing = np.empty((0, k))
        problem = DistributedProblem(
            inputs={},
            Y=nothing,
            sample_weight=nothing,
            validation=None,
            solver="primal",
            batch_size=None,
            device=resolve_device("cpu"),
            shards=shards,
            size=(int(n), k),
            **self._how_to_train(loss),
        )
        largest = max((start.network for start in starts), key=lambda network: network.n_weights)
        numbers = numbers_per_iteration(largest, loss, not self._fixed_l2)
        if self.verbose:
            print(
                f"{shards.n_workers} workers with {int(n)} distinct rows in {len(starts)} fits of up to "
                f"{largest.n_weights} weights: each worker sends {numbers} numbers, {_BYTES * numbers} bytes, "
                f"an iteration and receives {2 * largest.n_weights}"
            )
        ensemble = train_members(problem, starts, self.n_estimators, self.n_jobs)
        self.feature_relevance_ = relevance(self._sensitivity(shards, ensemble, total), k)
        self._store(ensemble)
        best = ensemble.members[0].network
        self.bytes_per_iteration_ = _BYTES * numbers_per_iteration(best, ensemble.loss, not self._fixed_l2)

    def _check_distributed(self) -> None:
        """Refuse what has no distributed form."""
        if self.solver not in ("auto", "primal"):
            raise ValueError(
                f"solver={self.solver!r} needs all rows in one place; on dask use 'primal', or 'auto', which is that."
            )
        if isinstance(self.standardize, str) and self.standardize != "robust":
            raise ValueError(
                f"standardize={self.standardize!r} needs the ranks of all rows; on dask use True ('robust')."
            )
        if self.batch_size is not None:
            raise ValueError(f"batch_size={self.batch_size!r} has no distributed form; on dask use None: all rows.")
        if self.early_stopping:
            raise ValueError("early_stopping=True has no distributed form; on dask use False, or max_time.")
        if self.device not in ("auto", "cpu"):
            raise ValueError(f"device={self.device!r} is not available on dask workers; use 'auto' or 'cpu'.")

    def _client(self) -> distributed.Client:
        client = self.client
        if client is None:
            try:
                client = distributed.default_client()
            except ValueError as error:
                raise ValueError(
                    "There is no dask client: create a distributed.Client before, or pass client=."
                ) from error
        if client.asynchronous:
            raise ValueError("An asynchronous client cannot fit; pass one made with asynchronous=False.")
        return client

    def _check_summaries(self, X: Any, summaries: list[Summary]) -> None:
        """What the shards say together: number of rows, features, targets, weights."""
        if sum(summary.n_rows for summary in summaries) == 0:
            raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
        shapes = {(summary.n_features, *summary.y_shape) for summary in summaries}
        if len(shapes) > 1:
            raise ValueError(f"All partitions must have the same columns, got {sorted(shapes)} of X and y.")
        lowest = min(summary.smallest_weight for summary in summaries)
        if lowest < 0:
            raise ValueError(f"sample_weight must not be negative, got a minimum of {lowest:g}.")
        if not sum(summary.total_weight for summary in summaries) > 0:
            raise ValueError("sample_weight is zero for every sample; at least one must be positive.")
        # Only the names and the number of the columns; the values were checked on the workers.
        columns = X._meta if is_frame(X) else np.empty((0, summaries[0].n_features))
        validate_data(self, columns, skip_check_array=True)
        self._validate_target(self._example_target(summaries))

    def _example_target(self, summaries: list[Summary]) -> np.ndarray:
        """A small y that tells all of the target that is not in its rows."""
        shape = summaries[0].y_shape
        labels = [summary.labels for summary in summaries if summary.labels is not None]
        if labels:
            return np.unique(np.concatenate([part for part in labels if len(part)]))
        return np.repeat([[0.0], [1.0]], shape[0], axis=1) if shape else np.zeros(1)

    def _merge(self, raw: Shards) -> Callable[[Any], Merged]:
        """How rows are encoded, weighed and merged."""
        raise NotImplementedError

    def _encoder(self, merged: Shards) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
        """How encoded targets become those of the network, and the number of its outputs."""
        raise NotImplementedError

    def _sensitivity(self, shards: Shards, ensemble: Ensemble, total: float) -> Sensitivity:
        """Values are exchanged within the shards: no row is sent for it."""
        until = last_hash(shards, _SENSITIVITY_ROWS)
        members = [
            # The covariance is of no use there.
            member
            if member.posterior is None
            else replace(member, posterior=replace(member.posterior, factor=np.empty((0, 0))))
            for member in ensemble.members
        ]
        task = partial(
            _sensitivity, ensemble=ensemble._replace(members=members), features=self._input_features, until=until
        )
        weight, *sums = shards.sum(task).tolist()
        squares, evidence = np.array(sums[: len(sums) // 2]), np.array(sums[len(sums) // 2 :])
        return Sensitivity(squares / weight, evidence * total / weight)

    def to_local(self) -> Any:
        """The fitted estimator of a single machine: a `GNRegressor` or `GNClassifier` with the same parameters."""
        check_is_fitted(self)
        parameters = {name: value for name, value in self.get_params(deep=False).items() if name != "client"}
        local = self._local(**parameters)
        own = {"client", "bytes_per_iteration_"}
        local.__dict__.update({name: value for name, value in self.__dict__.items() if name not in own})
        return local

    def _map(self, method: str, X: Any, width: tuple[int, ...], dtype: np.dtype | None = None, **options: Any) -> Any:
        """A method of the local estimator on each block of X, a lazy dask array (n, *width)."""
        check_is_fitted(self)
        local = self.to_local()
        if is_frame(X):
            validate_data(self, X._meta, skip_check_array=True, reset=False)
            blocks, columns = X.to_dask_array(), len(X.columns)
        elif isinstance(X, da.Array) and X.ndim == 2:
            blocks, columns = X, X.shape[1]
        else:
            raise TypeError(
                "X must be a dask array of two dimensions or a dask dataframe; to_local() predicts what is in memory, "
                f"got {type(X).__name__}."
            )
        if columns != self.n_features_in_:
            raise ValueError(
                f"X has {columns} features, but {type(self).__name__} was fitted on {self.n_features_in_}."
            )
        # Their order was checked; blocks have no names.
        local.__dict__.pop("feature_names_in_", None)
        if blocks.numblocks[1] > 1:
            blocks = blocks.rechunk({1: -1})
        if dtype is None:
            dtype = np.dtype(np.float32) if blocks.dtype == np.float32 else np.dtype(np.float64)
        return da.map_blocks(
            _predict_block,
            blocks,
            # One task for the model: it is not sent with every block.
            model=dask.delayed(local),
            method=method,
            options=options,
            width=width,
            kind=dtype,
            dtype=dtype,
            drop_axis=[1],
            new_axis=list(range(1, 1 + len(width))) or None,
            chunks=(blocks.chunks[0], *((size,) for size in width)),
            meta=np.empty((0,) * (1 + len(width)), dtype=dtype),
        )

    def _sum_blocks(
        self, function: Callable[..., np.ndarray], predicted: Any, y: Any, sample_weight: Any
    ) -> np.ndarray:
        """Sum of a function of the blocks of a prediction, the target and the weights."""
        blocks = row_blocks(predicted, y, sample_weight)
        parts = [dask.delayed(function, pure=False)(*block) for block in blocks]
        if self.client is None:
            return np.sum(dask.compute(*parts), axis=0)
        return np.sum(self.client.gather(self.client.compute(parts)), axis=0)

    def __getstate__(self) -> Any:
        state = dict(super().__getstate__())
        # A connection is of one process.
        state["client"] = None
        return state

    def __sklearn_clone__(self) -> Any:
        parameters = self.get_params(deep=False)
        client = parameters.pop("client")
        make: Any = type(self)
        return make(**{name: clone(value, safe=False) for name, value in parameters.items()}, client=client)


def _predict_block(
    X: np.ndarray, model: Any, method: str, options: dict[str, Any], width: tuple[int, ...], kind: np.dtype
) -> np.ndarray:
    if len(X) == 0:
        return np.empty((0, *width), dtype=kind)
    values = getattr(model, method)(X, **options)
    # Mean and standard deviation stand side by side.
    return np.stack(values, axis=-1) if isinstance(values, tuple) else np.asarray(values).astype(kind, copy=False)


def _squares(prediction: np.ndarray, y: Any, weight: Any = None, *, centre: np.ndarray) -> np.ndarray:
    """Sums of the weights, of the squared residuals, and of the targets less a centre and their squares."""
    weight = np.ones(len(prediction)) if weight is None else np.asarray(weight, dtype=np.float64)
    shape = len(weight), len(centre)
    y, prediction = (np.asarray(values, dtype=np.float64).reshape(shape) for values in (y, prediction))
    total = np.full(y.shape[1], weight.sum())
    return np.stack([total, weight @ (y - prediction) ** 2, weight @ (y - centre), weight @ (y - centre) ** 2])


def _hits(prediction: np.ndarray, y: Any, weight: Any = None) -> np.ndarray:
    """Sums of the weights of the samples that are all right, and of all."""
    weight = np.ones(len(prediction)) if weight is None else np.asarray(weight, dtype=np.float64)
    right = np.asarray(y).reshape(prediction.shape) == prediction
    return np.array([weight @ (right if right.ndim == 1 else right.all(axis=1)), weight.sum()])


class DaskGNRegressor(_DaskGN, GNRegressor):
    """`GNRegressor` on dask arrays and dataframes, by data parallelism.

    Each worker reduces its rows to a Gram matrix, a gradient and a loss, dask adds them up, and the process that calls
    ``fit`` solves: rows stay on their workers, and the weights are those of the single-machine fit up to rounding. A
    worker sends ``P (P + 1) / 2 + P + 1`` numbers an iteration for P weights, and one for each output where a noise
    level is estimated; see ``bytes_per_iteration_``.

    The parameters are those of :class:`~skgn.GNRegressor`, with these differences: ``standardize=True`` is "robust"
    also where candidates are compared, ranks ("rank", "periodic") are refused; the solver is "primal"; the device is
    the CPU of the workers.

    Parameters
    ----------
    client : distributed.Client, default=None
        By default that of :func:`distributed.default_client`. It is not pickled.

    Attributes
    ----------
    bytes_per_iteration_ : int
        What each worker sends in an iteration of the best member whose first step is accepted.

    Notes
    -----
    ``feature_relevance_`` exchanges values between rows of one worker only, so that it differs a little from that of a
    single machine. All other attributes are those of :class:`~skgn.GNRegressor`.

    See Also
    --------
    skgn.GNRegressor : The estimator itself, and all its parameters.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client
    >>> from skgn.dask import DaskGNRegressor
    >>> client = Client(n_workers=2)  # doctest: +SKIP
    >>> X = da.random.normal(size=(10_000, 4), chunks=(2_500, 4))
    >>> model = DaskGNRegressor(n_estimators=1).fit(X, X[:, 0] * X[:, 1])  # doctest: +SKIP
    >>> model.predict(X).compute()  # doctest: +SKIP
    """

    _local = GNRegressor
    _is_classifier = False
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **GNRegressor._parameter_constraints,
        "client": [HasMethods(["submit", "compute", "who_has"]), None],
    }

    __init__ = _signature_of(GNRegressor)

    def _merge(self, raw: Shards) -> Callable[[Any], Merged]:
        return partial(merge, classes=None, factors=None)

    def _encoder(self, merged: Shards) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
        k = merged.collect(_width)[0]
        self._target_scaler = fit_target_scaler(merged) if self.standardize else TargetScaler.identity(k)
        return self._target_scaler.transform, k

    @property
    def _y_width(self) -> tuple[int, ...]:
        check_is_fitted(self)
        return () if self._y_ndim == 1 else (self.n_outputs_,)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the mean of the target and, if asked, the standard deviation of a new observation.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)
        return_std : bool, default=False
            As in :meth:`skgn.GNRegressor.predict`.

        Returns
        -------
        y_mean : dask array of shape (n_samples,) or (n_samples, n_outputs)
            Lazy, in the units of y and the float type of X.
        y_std : dask array of the same shape
            Only with ``return_std=True``.
        """
        if not return_std:
            return self._map("predict", X, self._y_width)
        if any(member.posterior is None for member in self.estimators_):
            # The message of the local estimator, now rather than on a worker.
            self.to_local().predict(np.zeros((1, self.n_features_in_)), return_std=True)
        both = self._map("predict", X, (*self._y_width, 2), return_std=True)
        return both[..., 0], both[..., 1]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination of the prediction, the mean over the outputs.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)
        y : dask array, series or dataframe of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : dask array or series of shape (n_samples,), default=None

        Returns
        -------
        score : float
            Computed from sums over the blocks.
        """
        squares_of = partial(_squares, centre=self._target_scaler.mean)
        total, residual, deviation, squares = self._sum_blocks(squares_of, self.predict(X), y, sample_weight)
        spread = squares - deviation**2 / total
        safe = np.where(spread > 0, spread, 1.0)
        return float(np.mean(np.where(spread > 0, 1 - residual / safe, residual == 0)))


def _width(rows: Merged) -> int:
    return rows.Y.shape[1]


class DaskGNClassifier(_DaskGN, GNClassifier):
    """`GNClassifier` on dask arrays and dataframes, by data parallelism.

    Each worker reduces its rows to a Gram matrix, a gradient and a loss, dask adds them up, and the process that calls
    ``fit`` solves: rows stay on their workers, and the weights are those of the single-machine fit up to rounding. A
    worker sends ``P (P + 1) / 2 + P + 1`` numbers an iteration for P weights; see ``bytes_per_iteration_``. The
    temperature is set by sums over left-out samples, which stay on their workers too.

    The parameters are those of :class:`~skgn.GNClassifier`, with the differences of :class:`DaskGNRegressor`.

    Parameters
    ----------
    client : distributed.Client, default=None
        By default that of :func:`distributed.default_client`. It is not pickled.

    Attributes
    ----------
    bytes_per_iteration_ : int
        What each worker sends in an iteration of the best member whose first step is accepted.

    See Also
    --------
    skgn.GNClassifier : The estimator itself, and all its parameters and attributes.
    DaskGNRegressor : The same for regression.
    """

    _local = GNClassifier
    _is_classifier = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **GNClassifier._parameter_constraints,
        "client": [HasMethods(["submit", "compute", "who_has"]), None],
    }

    __init__ = _signature_of(GNClassifier)

    def _merge(self, raw: Shards) -> Callable[[Any], Merged]:
        if self._multilabel:
            return partial(merge, classes=None, factors=None)
        factors = None
        if self.class_weight is not None:
            factors = self._class_factors(raw.sum(partial(_class_totals, classes=self.classes_)))
        return partial(merge, classes=self.classes_, factors=factors)

    def _encoder(self, merged: Shards) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
        n_classes = len(self.classes_)
        if self._multiclass:
            return partial(one_hot, n_classes=n_classes), n_classes
        return np.asarray, n_classes if self._multilabel else 1

    @property
    def _proba_width(self) -> tuple[int]:
        check_is_fitted(self)
        return (len(self.classes_),)

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithm of :meth:`predict_proba`, a lazy dask array.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)

        Returns
        -------
        log_p : dask array of shape (n_samples, n_classes)
        """
        return self._map("predict_log_proba", X, self._proba_width)

    def predict_proba(self, X: Any) -> Any:
        """Predict class probabilities, a lazy dask array.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)

        Returns
        -------
        p : dask array of shape (n_samples, n_classes)
        """
        return self._map("predict_proba", X, self._proba_width)

    def decision_function(self, X: Any) -> Any:
        """Log odds or log probabilities, as :meth:`skgn.GNClassifier.decision_function`, a lazy dask array.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)

        Returns
        -------
        scores : dask array of shape (n_samples,) for two classes, else (n_samples, n_classes)
        """
        check_is_fitted(self)
        return self._map("decision_function", X, self._proba_width if self._multilabel or self._multiclass else ())

    def predict(self, X: Any) -> Any:
        """Predict the most probable class, or the set of labels more probable than not, a lazy dask array.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)

        Returns
        -------
        y : dask array of shape (n_samples,) or (n_samples, n_labels)
        """
        check_is_fitted(self)
        if self._multilabel:
            return self._map("predict", X, self._proba_width, np.dtype(int))
        return self._map("predict", X, (), self.classes_.dtype)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Part of the samples whose prediction is right, of a multilabel y in all labels.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)
        y : dask array, series or dataframe of shape (n_samples,) or (n_samples, n_labels)
        sample_weight : dask array or series of shape (n_samples,), default=None

        Returns
        -------
        score : float
            Computed from sums over the blocks.
        """
        right, total = self._sum_blocks(_hits, self.predict(X), y, sample_weight)
        return float(right / total)
