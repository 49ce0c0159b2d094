"""RelevanceDisplay: the features that the predictions react to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..fitted import feature_names, fitted_network
from .panels import BLUE, GREY, in_percent, panels, properties, shortened

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RelevanceDisplay"]

#: Largest number of letters in a feature's name, and in the names of features that share a line; these are so many.
_NAME_LENGTH, _SHORT_LENGTH, _NAMED = 30, 12, 5


class RelevanceDisplay:
    """Bars of ``feature_relevance_``, the longest first. A line below them names the features that are switched off.

    Use :meth:`from_estimator` to create one. If more features are in use than there are bars, the title says how many,
    and what share the others have together. Names of more than 30 letters lose their middle. A new figure makes room
    for names and bars. Your own Axes have that room in a figure with ``layout="constrained"``.

    Parameters
    ----------
    relevance : ndarray of shape (n_features,)
        Shares that sum to 1. The share is exactly 0 for a feature that is switched off.
    names : sequence of str
        Names of the features.
    max_features : int, default=20
        Largest number of bars.
    name : str, default=None
        Name of the estimator, for the title.

    Attributes
    ----------
    order_ : ndarray of int
        The features that have bars, from top to bottom.
    bars_ : BarContainer
        Bars of these features.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Raises
    ------
    ValueError
        If ``max_features`` is not an integer of at least 1, or the numbers of names and features differ.

    See Also
    --------
    sklearn.inspection.permutation_importance : What a feature is worth to the score, on data of your choice.
    sklearn.inspection.PartialDependenceDisplay : How the predictions react.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor
    >>> from skgn.displays import RelevanceDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = GNRegressor((), n_estimators=1, random_state=0).fit(X, y)
    >>> display = RelevanceDisplay.from_estimator(model, max_features=3)
    >>> list(X.columns[display.order_])
    ['bmi', 's5', 'bp']
    """

    def __init__(
        self,
        relevance: np.ndarray,
        names: Sequence[str],
        *,
        max_features: int = 20,
        name: str | None = None,
    ) -> None:
        if not isinstance(max_features, int | np.integer) or isinstance(max_features, bool) or max_features < 1:
            raise ValueError(f"max_features must be an integer of at least 1, got {max_features!r}.")
        if len(names) != len(relevance):
            raise ValueError(f"names has {len(names)} entries; there are {len(relevance)} features.")
        self.relevance, self.names = relevance, list(names)
        self.max_features, self.name = int(max_features), name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, max_features: int = 20, name: str | None = None, ax: Any = None, **kw: Any
    ) -> Self:
        """Draw the relevance of the features of a fitted estimator.

        Parameters
        ----------
        estimator : fitted GNRegressor or GNClassifier
            Also a pipeline that ends with one, or a search over one. The features of a pipeline are the inputs of its
            last step.
        max_features : int, default=20
            Largest number of bars.
        name : str, default=None
            Name of the estimator, for the title.
        ax : matplotlib Axes, default=None
            None makes a new figure.
        **kw : dict
            Handed to :meth:`matplotlib.axes.Axes.barh`.

        Returns
        -------
        display : RelevanceDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If the estimator is none of these.
        ValueError
            If ``max_features`` is not an integer of at least 1.
        """
        network = fitted_network(estimator)
        names = feature_names(estimator)
        return cls(network.feature_relevance_, names, max_features=max_features, name=name).plot(ax, **kw)

    def plot(self, ax: Any = None, **kw: Any) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        **kw : dict
            Handed to :meth:`matplotlib.axes.Axes.barh`.

        Returns
        -------
        self : RelevanceDisplay
        """
        off = np.flatnonzero(self.relevance == 0)
        # One alone has a line of its own.
        folded = off if len(off) > 1 else off[:0]
        in_use = np.argsort(-self.relevance, kind="stable")[: len(self.relevance) - len(folded)]
        self.order_ = in_use[: self.max_features]
        shown = self.relevance[self.order_]
        lines = len(shown) + bool(len(folded))
        # In rows of panels: eleven bars each.
        self.ax_ = ax = panels("RelevanceDisplay.plot", ax, lines // 11, 1, 1)[1][0]
        self.figure_ = figure = ax.figure.figure
        from matplotlib.font_manager import FontProperties

        self.bars_ = ax.barh(np.arange(len(shown)), shown, **({"color": BLUE} | properties(kw, "Rectangle")))
        points = 72 * ax.get_window_extent().height / figure.dpi / max(lines, 4)
        size = min(FontProperties(size="medium").get_size_in_points(), 0.85 * points)
        labels = [shortened(self.names[j], _NAME_LENGTH) for j in self.order_]
        texts = [_percent(value) if value else "switched off" for value in shown]
        ends = shown.tolist()
        if len(folded):
            labels.append(f"{len(folded)} features")
            texts.append("switched off")
            ends.append(0.0)
        ax.set_yticks(np.arange(lines), labels, fontsize=size)
        for y, (label, text, end) in enumerate(zip(ax.get_yticklabels(), texts, ends, strict=True)):
            colour, style = (GREY, {"style": "italic"}) if end == 0 else ("black", {})
            label.set_color(colour)
            last = ax.annotate(
                text, (end, y), (3, 0), textcoords="offset points", va="center", fontsize=size, color=colour, **style
            )
        ax.set_ylim(max(lines, 4) / 2 + lines / 2 - 0.4, min(0, lines - 4) / 2 - 0.6)
        # Room for the number at the longest bar.
        ax.set_xlim(0, 1.18 * shown.max())
        in_percent(ax.xaxis)
        ax.set(xlabel="relevance (share in what predictions react to)", ylabel="feature")
        title = "\n".join(filter(None, [self.name and shortened(self.name, 60), self._summary(shown, len(in_use))]))
        if title:
            ax.set_title(title, fontsize="medium")
        if len(folded):
            _name(last, [self.names[j] for j in folded], ax)
        return self

    def _summary(self, shown: np.ndarray, n_bars: int) -> str:
        """Summarise what the bars do not show, of ``n_bars`` that there might be; empty if they show everything."""
        n, off = len(self.relevance), int((self.relevance == 0).sum())
        parts = []
        if off:
            parts.append(f"{off} of {n} features switched off")
        if len(shown) < n_bars:
            rest = 1 - shown.sum()
            others = f", the others have {_percent(rest)} together" if rest > 1e-9 else ""
            parts.append(f"{len(shown)} of {n} shown{others}")
        return "\n".join(parts)


def _name(text: Any, names: Sequence[str], ax: Any) -> None:
    """Name as many features as fit into the Axes beside ``text``, which has no part in their layout."""
    text.set_in_layout(False)
    ax.figure.canvas.figure.draw_without_rendering()
    head, short = text.get_text(), [shortened(name, _SHORT_LENGTH) for name in names[:_NAMED]]
    for n in range(len(short), -1, -1):
        listed = [*short[:n], "..."] if n < len(names) else short
        text.set_text(f"{head}: {', '.join(listed)}" if n else head)
        if text.get_window_extent().x1 <= ax.get_window_extent().x1:
            return


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"
