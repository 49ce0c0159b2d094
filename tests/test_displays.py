import copy
import io
import math
import re
import sys
from itertools import pairwise
from statistics import NormalDist
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skgn import GNClassifier, GNRegressor
from skgn.displays import ConvergenceDisplay, GridDisplay, RelevanceDisplay, SpectrumDisplay, UncertaintyDisplay

matplotlib.use("Agg")

PLAIN = {
    "hidden_layer_sizes": (3,),
    "l2_regularization": 1e-3,
    "n_estimators": 1,
    "max_iter": 300,
    "tol": 1e-2,
    "random_state": 0,
}

#: Evidence, which has a posterior and switches features off.
LINEAR = {"hidden_layer_sizes": (), "n_estimators": 1, "random_state": 0}

FEATURES = ["first", "noise", "second", "third"]

_RNG = np.random.default_rng(0)
X = pd.DataFrame(_RNG.normal(size=(80, 4)), columns=FEATURES)
Y = (2 * X["first"] + X["second"] - 0.5 * X["third"] + 0.3 * _RNG.normal(size=80)).to_numpy()

GRID = {
    "gnregressor__alpha": [2.0, 0.5, 1.0],
    "gnregressor__damping": [1e-3, "adaptive"],
    "gnregressor__l2_regularization": [1e-3, 1e-1],
}


def with_eigenvalues(model):
    """A model with eigenvalues in its history, as with every scikit-learn: a SpectrumMonitor needs version 1.9."""
    n = len(model.history_["time"])
    model.history_ |= {"min_eigenvalue": np.geomspace(1e-2, 1e-18, n), "max_eigenvalue": np.geomspace(2, 5, n)}
    return model


@pytest.fixture(scope="module")
def models():
    """One fit of every kind that the displays are drawn from."""
    plain = make_pipeline(StandardScaler(), GNRegressor(**PLAIN))
    return SimpleNamespace(
        fixed=GNRegressor(**PLAIN).fit(X, Y),
        recorded=with_eigenvalues(GNRegressor(**PLAIN).fit(X, Y)),
        evidence=GNRegressor(**LINEAR).fit(X, Y),
        classifier=GNClassifier(**PLAIN, early_stopping=True).fit(X, Y > 0),
        pipeline=make_pipeline(StandardScaler(), GNRegressor(**LINEAR)).fit(X, Y),
        search=GridSearchCV(plain, GRID, cv=2).fit(X, Y),
    )


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


#: How each display is drawn, by its name and number of panels.
DRAW = {
    "ConvergenceDisplay": (4, lambda m, **kw: ConvergenceDisplay.from_estimator(m.fixed, **kw)),
    "SpectrumDisplay": (1, lambda m, **kw: SpectrumDisplay.from_estimator(m.recorded, **kw)),
    "RelevanceDisplay": (1, lambda m, **kw: RelevanceDisplay.from_estimator(m.evidence, **kw)),
    "UncertaintyDisplay": (4, lambda m, **kw: UncertaintyDisplay.from_estimator(m.evidence, X, Y, **kw)),
    "GridDisplay": (1, lambda m, **kw: GridDisplay.from_search(m.search, **kw)),
}

every_display = pytest.mark.parametrize("name", DRAW)


def panels(display):
    return list(getattr(display, "axes_", [display.ax_]))


def assert_drawn(values, recorded):
    """Finite values are drawn as they are; there is nothing where they are not."""
    np.testing.assert_array_equal(np.asarray(values, dtype=float), np.where(np.isfinite(recorded), recorded, np.nan))


