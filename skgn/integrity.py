"""Whether a stored state is whole: what it lacks, what is of another type, and what does not belong together.

Sizes and types tell, one row that goes through the table, and whether numbers that predictions rest on are finite.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from .activations import ACTIVATIONS
from .candidates import Start
from .conformal import Residuals
from .discriminant import Discriminant
from .ensemble import Member
from .feedforward import FeedForward
from .forest import Forest
from .inputs import Table
from .mixture import voters
from .network import Network
from .noise import InputNoise
from .piecewise import FinerScaler, PiecewiseEmbedding
from .posterior import Posterior
from .preprocessing import InputScaler, RankScaler, StraightScaler, TargetScaler
from .radial import RadialUnits
from .redundant_targets import RedundantTarget
from .stream import Stream
from .target import Target
from .target_scalers import LogTargetScaler
from .targets import LOSSES, ClassificationTarget, RegressionTarget
from .waves import WaveScaler

__all__ = ["flaws"]

#: What a fit stores at its end, all at once: a state with any of it was fitted.
_STORED_LAST = frozenset({"estimators_", "coefs_", "intercepts_", "history_", "loss_curve_", "status_message_"})

#: Classes whose arrays hold no nan but in the history, and no infinite number but in these fields.
_NUMBERS = (
    *(Member, Start, Stream, Posterior, InputNoise, Residuals, ClassificationTarget, RedundantTarget),
    *(Table, InputScaler, StraightScaler, RankScaler, PiecewiseEmbedding, FinerScaler, WaveScaler, RadialUnits),
    *(Discriminant, Forest, TargetScaler, LogTargetScaler),
)
_MAY_BE_INFINITE = frozenset({"noise_variance", "precision", "values", "loss_precision", "estimates", "steps"})

#: The types of a class's annotations by their names.
_hints: Callable[[Any], dict[str, Any]] = functools.cache(typing.get_type_hints)


def flaws(state: Mapping[str, Any], estimator: type, needed: Iterable[str]) -> list[str]:
    """Names of what is absent or damaged in the state of an estimator of this class.

    ``needed`` are the attributes without which a fit predicts nothing.
    """
    fitted = not _STORED_LAST.isdisjoint(state)
    # A subclass of the user's may have annotations that cannot be read here.
    kinds = _hints(next(kind for kind in estimator.__mro__ if _is_ours(kind)))
    found = [name for name in needed if fitted and not (name in state and _is_of(state[name], kinds[name]))]
    private = [name for name in kinds if name.startswith("_") and name in state]
    found += [name for name in private if not _is_of(state[name], kinds[name])]
    found += [name for value in state.values() for name in _flaws_within(value)]
    if fitted and not found:
        found = list(_misfits(state))
    return sorted(set(found))


def _flaws_within(value: Any) -> Iterator[str]:
    """Names of parts that a value lacks, or that are of another type than their class says."""
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
        name = type(part).__name__
        if isinstance(part, BaseEstimator) and _is_ours(type(part)):
            yield from (f"{name}.{key}" for key in part._get_param_names() if key not in vars(part))
        elif dataclasses.is_dataclass(part):
            hints = _hints(type(part)) if _is_ours(type(part)) else {}
            for field in dataclasses.fields(part):
                if not _has(part, field.name):
                    yield f"{name}.{field.name}"
                    continue
                inner = [f"{name}.{flaw}" for flaw in _flaws_within(getattr(part, field.name))]
                yield from inner
                if not inner and not _is_of(getattr(part, field.name), hints.get(field.name, Any)):
                    yield f"{name}.{field.name}"
                elif isinstance(part, _NUMBERS) and not _is_finite(getattr(part, field.name), field.name):
                    yield f"{name}.{field.name} (not finite)"


def _has(part: Any, name: str) -> bool:
    """Whether a part has its own value of a field, or a default that stands for one which versions before lacked.

    Of a network that is 0, and no other default: its activation, say, has always been there.
    """
    return name in vars(part) or (hasattr(part, name) and not (isinstance(part, Network) and getattr(part, name)))


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "skgn"


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of the annotated type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is_of(value, option) for option in arguments)
    if origin is tuple and arguments[-1:] == (Ellipsis,):
        return isinstance(value, tuple) and all(_is_of(each, arguments[0]) for each in value)
    if origin is tuple:
        fits = isinstance(value, tuple) and len(value) == len(arguments)
        return fits and all(map(_is_of, value, arguments))
    if origin is list:
        return isinstance(value, list) and all(_is_of(each, arguments[0]) for each in value)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_is_of(each, arguments[1]) for each in value.values())
    kinds: dict[Any, Any] = {float: Real, int: Integral, bool: (bool, np.bool_), Any: object}
    kind = kinds.get(hint, hint)
    return isinstance(value, kind) if isinstance(kind, (type, tuple)) else True


def _is_finite(value: Any, name: str) -> bool:
    """Whether the arrays of a field of this name, or those it holds, have no number that they may not have."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    numbers = [part for part in parts if isinstance(part, np.ndarray) and part.dtype.kind == "f"]
    return name == "history" or not any(
        np.isnan(x).any() if name in _MAY_BE_INFINITE else not np.isfinite(x).all() for x in numbers
    )


