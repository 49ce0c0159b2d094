"""Streams whose rows outgrow the units of the first block: other units, and what was learned expressed in them.

The scalings of a stream are those of its first block as long as they suit the rows. Where a column varies that did not,
or has another spread or centre, it is scaled anew, by a sample of all rows. So is the target. The weights are
re-expressed: an input that a network has read becomes a line of the new one,

    z_old = a z_new + t,        W_new = W_old T,        T = (diag(a), t; 0, 1)

and the outputs follow by r and q in f_new = r f_old + q. This is exact for the target, and for straight inputs unless
they were clipped. For squashed ones and ranks it is the line of least squares for the rows before. A column that has
been constant gives a = t = 0: its weights begin at 0, and no prediction changes. Remembered curvature goes the same
way, by the line of z_new for z_old. Precisions of the prior are estimated anew. Where r or q is so large that f is a
rounding error, or no float, both are 0: outputs begin again.

Rows much smaller than all others leave the units as they are, until most rows are small. They are warned of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.linalg import block_diag

from .inputs import Table
from .network import Network, layer_arrays
from .preprocessing import UNIT_FACTOR, UNIT_SHIFT
from .rows import Raw, Rows
from .stream import Stream
from .target import Target
from .unfamiliar import warn_of_small_columns, warn_of_units
from .weighted_rows import merge_rows, moments

__all__ = ["Seen", "follow", "warn_of_far_rows", "warn_of_small_rows"]

#: Distinct rows that stand for all rows of a stream, and for all of a block.
_KEPT = 1000

#: Slope of old columns in the new ones up to which units stay within their reach.
_STEEPEST = 5.0

#: Largest r and q; their squares are within float32.
_LARGEST_FACTOR = 1e12

#: Columns of so many distinct values are small if all of these are so near to 0 in the units of training.
_FEWEST_VALUES, _SMALL = 12, 1e-3

#: Inputs so large are beyond every clip.
_BEYOND = 1e300


@dataclass(frozen=True)
class Seen:
    """Distinct rows, as read, that are a random sample of those of a stream: the ones with the least hashes.

    ``total_weight`` is that of all rows. ``whole`` tells whether these are all since the first; of a fit there are
    none. Weights of all blocks are multiplied by the ``factor`` of the first.
    """

    X: np.ndarray
    Y: np.ndarray
    weight: np.ndarray
    total_weight: float
    whole: bool
    factor: float = 1.0

    @classmethod
    def nothing(cls, block: Raw, target: Target, whole: bool) -> Seen:
        """Make the sample before the first block."""
        factor = block.repetition_factor(target)
        return cls(block.X[:0], target.encode(block.y)[:0], block.weight[:0], 0.0, whole, factor)

    def beside(self, block: Rows) -> Rows:
        """Return the sample, and then one of the rows of the block, each with the weight of all that it stands for."""
        some = Seen(block.X[:_KEPT], block.Y[:_KEPT], block.weight[:_KEPT], block.total_weight, self.whole)
        X, Y = (np.concatenate(pair) for pair in ((self.X, some.X), (self.Y, some.Y)))
        return Rows(X, Y, np.concatenate([seen.weight * seen._repetitions for seen in (self, some)]))

    @property
    def _repetitions(self) -> float:
        """How much of the weight of all rows there is for that of the sample."""
        total = self.weight.sum()
        return float(self.total_weight / total) if total > 0 else 1.0

    def and_then(self, block: Rows) -> Seen:
        """Return the sample after the block."""
        pairs = (self.X, block.X), (self.Y, block.Y), (self.weight, block.weight)
        X, Y, weight = (np.concatenate(pair) for pair in pairs)
        # Merged rows come in the order of their hashes.
        X, Y, weight = (values[:_KEPT] for values in merge_rows(X, Y, weight))
        total_weight = self.total_weight + block.total_weight
        return replace(self, X=X, Y=Y, weight=weight, total_weight=total_weight)


#: Slopes and intercepts (p,) of lines.
_Line = tuple[np.ndarray, np.ndarray]


class _Lines(NamedTuple):
    """Slopes and intercepts (p,): those of the old columns of a scaling for the new ones, and the other way."""

    back: _Line
    forth: _Line


def follow(
    table: Table, target: Target, streams: Sequence[Stream], seen: Seen, block: Rows
) -> tuple[Table, Target, list[Stream]]:
    """Return table, target and streams in units that suit the rows of a stream and of its next block.

    All are as they were where the units suit them. Weights of a network of one's own cannot be re-expressed: where they
    would have to be, there is a warning.
    """
    rows, n_seen = seen.beside(block), len(seen.X)
    table, flat = table.seeing(block.X), _flat(table)
    refilled = table.refilled(rows.X, rows.weight, flat)
    X = refilled.encode(rows.X)
    own = refilled.scaled_anew(X, rows.weight)
    changed = _changed(table, own, X, rows.weight) if seen.whole else flat & (np.ptp(X, axis=0) > 0)
    new_target, r, q = target.in_units_of(rows.Y, rows.weight) if seen.whole else (target, *target.same_units())
    expressible = np.maximum(r, np.abs(q)) <= _LARGEST_FACTOR
    r, q = np.where(expressible, r, 0.0), np.where(expressible, q, 0.0)
    if not changed.any() and new_target is target:
        return table, target, list(streams)
    if any(stream.start.network.input_maps(*_identity(stream.start.network)) is None for stream in streams):
        warn_of_units(table.column_names[changed], new_target is not target)
        return table, target, list(streams)
    new_table = refilled.scaled_like(own, changed)
    before, after = table.scale(table.encode(rows.X)), new_table.scale(X)
    lines = {name: _lines(before[name], after[name], rows.weight, n_seen) for name in before}
    restated = [_restated(stream, lines[stream.start.scaling], r, q) for stream in streams]
    if n_seen and np.ptp(seen.Y, axis=0).max() == 0:
        # No step could lower anything: the damping that it has led to says nothing.
        restated = [replace(s, steps=s.steps and s.steps | {"damping": None}) for s in restated]
    return new_table, new_target, restated


def warn_of_far_rows(table: Table, X: np.ndarray) -> None:
    """Warn of rows X, as read, that are far beyond those of a fit, but for columns that are scaled from here on."""
    flat, features = _flat(table), table.encoded_features
    followed = [flat[features == j].all() for j in range(X.shape[1])]
    table.warn_of_far_rows(np.where(followed, np.nan, X))


def warn_of_small_rows(table: Table, target: Target, block: Rows) -> None:
    """Warn of columns of a block, encoded, and of its target, that are as good as 0 in the units of training."""
    # Whatever scales a column, all its values are between the least and the greatest.
    ends_and_zero = np.stack([block.X.min(axis=0), block.X.max(axis=0), np.zeros(block.X.shape[1])])
    scaled, small = table.scale(ends_and_zero), ~_flat(table)
    for name, columns in table.columns.items():
        if table.scalings[name] is None:  # there are no units
            small[:] = False
        else:
            small[columns[~_near(scaled[name][:2], scaled[name][2])]] = False
    y = target.transform(block.Y)
    with np.errstate(divide="ignore"):  # the logarithm of 0 is far from all others
        y_small = _near(y, target.transform(np.zeros_like(block.Y[:1])))
    small, y_small = (mask & _varies(values, mask) for mask, values in ((small, block.X), (y_small, y)))
    if small.any() or y_small.any():
        warn_of_small_columns(table.column_names[small], bool(y_small.any()))


def _near(scaled: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """Whether each column of scaled values is near to what 0 is scaled to."""
    return np.abs(scaled - zero).max(axis=0) <= _SMALL


def _varies(values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Whether each column of those ``asked`` (mask) has enough distinct values to tell their size."""
    return np.array([a and len(np.unique(column)) >= _FEWEST_VALUES for a, column in zip(asked, values.T, strict=True)])


