"""GridDisplay: the scores of a grid search over two parameters."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.base import is_classifier
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils.validation import check_is_fitted

from .panels import VERMILLION, panels, shortened

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["GridDisplay"]


#: Width of a digit in units of its size, and the smallest size of numbers in points.
_LETTER, _SMALLEST_NUMBERS = 0.62, 6.0


class _Cells(NamedTuple):
    """The grid's cells: two parameters of a search, and their values in order."""

    x_key: str
    y_key: str
    x_values: list[Any]
    y_values: list[Any]

    def of(self, params: dict[str, Any]) -> tuple[int, int] | None:
        """Row and column of a setting; None if it lacks one of the parameters."""
        if self.x_key not in params or self.y_key not in params:
            return None
        return _index(params[self.y_key], self.y_values), _index(params[self.x_key], self.x_values)

    def fill(
        self, results: dict[str, Any], metric: str, lower: bool
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int] | None]:
        """Best value of each cell, its standard deviation over the splits, and the best cell of the last iteration."""
        iterations = results.get("iter", np.zeros(len(results["params"]), dtype=int))
        spread = results.get(metric.replace("mean_", "std_", 1)) if metric.startswith("mean_") else None
        mean, std = np.full((2, len(self.y_values), len(self.x_values)), np.nan)
        # In successive halving, values compare within an iteration only.
        last = np.full(mean.shape, -1)
        # If settings are equal, the last one counts.
        rows = {repr(sorted(params.items())): i for i, params in enumerate(results["params"])}
        for i in rows.values():
            cell, value, iteration = self.of(results["params"][i]), results[metric][i], iterations[i]
            if cell is None or not np.isfinite(value):
                continue
            better = value < mean[cell] if lower else value > mean[cell]
            if iteration > last[cell] or (iteration == last[cell] and better):
                mean[cell], std[cell], last[cell] = value, np.nan if spread is None else spread[i], iteration
        if last.max() < 0:
            return mean, std, None
        latest = np.where(last == last.max(), mean, np.nan)
        row, column = np.unravel_index(np.nanargmin(latest) if lower else np.nanargmax(latest), mean.shape)
        return mean, std, (int(row), int(column))


