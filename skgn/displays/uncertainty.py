"""UncertaintyDisplay: a check whether predicted distributions are honest."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binom, norm
from sklearn.base import is_classifier
from sklearn.utils import check_consistent_length

from ..fitted import fitted_network, rows_of_network
from ..predictions import observed_probabilities
from ..unfamiliar import unwatched
from .panels import BLACK, BLUE, GREY, VERMILLION, in_percent, legend_above, panels, properties, shortened

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from typing_extensions import Self

__all__ = ["UncertaintyDisplay"]

#: Nominal levels of the coverage.
_LEVELS = np.append(np.arange(1, 20) / 20, 0.99)

#: Probability outside the band of what chance explains.
_CHANCE = 0.05

#: Largest number of points; more would hide each other. The coverage counts all observations.
_DRAWN = 1000

#: Groups of equally many observations by the widths of their intervals, and bins of the histogram.
_GROUPS, _BINS = ("narrow", "middle", "wide"), 10

#: Panels of an output.
_PANELS = 4


class UncertaintyDisplay:
    """Observations against their predicted distributions: intervals, coverage, coverage by width, and a histogram.

    Use :meth:`from_estimator` or :meth:`from_predictions` to create one. Each output has four panels.

    Predictions: each point is an observation. The bar behind it is the central interval of ``level``; points outside
    are marked. Of more than 1,000 points 1,000 are drawn, evenly spread over the predictions.

    Coverage: the fraction of all observations inside the central interval of each nominal level. Below the diagonal the
    intervals are too narrow, above it too wide.

    Coverage by width: the fraction inside the interval of ``level``, for the third of the observations with the
    narrowest intervals, the next and the widest. Where it falls or rises, the noise depends on x in another way than
    predicted.

    Histogram: how many observations lie in each tenth of their predicted distributions (the probability integral
    transform). If the distributions are right, all bars are 1. A hill stands for distributions that are too wide, a
    valley for narrow ones, and a slope for predictions that are off on one side.

    The grey bands show what chance alone does. They hold 95 % of the fractions of as many independent observations with
    exact distributions. Counts are taken as half below and half above themselves.

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Observations and predictions.
    interval : ndarray of shape (n_samples, 2) or (n_samples, 2, n_outputs)
        Central intervals of ``level``.
    probability : ndarray of the shape of ``y_true``
        Predicted probability that an observation is not above the one that came true.
    level : float in (0, 1), default=0.9
        Nominal probability of the intervals.
    name : str, default=None
        Name of the estimator, for the legend.

    Attributes
    ----------
    inside : ndarray of bool, of the shape of ``y_true``
        Whether the interval of ``level`` holds the observation.
    nominal_ : ndarray of shape (n_levels,)
        The nominal levels, ``level`` among them.
    observed_ : ndarray of shape (n_levels,) or (n_levels, n_outputs)
        Fractions of observations inside their intervals.
    by_width_ : ndarray of shape (3,) or (3, n_outputs)
        Fractions inside the interval of ``level``, of the observations with narrow, middle and wide intervals.
    intervals_ : LineCollection
        Of several outputs a list with one for each, as all artists below.
    inside_points_, outside_points_, coverage_line_, width_line_ : Line2D
    chance_ : PolyCollection
    histogram_ : BarContainer
    axes_ : ndarray of matplotlib Axes, of shape (4,) or (n_outputs, 4)
    ax_ : matplotlib Axes
        The Axes that holds the legend.
    figure_ : matplotlib Figure

    Raises
    ------
    ValueError
        If ``level`` is not between 0 and 1, or the arrays are not finite or not of one length.

    See Also
    --------
    sklearn.metrics.PredictionErrorDisplay : Errors of predictions without standard deviations.
    sklearn.calibration.CalibrationDisplay : The same question for the probabilities of a classifier.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor
    >>> from skgn.displays import UncertaintyDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = GNRegressor((), n_estimators=1, random_state=0).fit(X[:300], y[:300])
    >>> display = UncertaintyDisplay.from_estimator(model, X[300:], y[300:])
    >>> print(f"{display.inside.mean():.1f}")
    0.9
    """

    def __init__(
        self,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        interval: ArrayLike,
        probability: ArrayLike,
        *,
        level: float = 0.9,
        name: str | None = None,
    ) -> None:
        _check_level(level)
        given = {"y_true": y_true, "y_pred": y_pred, "interval": interval, "probability": probability}
        self.y_true, self.y_pred, self.interval, self.probability = (_finite(*each) for each in given.items())
        check_consistent_length(self.y_true, self.y_pred, self.interval, self.probability)
        self.level, self.name = level, name
        # The smallest central interval that holds the observation.
        depth = np.abs(2 * self.probability - 1)
        self.inside = depth <= level
        self.nominal_ = np.unique(np.append(_LEVELS, level))
        self.observed_ = np.array([(depth <= p).mean(axis=0) for p in self.nominal_])
        width = self.interval[:, 1] - self.interval[:, 0]
        order = np.argsort(width, axis=0, kind="stable")
        parts = np.array_split(np.take_along_axis(self.inside, order, axis=0), len(_GROUPS))
        nothing = np.full(self.inside.shape[1:], np.nan)
        self.by_width_ = np.array([part.mean(axis=0) if len(part) else nothing for part in parts])

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        level: float = 0.9,
        name: str | None = None,
        ax: Any = None,
        **kw: Any,
    ) -> Self:
        """Predict the distributions for X and draw. Use rows that the estimator was not fitted on.

        Parameters
        ----------
        estimator : fitted GNRegressor
            Also a pipeline that ends with one, or a search over one.
        X : array-like of shape (n_samples, n_features)
            Rows to predict.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Observed values.
        level : float in (0, 1), default=0.9
            Nominal probability of the intervals, those of :meth:`skgn.GNRegressor.predict_interval`.
        name : str, default=None
            Name of the estimator, for the legend.
        ax : matplotlib Axes or array of four for each output, default=None
            Axes to draw in. A single Axes is switched off, and all panels share its space. None makes a new figure.
        **kw : dict
            Handed to :meth:`matplotlib.axes.Axes.plot` for the points and the coverage.

        Returns
        -------
        display : UncertaintyDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If the estimator is none of these.
        ValueError
            If the estimator predicts no distributions, or the data are not as described.
        """
        network: Any = fitted_network(estimator)
        if is_classifier(network):
            raise TypeError(
                f"estimator is a {type(network).__name__}, which predicts probabilities instead of standard "
                "deviations: use sklearn.calibration.CalibrationDisplay for a classifier."
            )
        _check_level(level)
        if network._target.levels is not None:
            raise ValueError(
                "Quantiles are no distributions, and are not drawn: fit another loss, or compare coverages."
            )
        X, y = rows_of_network(estimator, X), _finite("y_true", y)
        check_consistent_length(X, y)
        with unwatched():
            mean = _finite("y_pred", network.predict(X))
            if y.shape != mean.shape:
                raise ValueError(f"y has shape {y.shape}; predictions for X have {mean.shape}.")
            probability, interval = observed_probabilities(network, X, y), network.predict_interval(X, level)
        return cls(y, mean, interval, probability, level=level, name=name).plot(ax, **kw)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        y_std: ArrayLike,
        *,
        level: float = 0.9,
        name: str | None = None,
        ax: Any = None,
        **kw: Any,
    ) -> Self:
        """Draw the predictions of any model, as normal distributions.

        Parameters
        ----------
        y_true, y_pred, y_std : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Observations, predictions and their standard deviations.
        level : float in (0, 1), default=0.9
            Nominal probability of the intervals.
        name : str, default=None
            Name of the model, for the legend.
        ax : matplotlib Axes or array of four for each output, default=None
            As in :meth:`from_estimator`.
        **kw : dict
            Handed to :meth:`matplotlib.axes.Axes.plot` for the points and the coverage.

        Returns
        -------
        display : UncertaintyDisplay

        Raises
        ------
        ValueError
            If the data or ``level`` are not as described, or a standard deviation is negative.
        """
        _check_level(level)
        given = {"y_true": y_true, "y_pred": y_pred, "y_std": y_std}
        y, mean, std = (_finite(*each) for each in given.items())
        check_consistent_length(y, mean, std)
        if y.shape != mean.shape or y.shape != std.shape:
            raise ValueError(f"y_true, y_pred and y_std have shapes {y.shape}, {mean.shape} and {std.shape}.")
        if std.min() < 0:
            raise ValueError(f"y_std must not be negative, got a minimum of {std.min():g}.")
        half = norm.isf((1 - level) / 2) * std
        apart = y - mean
        # Without deviation, any distance is infinite and none is 0.
        with np.errstate(divide="ignore", invalid="ignore"):
            probability = norm.cdf(np.where(apart == 0, 0.0, apart / std))
        interval = np.stack([mean - half, mean + half], axis=1)
        return cls(y, mean, interval, probability, level=level, name=name).plot(ax, **kw)

    def plot(self, ax: Any = None, **kw: Any) -> Self:
        """Draw all panels.

        Parameters
        ----------
        ax : matplotlib Axes or array of four for each output, default=None
            As in :meth:`from_estimator`.
        **kw : dict
            Handed to :meth:`matplotlib.axes.Axes.plot` for the points and the coverage.

        Returns
        -------
        self : UncertaintyDisplay
        """
        k = 1 if self.y_true.ndim == 1 else self.y_true.shape[1]
        self.ax_, flat = panels("UncertaintyDisplay.plot", ax, 2 * k, 2, _PANELS * k)
        self.figure_, kw = self.ax_.figure.figure, properties(kw)
        self.axes_ = flat if self.y_true.ndim == 1 else flat.reshape(k, _PANELS)
        artists = [
            self._draw_output(i, axes, kw, f" {i}" if k > 1 else "") for i, axes in enumerate(flat.reshape(k, _PANELS))
        ]
        for key in artists[0]:
            each = [of_output[key] for of_output in artists]
            setattr(self, key, each[0] if self.y_true.ndim == 1 else each)
        from matplotlib.lines import Line2D

        # The intervals themselves are faint where there are many.
        interval = Line2D([], [], color=BLUE, alpha=0.5, linewidth=1.5)
        named = ("inside_points_", "outside_points_", "coverage_line_", "chance_")
        handles = [interval, *(artists[0][key] for key in named)]
        labels = [
            f"{_percent(self.level)} interval",
            "observation inside",
            f"outside ({_percent(1 - self.inside.mean())})",
            "coverage" if self.name is None else f"coverage, {shortened(self.name, 30)}",
            f"expected ({_percent(1 - _CHANCE)})",
        ]
        legend_above(self.ax_, handles, labels)
        return self

    def _draw_output(self, i: int, axes: Any, kw: dict[str, Any], output: str) -> dict[str, Any]:
        """Draw the panels of an output and return the artists by the names of the attributes."""
        y, mean, inside, probability, observed, by_width = (
            values if values.ndim == 1 else values[:, i]
            for values in (self.y_true, self.y_pred, self.inside, self.probability, self.observed_, self.by_width_)
        )
        interval = self.interval if self.interval.ndim == 2 else self.interval[..., i]
        return {
            **_draw_predictions(axes[0], y, mean, interval, inside, kw, output),
            **_draw_coverage(axes[1], self.nominal_, observed, self.level, inside, kw),
            "width_line_": _draw_by_width(axes[2], by_width, self.level, len(y), kw),
            "histogram_": _draw_histogram(axes[3], probability),
        }


def _draw_predictions(
    ax: Any,
    y: np.ndarray,
    mean: np.ndarray,
    interval: np.ndarray,
    inside: np.ndarray,
    kw: dict[str, Any],
    output: str,
) -> dict[str, Any]:
    n = len(y)
    drawn = np.argsort(mean, kind="stable")[np.linspace(0, n - 1, min(n, _DRAWN)).round().astype(int)]
    y, mean, interval, inside = (values[drawn] for values in (y, mean, interval, inside))
    faint = float(np.clip(35 / len(drawn), 0.1, 0.35))
    intervals = ax.vlines(mean, *interval.T, color=BLUE, alpha=faint, linewidth=1.5)
    ends = [mean.min(), mean.max()]
    ax.plot(ends, ends, color=GREY, linewidth=1, label="_identity")
    size = 4 if len(drawn) <= 100 else 2.5
    style = {"linestyle": "none", "color": BLUE, "marker": "o", "markersize": size}
    inside_points = ax.plot(mean[inside], y[inside], **(style | kw))[0]
    style |= {"color": VERMILLION, "marker": "x", "markersize": size + 2}
    outside_points = ax.plot(mean[~inside], y[~inside], **(style | kw))[0]
    some = "" if len(drawn) == n else f"\n({len(drawn):,} of {n:,} shown)"
    ax.set(xlabel=f"predicted y{output}", ylabel=f"observed y{output}{some}")
    return {"intervals_": intervals, "inside_points_": inside_points, "outside_points_": outside_points}


def _draw_coverage(
    ax: Any, nominal: np.ndarray, observed: np.ndarray, level: float, inside: np.ndarray, kw: dict[str, Any]
) -> dict[str, Any]:
    n, at = len(inside), float(inside.mean())
    fine = np.linspace(0, 1, 201)
    chance = ax.fill_between(fine, *_by_chance(fine, n), color=GREY, alpha=0.25, linewidth=0)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="_identity")
    style = {"color": BLACK, "marker": "o", "markersize": 3, "linestyle": "-"}
    line = ax.plot(nominal, observed, **(style | kw))[0]
    ax.plot([level], [at], "D", color=VERMILLION, markersize=6, label="_level")
    note = f"{_percent(at)} inside\n{_percent(level)} intervals"
    # In the corner that the curve does not pass.
    place = {"x": 0.97, "y": 0.03, "ha": "right", "va": "bottom"}
    if at < 0.5:
        place = {"x": 0.03, "y": 0.97, "ha": "left", "va": "top"}
    ax.text(s=note, color=VERMILLION, fontsize="small", transform=ax.transAxes, **place)
    for axis in (ax.xaxis, ax.yaxis):
        in_percent(axis)
    ax.set(
        xlim=(0, 1),
        ylim=(-0.02, 1.02),
        xticks=[0, 0.5, 1],
        xlabel="nominal level of interval",
        ylabel=f"inside (of {n:,})",
    )
    return {"coverage_line_": line, "chance_": chance}


def _draw_by_width(ax: Any, inside: np.ndarray, level: float, n: int, kw: dict[str, Any]) -> Any:
    places = np.arange(len(_GROUPS))
    low, high = _by_chance(np.full(2, level), max(n // len(_GROUPS), 1))
    ends = [places[0] - 0.5, places[-1] + 0.5]
    ax.fill_between(ends, low, high, color=GREY, alpha=0.25, linewidth=0)
    ax.plot(ends, [level, level], color=GREY, linewidth=1, label="_level")
    style = {"color": BLACK, "marker": "o", "markersize": 5, "linestyle": "--"}
    line = ax.plot(places, inside, **(style | kw))[0]
    in_percent(ax.yaxis)
    ax.set_xticks(places, _GROUPS)
    ax.set(xlim=ends, xlabel="predicted interval", ylabel=f"inside of {_percent(level)}")
    return line


def _draw_histogram(ax: Any, probability: np.ndarray) -> Any:
    n, edges = len(probability), np.linspace(0, 1, _BINS + 1)
    low, high = _by_chance(np.full(2, 1 / _BINS), n)
    height = np.histogram(probability, edges)[0] * _BINS / n
    bars = ax.bar(edges[:-1], height, 1 / _BINS, align="edge", color=BLUE, alpha=0.5, edgecolor="white")
    ax.fill_between([0, 1], low * _BINS, high * _BINS, color=GREY, alpha=0.25, linewidth=0)
    ax.plot([0, 1], [1, 1], color=GREY, linewidth=1, label="_level")
    ax.set(xlim=(0, 1), xticks=[0, 0.5, 1], xlabel="part of the distribution below", ylabel="density")
    in_percent(ax.xaxis)
    return bars


def _by_chance(share: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the band that holds most observed fractions of n observations with this probability."""
    low, high = (binom.ppf(q, n, share) / n for q in (_CHANCE / 2, 1 - _CHANCE / 2))
    return low, high


def _check_level(level: Any) -> None:
    if not isinstance(level, Real) or not 0 < float(level) < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}.")


def _finite(name: str, given: ArrayLike) -> np.ndarray:
    """Check values, and return those of a single output without its axis."""
    values = np.asarray(given, dtype=np.float64)
    if values.ndim == 0 or len(values) == 0:
        raise ValueError(f"{name} is empty; there must be one observation at least.")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} contains nan or infinity; leave these rows out.")
    return values[..., 0] if values.ndim > 1 and values.shape[-1] == 1 else values


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
