"""UncertaintyDisplay: a check whether predicted standard deviations are honest."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binom, norm
from sklearn.base import is_classifier
from sklearn.utils import check_consistent_length, column_or_1d

from ..fitted import best_of_search, fitted_network
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


class UncertaintyDisplay:
    """Observed against predicted values with their intervals, and the coverage of central intervals.

    Use :meth:`from_estimator` or :meth:`from_predictions` to create one.

    Left: each point is an observation. The bar behind it is the central interval of ``level`` around its prediction;
    points outside their interval are marked. Of more than 1,000 points 1,000 are drawn, evenly spread over the
    predictions.

    Right: the fraction of all observations inside the central interval of each nominal level. Below the diagonal the
    intervals are too narrow, above it too wide. The grey band shows what chance alone does. It holds 95 % of the
    fractions of as many independent observations with exact intervals.

    Intervals are ``y_pred`` plus and minus normal quantiles times ``y_std``. This is an approximation, because the
    predictive distribution of several networks is a mixture. With Student-t noise (``noise_distribution_`` "student_t")
    its tails are heavier than normal. Then even a perfect model lies a little above the diagonal at middle levels, and
    below it at the highest levels.

    Parameters
    ----------
    y_true, y_pred, y_std : array-like of shape (n_samples,)
        Observations, predictions and their standard deviations, in the units of y.
    level : float in (0, 1), default=0.9
        Nominal probability of the intervals on the left.
    name : str, default=None
        Name of the estimator, for the legend.

    Attributes
    ----------
    inside : ndarray of bool, of shape (n_samples,)
        Whether the interval of ``level`` holds the observation.
    nominal_, observed_ : ndarray
        The nominal levels, ``level`` among them, and the fractions of observations inside.
    intervals_ : LineCollection
    inside_points_, outside_points_ : Line2D
    coverage_line_ : Line2D
    chance_ : PolyCollection
    axes_ : ndarray of matplotlib Axes, of shape (2,)
    ax_ : matplotlib Axes
        The Axes that holds the legend.
    figure_ : matplotlib Figure

    Raises
    ------
    ValueError
        If ``level`` is not between 0 and 1, or the arrays are not finite, one-dimensional and of one length, or a
        standard deviation is negative.

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
        self, y_true: ArrayLike, y_pred: ArrayLike, y_std: ArrayLike, *, level: float = 0.9, name: str | None = None
    ) -> None:
        if not _is_probability(level):
            raise ValueError(f"level must be between 0 and 1, got {level!r}.")
        given = {"y_true": y_true, "y_pred": y_pred, "y_std": y_std}
        self.y_true, self.y_pred, self.y_std = (_one_column(key, values) for key, values in given.items())
        check_consistent_length(self.y_true, self.y_pred, self.y_std)
        if self.y_std.min() < 0:
            raise ValueError(f"y_std must not be negative, got a minimum of {self.y_std.min():g}.")
        self.level, self.name = level, name
        self.inside = self._inside(level)
        self.nominal_ = np.unique(np.append(_LEVELS, level))
        self.observed_ = np.array([self._inside(p).mean() for p in self.nominal_])

    def _inside(self, level: float) -> np.ndarray:
        return np.abs(self.y_true - self.y_pred) <= self._half_width(level)

    def _half_width(self, level: float) -> np.ndarray:
        return norm.isf((1 - level) / 2) * self.y_std

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
        """Predict X with standard deviations and draw. Use rows that the estimator was not fitted on.

        Parameters
        ----------
        estimator : fitted GNRegressor
            Also a pipeline that ends with one, or a search over one.
        X : array-like of shape (n_samples, n_features)
            Rows to predict.
        y : array-like of shape (n_samples,)
            Observed values.
        level : float in (0, 1), default=0.9
            Nominal probability of the intervals on the left.
        name : str, default=None
            Name of the estimator, for the legend.
        ax : matplotlib Axes or array of two, default=None
            Axes to draw in. A single Axes is switched off, and both panels share its space. None makes a new figure.
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
            If the estimator has several outputs, or no posterior to predict standard deviations with. Also if the data
            are not as described.
        """
        network = fitted_network(estimator)
        if is_classifier(network):
            raise TypeError(
                f"estimator is a {type(network).__name__}, which predicts probabilities instead of standard "
                "deviations: use sklearn.calibration.CalibrationDisplay for a classifier."
            )
        y_pred, y_std = best_of_search(estimator).predict(X, return_std=True)
        if np.ndim(y_pred) == 2 and np.shape(y_pred)[1] > 1:
            raise ValueError(
                f"estimator predicts {np.shape(y_pred)[1]} outputs, and this display is for one: pass the columns of "
                "predict(X, return_std=True) to from_predictions, one at a time."
            )
        return cls.from_predictions(y, y_pred, y_std, level=level, name=name, ax=ax, **kw)

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
        """Draw the predictions of any model.

        Parameters
        ----------
        y_true, y_pred, y_std : array-like of shape (n_samples,)
            Observations, predictions and their standard deviations.
        level : float in (0, 1), default=0.9
            Nominal probability of the intervals on the left.
        name : str, default=None
            Name of the model, for the legend.
        ax : matplotlib Axes or array of two, default=None
            As in :meth:`from_estimator`.
        **kw : dict
            Handed to :meth:`matplotlib.axes.Axes.plot` for the points and the coverage.

        Returns
        -------
        display : UncertaintyDisplay

        Raises
        ------
        ValueError
            If the data or ``level`` are not as described.
        """
        return cls(y_true, y_pred, y_std, level=level, name=name).plot(ax, **kw)

    def plot(self, ax: Any = None, **kw: Any) -> Self:
        """Draw both panels.

        Parameters
        ----------
        ax : matplotlib Axes or array of two, default=None
            As in :meth:`from_estimator`.
        **kw : dict
            Handed to :meth:`matplotlib.axes.Axes.plot` for the points and the coverage.

        Returns
        -------
        self : UncertaintyDisplay
        """
        self.ax_, self.axes_ = panels("UncertaintyDisplay.plot", ax, 1, 2, 2)
        self.figure_, kw = self.ax_.figure, properties(kw)
        self._draw_predictions(self.axes_[0], kw)
        self._draw_coverage(self.axes_[1], kw)
        from matplotlib.lines import Line2D

        # The intervals themselves are faint where there are many.
        interval = Line2D([], [], color=BLUE, alpha=0.5, linewidth=1.5)
        handles = [interval, self.inside_points_, self.outside_points_, self.coverage_line_, self.chance_]
        labels = [
            f"{_percent(self.level)} interval",
            "observation inside",
            f"outside ({_percent(1 - self.inside.mean())})",
            "coverage" if self.name is None else f"coverage, {shortened(self.name, 30)}",
            f"expected ({_percent(1 - _CHANCE)})",
        ]
        legend_above(self.ax_, handles, labels)
        return self

    def _draw_predictions(self, ax: Any, kw: dict[str, Any]) -> None:
        n = len(self.y_true)
        by_prediction = np.argsort(self.y_pred, kind="stable")
        drawn = by_prediction[np.linspace(0, n - 1, min(n, _DRAWN)).round().astype(int)]
        y, mean, half = self.y_true[drawn], self.y_pred[drawn], self._half_width(self.level)[drawn]
        inside = self.inside[drawn]
        faint = float(np.clip(35 / len(drawn), 0.1, 0.35))
        self.intervals_ = ax.vlines(mean, mean - half, mean + half, color=BLUE, alpha=faint, linewidth=1.5)
        ends = [mean.min(), mean.max()]
        ax.plot(ends, ends, color=GREY, linewidth=1, label="_identity")
        size = 4 if len(drawn) <= 100 else 2.5
        style = {"linestyle": "none", "color": BLUE, "marker": "o", "markersize": size}
        self.inside_points_ = ax.plot(mean[inside], y[inside], **(style | kw))[0]
        style |= {"color": VERMILLION, "marker": "x", "markersize": size + 2}
        self.outside_points_ = ax.plot(mean[~inside], y[~inside], **(style | kw))[0]
        some = "" if len(drawn) == n else f"\n({len(drawn):,} of {n:,} shown)"
        ax.set(xlabel="predicted y", ylabel=f"observed y{some}")

    def _draw_coverage(self, ax: Any, kw: dict[str, Any]) -> None:
        n = len(self.y_true)
        fine = np.linspace(0, 1, 201)
        low, high = (binom.ppf(q, n, fine) / n for q in (_CHANCE / 2, 1 - _CHANCE / 2))
        self.chance_ = ax.fill_between(fine, low, high, color=GREY, alpha=0.25, linewidth=0)
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="_identity")
        style = {"color": BLACK, "marker": "o", "markersize": 3, "linestyle": "-"}
        self.coverage_line_ = ax.plot(self.nominal_, self.observed_, **(style | kw))[0]
        at = float(self.inside.mean())
        ax.plot([self.level], [at], "D", color=VERMILLION, markersize=6, label="_level")
        note = f"{_percent(at)} inside\n{_percent(self.level)} intervals"
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
            ylabel=f"observations inside (of {n:,})",
        )


def _is_probability(level: Any) -> bool:
    return isinstance(level, Real) and 0 < float(level) < 1


def _one_column(name: str, given: ArrayLike) -> np.ndarray:
    values = np.asarray(given, dtype=np.float64)
    if values.ndim == 2 and values.shape[1] > 1:
        raise ValueError(f"{name} has {values.shape[1]} columns, and this display is for one output: pass one of them.")
    values = np.asarray(column_or_1d(values))
    if len(values) == 0:
        raise ValueError(f"{name} is empty; there must be one observation at least.")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} contains nan or infinity; leave these rows out.")
    return values


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
