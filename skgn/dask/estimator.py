"""The base of `DaskGNRegressor` and `DaskGNClassifier`: fit on rows of several workers, lazy predictions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import dask
import dask.array as da
import distributed
import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone, is_classifier
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted, validate_data

from ..backend import written
from ..ensemble import Ensemble
from ..estimator import BaseGN
from ..inputs import Table
from ..noise import InputNoise
from ..primal import Primal
from ..problem import Problem
from ..relevance import SENSITIVITY_ROWS, Sensitivity, feature_sensitivity, relevance
from ..tables import TableReader, categorical_columns, check_types
from ..weighted_rows import check_weights
from .cluster import Cluster, connected
from .objective import DistributedProblem
from .placed_rows import PlacedRaw, bytes_per_iteration
from .rows import Scaled, ShardSummary, assemble, is_frame, last_hash, place, row_blocks, summarise

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CLIENT", "DaskGN", "with_client"]

#: Allowed values of the parameter ``client``.
CLIENT: list[Any] = [HasMethods(["submit", "compute", "who_has"]), None]


def with_client(base: type[BaseGN]) -> Callable[..., None]:
    """Make an ``__init__`` with the parameters of ``base``, which are written down there only, and ``client``."""

    def __init__(self: Any, *args: Any, client: Any = None, **parameters: Any) -> None:
        base.__init__(self, *args, **parameters)
        self.client = client

    signature = inspect.signature(base.__init__)
    last = inspect.Parameter("client", inspect.Parameter.KEYWORD_ONLY, default=None)
    __init__.__signature__ = signature.replace(parameters=[*signature.parameters.values(), last])  # type: ignore[attr-defined]
    return __init__


def _sensitivity(
    rows: Scaled, ensemble: Ensemble, features: dict[str, np.ndarray], until: int | None
) -> np.ndarray | None:
    n = rows.count_until(until)
    if n == 0:
        return None
    scaled = {name: values[:n] for name, values in rows.scaled.items()}
    weight = rows.weight[:n]
    found = feature_sensitivity(ensemble, scaled, features, weight)
    return np.concatenate([[weight.sum()], weight.sum() * found.squares, found.evidence])


class DaskGN(BaseGN):
    """Fit on rows that stay on their workers. Each block is predicted where it is."""

    _local: ClassVar[type[BaseGN]]

    # The directions of the inputs would take another pass over the rows.
    _cuts = False

    bytes_per_iteration_: int

    # There is no early stopping, and so no validation set.
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # type: ignore[override]
        """Train on dask collections.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)
            Finite numbers, in blocks that are not sparse; chunk sizes need not be known.
        y : dask array, series or dataframe of shape (n_samples,) or (n_samples, n_outputs)
            Targets, partitioned like X. Arrays of known chunk sizes are cut like X.
        sample_weight : dask array or series of shape (n_samples,), default=None
            Non-negative weights. A row of weight 2 counts as two equal rows; a row of weight 0 counts as absent.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not as described, or the linear system does not fit in the memory of this
            process. An earlier fit is kept.
        RuntimeError
            If the client or its cluster is closed, or there is no worker for longer than ``max_time``, or for longer
            than dask's setting ``distributed.scheduler.no-workers-timeout`` (5 minutes if that is not set). Also if
            ``max_time`` is over and a worker has given no sign of life for half a minute. An earlier fit is kept.
        KeyboardInterrupt
            If Ctrl-C is pressed. While networks train, the error comes after the best weights so far are stored.

        Warns
        -----
        UserWarning
            If there is no worker, and the fit waits for one.
        """
        self._check_parameters()
        self._check_columns(X)
        with connected(self._client()):
            return self._fit_or_restore(X, y, sample_weight)

    @property
    def partial_fit(self) -> Any:
        """Raise an AttributeError: partial_fit has no distributed form."""
        raise AttributeError(f"{type(self).__name__} has no partial_fit; that of to_local() takes blocks in memory.")

    def _read(self, X: Any, y: Any, sample_weight: Any) -> tuple[Table, PlacedRaw]:
        blocks = row_blocks(X, y, sample_weight)
        cluster = Cluster(self._client(), self.max_time)
        shards = place(cluster, blocks, partial(assemble, is_classifier=is_classifier(self)))
        summaries = shards.collect(partial(summarise, is_classifier=is_classifier(self)))
        _check_summaries(summaries)
        # Check only the names and the number of the columns; the workers have checked the values.
        columns = X._meta if is_frame(X) else np.empty((0, summaries[0].n_features))
        validate_data(self, columns, skip_check_array=True)
        return Table(TableReader().fit(columns)), PlacedRaw(shards, summaries)

    def _check_parameters(self) -> None:
        """Refuse also parameters that have no distributed form."""
        super()._check_parameters()
        if self.solver not in ("auto", Primal.name):
            raise ValueError(
                f"solver={self.solver!r} needs all rows in one place; on dask use {Primal.name!r}, or 'auto', which is "
                "that."
            )
        if self.batch_size is not None:
            raise ValueError(
                f"batch_size={written(self.batch_size)} has no distributed form; on dask use None: all rows."
            )
        if self.early_stopping:
            raise ValueError("early_stopping=True has no distributed form; on dask use False, or max_time.")
        if self.device not in ("auto", "cpu"):
            raise ValueError(f"device={written(self.device)} is not available on dask workers; use 'auto' or 'cpu'.")

    def _check_columns(self, X: Any) -> None:
        """Refuse sparse blocks, times, and categories, because their levels are spread over all of the rows."""
        if is_frame(X):
            chosen = [X.columns[j] for j in categorical_columns(X._meta, self.categorical_features)]
        elif isinstance(X, da.Array):
            _check_blocks(X)
            given = not (self.categorical_features is None or isinstance(self.categorical_features, str))
            chosen = categorical_columns(np.empty((0, *X.shape[1:])), self.categorical_features) if given else []
        else:  # What is no collection is refused with y and the weights.
            return
        if chosen:
            raise ValueError(
                f"X has categories, {chosen}, which have no distributed form: encode them before, or fit a sample of "
                "the rows in memory with GNRegressor or GNClassifier."
            )

    def _client(self) -> distributed.Client:
        client = self.client or _default_client()
        if client is None:
            raise ValueError("There is no dask client: create a distributed.Client before, or pass client=.")
        if client.asynchronous:
            raise ValueError("An asynchronous client cannot fit; pass one made with asynchronous=False.")
        return client

    def _relevance(self, ensemble: Ensemble, problem: Problem) -> np.ndarray:
        """Exchange values within the shards, so that no row is sent."""
        assert isinstance(problem, DistributedProblem)
        shards = problem.shards
        until = last_hash(shards, SENSITIVITY_ROWS)
        members = [
            # The workers have no use for the covariance, nor for what is predicted of left-out samples.
            member
            if member.posterior is None
            else replace(member, posterior=replace(member.posterior, factor=np.empty((0, 0))))
            for member in ensemble.members
        ]
        task = partial(
            _sensitivity,
            ensemble=ensemble._replace(members=members, left_out=None),
            features=self._table.features,
            until=until,
        )
        weight, *sums = shards.sum(task).tolist()
        squares, evidence = np.array(sums[: len(sums) // 2]), np.array(sums[len(sums) // 2 :])
        sensitivity = Sensitivity(squares / weight, evidence * problem.total_weight / weight)
        return relevance(sensitivity, problem.n_outputs)

    def _store(self, ensemble: Ensemble, noise: InputNoise | None = None) -> None:
        super()._store(ensemble, noise)
        best = ensemble.members[0]
        self.bytes_per_iteration_ = bytes_per_iteration(best.network, ensemble.loss, best.prior_kind.has_evidence)

    def to_local(self) -> Any:
        """Return the fitted estimator of a single machine.

        It is a `GNRegressor` or `GNClassifier` with the same parameters.
        """
        check_is_fitted(self)
        parameters = {name: value for name, value in self.get_params(deep=False).items() if name != "client"}
        local = self._local(**parameters)
        own = {"client", "bytes_per_iteration_"}
        local.__dict__.update({name: value for name, value in self.__dict__.items() if name not in own})
        return local

    def _map(self, method: str, X: Any, width: tuple[int, ...], dtype: np.dtype | None = None, **options: Any) -> Any:
        """Call a method of the local estimator on each block of X: a lazy dask array (n, *width)."""
        check_is_fitted(self)
        local = self.to_local()
        if is_frame(X):
            check_types(X._meta)
            validate_data(self, X._meta, skip_check_array=True, reset=False)
            blocks, columns = X.to_dask_array(), len(X.columns)
        elif isinstance(X, da.Array) and X.ndim == 2:
            _check_blocks(X)
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
        """Sum a function of the blocks of a prediction, the target and the weights.

        The last sums are those of the weights.
        """
        blocks = row_blocks(predicted, y, sample_weight)
        parts = [dask.delayed(function, pure=False)(*block) for block in blocks]
        client = self.client or _default_client()
        if client is None:
            sums = np.sum(dask.compute(*parts), axis=0)
        else:
            with connected(client):
                sums = np.sum(Cluster(client).results(client.compute(parts)), axis=0)
        if not sums[-1].any():
            raise ValueError("A score needs a row of positive weight, and there is none.")
        return sums

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.sparse = False
        return tags

    def __getstate__(self) -> Any:
        state = dict(super().__getstate__())
        # A connection belongs to one process.
        state["client"] = None
        return state

    def __sklearn_clone__(self) -> Any:
        parameters = self.get_params(deep=False)
        client = parameters.pop("client")
        make: Any = type(self)
        return make(**{name: clone(value, safe=False) for name, value in parameters.items()}, client=client)


def _check_blocks(X: da.Array) -> None:
    """Refuse blocks of other types than numbers in arrays."""
    if issparse(X._meta):
        raise TypeError(
            "X has sparse blocks, which workers do not read: pass X.map_blocks(lambda block: block.toarray())."
        )
    check_types(X._meta)


def _default_client() -> distributed.Client | None:
    try:
        return distributed.default_client()
    except ValueError:
        return None


def _predict_block(
    X: np.ndarray, model: Any, method: str, options: dict[str, Any], width: tuple[int, ...], kind: np.dtype
) -> np.ndarray:
    if len(X) == 0:
        return np.empty((0, *width), dtype=kind)
    values = getattr(model, method)(X, **options)
    # Mean and standard deviation stand side by side.
    return np.stack(values, axis=-1) if isinstance(values, tuple) else np.asarray(values).astype(kind, copy=False)


def _check_summaries(summaries: list[ShardSummary]) -> None:
    """Check together what the shards report: number of rows, features, targets, weights."""
    if sum(summary.n_rows for summary in summaries) == 0:
        raise ValueError("Found array with 0 sample(s) of positive weight while a minimum of 1 is required.")
    shapes = {(summary.n_features, *summary.y_shape) for summary in summaries}
    if len(shapes) > 1:
        raise ValueError(f"All partitions must have the same columns, got {sorted(shapes)} of X and y.")
    lowest = min(summary.smallest_weight for summary in summaries)
    check_weights(lowest, sum(summary.total_weight for summary in summaries))
