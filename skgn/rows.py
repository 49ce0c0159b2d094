"""The rows of a fit on their way to a problem: as read, merged, parted for validation, encoded, in training units."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_regressor
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, check_X_y
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, validate_data

from .backend import resolve_device
from .candidates import Start
from .cells import check_finite, check_kind, check_target, holds_objects, truth_values
from .choices import Choices
from .inputs import Table
from .jacobian_cost import gram_flops
from .near_copies import NearCopies, near_copies
from .parameters import Parameters
from .problem import Problem, Validation
from .tables import TableReader, categorical_columns, check_same_categories, check_types, dense
from .target import Target
from .weighted_rows import (
    check_weights,
    merge_rows,
    row_hashes,
    unlimited,
    without_negligible,
)

__all__ = ["Raw", "RawRows", "Rows", "TrainingRows", "read_rows", "read_validation_rows"]

#: A fit with a limit on its time first merges and scales so many rows, or cells, to see how long that takes. It then
#: takes as many rows as can be scaled in this part of the time, as training takes several times as long for each row.
#: That of linear models does not, and their part is the second one.
_TIMED_ROWS, _TIMED_CELLS, _PART_FOR_SCALING, _PART_OF_LINEAR = 8_000, 1_000_000, 0.25, 0.75


class RawRows(Protocol):
    """Checked rows as they came; ``y`` tells all about the target but for its rows."""

    @property
    def y(self) -> np.ndarray: ...

    @property
    def observations(self) -> tuple[int, float]:
        """Number of the rows of positive weight, and the sum of their weights."""
        ...

    def class_totals(self, target: Target) -> np.ndarray:
        """Sum the sample weights of each class (k,)."""
        ...

    def in_time(self, table: Table, target: Target, choices: Choices) -> RawRows:
        """Return as many random rows as there is time to merge and scale, or all."""
        ...

    def merge(self, target: Target) -> TrainingRows:
        """Encode the target, and merge equal rows."""
        ...


class TrainingRows(ABC):
    """Merged rows with encoded targets: distinct, of positive weight, and in an order of their own."""

    #: Whether they are here, rather than on workers.
    in_memory: ClassVar[bool] = True

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """Number of rows."""

    @property
    @abstractmethod
    def total_weight(self) -> float:
        """Sum of the weights."""

    def split(self, target: Target, choices: Choices) -> tuple[TrainingRows, Rows]:
        """Split rows as read into training and validation rows; no row is in both parts.

        Estimators whose rows cannot be split refuse early stopping before they have any.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be split.")

    @abstractmethod
    def fit(
        self, table: Table, target: Target, choices: Choices, target_codes: bool
    ) -> tuple[Table, Target, TrainingRows]:
        """Fit encoder, scalings and target to rows as read; return them, and the rows with encoded X.

        With ``target_codes``, levels may have the mean target as their code.
        """

    @abstractmethod
    def largest_inputs(self) -> np.ndarray:
        """Size of the largest value in each encoded column (d,)."""

    def inputs_are_equal(self) -> bool:
        """Tell whether several rows have the same encoded X; False also where the rows cannot be compared."""
        return False

    def near_copies(self, target: Target) -> NearCopies | None:
        """Tell whether most rows with encoded X are near copies; None also where the rows cannot be compared."""
        return None

    @abstractmethod
    def problem(
        self, table: Table, target: Target, starts: Sequence[Start], choices: Choices, held_out: Rows | None = None
    ) -> Problem:
        """Make the problem of rows with encoded X, in training units; ``held_out`` rows are as read."""


