"""Scalings of columns by their names: fitted together, and the same rows in each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from .piecewise import PiecewiseEmbedding
from .preprocessing import LARGEST, ROBUST, PeriodicEmbedding, RankScaler
from .scaler import Derived, Scaler

__all__ = ["fit_scalers", "name_scalers", "replaced_columns", "transform_inputs"]

#: Rows scaled at a time.
_BLOCK = 2048


def fit_scalers(
    names: Sequence[str], X: np.ndarray, weight: np.ndarray, paths: str = "both"
) -> dict[str, Scaler | None]:
    """Fit the scalings with these names, as :func:`name_scalers`, to encoded X and weights (n,).

    ``paths`` is one of :data:`~skgn.preprocessing.ROBUST`.
    """
    return name_scalers(
        names,
        largest=lambda: np.abs(X).max(),
        robust=lambda: ROBUST[paths].fit(X, weight),
        ranks=lambda: RankScaler.fit(X, weight),
    )


def name_scalers(
    names: Sequence[str],
    largest: Callable[[], float],
    robust: Callable[[], Scaler],
    ranks: Callable[[], RankScaler],
) -> dict[str, Scaler | None]:
    """Make some of :data:`~skgn.preprocessing.SCALINGS`, in that order, or "raw", which is None.

    The functions tell the largest size of a value, and fit scalings to all rows. Scalings by ranks share these.
    """
    scalers: dict[str, Scaler | None] = {}
    if "raw" in names:
        _check_raw(largest())
        scalers["raw"] = None
    if "robust" in names:
        scalers["robust"] = robust()
    if not {"rank", "periodic", "piecewise"}.isdisjoint(names):
        scores = ranks()
        if "rank" in names:
            scalers["rank"] = scores
        if "periodic" in names:
            scalers["periodic"] = PeriodicEmbedding.of_ranks(scores)
        if "piecewise" in names:
            scalers["piecewise"] = PiecewiseEmbedding.of_ranks(scores)
    return scalers


def _check_raw(largest: float) -> None:
    """Refuse inputs that are not scaled and too large to compute with."""
    if largest > LARGEST:
        raise ValueError(
            f"standardize=False takes X as it is, and its values must be at most {LARGEST:g} in size, got "
            f"{largest:g}: rescale X, or use standardize=True."
        )


def transform_inputs(scalers: Mapping[str, Scaler | None], X: np.ndarray) -> dict[str, np.ndarray]:
    """Transform X in each of the scalings: float64 and C-contiguous. None changes nothing.

    Ranks that scalings share are computed once.
    """

    def transform(rows: np.ndarray) -> dict[str, np.ndarray]:
        scaled: dict[str, np.ndarray] = {}
        done: dict[int, np.ndarray] = {}

        def of(scaler: Scaler) -> np.ndarray:
            if id(scaler) not in done:
                done[id(scaler)] = scaler.transform(rows)
            return done[id(scaler)]

        for name, scaler in scalers.items():
            if scaler is None:
                scaled[name] = np.array(rows, dtype=np.float64, order="C")
            elif isinstance(scaler, Derived):
                scaled[name] = scaler.embed(of(scaler.source))
            else:
                scaled[name] = of(scaler)
        return scaled

    # Work in blocks, whose many temporaries stay in cache.
    first = transform(X[:_BLOCK])
    joined = {name: np.empty((len(X), rows.shape[1])) for name, rows in first.items()}
    for start in range(0, len(X), _BLOCK):
        for name, rows in (transform(X[start : start + _BLOCK]) if start else first).items():
            joined[name][start : start + _BLOCK] = rows
    return joined


def replaced_columns(old: Scaler, new: Scaler, changed: np.ndarray) -> Scaler:
    """Return a scaler that scales the columns that have ``changed`` (d,) as ``new`` does, and the others as ``old``."""
    if isinstance(old, Derived) and isinstance(new, Derived):
        return old.of(replaced_columns(old.source, new.source, changed))

    def chosen(was: Any, now: Any) -> Any:
        if isinstance(was, np.ndarray):
            return np.where(changed, now, was)
        if isinstance(was, list):
            return [b if other else a for a, b, other in zip(was, now, changed, strict=True)]
        return replaced_columns(was, now, changed)

    parts = {part.name: chosen(getattr(old, part.name), getattr(new, part.name)) for part in fields(old)}  # type: ignore[arg-type]
    return type(old)(**parts)