class TestEveryDisplay:
    @every_display
    def test_without_matplotlib_the_error_says_what_to_install(self, name, models, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=f"{name}.plot requires matplotlib.*pip install"):
            DRAW[name][1](models)

    @every_display
    @pytest.mark.parametrize("layout", [None, "constrained", "by hand"])
    def test_fits_into_axes_of_6_by_4_inches_without_overlap(self, name, layout, models):
        if layout == "by hand":
            figure = plt.figure(figsize=(6, 4))
            ax = figure.add_axes((0.2, 0.15, 0.7, 0.7))
        else:
            figure, ax = plt.subplots(
                figsize=(6, 4), layout=layout, gridspec_kw={"left": 0.2} if layout is None else {}
            )
        display = DRAW[name][1](models, ax=ax)
        figure.canvas.draw()
        boxes = [panel.get_tightbbox() for panel in panels(display)]
        assert len(boxes) == DRAW[name][0]
        for i, box in enumerate(boxes):
            assert min(box.x0, box.y0) >= -1 and box.x1 <= 601 and box.y1 <= 401
            assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert all(panel.get_xlabel() and panel.get_ylabel() for panel in panels(display))
        assert display.figure_ is figure

    @every_display
    def test_makes_its_own_figure_and_can_be_drawn_again(self, name, models):
        display = DRAW[name][1](models)
        first = display.figure_
        assert display.plot() is display
        assert display.figure_ is not first

    @every_display
    def test_in_a_subfigure_the_figure_is_the_one_that_can_be_saved(self, name, models):
        figure = plt.figure(layout="constrained")
        display = DRAW[name][1](models, ax=figure.subfigures(1, 2)[1].subplots())
        assert display.figure_ is figure
        display.figure_.savefig(io.BytesIO())

    @every_display
    def test_takes_an_array_of_as_many_axes_as_panels(self, name, models):
        n, draw = DRAW[name]
        _, axes = plt.subplots(1, n + 1)
        assert panels(draw(models, ax=axes[:n])) == list(axes[:n])
        with pytest.raises(ValueError, match=f"ax must be one matplotlib Axes or an array of {n}"):
            draw(models, ax=axes)

    @pytest.mark.parametrize("name", ["ConvergenceDisplay", "SpectrumDisplay", "UncertaintyDisplay"])
    def test_lines_take_short_names_of_properties(self, name, models):
        display = DRAW[name][1](models, c="r", ls=":", lw=3)
        styles = {(line.get_color(), line.get_linestyle(), line.get_linewidth()) for line in panels(display)[0].lines}
        assert ("r", ":", 3) in styles

    @pytest.mark.parametrize("display", [ConvergenceDisplay, SpectrumDisplay, RelevanceDisplay, UncertaintyDisplay])
    @pytest.mark.parametrize(
        ("estimator", "error", "message"),
        [
            (LinearRegression(), TypeError, "must be a fitted GNRegressor or GNClassifier.*got LinearRegression"),
            (make_pipeline(LinearRegression()), TypeError, "got LinearRegression within a Pipeline"),
            (GNRegressor(), NotFittedError, "not fitted"),
            (make_pipeline(StandardScaler(), GNRegressor()), NotFittedError, "not fitted"),
            (GridSearchCV(GNRegressor(), {"alpha": [1]}), NotFittedError, "not fitted"),
        ],
    )
    def test_other_and_unfitted_estimators_are_refused(self, display, estimator, error, message):
        data = (X, Y) if display is UncertaintyDisplay else ()
        with pytest.raises(error, match=message):
            display.from_estimator(estimator, *data)

    def test_a_search_without_refit_has_no_estimator(self):
        search = GridSearchCV(GNRegressor(**LINEAR), {"alpha": [1.0]}, cv=2, refit=False).fit(X, Y)
        with pytest.raises(ValueError, match=r"refit=False.*search with refit=True"):
            ConvergenceDisplay.from_estimator(search)


