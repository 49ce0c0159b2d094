"""The way from a table as given to columns in every scaling that a network may read, in training and in predictions."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.utils.validation import validate_data

from .cells import check_finite, holds_objects
from .codes import find_codes
from .encoders import (
    Interaction,
    coded_features,
    coded_rows,
    column_features,
    columns_of_steps,
    encode_training_rows,
    fill_missing,
    make_encoder,
    medians,
    number_codes,
    observed_rows,
)
from .interactions import find_interactions
from .preprocessing import ROBUST
from .scaler import BASE, Made, Scaler
from .scalings import fit_scalers, replaced_columns, transform_inputs
from .tables import TablePreprocessor, TableReader, check_types, dense
from .unfamiliar import Bounds, warn_of_codes, warn_of_new_cells
from .waves import WAVES, WaveScaler
from .weighted_rows import has_fractions

__all__ = ["Table"]

#: The most observations in which interactions are looked for, if there are not more rows.
_MOST_OBSERVATIONS = 20_000


@dataclass(frozen=True)
class Table:
    """What is learned of the table of a fit: how to read, encode and scale tables like it.

    X has four forms: as given, as read (floats), encoded (columns of the encoder), and scaled. Without a
    ``preprocessor``, all features are taken as they are; ``medians`` then replace missing numbers, of which training
    had none. They are None if they are unknown. ``scalings`` have names; the scaler None changes nothing. ``bounds``
    (None if unknown) tell which numbers and cells are like those of the fit. ``interactions`` are those of features
    with target codes.
    """

    reader: TableReader
    preprocessor: TablePreprocessor | None = None
    medians: np.ndarray | None = None
    scalings: Mapping[str, Scaler | None] = field(default_factory=dict)
    bounds: Bounds | None = None
    interactions: tuple[Interaction, ...] = ()

    def read(self, estimator: BaseEstimator, X: Any) -> np.ndarray:
        """Read X, which must be a table like that of the fit of ``estimator``. Warn of what is unlike it."""
        X, said = dense(X), list[int]()
        if self.reader.categorical or holds_objects(X):
            validate_data(estimator, X, skip_check_array=True, reset=False)
            X, said = self.reader.read(X)
        else:
            check_types(X)
            X = validate_data(estimator, X, reset=False, dtype=[np.float64, np.float32], ensure_all_finite=False)
            check_finite(X, self.reader.get_feature_names_out())
        self.warn_of_far_rows(X)
        self.warn_of_new_cells(estimator, X, said)
        return X

    def warn_of_new_cells(self, estimator: BaseEstimator, X: np.ndarray, said: Sequence[int] = ()) -> None:
        """Warn of levels, codes and missing cells, in X as read, that training did not have.

        Nothing is said of features that do not matter to the ``estimator``, nor of those that are ``said``.
        """
        asked, relevance = np.ones(X.shape[1], dtype=bool), getattr(estimator, "feature_relevance_", None)
        if relevance is not None and np.shape(relevance) == asked.shape:
            asked = np.asarray(relevance) != 0
        asked[list(said)] = False
        names, category = self.reader.get_feature_names_out(), np.zeros(X.shape[1], dtype=bool)
        category[list(self.reader.categorical)] = True
        unknown = self.unknown_cells(X)
        for j in self.codes:
            asked[j] = asked[j] and not warn_of_codes(names[j], X[:, j], unknown[:, j])
        if self.bounds is None or self.bounds.missing is None or self.bounds.others is None:
            return
        new = unknown & asked & ~self.bounds.others
        warn_of_new_cells("levels", new & category, names)
        warn_of_new_cells("codes", new & ~category, names)
        warn_of_new_cells("missing", np.isnan(X) & asked & ~self.bounds.missing, names)

    def unknown_cells(self, X: np.ndarray) -> np.ndarray:
        """Return which cells (n, d) of X, as read, are levels or codes that the encoder does not know."""
        unknown = np.zeros(X.shape, dtype=bool)
        for j in self.reader.categorical:
            unknown[:, j] = X[:, j] < 0
        step, features = number_codes(self.encoder)
        for position, j in enumerate(features):
            unknown[:, j] = ~np.isnan(X[:, j]) & ~step.knows(position, X[:, j])
        return unknown

    def warn_of_far_rows(self, X: np.ndarray) -> None:
        """Warn of rows, as read, that are far beyond those of training."""
        if self.bounds is not None:
            self.bounds.warn(X, self.reader.get_feature_names_out())

    def seeing(self, X: np.ndarray) -> Table:
        """Return the table of training rows that were these too, as read."""
        bounds = Bounds.fit(X, self.reader.categorical, self.unknown_cells(X))
        return replace(self, bounds=bounds if self.bounds is None else self.bounds.with_rows_of(bounds))

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Turn rows as read into the columns that are scaled."""
        encoder = self.encoder
        if encoder is None:
            return fill_missing(X, self.medians)
        # An imputer rounds its medians to the float type of the rows.
        return np.asarray(encoder.transform(np.asarray(X, dtype=np.float64)), dtype=np.float64)

    def scale(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """Scale encoded X in each of the scalings: float64 and C-contiguous."""
        return transform_inputs(self.scalings, X)

    @property
    def encoder(self) -> ColumnTransformer | None:
        """The transformer that encodes rows as read."""
        return None if self.preprocessor is None else self.preprocessor[-1]

    @property
    def features(self) -> dict[str, np.ndarray]:
        """Features that the columns of each scaling come from; without scalings that mix them."""
        encoded = self.encoded_features
        return {name: encoded[columns] for name, columns in self.columns.items()}

    @property
    def all_features(self) -> dict[str, np.ndarray]:
        """Both features (2, columns) of these columns, which are the same but for pairs of levels."""
        first = self.encoded_features
        both = np.stack([first, first if self.encoder is None else column_features(self.encoder, second=True)])
        # Where all scalings mix features, these are there all the same.
        return {name: both[:, columns] for name, columns in self.columns.items()} or {"encoded": both}

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Encoded columns that the columns of each scaling come from; without scalings that mix them."""
        as_given = np.arange(len(self.encoded_features))
        known = {name: as_given if scaler is None else scaler.features for name, scaler in self.scalings.items()}
        return {name: columns for name, columns in known.items() if columns is not None}

    def with_encoder(
        self,
        X: np.ndarray,
        Y: np.ndarray | None,
        weight: np.ndarray,
        seen: np.ndarray,
        fractions: bool = False,
        before: Table | None = None,
    ) -> tuple[Table, np.ndarray | None]:
        """Fit the encoder to merged rows X, as read, to what is averaged for target codes, and to weights (n,).

        That is Y (n, k), or None without target codes. In the first rows features whose numbers are codes are looked
        for, ``fractions`` among them, and interactions of categories. ``seen`` (rows,) says how many
        observations each of these rows is. A warm start has those of the table ``before``.

        Returns the table and the columns of the rows. These are None where they are X itself: all cells are numbers,
        none is missing, and none is a code.
        """
        table = replace(self, preprocessor=None, medians=None, bounds=Bounds.fit(X, self.reader.categorical))
        columns = None
        if self.reader.categorical or np.isnan(X).any():
            table, columns = table._with_codes([], X, Y, weight)
        numeric = [j for j in range(X.shape[1]) if j not in self.reader.levels_]
        codes = [] if before is None else [j for j in before.codes if j in numeric]
        if len(seen) and Y is not None:
            few = slice(len(seen))
            known = X if columns is None else columns
            codes = find_codes(X[few], known[few], Y[few], fractions, weight[few], numeric).tolist()
        if codes:
            table, columns = table._with_codes(codes, X, Y, weight)
        if columns is None:
            return replace(table, medians=medians(X, weight)), None
        found: Sequence[Interaction] = before.interactions if before and before._has_columns_of(table) else ()
        if len(seen) and Y is not None:
            # Weights with fractions are no repetitions.
            row = np.arange(len(seen)) if has_fractions(seen) else observed_rows(seen, _MOST_OBSERVATIONS)
            found = find_interactions(coded_rows(table.encoder, X, columns, Y).at(row))
        return table._with_codes(codes, X, Y, weight, found) if found else (table, columns)

    def _has_columns_of(self, other: Table) -> bool:
        """Whether interactions are of the same columns as those of another table, which has none yet."""
        return other._coded == self._coded and other._others == self._others

    def _with_codes(
        self,
        codes: list[int],
        X: np.ndarray,
        Y: np.ndarray | None,
        weight: np.ndarray,
        interactions: Sequence[Interaction] = (),
    ) -> tuple[Table, np.ndarray]:
        """Fit an encoder of rows in which the numbers of some features are ``codes``; return the columns too.

        The positions of ``interactions``, of which slopes come first, are those of the table's features with codes and
        of its other columns.
        """
        table = replace(self, interactions=tuple(interactions))
        of_slopes, of_pairs = [j for j, _ in table.slopes], [j for pair in table.pairs for j in pair]
        n_codes = None if Y is None else Y.shape[1]
        encoder = make_encoder(self.reader, X, n_codes, codes, of_slopes, of_pairs)
        columns = encode_training_rows(encoder, X, Y, weight, interactions)
        return replace(table, preprocessor=TablePreprocessor([("read", self.reader), ("encode", encoder)])), columns

    @property
    def slopes(self) -> list[tuple[int, int]]:
        """Features whose levels have slopes of their own, and the features along which they have them."""
        return [(self._coded[k], self._others[other]) for k, other, of_pairs, _ in self.interactions if not of_pairs]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Two features each whose pairs of levels have effects of their own."""
        return [(self._coded[k], self._coded[other]) for k, other, of_pairs, _ in self.interactions if of_pairs]

    @property
    def _coded(self) -> list[int]:
        """Features with target codes."""
        return [] if self.encoder is None else coded_features(self.encoder)

    @property
    def _others(self) -> list[int]:
        """Features of the encoded columns of all other features."""
        of_columns = self.encoded_features
        return of_columns[~np.isin(of_columns, self._coded)].tolist()

    @property
    def codes(self) -> dict[int, np.ndarray]:
        """The features whose numbers are codes, and these numbers."""
        step, features = number_codes(self.encoder)
        return {j: step.categories_[position] for position, j in enumerate(features)}

    @property
    def waves(self) -> list[tuple[int, float]]:
        """Features along which networks read waves, and the periods in their units, the one that tells most first."""
        scaler, features = self.scalings.get(WAVES), self.encoded_features
        return [(int(features[j]), period) for j, period in scaler.periods] if isinstance(scaler, WaveScaler) else []

    def with_scalings(self, names: Sequence[str], X: np.ndarray, weight: np.ndarray, paths: str) -> Table:
        """Fit scalings by their names to encoded X and weights (n,), for the ``paths`` of the networks."""
        return replace(self, scalings=fit_scalers(names, X, weight, paths))

    def scaled_anew(self, X: np.ndarray, weight: np.ndarray) -> Table:
        """Fit the same scalings, of as many columns, to other encoded X and weights (n,)."""
        base, names = self.scalings.get(BASE), [*self.scalings]
        made = {name: scaler for name, scaler in self.scalings.items() if isinstance(scaler, Made)}
        if made:
            base, names = next(iter(made.values())).source, [*names, BASE]
        paths = next((paths for paths, kind in ROBUST.items() if isinstance(base, kind)), "both")
        fitted = self.with_scalings(names, X, weight, paths)
        if made and (base := fitted.scalings[BASE]) is not None:
            fitted = fitted.with_more({name: scaler.of(base) for name, scaler in made.items()})
        return self.scaled_like(fitted, np.ones(X.shape[1], dtype=bool))

    def scaled_like(self, other: Table, changed: np.ndarray) -> Table:
        """Return the table with the scalings of another one for the encoded columns that have ``changed`` (mask)."""
        scalings: dict[str, Scaler | None] = {}
        for name, old in self.scalings.items():
            new = other.scalings[name]
            scalings[name] = None if old is None or new is None else replaced_columns(old, new, changed)
        return replace(self, scalings=scalings)

    def refilled(self, X: np.ndarray, weight: np.ndarray, columns: np.ndarray) -> Table:
        """Return the table with medians of X, as read, for missing numbers in some of the encoded ``columns`` (mask).

        Rows count by their weight (n,). Columns without any number stay as they are.
        """
        numeric = np.arange(X.shape[1])
        if self.encoder is not None:
            steps = {name: features for name, _, features in self.encoder.transformers_}
            numeric = np.array(steps.get("numeric", []), dtype=int)
        known = ~np.isnan(X[:, numeric]).all(axis=0) & columns[: len(numeric)]
        if not known.any():
            return self
        cells = [(column[:, None], ~np.isnan(column)) for column in X[:, numeric[known]].T]
        found = np.array([medians(column[there], weight[there])[0] for column, there in cells])
        table = copy.deepcopy(self)
        fill = table.medians if table.encoder is None else table.encoder.named_transformers_["numeric"].statistics_
        if fill is not None:
            fill[known] = found
        return table

    @property
    def encoded_features(self) -> np.ndarray:
        """Features that the encoded columns come from."""
        return np.arange(self.reader.n_features_in_) if self.encoder is None else column_features(self.encoder)

    @property
    def column_names(self) -> np.ndarray:
        """Names of the columns that are scaled."""
        return (self.reader if self.preprocessor is None else self.preprocessor).get_feature_names_out()

    def with_more(self, scalings: Mapping[str, Scaler]) -> Table:
        """Return the table with scalings that were made in a fit."""
        return replace(self, scalings={**self.scalings, **scalings})

    def scaled_features(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scale encoded rows in the first scaling that mixes no features; return columns, and the feature of each.

        Where all scalings mix them, the columns are as they are.
        """
        features = self.features
        name = next((name for name in self.scalings if name in features), None)
        return (X, self.encoded_features) if name is None else (self.only({name}).scale(X)[name], features[name])

    def only(self, used: Container[str]) -> Table:
        """Return the table with these of its scalings."""
        return replace(self, scalings={name: scaler for name, scaler in self.scalings.items() if name in used})

    def check_columns(self, before: Table) -> None:
        """Refuse a warm start if its weights would read other columns than ``before``, even as many."""
        was, now = before._columns(), self._columns()
        named = [hasattr(table.reader, "feature_names_in_") for table in (before, self)]
        if not (was or now) and all(named):
            was, now = ({"numeric": [*table.reader.feature_names_in_]} for table in (before, self))
        if now == was:
            return
        old, new = ([f"{name} ({step})" for step in columns for name in columns[step]] for columns in (was, now))
        lost, found = ([name for name in a if name not in b] for a, b in ((old, new), (new, old)))
        other = "They are in another order now."
        if lost or found:
            other = f"It had {lost or 'none'} that are not there now, and there are {found or 'none'} "
            other += "that it did not have."
        raise ValueError(
            "warm_start=True needs the columns of the previous fit: the same names, levels of categories, and missing "
            f"cells in the same features. {other}"
        )

    def _columns(self) -> dict[str, list[str]]:
        """Names of the columns of each encoder step; empty if all features are taken as they are."""
        return {} if self.preprocessor is None else columns_of_steps(self.preprocessor)
