"""Steps in torch from rows as read to the inputs of the networks: missing cells, codes of categories, scalings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.compose import ColumnTransformer
from torch import Tensor, nn

from ..discriminant import Discriminant, log_odds
from ..encoders import column_features, target_codes
from ..forest import Forest, log_shares
from ..inputs import Table
from ..level_codes import MISSING_RANK, UNSEEN_RANK, NumberCodes, number_pairs
from ..piecewise import FinerScaler, PiecewiseEmbedding, piecewise
from ..preprocessing import (
    InputScaler,
    PeriodicEmbedding,
    RankScaler,
    StraightScaler,
    TwoPathScaler,
    beyond_knots,
    in_units,
    periodic,
    standardise,
    straight,
)
from ..radial import RadialUnits, lacking, linear_path
from ..scaler import Derived, Scaler, Widened, widened
from ..shapes import falling
from ..waves import WaveScaler, sines

__all__ = ["Encoder", "make_scaling"]

#: Squared distance that counts as none.
_NO_DISTANCE = 1e-24


class Encoder(nn.Module):
    """Turn rows as read (n, d) into the columns that are scaled.

    Rows as read are floats, with codes for levels and nan for missing cells. The columns are what the estimator's
    transformers make of them. First come numbers, with nan filled in, then indicators of missing numbers. For each
    category the row of a table follows that belongs to its level, and for numbers that are codes that of the number.
    """

    numeric: Tensor
    indicated: Tensor
    fill: Tensor

    def __init__(self, table: Table, n_features: int) -> None:
        super().__init__()
        numeric, indicated = list(range(n_features)), np.array([], dtype=int)
        fill = np.full(n_features, np.nan) if table.medians is None else table.medians
        #: Features whose columns depend on which number they have: codes of levels, and numbers that are codes. Each
        #: is there once for every step and place that has it.
        self.looked_up: list[int] = []
        #: Where in this list the two features of each pair of levels are.
        self.pairs: list[tuple[int, int]] = []
        if table.encoder is not None:
            steps = {name: (step, columns) for name, step, columns in table.encoder.transformers_}
            imputer, numeric = steps.pop("numeric", (None, []))
            fill = np.array([]) if imputer is None else imputer.statistics_
            indicated = indicated if imputer is None else imputer.indicator_.features_
            _, of_pairs = steps.pop("pairs", (None, []))
            for name, (step, features) in steps.items():
                for place, (j, known) in enumerate(zip(features, step.categories_, strict=True)):
                    known, number = known[~np.isnan(known)], len(self.looked_up)
                    self.looked_up.append(j)
                    self.register_buffer(f"numbers{number}", torch.from_numpy(_padded(known)))
                    columns = _table(table.encoder, name, features, place, known)
                    self.register_buffer(f"table{number}", torch.from_numpy(columns))
                    follows = isinstance(step, NumberCodes) and step.follows(place)
                    rise = np.diff(columns[: len(known)], axis=0) / np.diff(known)[:, None] if follows else columns[:0]
                    #: Slopes of codes from one number to the next; none where codes do not follow.
                    self.register_buffer(f"rise{number}", torch.from_numpy(rise))
            self._look_up_pairs(table.encoder, of_pairs)
        self.register_buffer("numeric", torch.tensor(numeric, dtype=torch.long))
        self.register_buffer("indicated", torch.from_numpy(indicated).long())
        self.register_buffer("fill", torch.tensor(fill, dtype=torch.float64))

    def _look_up_pairs(self, encoder: ColumnTransformer, features: Sequence[int]) -> None:
        """Keep the codes of the pairs of levels of features 0 and 1, 2 and 3, and so on."""
        places = [self.looked_up.index(j) for j in features]
        self.pairs = [*zip(places[::2], places[1::2], strict=True)]
        if not self.pairs:
            return
        codes = target_codes(encoder)["pairs"]
        for i, (known, of_known) in enumerate(zip(codes.categories_, codes.codes_, strict=True)):
            self.register_buffer(f"pairs{i}", torch.from_numpy(_padded(known)))
            self.register_buffer(f"table_of_pairs{i}", torch.from_numpy(np.vstack([of_known, codes.mean_])))

    def forward(self, X: Tensor) -> Tensor:
        """Turn rows as read into floats (n, columns)."""
        numbers = X.index_select(1, self.numeric)
        missing = torch.isnan(numbers)
        pieces = [torch.where(missing, self.fill, numbers), missing.index_select(1, self.indicated).to(X.dtype)]
        ranks = []
        for i, j in enumerate(self.looked_up):
            table, number = getattr(self, f"table{i}"), X[:, j]
            place, seen = _place(number, getattr(self, f"numbers{i}"))
            missing, rise = torch.isnan(number), getattr(self, f"rise{i}")
            of_number = table[torch.where(seen, place, len(table) - 2 + missing.long())]
            if len(rise):
                numbers_known = getattr(self, f"numbers{i}")
                at = place.clamp(max=len(rise) - 1)
                within = (number > numbers_known[0]) & (number < numbers_known[len(rise)])
                step = torch.where(within, number - numbers_known[at], 0.0)
                of_number = torch.where(within[:, None], table[at] + step[:, None] * rise[at], of_number)
            pieces.append(of_number)
            ranks.append(torch.where(seen, place, torch.where(missing, MISSING_RANK, UNSEEN_RANK)).double())
        for i, (a, b) in enumerate(self.pairs):
            pair = number_pairs(torch.stack([ranks[a], ranks[b]], 1))[:, 0]
            table = getattr(self, f"table_of_pairs{i}")
            place, seen = _place(pair, getattr(self, f"pairs{i}"))
            pieces.append(table[torch.where(seen, place, len(table) - 1)])
        return torch.cat(pieces, 1)


def _table(
    encoder: ColumnTransformer, step: str, features: Sequence[int], place: int, numbers: np.ndarray
) -> np.ndarray:
    """Columns of one of the features of a step: for each of these numbers, one not seen, and a missing cell.

    A feature may have several places in a step, of equally many columns.
    """
    j = features[place]
    rows = np.zeros((len(numbers) + 2, encoder.n_features_in_))
    # All that were seen are whole.
    rows[:, j] = [*numbers, -0.5, np.nan]
    where = encoder.output_indices_[step]
    columns = np.asarray(encoder.transform(rows), dtype=np.float64)[:, where]
    of_feature = columns[:, column_features(encoder)[where] == j]
    return np.split(of_feature, list(features).count(j), axis=1)[list(features[:place]).count(j)]


def _place(V: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Find V among sorted numbers; return where, and whether it is there."""
    place = _last_not_above(V, numbers, torch.zeros_like(V, dtype=torch.long), len(numbers))
    return place, numbers.index_select(0, place) == V