class TestConvergence:
    def test_lines_are_the_history(self, models):
        quantities = ["objective", "gain_ratio", "log_evidence", "step_norm"]
        estimators = {"one": models.fixed, "two": models.evidence, "three": models.classifier, "four": models.pipeline}
        display = ConvergenceDisplay.from_estimator(estimators, quantities=quantities)
        for i, quantity in enumerate(quantities):
            for j, estimator in enumerate([*list(estimators.values())[:3], models.pipeline[-1]]):
                recorded = estimator.history_[quantity]
                assert_drawn(display.lines_[i, j].get_ydata(), recorded)
                assert_drawn(display.lines_[i, j].get_xdata(), np.arange(len(recorded)))
        styles = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in display.lines_[0]}
        assert len(styles) == 4
        assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == list(estimators)

    def test_time_is_in_seconds(self, models):
        display = ConvergenceDisplay.from_estimator(models.fixed, quantities="loss", x="time")
        assert_drawn(display.lines_[0, 0].get_xdata(), models.fixed.history_["time"])
        assert display.ax_.get_xlabel() == "time (s)"

    def test_a_search_shows_its_best_estimator(self, models):
        display = ConvergenceDisplay.from_estimator(models.search, quantities=["objective"])
        best = models.search.best_estimator_[-1]
        assert_drawn(display.lines_[0, 0].get_ydata(), best.history_["objective"])

    @pytest.mark.parametrize(
        ("values", "scale"),
        [
            ([1.0, 0.5, 0.2], "linear"),
            ([1.0, 0.1, 0.01], "log"),
            ([0.0, 1.0, 100.0], "log"),  # a distance from the start
            ([0.0, 0.0, 0.0], "linear"),
            ([-1.0, 0.1, 10.0], "linear"),
            ([np.nan, np.nan, np.nan], "linear"),
        ],
    )
    def test_positive_values_over_decades_have_a_logarithmic_scale(self, values, scale):
        display = ConvergenceDisplay({"a": {"loss": np.array(values)}}, quantities=["loss"]).plot()
        display.figure_.canvas.draw()
        assert display.ax_.get_yscale() == scale

    def test_the_log_evidence_is_shown_where_training_ends(self):
        values = np.array([-np.inf, -5761.0, -575.0, -539.0, -514.0, -503.0, -493.0, -492.0, -491.0, -491.5])
        histories = {"evidence": {"log_evidence": values}, "a fixed prior": {"log_evidence": np.full(3, np.nan)}}
        display = ConvergenceDisplay(histories, quantities=["log_evidence"]).plot()
        low, high = display.ax_.get_ylim()
        assert display.ax_.get_yscale() == "linear"
        assert -700 < low < -539 and -491 < high < -480

    def test_one_entry_and_none(self, models):
        history = {key: values[:1] for key, values in models.fixed.history_.items()}
        display = ConvergenceDisplay({"start": history}, quantities=["objective", "damping"]).plot()
        display.figure_.canvas.draw()
        low, high = display.axes_[0].get_xlim()
        assert [tick for tick in display.axes_[0].get_xticks() if low <= tick <= high] == [0]
        assert [text.get_text() for text in display.axes_[1].texts] == ["not known"]
        ConvergenceDisplay.from_estimator(models.fixed, quantities=["objective", "damping"], ax=display.axes_)
        assert not display.axes_[1].texts

    def test_a_quantity_may_be_in_one_history_only(self, models):
        both = [models.fixed, models.classifier]
        display = ConvergenceDisplay.from_estimator(both, quantities=["validation_loss"])
        assert display.lines_[0, 0] is None
        display = ConvergenceDisplay.from_estimator(both, quantities=["validation_loss", "loss"])
        assert display.lines_[0, 1].get_color() == display.lines_[1, 1].get_color()
        names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        assert names == ["GNRegressor 1", "GNClassifier 2"]
        assert_drawn(display.lines_[0, 1].get_ydata(), models.classifier.history_["validation_loss"])

    def test_a_second_display_is_drawn_beside_the_first(self, models):
        first = ConvergenceDisplay.from_estimator(models.fixed, name="first")
        second = ConvergenceDisplay.from_estimator(models.evidence, name="second", ax=first.axes_)
        assert second.ax_ is first.ax_
        assert first.lines_[0, 0].get_color() != second.lines_[0, 0].get_color()
        assert [text.get_text() for text in first.ax_.get_legend().get_texts()] == ["first", "second"]

    def test_lines_take_the_users_style(self, models):
        display = ConvergenceDisplay.from_estimator(models.fixed, color="red", linewidth=5)
        assert {(line.get_color(), line.get_linewidth()) for line in display.lines_.flat} == {("red", 5)}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"x": "epoch"}, "x must be 'iteration' or 'time', got 'epoch'"),
            ({"quantities": ["accuracy"]}, r"'accuracy', which is not in history_; it has \['damping'"),
            ({"quantities": ["riemannian_gradient_norm"]}, r"it needs the callback skgn\.spectrum\.SpectrumMonitor"),
            ({"quantities": ["validation_loss"]}, "needs early_stopping=True"),
            ({"quantities": []}, "quantities is empty"),
        ],
    )
    def test_unknown_options_are_refused_before_anything_is_drawn(self, options, message, models):
        with pytest.raises(ValueError, match=message):
            ConvergenceDisplay.from_estimator(models.fixed, **options)
        assert not plt.get_fignums()

    @pytest.mark.parametrize(
        ("estimators", "name", "message"),
        [({}, None, "no estimator"), ([], None, "no estimator"), ([GNRegressor()], "mine", "single estimator")],
    )
    def test_names_and_numbers_of_estimators(self, estimators, name, message):
        with pytest.raises(ValueError, match=message):
            ConvergenceDisplay.from_estimator(estimators, name=name)