class GridDisplay:
    """Heat map of a grid search over two of its parameters, with a frame around the best cell.

    Use :meth:`from_search` to create one. Cells are evenly spaced, whatever the values. Numbers come first, in their
    order; other values follow, such as the damping "adaptive". If the grid has further parameters, each cell shows the
    best value over them, and the title says so. The colour scale ends where worse values are outliers. Cells show their
    numbers, with the standard deviation over the folds, if these fit.

    Parameters
    ----------
    mean, std : ndarray of shape (n_y, n_x)
        Values and their standard deviations over folds. Both are nan for a cell that was not evaluated or failed;
        ``std`` is also nan where there is no standard deviation.
    x_values, y_values : sequence of length n_x, n_y
        Values of the parameters.
    x_name, y_name : str, default="alpha", "damping"
        Names of the parameters.
    metric : str, default="mean_test_score"
        Label of the values.
    best_over : sequence of str, default=()
        Names of further parameters, over which ``mean`` is the best.
    lower_is_better : bool, default=False
        Whether the lowest value is the best.
    best : tuple of int, default=None
        Row and column of the cell to frame; None frames the best value.

    Attributes
    ----------
    image_ : AxesImage
    text_ : ndarray of Text, of shape (n_y, n_x)
        None where a cell has no numbers.
    best_index_ : tuple of int
        Row and column of the best cell.
    best_frame_ : Rectangle
    colorbar_ : Colorbar
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Raises
    ------
    ValueError
        If no value is finite.

    See Also
    --------
    sklearn.model_selection.ValidationCurveDisplay : Scores over one parameter.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skgn import GNRegressor
    >>> from skgn.displays import GridDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = GNRegressor((3,), l2_regularization=1e-2, n_estimators=1, random_state=0)
    >>> search = GridSearchCV(model, {"alpha": [0.5, 2], "damping": ["adaptive", 0.01]}, cv=2).fit(X[:150], y[:150])
    >>> display = GridDisplay.from_search(search)
    >>> display.mean.shape
    (2, 2)
    """

    def __init__(
        self,
        mean: np.ndarray,
        std: np.ndarray,
        x_values: Sequence[Any],
        y_values: Sequence[Any],
        *,
        x_name: str = "alpha",
        y_name: str = "damping",
        metric: str = "mean_test_score",
        best_over: Sequence[str] = (),
        lower_is_better: bool = False,
        best: tuple[int, int] | None = None,
    ) -> None:
        if not np.isfinite(mean).any():
            raise ValueError(f"There is no finite {metric} to draw: every fit failed, or the metric was not computed.")
        self.mean, self.std, self.x_values, self.y_values = mean, std, list(x_values), list(y_values)
        self.x_name, self.y_name, self.metric = x_name, y_name, metric
        self.best_over, self.lower_is_better, self.best = list(best_over), lower_is_better, best

    @classmethod
    def from_search(
        cls,
        search: Any,
        *,
        x: str = "alpha",
        y: str = "damping",
        metric: str = "mean_test_score",
        ax: Any = None,
        cmap: Any = None,
        **kw: Any,
    ) -> Self:
        """Draw a fitted search.

        Parameters
        ----------
        search : fitted GridSearchCV
            Another search of scikit-learn also works; combinations that it did not try stay empty. In successive
            halving, a cell shows its last iteration, and only cells of the final iteration can be the best. Values on
            different resources do not compare. For the search's own score the frame marks the setting that the search
            has chosen.
        x, y : str, default="alpha", "damping"
            Two parameters of the grid. The parameter of a pipeline step, such as ``gnregressor__alpha``, is found by
            the end of its name.
        metric : str, default="mean_test_score"
            A key of ``cv_results_``. The best score is the largest. The best time, rank or standard deviation is the
            smallest.
        ax : matplotlib Axes, default=None
            None makes a new figure.
        cmap : str or Colormap, default=None
            None is "cividis", which looks the same to the colour-blind. It is reversed if the smallest value is the
            best.
        **kw : dict
            Handed to :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : GridDisplay

        Raises
        ------
        NotFittedError
            If the search is not fitted.
        TypeError
            If ``search`` is not a search.
        ValueError
            If a parameter is not in the grid, or several end with it, or the metric is not in ``cv_results_``.
        """
        if not isinstance(search, BaseSearchCV):
            raise TypeError(f"search must be a fitted GridSearchCV, or a search like it; got {type(search).__name__}.")
        check_is_fitted(search)
        results = search.cv_results_
        _check_metric(metric, results)
        names = sorted({name for params in results["params"] for name in params})
        x_key, y_key = _parameter("x", x, names), _parameter("y", y, names)
        if x_key == y_key:
            raise ValueError(f"x and y are both {x_key!r}; choose two of {names}.")
        lower = not metric.startswith(("mean_test_", "mean_train_", "split"))
        x_values, y_values = (
            _sorted([params[key] for params in results["params"] if key in params]) for key in (x_key, y_key)
        )
        cells = _Cells(x_key, y_key, x_values, y_values)
        mean, std, best = cells.fill(results, metric, lower)
        chosen = results["params"][search.best_index_] if _is_own_score(metric, search) else {}
        display = cls(
            mean,
            std,
            x_values,
            y_values,
            x_name=_ending(x_key),
            y_name=_ending(y_key),
            metric=_label(metric, search),
            best_over=[_ending(name) for name in names if name not in (x_key, y_key)],
            lower_is_better=lower,
            best=cells.of(chosen) or best,
        )
        return display.plot(ax, cmap=cmap, **kw)

    def plot(self, ax: Any = None, *, cmap: Any = None, **kw: Any) -> Self:
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        cmap : str or Colormap, default=None
            None is "cividis". It is reversed if the smallest value is the best.
        **kw : dict
            Handed to :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        self : GridDisplay
        """
        self.ax_ = ax = panels("GridDisplay.plot", ax, 1, 1, 1)[1][0]
        self.figure_ = ax.figure.figure
        from matplotlib.font_manager import FontProperties
        from matplotlib.patches import Rectangle

        limits = {} if "norm" in kw else self._colour_limits()
        # The best is bright.
        style = {"cmap": cmap or ("cividis_r" if self.lower_is_better else "cividis"), "aspect": "auto"}
        style |= {"origin": "lower"} | limits
        self.image_ = ax.imshow(np.ma.masked_invalid(self.mean), **(style | kw))
        ax.set_facecolor("0.9")
        values = self.mean[np.isfinite(self.mean)]
        below, above = (float(values.min()) < self.image_.norm.vmin, float(values.max()) > self.image_.norm.vmax)
        extend = {(True, False): "min", (False, True): "max", (True, True): "both"}.get((below, above), "neither")
        self.colorbar_ = ax.figure.colorbar(self.image_, ax=ax, label=self.metric, extend=extend)
        columns, rows = [_short(value) for value in self.x_values], [_short(value) for value in self.y_values]
        medium, (width, height) = FontProperties(size="medium").get_size_in_points(), self._cell()
        letters = 1 + max(map(len, columns))
        ax.set_xticks(range(len(columns)), columns, fontsize=min(medium, width / letters / _LETTER))
        ax.set_yticks(range(len(rows)), rows, fontsize=min(medium, height / 1.2))
        ax.set(xlabel=self.x_name, ylabel=self.y_name)
        best = np.nanargmin(self.mean) if self.lower_is_better else np.nanargmax(self.mean)
        row, column = self.best or (int(i) for i in np.unravel_index(best, self.mean.shape))
        self.best_index_ = (row, column)
        frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=VERMILLION, linewidth=3, zorder=3)
        frame.set_clip_on(False)
        self.best_frame_ = ax.add_patch(frame)
        self._write_numbers(ax)
        ax.set_title(self._title(), fontsize="medium")
        return self

    def _title(self) -> str:
        row, column = self.best_index_
        at = f"{self.x_name}={_short(self.x_values[column])}, {self.y_name}={_short(self.y_values[row])}"
        lines = [f"best at {at}"]
        if self.best_over:
            lines.append(shortened(f"each cell: best over {', '.join(self.best_over)}", 60))
        return "\n".join(lines)

    def _cell(self) -> tuple[float, float]:
        """Return the width and height of a cell in points."""
        box, point = self.ax_.get_window_extent(), self.figure_.dpi / 72
        return box.width / point / self.mean.shape[1], box.height / point / self.mean.shape[0]

    def _colour_limits(self) -> dict[str, float]:
        """Limit the colours on the side of the worse values, at J. W. Tukey's fence beyond the quartile there."""
        sign = -1 if self.lower_is_better else 1
        values = sign * self.mean[np.isfinite(self.mean)]
        lower, upper = np.quantile(values, [0.25, 0.75])
        worst = sign * float(values[values >= lower - 1.5 * (upper - lower)].min())
        return {"vmax" if self.lower_is_better else "vmin": worst}

    def _write_numbers(self, ax: Any) -> None:
        """Write numbers into the cells, with the spreads below them, as far as they fit."""
        self.text_ = np.full(self.mean.shape, None, dtype=object)
        values = self.mean[np.isfinite(self.mean)]
        spread = float(np.ptp(values)) or abs(float(values[0])) or 1.0
        decimals = int(np.clip(1 - np.floor(np.log10(spread)), 0, 4))
        width, height = self._cell()
        numbers = [[f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}") for value in row] for row in self.mean]
        spreads = [[f"±{value:.{decimals}f}" if np.isfinite(value) else "" for value in row] for row in self.std]
        letters = 1 + max(len(text) for rows in (numbers, spreads) for row in rows for text in row)
        size = min(10.0, width / letters / _LETTER)
        two = size >= _SMALLEST_NUMBERS and height > 2.8 * size and any(text for row in spreads for text in row)
        if not two:
            letters = 1 + max(len(text) for row in numbers for text in row)
            size = min(10.0, width / letters / _LETTER, height / 1.4)
        if size < _SMALLEST_NUMBERS:
            return
        for i, j in zip(*np.nonzero(np.isfinite(self.mean)), strict=True):
            red, green, blue, _ = self.image_.cmap(self.image_.norm(self.mean[i, j]))
            # Luminance of Rec. 709.
            dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.45
            text = "\n".join(filter(None, [numbers[i][j], spreads[i][j]])) if two else numbers[i][j]
            weight = "bold" if (i, j) == self.best_index_ else "normal"
            self.text_[i, j] = ax.text(
                j, i, text, ha="center", va="center", fontsize=size, color="white" if dark else "black", weight=weight
            )


def _check_metric(metric: str, results: dict[str, Any]) -> None:
    if metric not in results or metric == "params" or metric.startswith("param_"):
        known = [key for key in results if key.startswith("mean_")]
        raise ValueError(f"metric={metric!r} is not in cv_results_; it has {known} and their std_, split and rank.")


def _is_own_score(metric: str, search: Any) -> bool:
    """Whether the search has chosen its best setting by this metric."""
    by = search.refit if search.multimetric_ else "score"
    return hasattr(search, "best_index_") and metric == f"mean_test_{by}"


def _parameter(argument: str, name: str, names: list[str]) -> str:
    """Find the parameter of the grid with this name, or with this name after a step's prefix."""
    found = [key for key in names if key == name] or [key for key in names if key.endswith(f"__{name}")]
    if len(found) != 1:
        what = "is not a parameter of the search" if not found else f"may be any of {found}: give it in full"
        raise ValueError(f"{argument}={name!r} {what}; the parameters are {names}.")
    return found[0]


def _ending(name: str) -> str:
    return name.rsplit("__", 1)[-1]


def _sorted(values: list[Any]) -> list[Any]:
    """Sort different values: numbers in their order, then others in the order of the grid."""
    different: list[Any] = []
    for value in values:
        if not any(_same(value, other) for other in different):
            different.append(value)
    numbers = sorted(value for value in different if _is_number(value))
    return numbers + [value for value in different if not _is_number(value)]


def _index(value: Any, values: list[Any]) -> int:
    return next(i for i, other in enumerate(values) if _same(value, other))


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) if _is_number(one) and _is_number(other) else repr(one) == repr(other)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _short(value: Any) -> str:
    if not _is_number(value):
        return shortened(str(value), 16)
    if value != 0 and not 1e-3 <= abs(value) < 1e4:
        return np.format_float_scientific(value, precision=2, trim="-", exp_digits=1)
    return np.format_float_positional(value, precision=4, fractional=False, trim="-")


def _label(metric: str, search: Any) -> str:
    """Put ``metric`` in words, with the name of the score."""
    words = metric.replace("_", " ")
    if metric.endswith("_time"):
        return f"{words} (s)"
    if metric.endswith("_score") and not metric.startswith("rank"):
        default = "accuracy" if is_classifier(search.estimator) else "R²"
        score = default if search.scoring is None else search.scoring
        if isinstance(score, str):
            return f"{words} ({score})"
    return words