class Raw(NamedTuple):
    """Checked rows in the order in which they came: X (n, d) as read, y (n,) or (n, k) as given, weight (n,)."""

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray

    def present(self) -> Raw:
        """Leave out rows of weight 0, which count as absent: of these neither the target nor its kind is read."""
        kept = self.weight != 0
        return self if kept.all() else Raw(*(part[kept] for part in self))

    @property
    def observations(self) -> tuple[int, float]:
        return len(self.weight), float(self.weight.sum())

    def class_totals(self, target: Target) -> np.ndarray:
        return target.class_totals(target.encode(self.y), self.weight)

    def in_time(self, table: Table, target: Target, choices: Choices) -> Raw:
        n, n_timed = self.observations[0], min(_TIMED_ROWS, math.ceil(_TIMED_CELLS / self.X.shape[1]))
        if math.isinf(choices.time_left) or n <= 2 * n_timed:
            return self
        timed = self.drawn(n_timed, target, np.random.RandomState(0))
        began = time.perf_counter()
        timed.scale(table, target, choices)
        of_all = (time.perf_counter() - began) / n_timed * n
        part = (_PART_OF_LINEAR if choices.hidden == () else _PART_FOR_SCALING) * choices.time_left
        if of_all <= part:
            return self
        count = max(n_timed, int(part / of_all * n))
        return self.drawn(count, target, check_random_state(choices.parameters.random_state))

    def drawn(self, count: int, target: Target, random: np.random.RandomState) -> Raw:
        """Draw so many rows, in the proportions of the classes and one of each at the least.

        Other targets have the parts of their zeros in place of classes: events may be rare.
        """
        Y = target.encode(self.y)
        strata = target.strata(Y)
        chosen = _draw(count, row_hashes((Y != 0).astype(np.float64)) if strata is None else strata, random)
        # In their order, as neighbours in memory are read faster.
        return Raw(*(part[np.sort(chosen)] for part in self))

    def scale(self, table: Table, target: Target, choices: Choices) -> None:
        """Merge, encode and scale the rows, to see how long that takes; codes are sought in few rows of a fit."""
        rows = self.merge(target)
        values = target.to_average(rows.Y, rows.weight)
        table, columns = table.with_encoder(rows.X, values, rows.weight, seen=np.empty(0))
        X = rows.X if columns is None else columns
        scalings = choices.scalings(rows.n_rows, target.training_loss())
        table.with_scalings(scalings, X, rows.weight, choices.paths).scale(X)

    def repetition_factor(self, target: Target) -> float:
        """Return what weights are multiplied by, before rows are merged."""
        return target.repetition_factor(target.encode(self.y), self.weight)

    def merge(self, target: Target, factor: float | None = None) -> Rows:
        """Merge equal rows; weights are multiplied by a factor, or else by that of these rows."""
        Y, factor = target.encode(self.y), self.repetition_factor(target) if factor is None else factor
        X, Y, weight = merge_rows(self.X, Y, factor * self.weight, target.merges(Y, self.weight))
        return Rows(X, Y, target.weigh(Y, weight)).present()

    def encode(self, target: Target) -> Rows:
        """Encode the target; all rows stay, in their order."""
        Y = target.encode(self.y)
        return Rows(self.X, Y, target.weigh(Y, self.weight))


@dataclass(frozen=True)
class Rows(TrainingRows):
    """Rows of a single machine: X (n, d) as read or encoded, Y (n, m), weight (n,)."""

    X: np.ndarray
    Y: np.ndarray
    weight: np.ndarray

    @property
    def n_rows(self) -> int:
        return len(self.Y)

    @property
    def total_weight(self) -> float:
        return self.weight.sum()

    def present(self) -> Rows:
        """Return the rows of positive weight."""
        kept = self.weight > 0
        return self if kept.all() else Rows(self.X[kept], self.Y[kept], self.weight[kept])

    def encoded(self, table: Table) -> Rows:
        """Return rows as read with encoded X."""
        return replace(self, X=table.encode(self.X))

    def split(self, target: Target, choices: Choices) -> tuple[Rows, Rows]:
        strata, parameters = target.strata(self.Y), choices.parameters
        # At least one row of each class.
        counts = np.ones(1) if strata is None else np.unique(strata, return_counts=True)[1]
        size = max(round(parameters.validation_fraction * self.n_rows), len(counts))
        if self.n_rows < 2 * len(counts) or (strata is not None and counts.min() < 2):
            raise ValueError(
                "early_stopping=True needs two different rows at least, of each class, for training and validation; "
                f"got n_samples={self.n_rows}. Pass X_val and y_val, or set early_stopping=False."
            )
        parts = train_test_split(
            self.X,
            self.Y,
            self.weight,
            test_size=min(size, self.n_rows - len(counts)),
            random_state=check_random_state(parameters.random_state).randint(np.iinfo(np.int32).max),
            stratify=strata,
        )
        return Rows(*parts[::2]), Rows(*parts[1::2])

    def fit(self, table: Table, target: Target, choices: Choices, target_codes: bool) -> tuple[Table, Target, Rows]:
        values = target.to_average(self.Y, self.weight) if target_codes else None
        fractions = not target.training_loss().has_temperature
        few = slice(choices.rows_for_codes)
        # A copy in another fold would confirm whatever pair its row is of.
        seen = target.as_given(target.observations(self.X[few], self.Y[few], self.weight[few]))
        table, columns = table.with_encoder(self.X, values, self.weight, seen, fractions, choices.before)
        # The order that these columns give by themselves, as if they had been encoded before the fit.
        merges = target.merges(self.Y, self.weight)
        rows = self if columns is None else Rows(*merge_rows(columns, self.Y, self.weight, merges))
        # Codes of later rows lie among those in training. By their own ranks they may lie where training had no rows.
        scalings = choices.scalings(rows.n_rows, target.training_loss())
        table = table.with_scalings(scalings, rows.X, rows.weight, choices.paths)
        target = target.with_scaler(lambda loss: loss.fit_scaler(rows.Y, rows.weight))
        return table, target.with_exposure(rows.Y, rows.weight), rows

    def largest_inputs(self) -> np.ndarray:
        return np.abs(self.X).max(axis=0)

    def inputs_are_equal(self) -> bool:
        return len(self.X) > 1 and bool((self.X == self.X[0]).all())

    def near_copies(self, target: Target) -> NearCopies | None:
        return near_copies(self.X, self.Y, target.as_given(self.weight), target.strata(self.Y))

    def problem(
        self, table: Table, target: Target, starts: Sequence[Start], choices: Choices, held_out: Rows | None = None
    ) -> Problem:
        loss = target.training_loss()
        flops = max(gram_flops(start.network, self.n_rows, loss.columns(target.n_outputs)) for start in starts)
        return Problem(
            scaled=table.scale(self.X),
            Y=np.ascontiguousarray(target.transform(self.Y)),
            sample_weight=target.observations(self.X, self.Y, self.weight),
            validation=None if held_out is None else held_out.encoded(table).validation(table, target),
            solver=choices.parameters.solver,
            batch_size=choices.parameters.batch_size,
            device=resolve_device(choices.parameters.device, flops),
            **choices.how_to_train(loss),
        )

    def validation(self, table: Table, target: Target) -> Validation:
        """Make validation data of rows with encoded X, in training units."""
        Y = np.require(target.transform(self.Y), requirements=("C", "W"))
        return Validation(table.scale(self.X), Y, self.weight)