def _padded(numbers: np.ndarray) -> np.ndarray:
    """Put infinity behind numbers (m,), so that they are a power of 2."""
    return np.concatenate([numbers, np.full(2 ** (len(numbers) - 1).bit_length() - len(numbers), np.inf)])


def _last_not_above(V: Tensor, knots: Tensor, first: Tensor, size: int) -> Tensor:
    """Find the last knot not above V, from the ``first`` one on, of so many, a power of 2; the first if none is."""
    # Bisect, because ONNX has no operator for searchsorted.
    knot = first.expand(V.shape)
    while size > 1:
        size //= 2
        further = knot + size
        knot = torch.where(_at(knots, further) <= V, further, knot)
    return knot


class _Formula(nn.Module):
    """What a formula makes of the columns of the source, from the parts of the scaler of these ``names``.

    A scaler without a source reads rows as they are.
    """

    def __init__(self, scaler: Scaler, formula: Callable[..., Tensor], names: Sequence[str]) -> None:
        super().__init__()
        self.source = make_scaling(scaler.source if isinstance(scaler, Derived) else None)
        self.formula, self.names = formula, names
        _register(self, scaler, names)

    def forward(self, X: Tensor) -> Tensor:
        return self.embed(self.source(X))

    def embed(self, z: Tensor) -> Tensor:
        """Make the columns of those of the source."""
        return self.formula(z, *(getattr(self, name) for name in self.names), torch)


