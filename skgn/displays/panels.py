"""Axes to draw in, and what all pictures share: colours, line styles, legends, names that fit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = [
    "BLACK",
    "BLUE",
    "GREY",
    "VERMILLION",
    "check_x",
    "in_percent",
    "legend_above",
    "line_style",
    "logarithmic",
    "name_x",
    "panels",
    "properties",
    "shortened",
]

#: Colours that the colour-blind tell apart: M. Okabe and K. Ito, https://jfly.uni-koeln.de/color/ (2002); without the
#: yellow, which is hardly seen on white.
BLUE, VERMILLION, BLACK, GREY = "#0072B2", "#D55E00", "#000000", "#707070"
_COLOURS = (BLUE, VERMILLION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", BLACK)
_LINE_STYLES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v")

_X_LABELS = {"iteration": "iteration", "time": "time (s)"}

#: Label of an Axes that holds the legend of the panels below it.
_LEGEND = "skgn legend"

#: Inches around a panel for its tick labels and its labels.
_LEFT_OF_PANEL, _BELOW_PANEL = 1.0, 0.55


def line_style(i: int) -> dict[str, Any]:
    """Colour, dashes and marker of the i-th line. 140 styles are different; neighbours differ in all three."""
    return {
        "color": _COLOURS[i % len(_COLOURS)],
        "linestyle": _LINE_STYLES[i % len(_LINE_STYLES)],
        "marker": _MARKERS[i % len(_MARKERS)],
    }


def panels(caller: str, ax: Any, n_rows: int, n_columns: int, n: int) -> tuple[Axes, np.ndarray]:
    """Return n panels, and the Axes that a legend for all of them belongs to.

    None makes a new figure. A single Axes lends its space, and is switched off if there are more panels. n Axes are
    taken as they are.
    """
    check_matplotlib_support(caller)
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.gridspec import GridSpecFromSubplotSpec

    if ax is None:
        width, height = plt.rcParams["figure.figsize"]
        _, ax = plt.subplots(figsize=(width, height * max(1.0, n_rows / 2)), layout="constrained")
    if not isinstance(ax, Axes):
        given = np.asarray(ax, dtype=object).ravel()
        if len(given) != n or not all(isinstance(one, Axes) for one in given):
            raise ValueError(f"ax must be one matplotlib Axes or an array of {n}, one a panel; got {ax!r}.")
        shared = [one for one in given[0].figure.axes if one.get_label() == _LEGEND]
        beside = given[0].get_gridspec()
        return next((one for one in shared if one.get_gridspec() is beside), given[0]), given
    if n == 1:
        return ax, np.array([ax], dtype=object)
    figure, spec = ax.figure, ax.get_subplotspec()
    if spec is None:  # axes placed by hand
        left, bottom, right, top = ax.get_position().extents
        spec = figure.add_gridspec(1, 1, left=left, bottom=bottom, right=right, top=top)[0]
    ax.set_axis_off()
    if figure.get_layout_engine() is None:
        box = ax.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
        # matplotlib wants gaps in units of the panels that they leave room for.
        gaps = {"wspace": _gap(_LEFT_OF_PANEL, box.width, n_columns), "hspace": _gap(_BELOW_PANEL, box.height, n_rows)}
        grid, above, first = GridSpecFromSubplotSpec(n_rows, n_columns, spec, **gaps), ax, 0
    else:
        # Layout engines make room for a legend if its axes has a row of its own, but not in divided space.
        ratios = [0.001] + n_rows * [1.0]
        grid, first = GridSpecFromSubplotSpec(n_rows + 1, n_columns, spec, height_ratios=ratios), n_columns
        above = figure.add_subplot(grid[0, :], label=_LEGEND)
        above.set_axis_off()
    return above, np.array([figure.add_subplot(grid[first + i]) for i in range(n)], dtype=object)


def properties(given: dict[str, Any], artist: str = "Line2D") -> dict[str, Any]:
    """Write the properties of an artist in full (lw as linewidth), so that they replace the properties set here."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    return normalize_kwargs(given, {"Line2D": Line2D, "Rectangle": Rectangle}[artist])


def logarithmic(ax: Axes) -> None:
    """Give y a logarithmic scale that masks values of 0 and less, with few and short tick labels."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ax.set_yscale("log", nonpositive="mask")
    low, high = ax.get_ylim()
    if high < 200 * low:
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _gap(inches: float, extent: float, n: int) -> float:
    panel = max((extent - inches * (n - 1)) / n, 0.1 * extent)
    return inches / panel


def legend_above(ax: Axes, handles: list[Artist], labels: list[str], *, title: str | None = None) -> None:
    """Put a legend over ``ax``, in as many columns as fit side by side."""
    from matplotlib.font_manager import FontProperties

    inches = ax.get_window_extent().width / ax.figure.dpi
    points = FontProperties(size="small").get_size_in_points()
    # A letter is about 0.55 of its size wide; a handle and the space around it take five.
    entry = (5 + max(len(label) for label in labels)) * 0.55 * points / 72
    n_columns = min(len(labels), max(1, math.floor(inches / entry)))
    n_rows = -(-len(labels) // n_columns)
    ax.legend(
        handles,
        labels,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=-(-len(labels) // n_rows),
        fontsize="small",
        frameon=False,
        borderaxespad=0.2,
        title=None if title is None else shortened(title, 60),
    )


def check_x(x: str) -> None:
    """Raise a ValueError if ``x`` is not a horizontal axis of a training."""
    if x not in _X_LABELS:
        raise ValueError(f"x must be 'iteration' or 'time', got {x!r}.")


def name_x(ax: Axes, x: str) -> None:
    """Label the horizontal axis of a training. Iterations have whole numbers, even if there is only one."""
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel(_X_LABELS[x])
    if x == "iteration":
        low, high = ax.get_xlim()
        if high - low < 1:
            only = round((low + high) / 2)
            ax.set_xlim(only - 0.5, only + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))


def in_percent(axis: Axis) -> None:
    """Label the ticks of an axis of shares in percent, as the texts do."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(_percent_tick))


def _percent_tick(share: float, _: Any = None) -> str:
    return f"{100 * share:.6g} %"


def shortened(text: str, length: int) -> str:
    """Shorten ``text`` to ``length`` letters. The middle is left out, because names often differ at either end."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 3
    return f"{text[: length - 1 - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"