class TestSpectrum:
    @pytest.mark.parametrize("x", ["iteration", "time"])
    def test_lines_are_the_history(self, x, models):
        history = models.recorded.history_
        display = SpectrumDisplay.from_estimator(models.recorded, x=x)
        assert_drawn(display.max_line_.get_ydata(), history["max_eigenvalue"])
        assert_drawn(display.damping_line_.get_ydata(), history["damping"])
        rounding = 2.0**-52 * history["max_eigenvalue"]
        assert_drawn(display.min_line_.get_ydata(), np.maximum(history["min_eigenvalue"], rounding))
        times = history["time"] if x == "time" else np.arange(len(history["time"]))
        assert_drawn(display.min_line_.get_xdata(), times)

    def test_eigenvalues_that_are_zero_to_rounding_are_drawn_there(self):
        largest, smallest = np.array([1.0, 10.0, 10.0]), np.array([1e-3, 1e-20, -1e-17])
        display = SpectrumDisplay(np.arange(3), smallest, largest, np.zeros(3)).plot()
        np.testing.assert_allclose(display.min_line_.get_ydata(), [1e-3, 2.22e-15, 2.22e-15], rtol=1e-3)
        assert display.rounding_line_ is not None
        assert "damping (0)" in [text.get_text() for text in display.ax_.get_legend().get_texts()]

    def test_without_a_recorded_spectrum_the_error_says_how_to_get_one(self, models):
        with pytest.raises(ValueError, match=r"fitted without skgn\.spectrum\.SpectrumMonitor.*fit it again with"):
            SpectrumDisplay.from_estimator(models.evidence)

    def test_x_is_checked(self, models):
        with pytest.raises(ValueError, match="x must be 'iteration' or 'time'"):
            SpectrumDisplay.from_estimator(models.recorded, x="epoch")


class TestRelevance:
    def test_bars_are_the_shares_longest_first(self, models):
        display = RelevanceDisplay.from_estimator(models.evidence)
        relevance = dict(zip(FEATURES, models.evidence.feature_relevance_, strict=True))
        labels = [label.get_text() for label in display.ax_.get_yticklabels()]
        widths = [bar.get_width() for bar in display.bars_]
        assert labels == sorted(FEATURES, key=lambda name: -relevance[name])
        assert widths == [relevance[name] for name in labels]
        # The first is on top.
        assert display.ax_.yaxis_inverted()

    def test_switched_off_features_say_so(self, models):
        assert models.evidence.feature_relevance_[1] == 0
        display = RelevanceDisplay.from_estimator(models.evidence)
        assert "1 of 4 features switched off" in display.ax_.get_title()
        assert [text.get_text() for text in display.ax_.texts][-1] == "switched off"

    @pytest.mark.parametrize("on", [1, 5, 30])
    def test_switched_off_features_share_a_line(self, on):
        relevance = np.zeros(60)
        relevance[10 : 10 + on] = np.arange(1, on + 1) / np.arange(1, on + 1).sum()
        display = RelevanceDisplay(relevance, [f"column {j}" for j in range(60)]).plot()
        ax, bars = display.ax_, min(on, 20)
        assert len(display.bars_) == len(display.order_) == bars
        assert [bar.get_width() for bar in display.bars_] == sorted(relevance[relevance > 0])[::-1][:bars]
        labels = [label.get_text() for label in ax.get_yticklabels()]
        assert len(labels) == bars + 1 and labels[-1] == f"{60 - on} features"
        text = ax.texts[-1].get_text()
        assert text == "switched off: " + ", ".join(f"column {j}" for j in range(5)) + ", ..."
        assert ax.get_title().startswith(f"{60 - on} of 60 features switched off")
        assert ("20 of 60 shown, the others have" in ax.get_title()) == (on > 20)
        # The line is inside of the picture.
        display.figure_.canvas.draw()
        box, frame = ax.texts[-1].get_window_extent(), ax.get_window_extent()
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1 and frame.y0 <= box.y0 < box.y1 <= frame.y1

    def test_all_switched_off_names_are_given_where_they_are_few(self):
        display = RelevanceDisplay(np.array([0.0, 1.0, 0.0]), ["a", "b", "a name that goes on and on"]).plot()
        assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["b", "2 features"]
        assert display.ax_.texts[-1].get_text().startswith("switched off: a, a nam")

    @pytest.mark.parametrize("layout", [None, "constrained"])
    def test_names_of_what_is_switched_off_take_no_room_from_the_bars(self, layout):
        names = [f"feature number {j} of a table of long names, and another {j}" for j in range(60)]
        ax = None if layout else plt.subplots(gridspec_kw={"left": 0.4})[1]
        display = RelevanceDisplay(np.eye(60)[3], names).plot(ax)
        display.figure_.canvas.draw()
        box, frame = display.ax_.texts[-1].get_window_extent(), display.ax_.get_window_extent()
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1 and frame.width > 300
        assert display.ax_.texts[-1].get_text().startswith("switched off: featu")
        assert display.ax_.texts[-1].get_text().endswith(", ...")

    def test_what_is_left_out_is_summed_up(self, models):
        display = RelevanceDisplay.from_estimator(models.evidence, max_features=1, name="diabetes")
        rest = 1 - models.evidence.feature_relevance_.max()
        assert len(display.bars_) == 1
        assert f"1 of 4 shown, the others have {100 * rest:.0f} % together" in display.ax_.get_title()
        assert "diabetes" in display.ax_.get_title()

    @pytest.mark.parametrize(
        ("step", "frame", "names"),
        [
            (StandardScaler(), True, FEATURES),
            (StandardScaler(), False, ["x0", "x1", "x2", "x3"]),
            (FunctionTransformer(), False, ["x0", "x1", "x2", "x3"]),  # does not name its outputs
            (None, False, ["x0", "x1", "x2", "x3"]),
            (None, True, FEATURES),
        ],
    )
    def test_names_of_a_pipeline(self, step, frame, names):
        model = make_pipeline(*([] if step is None else [step]), GNRegressor(**LINEAR))
        model.fit(X if frame else X.to_numpy(), Y)
        labels = [label.get_text() for label in RelevanceDisplay.from_estimator(model).ax_.get_yticklabels()]
        assert sorted(labels) == sorted(names)

    def test_many_bars_get_a_taller_figure_and_long_names_lose_their_middle(self):
        names = [f"{i}: a name {'that goes on and on ' * 5}, {i}" for i in range(60)]
        display = RelevanceDisplay(np.full(60, 1 / 60), names, max_features=60).plot()
        display.figure_.canvas.draw()
        boxes = [label.get_window_extent() for label in display.ax_.get_yticklabels()]
        assert all(above.y0 >= below.y1 for above, below in pairwise(boxes))
        texts = [label.get_text() for label in display.ax_.get_yticklabels()]
        assert len(set(texts)) == 60 and max(map(len, texts)) <= 30 and all("…" in text for text in texts)
        assert display.ax_.get_window_extent().width > 300

    @pytest.mark.parametrize("max_features", [0, -1, 2.5, "all", True])
    def test_max_features_is_checked(self, max_features, models):
        with pytest.raises(ValueError, match=f"max_features must be an integer of at least 1, got {max_features!r}"):
            RelevanceDisplay.from_estimator(models.evidence, max_features=max_features)

    def test_bars_take_short_names_of_properties(self, models):
        bar = RelevanceDisplay.from_estimator(models.evidence, lw=3, ec="r", linestyle=":").bars_[0]
        assert (bar.get_linewidth(), bar.get_edgecolor(), bar.get_linestyle()) == (3, (1, 0, 0, 1), ":")

    def test_names_are_as_many_as_features(self):
        with pytest.raises(ValueError, match="names has 1 entries; there are 2 features"):
            RelevanceDisplay(np.array([0.5, 0.5]), ["one"])