def _register(module: nn.Module, scaler: Scaler, names: Sequence[str], dtype: torch.dtype | None = None) -> None:
    """Make buffers of parts of a scaler."""
    for name in names:
        module.register_buffer(name, torch.tensor(getattr(scaler, name), dtype=dtype))


class _TwoPaths(nn.Module):
    def __init__(self, scaler: TwoPathScaler) -> None:
        super().__init__()
        self.squashed, self.straight = make_scaling(scaler.squashed), make_scaling(scaler.straight)

    def forward(self, X: Tensor) -> Tensor:
        return torch.cat([self.squashed(X), self.straight(X)], 1)


class _Ranks(nn.Module):
    """Linear interpolation between knots, for which NumPy and torch share no function.

    The knots of all features stand in one row; each feature has the same power of 2 of places. A feature's knots begin
    at ``first``, and infinity fills its other places. ``slopes`` hold the slope from each knot to the next.
    """

    unit: Tensor
    knots: Tensor
    scores: Tensor
    slopes: Tensor
    first: Tensor
    ends: Tensor
    width: Tensor
    rise: Tensor

    def __init__(self, scaler: RankScaler) -> None:
        super().__init__()
        self.size = 2 ** max(len(x) - 1 for x in scaler.values).bit_length()
        knots = np.full((len(scaler.values), self.size), np.inf)
        scores, slopes = np.zeros(knots.shape), np.zeros(knots.shape)
        ends, width, rise = np.zeros((2, len(knots))), np.ones(len(knots)), np.zeros(len(knots))
        for j, (x, z) in enumerate(zip(scaler.values, scaler.scores, strict=True)):
            ends[:, j] = x[0], x[-1]
            knots[j, : len(x)] = x
            if len(x) > 1:
                scores[j, : len(x)] = z
                slopes[j, : len(x) - 1] = np.diff(z) / np.diff(x)
                width[j], rise[j] = x[-1] - x[0], z[-1] - z[0]
        arrays = {"unit": scaler.unit, "knots": knots.ravel(), "scores": scores.ravel(), "slopes": slopes.ravel()}
        arrays |= {"first": self.size * np.arange(len(knots)), "ends": ends, "width": width, "rise": rise}
        for name, values in arrays.items():
            self.register_buffer(name, torch.tensor(values))

    def forward(self, X: Tensor) -> Tensor:
        V = in_units(X, self.unit, torch)
        inside = torch.clip(V, *self.ends)
        knot = _last_not_above(inside, self.knots, self.first, self.size)
        score = _at(self.scores, knot) + _at(self.slopes, knot) * (inside - _at(self.knots, knot))
        return score + beyond_knots(V, inside, self.width, self.rise, torch)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """Compute ``values[index]`` for indices (n, d), in a form that ONNX has one operator for."""
    return values.index_select(0, index.flatten()).view(index.shape)


class _Widened(_Formula):
    """The columns of the source, and beside them what the formula makes of these."""

    def __init__(self, scaler: Widened, formula: Callable[..., Tensor], names: Sequence[str]) -> None:
        super().__init__(scaler, formula, names)
        self.n_straight = scaler.base.n_straight

    def embed(self, z: Tensor) -> Tensor:
        return widened(z, self.n_straight, super().embed(z), torch)


