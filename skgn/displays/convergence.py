"""ConvergenceDisplay: the course of a fit, iteration by iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..fitted import fitted_network
from .panels import GREY, check_x, legend_above, line_style, logarithmic, name_x, panels, properties, shortened

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ConvergenceDisplay"]

#: Axis labels, with units, in lines that are as long as a small panel is high; others are named by their key.
_LABELS = {
    "riemannian_gradient_norm": "Riemannian\ngradient norm",
    "gradient_norm": "gradient norm",
    "gain_ratio": "gain ratio",
    "step_norm": "step norm",
    "distance_from_init": "distance from\ninitial weights",
    "n_effective_parameters": "effective\nparameters",
    "log_evidence": "log evidence\n(nats)",
    "noise_std": "noise std\n(std of y)",
    "time": "time (s)",
    "validation_loss": "validation loss",
    "min_eigenvalue": "smallest\neigenvalue",
    "max_eigenvalue": "largest\neigenvalue",
}

#: Quantities whose ratios mean nothing, or that are to be compared with 1.
_LINEAR = ("gain_ratio", "log_evidence")

_MONITOR = " (it needs the callback skgn.spectrum.SpectrumMonitor)"

#: Quantities that a history holds on demand only.
_HINTS = {
    "validation_loss": " (it needs early_stopping=True)",
    "min_eigenvalue": _MONITOR,
    "max_eigenvalue": _MONITOR,
    "riemannian_gradient_norm": _MONITOR,
}

#: Text in a panel without values.
_UNKNOWN = "not known"

#: Largest number of markers on a line, so that they stay apart.
_MARKERS = 15


class ConvergenceDisplay:
    """Quantities of the training history over iterations or time, in one panel each.

    Use :meth:`from_estimator` to create one. A positive quantity that spans more than a decade has a logarithmic scale,
    which leaves out zeros. The log evidence has a linear scale, which may leave out the first iterations.

    Parameters
    ----------
    histories : dict of str to dict of ndarray
        ``history_`` of each estimator. The keys are the names in the legend.
    quantities : sequence of str
        Keys of the histories. A quantity may be missing in some histories, but not in all.
    x : {"iteration", "time"}, default="iteration"
        The horizontal axis. Entry 0 is the starting point; time is in seconds.

    Attributes
    ----------
    lines_ : ndarray of Line2D, of shape (n_quantities, n_estimators)
        None for a quantity that the history of an estimator lacks.
    axes_ : ndarray of matplotlib Axes, of shape (n_quantities,)
    ax_ : matplotlib Axes
        The panel. If there are several panels, the Axes above them that holds their legend.
    figure_ : matplotlib Figure

    Raises
    ------
    ValueError
        If x is neither of the two, or a quantity is in none of the histories.

    See Also
    --------
    SpectrumDisplay : Eigenvalues of the linearised network beside the damping.
    sklearn.model_selection.LearningCurveDisplay : Scores over the number of samples.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor
    >>> from skgn.displays import ConvergenceDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> plain = GNRegressor((5,), l2_regularization=1e-2, n_estimators=1, random_state=0)
    >>> models = {f"alpha={alpha}": plain.set_params(alpha=alpha).fit(X, y).history_ for alpha in (1, 10)}
    >>> display = ConvergenceDisplay(models, quantities=["objective", "damping"]).plot()
    >>> [ax.get_ylabel() for ax in display.axes_]
    ['objective', 'damping']
    """

    def __init__(
        self,
        histories: Mapping[str, Mapping[str, np.ndarray]],
        *,
        quantities: Sequence[str],
        x: str = "iteration",
    ) -> None:
        quantities = [quantities] if isinstance(quantities, str) else list(quantities)
        known = sorted({key for history in histories.values() for key in history})
        check_x(x)
        if not histories:
            raise ValueError("There is no estimator to draw; pass one at least.")
        if not quantities:
            raise ValueError(f"quantities is empty; choose from {known}.")
        for quantity in quantities:
            if quantity not in known:
                hint = _HINTS.get(quantity, "")
                raise ValueError(f"quantities contains {quantity!r}, which is not in history_{hint}; it has {known}.")
        self.histories, self.quantities, self.x = dict(histories), quantities, x

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        quantities: Sequence[str] = ("objective", "gradient_norm", "damping", "gain_ratio"),
        x: str = "iteration",
        name: str | None = None,
        ax: Any = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the history of a fitted estimator, or of several.

        Parameters
        ----------
        estimator : fitted estimator, dict of str to fitted estimator, or list of fitted estimators
            GNRegressor or GNClassifier, a pipeline that ends with one, or a search over one. In a dict the keys name
            the estimators; in a list numbers do.
        quantities : sequence of str, default=("objective", "gradient_norm", "damping", "gain_ratio")
            Keys of ``history_``. Each quantity has a panel.
        x : {"iteration", "time"}, default="iteration"
            The horizontal axis.
        name : str, default=None
            Name of a single estimator in the legend. Without a name a single line has no legend.
        ax : matplotlib Axes or array of as many Axes as quantities, default=None
            Axes to draw in. A single Axes is switched off, and the panels share its space. None makes a new figure.
        **line_kw : dict
            Handed to :meth:`matplotlib.axes.Axes.plot` for every line.

        Returns
        -------
        display : ConvergenceDisplay

        Raises
        ------
        NotFittedError
            If an estimator is not fitted.
        TypeError
            If an estimator is none of these.
        ValueError
            If x or quantities are not as described, ``name`` is given for several estimators, or ``ax`` has another
            number of Axes.

        Examples
        --------
        >>> from sklearn.datasets import load_breast_cancer
        >>> from skgn import GNClassifier
        >>> from skgn.displays import ConvergenceDisplay
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> model = GNClassifier((3,), l2_regularization=1e-2, n_estimators=1, random_state=0).fit(X, y)
        >>> display = ConvergenceDisplay.from_estimator(model, x="time")
        >>> display.lines_.shape
        (4, 1)
        """
        if isinstance(estimator, Mapping | list | tuple) and name is not None:
            raise ValueError(f"name={name!r} is for a single estimator; pass several as a dict, name by name.")
        if isinstance(estimator, Mapping):
            histories = {str(key): fitted_network(one).history_ for key, one in estimator.items()}
        elif isinstance(estimator, list | tuple):
            networks = [fitted_network(one) for one in estimator]
            histories = {f"{type(one).__name__} {i}": one.history_ for i, one in enumerate(networks, start=1)}
        else:
            network = fitted_network(estimator)
            histories = {type(network).__name__ if name is None else name: network.history_}
        display = cls(histories, quantities=quantities, x=x)
        return display.plot(ax, legend=None if name is None else True, **line_kw)

    def plot(self, ax: Any = None, *, legend: bool | None = None, **line_kw: Any) -> Self:
        """Draw the panels. If ``ax`` holds the panels of another display of this kind, add the lines to them.

        Parameters
        ----------
        ax : matplotlib Axes or array of as many Axes as quantities, default=None
            As in :meth:`from_estimator`.
        legend : bool, default=None
            Whether to draw a legend. None draws one if there are several lines.
        **line_kw : dict
            Handed to :meth:`matplotlib.axes.Axes.plot` for every line.

        Returns
        -------
        self : ConvergenceDisplay
        """
        n = len(self.quantities)
        n_columns = 1 if n in (1, 3) else 2
        n_rows = -(-n // n_columns)
        self.ax_, self.axes_ = panels("ConvergenceDisplay.plot", ax, n_rows, n_columns, n)
        self.figure_, line_kw = self.ax_.figure.figure, properties(line_kw)
        self.lines_ = np.full((n, len(self.histories)), None, dtype=object)
        n_before = max(len(_named_lines(panel)) for panel in self.axes_)
        for i, (panel, quantity) in enumerate(zip(self.axes_, self.quantities, strict=True)):
            self._draw(i, panel, quantity, n_before, line_kw)
        self._name_lines(legend)
        return self

    def _draw(self, i: int, ax: Any, quantity: str, n_before: int, line_kw: dict[str, Any]) -> None:
        for j, (name, history) in enumerate(self.histories.items()):
            if quantity not in history:
                continue
            values = np.where(np.isfinite(history[quantity]), history[quantity], np.nan)
            x = history["time"] if self.x == "time" else np.arange(len(values))
            style = line_style(n_before + j) | {"markersize": 4, "markevery": max(1, len(values) // _MARKERS)}
            self.lines_[i, j] = ax.plot(x, values, **(style | {"label": name} | line_kw))[0]
        name_x(ax, self.x)
        ax.set_ylabel(_LABELS.get(quantity, quantity.replace("_", " ")))
        series = [line.get_ydata() for line in _named_lines(ax)]
        # A fixed prior has no evidence, conjugate gradients no effective parameters.
        known = any(np.isfinite(values).any() for values in series)
        ax.tick_params(axis="y", left=known, labelleft=known)
        for text in [text for text in ax.texts if text.get_text() == _UNKNOWN]:
            text.remove()
        if not known:
            ax.text(0.5, 0.5, _UNKNOWN, color=GREY, ha="center", va="center", transform=ax.transAxes)
        elif quantity == "gain_ratio":
            # Actual over predicted decrease: 1 where the model of the objective is right.
            ax.axhline(1, color=GREY, linewidth=0.8, zorder=0, label="_gain_ratio")
        elif quantity == "log_evidence":
            _leave_out_early_values(ax, series)
        elif quantity not in _LINEAR and _spans_decades(series):
            logarithmic(ax)

    def _name_lines(self, legend: bool | None) -> None:
        lines: dict[str, Any] = {}
        for ax in self.axes_:
            for line in _named_lines(ax):
                lines.setdefault(line.get_label(), line)
        if (len(lines) < 2 and not legend) or legend is False:
            return
        # Other lines come first; then our lines in their order, whichever panels they are in.
        names = [name for name in lines if name not in self.histories]
        names += [name for name in self.histories if name in lines]
        handles, labels = [lines[name] for name in names], [shortened(name, 60) for name in names]
        if self.ax_ in self.axes_ and len(self.axes_) > 1:  # panels of the user's own, with any place in the figure
            self.ax_.legend(handles, labels, fontsize="small")
        else:
            legend_above(self.ax_, handles, labels)


def _named_lines(ax: Any) -> list[Any]:
    return [line for line in ax.lines if not str(line.get_label()).startswith("_")]


def _spans_decades(series: list[np.ndarray]) -> bool:
    values = np.concatenate(series)
    positive = values[values > 0]
    return len(positive) > 0 and bool(positive.max() > 10 * positive.min()) and not bool((values < 0).any())


def _leave_out_early_values(ax: Any, series: list[np.ndarray]) -> None:
    """Limit the axis to the values after a first ascent of hundreds of nats.

    The limit is J. W. Tukey's fence below the lower quartile.
    """
    lowest, highest = [], []
    for values in series:
        finite = values[np.isfinite(values)]
        if len(finite) > 0:
            lower, upper = np.quantile(finite, [0.25, 0.75])
            lowest.append(float(finite[finite >= lower - 1.5 * (upper - lower)].min()))
            highest.append(float(finite.max()))
    low, high = min(lowest), max(highest)
    margin = 0.05 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)