def read_rows(
    estimator: Parameters, X: Any, y: Any, sample_weight: Any, table: Table | None = None
) -> tuple[Table, Raw]:
    """Check the data and read X, with nan for missing cells and codes for levels.

    X must be like ``table``, and what is new in it is said. Without one, a table is made that can read X, and
    ``estimator`` learns the features.
    """
    if issparse(y):
        raise TypeError("Sparse data was passed for y, but dense data is required. Use '.toarray()' to convert it.")
    check_target(y, numeric=is_regressor(estimator))
    y = y if is_regressor(estimator) else truth_values(y)
    options = {"dtype": [np.float64, np.float32], "multi_output": True, "ensure_all_finite": False}
    options["y_numeric"] = is_regressor(estimator)
    reset = table is None
    X = dense(X)
    categorical: Sequence[int]
    if table is None:
        categorical = categorical_columns(X, estimator.categorical_features)
    else:
        categorical = table.reader.categorical
        check_same_categories(X, estimator.categorical_features, categorical)
        check_types(X, categorical)
    if not categorical and not holds_objects(X):
        with unlimited():
            checked, y = validate_data(estimator, X, y, reset=reset, **options)
        table = table or Table(TableReader().fit(X))
        check_finite(checked, table.reader.get_feature_names_out())
        if not reset:
            table.warn_of_new_cells(estimator, checked)
        return table, Raw(checked, y, _checked_weight(sample_weight, checked)).present()
    validate_data(estimator, X, skip_check_array=True, reset=reset)
    weight = _checked_weight(sample_weight, X)
    table = table or Table(TableReader(categorical).fit(X, sample_weight=weight))
    X, said = table.reader.read(X)
    with unlimited():
        checked, y = check_X_y(X, y, estimator=estimator, **options)
    if not reset:
        table.warn_of_new_cells(estimator, checked, said)
    return table, Raw(checked, y, weight).present()


def read_validation_rows(
    estimator: Parameters, table: Table, target: Target, X: Any = None, y: Any = None, sample_weight: Any = None
) -> Rows | None:
    """Read the user's own validation set; None if there is none."""
    if X is None and y is None and sample_weight is None:
        return None
    if X is None or y is None:
        raise ValueError("A validation set needs both X_val and y_val.")
    if not estimator.early_stopping:
        raise ValueError("X_val and y_val have no use with early_stopping=False; set it to True.")
    X = table.read(estimator, X)
    check_consistent_length(X, y)
    check_target(y, numeric=is_regressor(estimator))
    rows = Raw(X, np.asarray(y), _checked_weight(sample_weight, X)).present().encode(target).present()
    if not rows.n_rows:
        raise ValueError("No row of the validation set counts: all are of classes whose weight in class_weight is 0.")
    return rows


def _draw(count: int, strata: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Draw positions of so many rows: of each stratum (n,) the same part, and at least one where there is room."""
    order = random.permutation(len(strata))
    _, stratum, size = np.unique(strata[order], return_inverse=True, return_counts=True)
    by_stratum = np.argsort(stratum, kind="stable")
    place = np.empty(len(strata))
    place[by_stratum] = np.arange(len(strata)) - np.repeat(np.cumsum(size) - size, size)
    chosen: np.ndarray = order[np.argsort(place / size[stratum], kind="stable")[:count]]
    return chosen


def _checked_weight(sample_weight: Any, X: Any) -> np.ndarray:
    if isinstance(sample_weight, (str, dict)):
        raise ValueError(
            f"sample_weight must have a number for each row, got {sample_weight!r}: 'balanced' and weights of labels "
            "are for class_weight."
        )
    if hasattr(sample_weight, "dtype"):
        check_kind("sample_weight", sample_weight)
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
    with np.errstate(over="ignore"):
        check_weights(weight.min(), weight.sum())
    return without_negligible(weight)
