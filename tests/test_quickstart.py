"""The quick start prints what it promises, and the README shows what it prints."""

import importlib.util
import re
from pathlib import Path

import pytest
from joblib import parallel_config
from sklearn.datasets import load_diabetes, make_friedman1, make_moons

plt = pytest.importorskip("matplotlib.pyplot")

ROOT = Path(__file__).parents[1]


@pytest.fixture
def quickstart():
    plt.switch_backend("Agg")
    spec = importlib.util.spec_from_file_location("quickstart", ROOT / "examples" / "quickstart.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_catboost(models):
    """The models that are always there."""
    return {name: model for name, model in models.items() if name != "CatBoost"}


def table(text, separator):
    """The cells of a table by its first column, "score, seconds" as two numbers."""
    rows = {}
    for line in text.splitlines():
        name, *cells = re.split(separator, line.strip().strip("|").strip())
        numbers = [re.fullmatch(r"\**(-?\d\.\d{3})\**, (\d+\.\d\d) s", cell.strip()) for cell in cells]
        if numbers and all(numbers):
            rows[name] = [(float(number[1]), float(number[2])) for number in numbers]
    return rows


def test_prints_scores_and_seconds_of_all_models_and_saves_a_picture(quickstart, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(quickstart, "FOLDS", 2)
    regression = {"Friedman 1": lambda: make_friedman1(n_samples=160, noise=1.0, random_state=0)}
    monkeypatch.setattr(quickstart, "REGRESSION", regression)
    classification = {"two moons": lambda: make_moons(160, noise=0.25, random_state=0)}
    monkeypatch.setattr(quickstart, "CLASSIFICATION", classification)
    for name in ("regressors", "classifiers"):
        there = getattr(quickstart, name)
        monkeypatch.setattr(quickstart, name, lambda n_features, there=there: without_catboost(there(n_features)))
    monkeypatch.setattr(quickstart, "load_diabetes", lambda **options: [of[::3] for of in load_diabetes(**options)])
    picture = tmp_path / "band.png"
    with parallel_config(backend="threading"):
        quickstart.main(str(picture))
    printed = capsys.readouterr().out
    # Every setting that is not a default is named before anything is fitted.
    settings = printed.split("Friedman 1")[0]
    for words in ("GNRegressor(random_state=0)", "GNClassifier(random_state=0)", "RBF(length_scale=1)", "RidgeCV()"):
        assert words in settings
    scores = table(printed, r"\s{2,}")
    assert list(scores) == ["Friedman 1", "two moons"]
    for cells in scores.values():
        network, linear, *others = cells
        assert len(others) == 2 and network[0] > linear[0] + 0.1
    assert printed.count("damping=") == 3 and "alpha=0.3" in printed
    assert picture.read_bytes().startswith(b"\x89PNG") and str(picture) in printed


def test_readme_has_the_table_that_is_printed(quickstart):
    rows = table((ROOT / "README.md").read_text(encoding="utf-8"), r"\s*\|\s*")
    assert list(rows) == [*quickstart.REGRESSION, *quickstart.CLASSIFICATION]
    # skgn, linear, Gaussian process, boosted trees, CatBoost
    assert {len(cells) for cells in rows.values()} == {5}
