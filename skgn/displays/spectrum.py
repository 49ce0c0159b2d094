"""SpectrumDisplay: the damping beside the eigenvalues that it is added to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..fitted import fitted_network
from .panels import BLACK, BLUE, GREY, VERMILLION, check_x, legend_above, logarithmic, name_x, panels, properties

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SpectrumDisplay"]


class SpectrumDisplay:
    """Extreme eigenvalues of the smaller of Gram matrix and tangent kernel, and the damping, over a training.

    Use :meth:`from_estimator` to create one. The damping is added to these eigenvalues. It hardly changes a step along
    an eigenvector whose eigenvalue is far above the damping. It suppresses a step whose eigenvalue is far below. The
    line of the damping is a staircase: each step ends at the iterate that it led to.

    Eigenvalues below the rounding error of the largest one are zero to the computer. They are drawn at that error, and
    a dotted line marks it. A damping of 0 has no place on the logarithmic scale; the legend mentions it.

    Parameters
    ----------
    x_values : ndarray of shape (n_entries,)
        Iterations, or seconds.
    min_eigenvalue, max_eigenvalue, damping : ndarray of shape (n_entries,)
        Values at the starting point and after each iteration; nan where unknown.
    x : {"iteration", "time"}, default="iteration"
        Meaning of ``x_values``.
    rounding : float, default=2.2e-16
        Rounding error of the eigenvalues relative to the largest one.
    name : str, default=None
        Name of the estimator, for the title.

    Attributes
    ----------
    min_line_, max_line_, damping_line_ : Line2D
    range_ : PolyCollection
        The area between the extreme eigenvalues.
    rounding_line_ : Line2D or None
        None if all eigenvalues are above the rounding error.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    ConvergenceDisplay : Other quantities of the training.
    skgn.damping : Rules that set the damping, one of them by the smallest eigenvalue.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor
    >>> from skgn.displays import SpectrumDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> from skgn.spectrum import SpectrumMonitor
    >>> model = GNRegressor((5,), l2_regularization=1e-2, n_estimators=1, random_state=0)
    >>> display = SpectrumDisplay.from_estimator(model.set_callbacks(SpectrumMonitor()).fit(X, y))
    >>> display.ax_.get_yscale()
    'log'
    """

    def __init__(
        self,
        x_values: np.ndarray,
        min_eigenvalue: np.ndarray,
        max_eigenvalue: np.ndarray,
        damping: np.ndarray,
        *,
        x: str = "iteration",
        rounding: float = float(np.finfo(np.float64).eps),
        name: str | None = None,
    ) -> None:
        check_x(x)
        self.x_values, self.min_eigenvalue, self.max_eigenvalue = x_values, min_eigenvalue, max_eigenvalue
        self.damping, self.x, self.rounding, self.name = damping, x, rounding, name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, x: str = "iteration", name: str | None = None, ax: Any = None, **kw: Any
    ) -> Self:
        """Draw the recorded spectrum of a fitted estimator.

        Parameters
        ----------
        estimator : fitted GNRegressor or GNClassifier
            An estimator fitted with the callback :class:`~skgn.spectrum.SpectrumMonitor`, a pipeline that ends with
            one, or a search over one.
        x : {"iteration", "time"}, default="iteration"
            The horizontal axis; time is in seconds.
        name : str, default=None
            Title of the picture.
        ax : matplotlib Axes, default=None
            None makes a new figure.
        **kw : dict
            Handed to :meth:`matplotlib.axes.Axes.plot` for the three lines.

        Returns
        -------
        display : SpectrumDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If the estimator is none of these.
        ValueError
            If the estimator was fitted without that callback, or x is not as described.
        """
        network = fitted_network(estimator)
        history = network.history_
        if "min_eigenvalue" not in history:
            raise ValueError(
                "estimator was fitted without skgn.spectrum.SpectrumMonitor, so that its history_ has no eigenvalues: "
                "fit it again with set_callbacks(SpectrumMonitor()), which needs scikit-learn >= 1.9."
            )
        display = cls(
            history["time"] if x == "time" else np.arange(len(history["damping"])),
            history["min_eigenvalue"],
            history["max_eigenvalue"],
            history["damping"],
            x=x,
            rounding=float(np.finfo(network.dtype).eps),
            name=name,
        )
        return display.plot(ax, **kw)

    def plot(self, ax: Any = None, **kw: Any) -> Self:
        """Draw the lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        **kw : dict
            Handed to :meth:`matplotlib.axes.Axes.plot` for the three lines.

        Returns
        -------
        self : SpectrumDisplay
        """
        self.ax_ = ax = panels("SpectrumDisplay.plot", ax, 1, 1, 1)[1][0]
        self.figure_, kw = ax.figure.figure, properties(kw)
        x, error = self.x_values, self.rounding * self.max_eigenvalue
        lowest = np.maximum(self.min_eigenvalue, error)
        self.range_ = ax.fill_between(x, lowest, self.max_eigenvalue, color=BLUE, alpha=0.12, linewidth=0)
        damping = "damping"
        if not (self.damping > 0).any():
            damping = "damping (0)" if (self.damping == 0).any() else "damping (no step)"
        lines: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
            "largest eigenvalue": (self.max_eigenvalue, {"color": BLUE, "marker": "^"}),
            "smallest eigenvalue": (lowest, {"color": BLACK, "marker": "v", "linestyle": "-."}),
            damping: (
                self.damping,
                {"color": VERMILLION, "linestyle": "--", "linewidth": 2, "drawstyle": "steps-pre"},
            ),
        }
        drawn = []
        for label, (values, style) in lines.items():
            style |= {"label": label, "markersize": 4, "markevery": max(1, len(x) // 15)}
            drawn.append(ax.plot(x, values, **(style | kw))[0])
        self.max_line_, self.min_line_, self.damping_line_ = drawn
        self.rounding_line_ = None
        if (self.min_eigenvalue < error).any():
            self.rounding_line_ = ax.plot(x, error, ":", color=GREY, zorder=3, label="_rounding")[0]
            ax.annotate(
                "rounding error",
                (x[-1], error[-1]),
                (0, 4),
                textcoords="offset points",
                ha="right",
                fontsize="small",
                color=GREY,
            )
        logarithmic(ax)
        name_x(ax, self.x)
        # The eigenvalues are those of a mean over samples, in units of the standardised target.
        ax.set_ylabel("eigenvalue, damping")
        legend_above(ax, drawn, [str(line.get_label()) for line in drawn], title=self.name)
        return self