def _flat(table: Table) -> np.ndarray:
    """Whether each encoded column is constant in every scaling, whatever its values are."""
    n = len(table.encoded_features)
    flat = np.full(n, len(table.scalings) > 0)
    for name, columns in table.columns.items():
        scaler = table.scalings[name]
        ends = [np.full((1, n), end) for end in (-_BEYOND, _BEYOND)]
        low, high = ends if scaler is None else [scaler.transform(end) for end in ends]
        flat[columns[(low != high)[0]]] = False
    return flat


def _changed(table: Table, own: Table, X: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Whether each encoded column (n, d) is to be scaled as ``own`` does."""
    changed = np.zeros(X.shape[1], dtype=bool)
    old, new = table.scale(X), own.scale(X)
    for name, columns in table.columns.items():
        if table.scalings[name] is not None:
            (was, spread), (centre, unit) = (_mean_and_spread(z[name], weight) for z in (old, new))
            other = np.maximum(spread, unit) > UNIT_FACTOR * np.minimum(spread, unit)
            # Of two values either may be the centre.
            other |= np.abs(was) > np.abs(centre) + UNIT_SHIFT * unit
            changed[columns[other & (unit > 0)]] = True
    return changed


def _mean_and_spread(z: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = moments(z, weight)
    # The mean of equal values is rounded.
    return mean, np.where(np.ptp(z, axis=0) > 0, np.sqrt(variance), 0.0)


def _lines(before: np.ndarray, after: np.ndarray, weight: np.ndarray, n_seen: int) -> _Lines:
    """Fit the lines of a scaling's columns, for the rows seen before the block.

    Where the old columns would be steep in the new ones, units would saturate on the rows of the block. They are then
    fitted to all rows.
    """
    other = (before != after).any(axis=0)
    lines = _Lines(*((np.ones(len(other)), np.zeros(len(other))) for _ in range(2)))
    n, before, after = n_seen or len(before), before[:, other], after[:, other]
    all_rows, seen = _line(after, before, weight), _line(after[:n], before[:n], weight[:n])
    steep = np.abs(seen[0]) > _STEEPEST
    back = [np.where(steep, of_all, of_seen) for of_all, of_seen in zip(all_rows, seen, strict=True)]
    forth = _line(before[:n], after[:n], weight[:n])
    for values, fitted in zip((*lines.back, *lines.forth), (*back, *forth), strict=True):
        values[other] = fitted
    return lines


def _line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> _Line:
    """Slope and intercept of y for x, column by column; the slope is 0 for a column without spread."""
    (mean_x, spread), (mean_y, _) = _mean_and_spread(x, weight), _mean_and_spread(y, weight)
    covariance = np.average((x - mean_x) * (y - mean_y), axis=0, weights=weight)
    slope = np.divide(covariance, np.square(spread), out=np.zeros_like(spread), where=np.square(spread) > 0)
    return slope, mean_y - slope * mean_x


def _identity(network: Network) -> _Line:
    return np.ones(network.n_inputs), np.zeros(network.n_inputs)


def _restated(stream: Stream, lines: _Lines, r: np.ndarray, q: np.ndarray) -> Stream:
    """Return a stream in other units."""
    network, start = stream.start.network, stream.start
    anchor = start.anchor
    weights = _moved(network, start.weights, lines.back, r, q)
    if anchor is not None:
        anchor = _moved(network, anchor, lines.back, r, np.zeros_like(q))
    steps = stream.steps
    if steps is not None:
        # Of outputs that begin again, neither damping nor curvature is known.
        known = steps["mean"] is not None and (r > 0).all()
        steps = steps | (
            {"mean": _curvature(steps["mean"], network, lines.forth, r)} if known else {"mean": None, "damping": None}
        )
    start = replace(start, weights=weights, anchor=anchor)
    squares = stream.squares * r**2 if stream.squares is not None and (r > 0).all() else None
    return replace(stream, start=start, steps=steps, estimates={}, loss_precision=None, squares=squares)


def _moved(network: Network, weights: np.ndarray, line: _Line, r: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Weights (P,) whose network has the outputs r f + q at the new inputs, where it has f at the old ones."""
    layers = [W.copy() for W in layer_arrays(weights, network.shapes)]
    maps = network.input_maps(*line)
    assert maps is not None
    layers = [W @ T for W, T in zip(layers, maps, strict=True)]
    layers[-1] *= r[:, None]
    layers[-1][:, -1] += q / network.alpha
    return np.concatenate([W.ravel() for W in layers])


def _curvature(mean: np.ndarray, network: Network, line: _Line, r: np.ndarray) -> np.ndarray:
    """The remembered curvature for the new weights: a matrix (P, P), or a diagonal by layer and input."""
    maps = network.input_maps(*line)
    assert maps is not None
    # Outputs share the factor of the layers below; that of the readout is in its weights.
    factor = float(np.exp(np.log(r).mean()))
    factors = [factor] * (len(maps) - 1) + [1.0]
    if mean.ndim == 1:
        parts = np.split(mean, np.cumsum([into for _, into in network.shapes])[:-1])
        moved = [f**2 * np.square(T) @ part for f, T, part in zip(factors, maps, parts, strict=True)]
        return np.concatenate(moved)
    blocks = [f * T for f, T, (out, _) in zip(factors, maps, network.shapes, strict=True) for _ in range(out)]
    B = block_diag(*blocks)
    return (B @ mean @ B.T).astype(mean.dtype)