class _Radial(nn.Module):
    read: Tensor
    scale: Tensor
    straight: Tensor
    centres: Tensor
    projection: Tensor
    told: Tensor

    def __init__(self, scaler: RadialUnits) -> None:
        super().__init__()
        self.base, self.n_straight, self.profile = make_scaling(scaler.base), scaler.base.n_straight, scaler.profile
        self.is_told = scaler.told > 0
        _register(self, scaler, ("read",))
        _register(self, scaler, ("scale", "straight", "centres", "projection", "told"), torch.float64)

    def forward(self, X: Tensor) -> Tensor:
        z = self.base(X)
        units = falling(self._distances(z[:, self.read] * self.scale), self.profile, torch)
        columns = [units @ self.projection]
        if len(self.straight):
            columns.append(linear_path(z, self.n_straight) * self.straight)
        if self.is_told:
            columns.append(lacking(columns[0], self.told))
        return torch.cat(columns, 1)

    def _distances(self, z: Tensor) -> Tensor:
        """Distances (n, m) of rows to the centres, column by column: ONNX has no operator for all at once."""
        total = torch.zeros_like(z[:, :1] * self.centres[:, 0])
        for j in range(self.centres.shape[1]):
            apart = z[:, j : j + 1] - self.centres[:, j]
            total = total + (apart.abs() if self.profile == "exponential" else apart * apart)
        # The root has no gradient at 0, where the unit has one of 0.
        return total if self.profile == "exponential" else total.clamp(min=_NO_DISTANCE).sqrt()


class _Forest(nn.Module):
    roots: Tensor
    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    shares: Tensor

    def __init__(self, scaler: Forest) -> None:
        super().__init__()
        self.base, self.depth = make_scaling(scaler.base), scaler.depth
        _register(self, scaler, ("roots", "feature", "threshold", "left", "right", "shares"))

    def forward(self, X: Tensor) -> Tensor:
        # All branches are as long as the longest one: ONNX has no operator for rows that are still inside.
        z = self.base(X).float()
        node = torch.zeros_like(z[:, :1], dtype=torch.long) + self.roots
        for _ in range(self.depth):
            goes_left = z.gather(1, _at(self.feature, node)) <= _at(self.threshold, node)
            node = torch.where(goes_left, _at(self.left, node), _at(self.right, node))
        shares = self.shares.index_select(0, node.flatten()).view(*node.shape, self.shares.shape[1]).mean(1)
        return log_shares(shares, len(self.roots), torch)


class _Discriminant(nn.Module):
    constants: Tensor
    means: Tensor
    whitening: Tensor

    def __init__(self, scaler: Discriminant) -> None:
        super().__init__()
        self.base, self.read = make_scaling(scaler.base), slice(scaler.first, scaler.first + scaler.means.shape[1])
        _register(self, scaler, ("constants", "means", "whitening"))

    def forward(self, X: Tensor) -> Tensor:
        apart = self.base(X)[:, None, None, self.read] - self.means[:, None]
        return log_odds(self.constants - 0.5 * (apart @ self.whitening).square().sum((2, 3)), torch)


#: Functions by the type of the scaler.
_MODULES: dict[type, Callable[[Any], nn.Module]] = {
    InputScaler: partial(_Formula, formula=standardise, names=("unit", "centre", "inverse_scale")),
    StraightScaler: partial(_Formula, formula=straight, names=("unit", "mean", "inverse_scale", "lowest", "highest")),
    TwoPathScaler: _TwoPaths,
    RankScaler: _Ranks,
    PeriodicEmbedding: partial(_Formula, formula=periodic, names=("bent",)),
    PiecewiseEmbedding: partial(_Formula, formula=piecewise, names=("features", "lower", "width", "mean", "rise")),
    FinerScaler: partial(_Widened, formula=piecewise, names=("columns", "lower", "width", "mean", "rise")),
    WaveScaler: partial(_Widened, formula=sines, names=("columns", "frequency", "phase")),
    RadialUnits: _Radial,
    Forest: _Forest,
    Discriminant: _Discriminant,
}


def make_scaling(scaler: Scaler | None) -> nn.Module:
    """Make the same scaling for tensors."""
    if scaler is None:
        return nn.Identity()
    if type(scaler) not in _MODULES:
        raise TypeError(f"There is no torch form of {type(scaler).__name__}.")
    return _MODULES[type(scaler)](scaler)