class TestUncertainty:
    @pytest.mark.parametrize("kind", ["evidence", "pipeline"])
    def test_coverage_is_the_count_of_observations_inside(self, kind, models):
        estimator = getattr(models, kind)
        display = UncertaintyDisplay.from_estimator(estimator, X, Y, level=0.77)
        mean, std = estimator.predict(X, return_std=True)
        # The probability within so many standard deviations, by the error function.
        within = np.array([math.erf(abs(y - m) / s / math.sqrt(2)) for y, m, s in zip(Y, mean, std, strict=True)])
        counts = [sum(within <= level) / len(Y) for level in display.nominal_]
        np.testing.assert_allclose(display.observed_, counts)
        np.testing.assert_array_equal(display.coverage_line_.get_ydata(), display.observed_)
        assert 0.77 in display.nominal_
        np.testing.assert_array_equal(display.inside, within <= 0.77)
        np.testing.assert_array_equal(np.sort(display.outside_points_.get_ydata()), np.sort(Y[within > 0.77]))

    def test_intervals_are_normal_quantiles_around_predictions(self):
        display = UncertaintyDisplay.from_predictions([1.0, 5.0], [2.0, 3.0], [1.0, 0.5], level=0.95)
        ends = [segment[:, 1] for segment in display.intervals_.get_segments()]
        np.testing.assert_allclose(ends, [[2 - 1.95996, 2 + 1.95996], [3 - 0.97998, 3 + 0.97998]], atol=1e-5)
        assert display.inside.tolist() == [True, False]

    def test_exact_intervals_are_within_what_chance_explains(self):
        std = np.random.default_rng(0).uniform(0.5, 2, size=500)
        y = std * [NormalDist().inv_cdf((i + 0.5) / 500) for i in range(500)]
        exact = UncertaintyDisplay.from_predictions(y, np.zeros(500), std)
        band = exact.chance_.get_paths()[0]
        assert band.contains_points(np.column_stack([exact.nominal_, exact.observed_])).all()
        narrow = UncertaintyDisplay.from_predictions(y, np.zeros(500), std / 2)
        assert not band.contains_points(np.column_stack([narrow.nominal_, narrow.observed_])).any()

    def test_of_many_points_a_part_is_drawn_and_all_are_counted(self):
        rng = np.random.default_rng(0)
        y = rng.normal(size=5000)
        display = UncertaintyDisplay.from_predictions(y, np.zeros(5000), np.ones(5000))
        drawn = len(display.inside_points_.get_ydata()) + len(display.outside_points_.get_ydata())
        assert drawn == 1000 and "1,000 of 5,000" in display.axes_[0].get_ylabel()
        assert display.observed_[display.nominal_ == 0.9] == np.mean(np.abs(y) <= 1.6448536)

    def test_a_search_predicts_by_its_best_estimator(self):
        search = GridSearchCV(GNRegressor(**LINEAR), {"alpha": [1.0]}, cv=2).fit(X, Y)
        display = UncertaintyDisplay.from_estimator(search, X, Y)
        np.testing.assert_array_equal(display.interval, search.best_estimator_.predict_interval(X))

    def test_classifiers_are_referred_to_scikit_learn(self, models):
        with pytest.raises(TypeError, match=r"use sklearn\.calibration\.CalibrationDisplay"):
            UncertaintyDisplay.from_estimator(models.classifier, X, Y > 0)

    def test_each_output_has_its_own_panels(self):
        Y2 = np.column_stack([Y, 1 - 3 * Y**2])
        model = GNRegressor(**LINEAR).fit(X, Y2)
        both = UncertaintyDisplay.from_estimator(model, X, Y2)
        assert both.axes_.shape == (2, 4) and both.by_width_.shape == (3, 2)
        for i in range(2):
            mean, std = (values[:, i] for values in model.predict(X, return_std=True))
            alone = UncertaintyDisplay.from_predictions(Y2[:, i], mean, std)
            np.testing.assert_allclose(both.observed_[:, i], alone.observed_)
            np.testing.assert_allclose(both.by_width_[:, i], alone.by_width_)
            np.testing.assert_allclose(
                [bar.get_height() for bar in both.histogram_[i]], [bar.get_height() for bar in alone.histogram_]
            )
            assert both.axes_[i, 0].get_xlabel() == f"predicted y {i}"

    def test_a_target_of_one_column_is_drawn_as_one_without_its_axis(self):
        flat, column = (GNRegressor(**LINEAR).fit(X, y) for y in (Y, Y[:, None]))
        expected = UncertaintyDisplay.from_estimator(flat, X, Y)
        for y in (Y, Y[:, None]):
            display = UncertaintyDisplay.from_estimator(column, X, y)
            assert display.axes_.shape == (4,)
            np.testing.assert_array_equal(display.interval, expected.interval)
            np.testing.assert_array_equal(display.by_width_, expected.by_width_)

    def test_a_target_of_other_columns_is_refused_with_both_shapes(self):
        Y2 = np.column_stack([Y, Y])
        for fitted, y in ((Y, Y2), (Y2, Y)):
            model = GNRegressor(**LINEAR).fit(X, fitted)
            with pytest.raises(
                ValueError, match=re.escape(f"y has shape {y.shape}; predictions for X have {fitted.shape}.")
            ):
                UncertaintyDisplay.from_estimator(model, X, y)

    def test_widths_and_histogram_tell_which_noise_is_not_the_same_everywhere(self):
        rng = np.random.default_rng(0)
        scale = np.repeat([0.5, 1.0, 2.0], 3000)
        display = UncertaintyDisplay.from_predictions(scale * rng.normal(size=9000), np.zeros(9000), np.sqrt(scale))
        expected = [
            math.erf(NormalDist().inv_cdf(0.95) * w / s / math.sqrt(2))
            for w, s in ((0.5**0.5, 0.5), (1, 1), (2**0.5, 2))
        ]
        np.testing.assert_allclose(display.by_width_, expected, atol=0.03)
        np.testing.assert_array_equal(display.width_line_.get_ydata(), display.by_width_)
        # Of normal observations with twice the predicted deviation, tenths by the normal distribution.
        wide = UncertaintyDisplay.from_predictions(2 * scale * rng.normal(size=9000), np.zeros(9000), scale)
        tenths = np.diff([NormalDist().cdf(NormalDist().inv_cdf(p) / 2) for p in np.arange(1, 10) / 10])
        np.testing.assert_allclose([bar.get_height() / 10 for bar in wide.histogram_][1:-1], tenths, atol=0.015)

    @pytest.mark.parametrize("loss", ["poisson", "gamma", "cauchy"])
    def test_every_distribution_has_a_picture(self, loss):
        rng = np.random.default_rng(0)
        x = rng.uniform(-1, 1, (600, 1))
        rate = np.exp(1 + x[:, 0])
        draw = {"poisson": rng.poisson, "gamma": lambda m: m * rng.gamma(4, size=600) / 4}
        y = draw.get(loss, lambda m: m + rng.standard_cauchy(600))(rate).astype(float)
        model = GNRegressor((), loss=loss, n_estimators=1, random_state=0).fit(x[:300], y[:300])
        display = UncertaintyDisplay.from_estimator(model, x[300:], y[300:])
        assert np.abs(display.observed_ - display.nominal_).max() < 0.11
        assert np.ptp([bar.get_height() for bar in display.histogram_]) < 1.1

    def test_without_a_deviation_only_what_is_equal_is_inside(self):
        display = UncertaintyDisplay.from_predictions([1.0, 2.0, 3.0], [1.0, 2.5, 2.5], [0.0, 0.0, 0.0])
        assert display.inside.tolist() == [True, False, False] and display.probability.tolist() == [0.5, 0, 1]

    def test_what_has_no_distribution_is_refused(self):
        model = GNRegressor((), loss="quantile", n_estimators=1, max_iter=500, random_state=0).fit(X, Y)
        with pytest.raises(ValueError, match="a predicted distribution has no meaning here: a quantile"):
            UncertaintyDisplay.from_estimator(model, X, Y)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            UncertaintyDisplay.from_estimator(GNRegressor(**LINEAR).fit(X, Y), X, Y[1:])
        several = GNRegressor((), loss="quantile", quantile=[0.1, 0.9], n_estimators=1, random_state=0).fit(X, Y)
        with pytest.raises(ValueError, match="Quantiles are no distributions, and are not drawn"):
            UncertaintyDisplay.from_estimator(several, X, Y)

    @pytest.mark.parametrize(
        ("arrays", "options", "message"),
        [
            (([1, 2], [1, 2], [1, 1]), {"level": 90}, "level must be between 0 and 1, got 90"),
            (([1, 2], [1, 2], [1, 1]), {"level": "a"}, "level must be between 0 and 1, got 'a'"),
            (([1, 2], [1, 2], [1, -1]), {}, "y_std must not be negative, got a minimum of -1"),
            (([1, np.nan], [1, 2], [1, 1]), {}, "y_true contains nan"),
            (([1, 2], [1, 2, 3], [1, 1]), {}, "inconsistent numbers of samples"),
            (([], [], []), {}, "y_true is empty"),
            ((np.ones((2, 2)), [1, 2], [1, 1]), {}, r"have shapes \(2, 2\), \(2,\) and \(2,\)"),
        ],
    )
    def test_bad_data_are_refused(self, arrays, options, message):
        with pytest.raises(ValueError, match=message):
            UncertaintyDisplay.from_predictions(*arrays, **options)


