"""The stored state of an estimator: the version that stored it, and a check that it is complete when it is loaded.

Pickle, joblib, skops and :mod:`copy` all ask an estimator for its state and hand the state to a new one. So this module
serves each of them. Old models are loaded where that is sound: parameters that the older version did not have take
their defaults. If anything is missing, damaged, or of no meaning any more, an error names it at once, not at the first
prediction (:mod:`skgn.integrity`).

An estimator whose fit fails gets the state before it back (:func:`restored_on_error`).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from .candidates import Start
from .integrity import flaws
from .parameters import parameter_defaults
from .posterior import Posterior

__all__ = ["SKOPS_TRUSTED", "OtherVersionWarning", "Persistent", "restore", "restored_on_error"]

#: What :func:`skops.io.load` has to trust for any model of this package: its own types, and two that the encoder of a
#: table holds.
SKOPS_TRUSTED = [
    "numpy.dtype",
    "sklearn.model_selection._split.KFold",
    "skgn.candidates.Start",
    "skgn.classifier.GNClassifier",
    "skgn.conformal.Residuals",
    "skgn.damping.Adaptive",
    "skgn.damping.Constant",
    "skgn.damping.GainRatio",
    "skgn.damping.GeometricDecay",
    "skgn.damping.ProportionalToCurvature",
    "skgn.damping.ProportionalToGradient",
    "skgn.damping.ProportionalToLoss",
    "skgn.dask.classifier.DaskGNClassifier",
    "skgn.dask.regressor.DaskGNRegressor",
    "skgn.discriminant.Discriminant",
    "skgn.encoders.Interaction",
    "skgn.ensemble.Member",
    "skgn.feedforward.FeedForward",
    "skgn.forest.Forest",
    "skgn.inputs.Table",
    "skgn.level_codes.LevelCodes",
    "skgn.level_codes.NumberCodes",
    "skgn.level_codes.PairNumbers",
    "skgn.noise.InputNoise",
    "skgn.piecewise.FinerScaler",
    "skgn.piecewise.PiecewiseEmbedding",
    "skgn.posterior.Posterior",
    "skgn.preprocessing.InputScaler",
    "skgn.preprocessing.PeriodicEmbedding",
    "skgn.preprocessing.RankScaler",
    "skgn.preprocessing.StraightScaler",
    "skgn.preprocessing.TargetScaler",
    "skgn.preprocessing.TwoPathScaler",
    "skgn.prior_groups.PriorKind",
    "skgn.radial.RadialUnits",
    "skgn.redundant_targets.RedundantTarget",
    "skgn.regressor.GNRegressor",
    "skgn.stream.Stream",
    "skgn.tables.TablePreprocessor",
    "skgn.tables.TableReader",
    "skgn.tables._LevelName",
    "skgn.target_scalers.LogTargetScaler",
    "skgn.target_scalers.RobustTargetScaler",
    "skgn.targets.ClassificationTarget",
    "skgn.targets.RegressionTarget",
    "skgn.unfamiliar.Bounds",
    "skgn.units.Seen",
    "skgn.waves.WaveScaler",
]

_STAMP = "_skgn_version"


class OtherVersionWarning(InconsistentVersionWarning):
    """Warning that another version of skgn stored the model.

    Filters of scikit-learn's warning of the same meaning also catch this one. ``original_sklearn_version`` and
    ``current_sklearn_version`` are the names that scikit-learn uses; here they hold versions of skgn.
    """

    def __str__(self) -> str:
        return (
            f"This {self.estimator_name} was stored by skgn {self.original_sklearn_version} and is loaded by "
            f"skgn {self.current_sklearn_version}. Compare some of its predictions with those before, or fit it anew."
        )


class Persistent(BaseEstimator):
    """Estimator whose stored state carries the version, and is checked when it is loaded."""

    #: Fitted attributes without which there is no prediction.
    _needed: ClassVar[tuple[str, ...]]

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {_STAMP: _version()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        name, stored_by = type(self).__name__, state.pop(_STAMP, "of unknown version")
        if stored_by != _version():
            versions = {"original_sklearn_version": stored_by, "current_sklearn_version": _version()}
            warnings.warn(OtherVersionWarning(estimator_name=name, **versions), stacklevel=2)
        state = parameter_defaults(type(self)) | state
        _repair(state.values())
        if "estimators_" in state and stored_by != _version() and "_votes_by_row" in self._needed:
            # Before, members counted alike at all rows.
            state.setdefault("_votes_by_row", False)
        lacking = flaws(state, type(self), self._needed)
        if lacking:
            raise ValueError(
                f"This {name} was stored by skgn {stored_by} and lacks, or has damaged, what skgn {_version()} needs: "
                f"{', '.join(lacking)}. Load it with the version it was stored by, or fit it anew."
            )
        super().__setstate__(state)


@contextmanager
def restored_on_error(estimator: BaseEstimator) -> Iterator[dict[str, Any]]:
    """Restore the state before, which is yielded, if anything ends a fit early.

    An earlier fit is neither lost nor mixed with half of a new one, whatever the error was.
    """
    before = vars(estimator).copy()
    try:
        yield before
    except BaseException:
        restore(estimator, before)
        raise


def restore(estimator: BaseEstimator, state: dict[str, Any]) -> None:
    """Give an estimator back what it held in an earlier state, and nothing else."""
    vars(estimator).clear()
    vars(estimator).update(state)


def _repair(values: Iterable[Any]) -> None:
    """Say of all members and starts what version 0.1.0 left out.

    Starts for classes have no noise precision there, and counts no noise beside that of the Poisson distribution, of
    dispersion 1.
    """
    for part in _dataclasses(values):
        fields = vars(part)
        if isinstance(part, Start) and fields.get("noise_precision", 1.0) is None:
            fields["noise_precision"] = 1.0
        if isinstance(part, Posterior) and not np.any(fields.get("noise_variance", 1.0)):
            fields["noise_variance"] = np.ones_like(fields["noise_variance"])
        _repair(fields.values())


def _version() -> str:
    # The version exists only once the package is imported.
    from . import __version__

    return __version__


def _dataclasses(values: Iterable[Any]) -> Iterator[Any]:
    """Yield the dataclasses among the values, and in dicts and lists among them."""
    for value in values:
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        yield from filter(dataclasses.is_dataclass, parts)