def _misfits(state: Mapping[str, Any]) -> Iterator[str]:
    """Names of what is of another size than the rest of a fitted state asks for."""
    members, table, target = state["estimators_"], state["_table"], state["_target"]
    if not members:
        yield "estimators_"
    elif getattr(table.reader, "n_features_in_", None) != state["n_features_in_"]:
        yield "n_features_in_"
    elif table.bounds is not None and not _has_columns(table.bounds, state["n_features_in_"]):
        yield "Table.bounds"
    elif not _knows_levels(table):
        yield "Table.TableReader.levels_ (of the features in categorical)"
    elif not (widths := _widths(table)):
        yield "_table"
    elif not _is_whole(target):
        yield "_target"
    else:
        yield from (
            f"Table.scalings[{name!r}]"
            for name, by in table.scalings.items()
            if (by is None) != (name == "raw") or (isinstance(by, (Discriminant, Forest)) and not by.is_whole)
        )
        if np.shape(state["weights_"]) != (len(members),):
            yield "weights_ (one for each of estimators_)"
        elif not np.isfinite(state["weights_"]).all():
            yield "weights_ (not finite)"
        elif state.get("_votes_by_row") and any(m.posterior is None for m in voters(members, state["weights_"])[0]):
            yield "Member.posterior"
        for member in members:
            network = member.network
            if isinstance(network, FeedForward) and network.activation not in ACTIVATIONS:
                yield "Member.network.activation"
            elif isinstance(network, FeedForward) and dataclasses.replace(network).shapes != network.shapes:
                yield "Member.network.shapes"
            elif network.n_outputs != target.n_outputs:
                yield "_target"
            else:
                if widths.get(member.scaling) != network.n_inputs:
                    yield f"Table.scalings[{member.scaling!r}]"
                yield from _misfits_of(member)


def _is_whole(target: Target) -> bool:
    """Whether a target has a value for each column or class, and its loss is known."""
    if isinstance(target, ClassificationTarget):
        return target.factors is None or target.factors.shape == target.classes.shape
    if not isinstance(target, RegressionTarget):
        return False
    if isinstance(target, RedundantTarget) and not target.is_whole:
        return False
    k = target.n_outputs
    shapes = {"mixing": (k, k)}
    values = {name: value for name, value in vars(target.scaler).items() if isinstance(value, np.ndarray)}
    return target.loss in LOSSES and all(value.shape == shapes.get(name, (k,)) for name, value in values.items())


def _has_columns(part: Any, n_columns: int) -> bool:
    """Whether all arrays of a dataclass have a value for each column."""
    return all(len(value) == n_columns for value in vars(part).values() if isinstance(value, np.ndarray))


def _knows_levels(table: Table) -> bool:
    """Whether there are levels of all categories, as many as the encoder has seen."""
    levels, categorical = getattr(table.reader, "levels_", None), table.reader.categorical
    if not isinstance(levels, dict) or not isinstance(categorical, Sequence) or list(levels) != list(categorical):
        return False
    seen = {j: 0 for j in levels}
    for _, step, columns in [] if table.encoder is None else table.encoder.transformers_:
        for j, codes in zip(columns, getattr(step, "categories_", ()), strict=False):
            seen[j] = 1 + int(np.nanmax([-1.0, *codes]))
    return all(isinstance(levels[j], list) and seen[j] <= len(levels[j]) for j in levels)


def _widths(table: Table) -> dict[str, int]:
    """Number of columns of each scaling, by a row of zeros; empty where the table does not take it."""
    try:
        scaled = table.scale(table.encode(np.zeros((1, table.reader.n_features_in_))))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return {}
    return {name: columns.shape[1] for name, columns in scaled.items()}


def _misfits_of(member: Member) -> Iterator[str]:
    network, posterior = member.network, member.posterior
    P, layers = network.n_weights, [into for _, into in network.shapes]
    if member.weights.shape != (P,):
        yield "Member.weights"
    if member.anchor is not None and member.anchor.shape != (P,):
        yield "Member.anchor"
    if [len(a) for a in member.precision] != layers:
        yield "Member.precision"
    if posterior is not None:
        if [len(a) for a in posterior.precision] != layers:
            yield "Member.Posterior.precision"
        yield from (f"Member.Posterior.{name}" for name in _misfits_of_posterior(posterior, network))


def _misfits_of_posterior(posterior: Posterior, network: Network) -> Iterator[str]:
    if posterior.noise_variance.shape != (network.n_outputs,):
        yield "noise_variance"
    for name in ("noise_share", "scale"):
        if np.shape(getattr(posterior, name)) not in {(), (network.n_outputs,)}:
            yield name
    inputs, roots = posterior.inputs, posterior.roots
    widths = [into for _, into in network.shapes]
    if posterior.basis is not None:
        if [len(T) if T is not None else into for T, into in zip(posterior.basis, widths, strict=False)] != widths:
            yield "basis"
            return
        widths = [into if T is None else T.shape[-1] for T, into in zip(posterior.basis, widths, strict=True)]
    size = sum(out * into for (out, _), into in zip(network.shapes, widths, strict=True))
    if inputs is not None and roots is not None and roots.ndim == 3:
        size = len(roots) * roots.shape[2]
        if len(inputs) != len(roots) or inputs.shape[1:] != (network.n_inputs + 1,):
            yield "inputs"
        if len(inputs) != len(roots) or roots.shape[1] != network.n_outputs:
            yield "roots"
    elif inputs is not None or roots is not None:
        yield "roots" if inputs is not None else "inputs"
    if posterior.factor.shape != (size, size):
        yield "factor"