class TestGrid:
    def test_cells_are_the_best_of_cv_results(self, models):
        display = GridDisplay.from_search(models.search)
        results = pd.DataFrame(models.search.cv_results_)
        assert display.x_values == [0.5, 1.0, 2.0] and display.y_values == [1e-3, "adaptive"]
        for i, damping in enumerate(display.y_values):
            for j, alpha in enumerate(display.x_values):
                cell = (results["param_gnregressor__damping"] == damping) & (
                    results["param_gnregressor__alpha"] == alpha
                )
                best = results[cell].sort_values("mean_test_score").iloc[-1]
                assert display.mean[i, j] == best["mean_test_score"]
                assert display.std[i, j] == best["std_test_score"]
        np.testing.assert_array_equal(display.image_.get_array(), display.mean)

    def test_the_best_cell_is_framed_and_the_title_names_it(self, models):
        display = GridDisplay.from_search(models.search)
        row, column = display.best_index_
        best = models.search.best_params_
        assert display.mean[row, column] == models.search.best_score_
        assert display.x_values[column] == best["gnregressor__alpha"]
        assert display.y_values[row] == best["gnregressor__damping"]
        assert display.best_frame_.get_xy() == (column - 0.5, row - 0.5)
        assert "best over l2_regularization" in display.ax_.get_title()

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_of_successive_halving_the_chosen_cell_is_framed_and_each_shows_its_last_score(self):
        alphas = [1e-4, 0.5, 1.0, 2.0]
        rng = np.random.default_rng(3)
        Z = rng.normal(size=(160, 2))
        target = Z[:, 0] + rng.normal(size=160)
        grid = {"alpha": alphas, "damping": [0.1]}
        model = GNRegressor((2,), l2_regularization=1e-3, n_estimators=1, max_iter=10, random_state=0)
        search = HalvingGridSearchCV(model, grid, factor=2, cv=2, min_resources=20, random_state=0).fit(Z, target)
        display = GridDisplay.from_search(search)
        results = pd.DataFrame(search.cv_results_)
        assert results["iter"].nunique() > 1
        last = results.sort_values("iter").groupby("param_alpha").tail(1).set_index("param_alpha")
        np.testing.assert_array_equal(display.mean[0], last["mean_test_score"].loc[alphas])
        assert display.x_values[display.best_index_[1]] == search.best_params_["alpha"]
        assert f"alpha={search.best_params_['alpha']:g}" in display.ax_.get_title()

    def test_of_scores_on_more_and_more_rows_the_last_count(self, models):
        search = copy.copy(models.search)
        params = [{"alpha": a, "damping": 0.1} for a in (1.0, 2.0, 1.0)]
        search.cv_results_ = {
            "params": params, "iter": np.array([0, 0, 1]), "mean_test_score": np.array([0.9, 0.8, 0.5]),
            "mean_fit_time": np.array([0.1, 0.2, 0.9]),
        }  # fmt: skip
        search.best_index_ = 2
        for metric, shown in (("mean_test_score", [0.5, 0.8]), ("mean_fit_time", [0.9, 0.2])):
            display = GridDisplay.from_search(search, metric=metric)
            assert display.mean.tolist() == [shown] and display.best_index_ == (0, 0)

    def test_a_choice_by_another_rule_than_the_best_is_framed(self):
        grid = {"alpha": [0.5, 1.0, 2.0], "damping": [1e-3]}
        search = GridSearchCV(GNRegressor(**PLAIN), grid, cv=2, refit=lambda r: int(np.argmin(r["mean_test_score"])))
        display = GridDisplay.from_search(search.fit(X, Y))
        assert display.best_index_ == (0, search.best_index_)

    def test_of_times_the_shortest_is_the_best(self, models):
        display = GridDisplay.from_search(models.search, metric="mean_fit_time")
        shortest = models.search.cv_results_["mean_fit_time"].min()
        assert display.mean[display.best_index_] == shortest
        assert display.colorbar_.ax.get_ylabel() == "mean fit time (s)"

    def test_numbers_are_written_where_they_fit(self, models):
        few = GridDisplay.from_search(models.search)
        assert all("±" in text.get_text() for text in few.text_.flat)
        many = GridDisplay(_RNG.normal(size=(50, 50)), np.ones((50, 50)), range(50), range(50)).plot()
        assert not many.text_.any()
        many.figure_.canvas.draw()
        for labels in (many.ax_.get_xticklabels(), many.ax_.get_yticklabels()):
            boxes = [label.get_window_extent() for label in labels]
            assert not any(one.overlaps(other) for one, other in pairwise(boxes))

    def test_one_outlier_does_not_take_all_colours(self):
        mean = np.array([[0.50, 0.51, 0.52], [0.53, 0.54, -90.0]])
        display = GridDisplay(mean, np.full((2, 3), np.nan), [1, 2, 3], [1, 2]).plot()
        assert display.image_.get_clim() == (0.50, 0.54)
        assert display.colorbar_.extend == "min"
        assert display.text_[1, 2].get_text() == "\N{MINUS SIGN}90"

    def test_combinations_that_were_not_tried_stay_empty(self):
        grid = [{"alpha": [1.0], "damping": [1e-3]}, {"alpha": [2.0], "damping": [1e-2]}]
        search = GridSearchCV(GNRegressor(**PLAIN), grid, cv=2).fit(X, Y)
        display = GridDisplay.from_search(search)
        assert np.isnan(display.mean).tolist() == [[False, True], [True, False]]
        assert [text is None for text in display.text_.flat] == [False, True, True, False]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"x": "gamma"}, r"x='gamma' is not a parameter of the search; the parameters are \['gnregressor__alpha'"),
            ({"y": "alpha"}, "x and y are both 'gnregressor__alpha'"),
            ({"metric": "mean_test_r2"}, r"metric='mean_test_r2' is not in cv_results_; it has \['mean_fit_time'"),
        ],
    )
    def test_unknown_options_are_refused_before_anything_is_drawn(self, options, message, models):
        with pytest.raises(ValueError, match=message):
            GridDisplay.from_search(models.search, **options)
        assert not plt.get_fignums()

    @pytest.mark.parametrize(
        ("search", "error", "message"),
        [
            (GNRegressor(), TypeError, "search must be a fitted GridSearchCV.*got GNRegressor"),
            (GridSearchCV(GNRegressor(), {"alpha": [1]}), NotFittedError, "not fitted"),
        ],
    )
    def test_other_and_unfitted_searches_are_refused(self, search, error, message):
        with pytest.raises(error, match=message):
            GridDisplay.from_search(search)

    def test_nothing_finite_is_nothing_to_draw(self):
        with pytest.raises(ValueError, match="no finite mean_test_score"):
            GridDisplay(np.full((1, 1), np.nan), np.full((1, 1), np.nan), [1], [1])
