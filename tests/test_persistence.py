"""Models that are stored and loaded: the same predictions to the last bit, by whatever way, and words where not.

Models trained on CUDA are not among them: there is no such device where these tests run. That no stored model holds
anything of torch is what lets those load without one; `test_gpu.py` has the rest.
"""

import copy
import dataclasses
import functools
import gzip
import io
import itertools
import pickle
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning

import skgn
from skgn import GNClassifier, GNRegressor
from skgn.damping import GeometricDecay, ProportionalToCurvature
from skgn.persistence import SKOPS_TRUSTED, OtherVersionWarning
from skgn.tables import TableReader

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DATA = Path(__file__).parent / "data"
SMALL = {"hidden_layer_sizes": (3,), "n_estimators": 2, "max_iter": 2, "random_state": 0}


def draw(kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = np.sin(X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=60)
    levels = np.array(list("abcdefghijklm"))[rng.integers(0, 13, 60)]
    table = pd.DataFrame({"a": X[:, 0], "b": np.where(X[:, 1] > 1, np.nan, X[:, 1]), "c": levels, "d": levels > "f"})
    one, other = rng.integers(0, 11, (2, 300))
    of_pairs = rng.normal(size=(11, 11))[one, other]
    return {
        "pairs": (pd.DataFrame({"a": one, "b": other}).astype("string").assign(c=rng.normal(size=300)), of_pairs),
        "y": (X, y),
        "float32": (X.astype(np.float32), y),
        "targets": (X, np.column_stack([y, y[::-1]])),
        "counts": (X, np.floor(np.exp(y))),
        "positive": (X, np.exp(y)),
        "table": (table, y),
        "table of labels": (table, np.where(y > 0, "yes", "no")),
        "binary": (X, np.where(y > 0, "yes", "no")),
        "multiclass": (X, np.digitize(y, [-0.7, 0.7])),
        "multilabel": (X, np.column_stack([y > 0, X[:, 2] > 0]).astype(int)),
    }[kind]


def stream(model, X, y):
    kinds = {"classes": np.unique(y)} if isinstance(model, GNClassifier) else {}
    return model.partial_fit(X[:30], y[:30], **kinds).partial_fit(X[30:], y[30:])


def twice(model, X, y):
    return model.fit(X, y).fit(X, y)


def fit(model, X, y):
    return model.fit(X, y)


def fit_in_pieces(model, X, y):
    """More waves along the ranks of a feature than three units can draw."""
    model.fit(X, np.sin(np.argsort(np.argsort(X[:, 0])) / 2))
    assert any(member.scaling == "finer" for member in model.estimators_)
    return model


def fit_with_waves(model, X, y):
    model.fit(X, np.sin(5 * np.pi * X[:, 0]))
    assert any(member.scaling == "waves" for member in model.estimators_)
    return model


def fit_with_radial_units(model, X, y):
    model.fit(X, y)
    assert any(member.scaling == "radial" for member in model.estimators_)
    return model


def fit_with_pairs(model, X, y):
    model.fit(X, y)
    assert "pairs" in model.preprocessor_[-1].named_transformers_
    return model


def fit_and_stream(model, X, y):
    model.fit(X[:30], y[:30])
    assert any(member.prior_kind.unit for member in model.estimators_)
    return model.partial_fit(X[30:], y[30:])


#: Estimator, kind of data, how it is trained, parameters.
CASES = {
    "default": (GNRegressor, "y", fit_with_radial_units, {"hidden_layer_sizes": "auto"}),
    "fixed l2": (GNRegressor, "y", fit, {"l2_regularization": 1e-2}),
    "primal": (GNRegressor, "y", fit, {"solver": "primal"}),
    "dual": (GNRegressor, "y", fit, {"solver": "dual"}),
    "cg": (GNRegressor, "y", fit, {"solver": "cg", "l2_regularization": 1e-2}),
    "float32": (GNRegressor, "float32", fit, {"dtype": "float32"}),
    "centered": (GNRegressor, "y", fit, {"init": "centered"}),
    "periodic": (GNRegressor, "y", fit, {"standardize": "periodic"}),
    "piecewise": (GNRegressor, "y", fit, {"standardize": "piecewise"}),
    "finer": (GNRegressor, "y", fit_in_pieces, {"max_iter": 4}),
    "waves": (GNRegressor, "y", fit_with_waves, {}),
    "pairs": (GNRegressor, "pairs", fit_with_pairs, {}),
    "rank": (GNRegressor, "y", fit, {"standardize": "rank", "damping": GeometricDecay(1.0)}),
    "early stopping": (GNRegressor, "y", fit, {"early_stopping": True}),
    "batches": (GNRegressor, "y", fit, {"batch_size": 20}),
    "stream": (GNRegressor, "y", stream, {"damping": ProportionalToCurvature(0.1)}),
    "stream with fixed l2": (GNRegressor, "y", stream, {"l2_regularization": 1e-2}),
    "warm start": (GNRegressor, "y", twice, {"warm_start": True}),
    "RandomState": (GNRegressor, "y", fit, {"random_state": np.random.RandomState(0)}),
    "targets": (GNRegressor, "targets", fit, {}),
    "noise at x": (GNRegressor, "targets", fit, {"noise": "input", "standardize": "periodic"}),
    "huber": (GNRegressor, "y", fit, {"loss": "huber"}),
    "student_t": (GNRegressor, "y", fit, {"loss": "student_t"}),
    "poisson": (GNRegressor, "counts", fit, {"loss": "poisson"}),
    "gamma": (GNRegressor, "positive", fit, {"loss": "gamma"}),
    "quantile": (GNRegressor, "y", fit, {"loss": "quantile"}),
    "table": (GNRegressor, "table", fit, {}),
    "binary": (GNClassifier, "binary", fit, {}),
    "multiclass": (GNClassifier, "multiclass", fit, {"class_weight": {0: 2.0}}),
    "multilabel": (GNClassifier, "multilabel", fit, {}),
    "stream of labels": (GNClassifier, "binary", stream, {}),
    "stream after a fit": (GNClassifier, "multiclass", fit_and_stream, {}),
    "table of labels": (GNClassifier, "table of labels", fit, {}),
}


@cache
def trained(case):
    """A fitted model and inputs; both are shared, and not to be changed."""
    estimator, kind, train, parameters = CASES[case]
    X, y = draw(kind)
    return train(estimator(**SMALL | parameters), X, y), X


def predictions(model, X):
    if isinstance(model, GNClassifier):
        return [model.predict(X), model.predict_proba(X)]
    if model.loss == "quantile" or model.solver == "cg":
        return [model.predict(X)]
    return list(model.predict(X, return_std=True))


def assert_same(values, expected):
    for value, wanted in zip(values, expected, strict=True):
        # Not a memory map, which would keep its file open.
        assert type(value) is np.ndarray
        np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize("case", CASES)
def test_a_stored_model_holds_nothing_of_torch_and_predicts_the_same(case, tmp_path):
    import skops.io  # takes seconds

    model, X = trained(case)
    expected = predictions(model, X)
    content = pickle.dumps(model)
    assert b"torch" not in content
    joblib.dump(model, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    weights = mapped.estimators_[0].weights
    assert isinstance(weights, np.memmap) and not weights.flags.writeable
    for loaded in (
        pickle.loads(content),
        joblib.load(tmp_path / "model.joblib"),
        mapped,
        skops.io.loads(skops.io.dumps(model), trusted=SKOPS_TRUSTED),
        copy.deepcopy(model),
    ):
        assert vars(loaded).keys() == vars(model).keys()
        assert_same(predictions(loaded, X), expected)


def test_something_of_torch_would_be_seen():
    assert b"torch" in pickle.dumps(torch.zeros(1)) and b"torch" in pickle.dumps(torch.device("cpu"))


def test_another_process_predicts_the_same_from_a_mapped_file(tmp_path):
    stored = [(*trained(case), predictions(*trained(case))) for case in CASES]
    joblib.dump(stored, tmp_path / "models.joblib")
    code = """if True:
        import sys
        import joblib
        import numpy as np
        stored = joblib.load(sys.argv[1], mmap_mode="r")
        for model, X, expected in stored:
            options = {"return_std": True} if len(expected) == 2 and hasattr(model, "loss") else {}
            values = model.predict(X, **options)
            np.testing.assert_array_equal(values if options else [values], expected if options else expected[:1])
        print(len(stored), "predict the same")
    """
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "models.joblib")]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert printed.stdout == f"{len(stored)} predict the same\n", printed.stderr


@pytest.mark.parametrize("case", ["warm start", "stream", "stream of labels"])
def test_training_goes_on_from_a_mapped_file(case, tmp_path):
    model, X = trained(case)
    y = draw(CASES[case][1])[1]
    joblib.dump(model, tmp_path / "model.joblib")
    mapped, here = joblib.load(tmp_path / "model.joblib", mmap_mode="r"), copy.deepcopy(model)
    for other in (mapped.set_params(n_jobs=2), here):
        other.fit(X, y) if case == "warm start" else other.partial_fit(X, y)
    assert_same(predictions(mapped, X), predictions(here, X))


def test_the_trusted_types_are_all_there_are_and_exist():
    import skops.io  # takes seconds

    needed = {name for case in CASES for name in skops.io.get_untrusted_types(data=skops.io.dumps(trained(case)[0]))}
    assert needed <= set(SKOPS_TRUSTED)
    for name in SKOPS_TRUSTED:
        module, _, attribute = name.rpartition(".")
        if "dask" not in module:  # test_dask.py, where it is installed
            assert isinstance(getattr(__import__(module, fromlist=[attribute]), attribute), type)


def loads(content, version, monkeypatch):
    """Load a pickle with another version of the package."""
    monkeypatch.setattr(skgn, "__version__", version)
    return pickle.loads(content)


@pytest.mark.parametrize("case", ["default", "binary"])
def test_another_version_warns_of_itself_and_loads(case, monkeypatch):
    model, X = trained(case)
    content = pickle.dumps(model)
    before = rf"This {type(model).__name__} was stored by skgn {skgn.__version__} and is loaded by skgn 9\.1"
    with pytest.warns(OtherVersionWarning, match=before) as caught:
        loaded = loads(content, "9.1", monkeypatch)
    assert_same(predictions(loaded, X), predictions(model, X))
    # Those who filter scikit-learn's warning see ours, and where it comes from.
    assert isinstance(caught[0].message, InconsistentVersionWarning) and caught[0].filename == __file__
    # Stored again it is a model of this version.
    pickle.loads(pickle.dumps(loaded))


def test_neither_copies_nor_stamps_are_seen(monkeypatch):
    model, _ = trained("default")
    monkeypatch.setattr(skgn, "__version__", "9.1")
    for other in (copy.copy(model), copy.deepcopy(model), clone(model)):
        assert other.get_params() == model.get_params()
        assert "_skgn_version" not in vars(other)
    assert "_skgn_version" not in vars(model)


def test_a_model_without_a_stamp_is_of_an_unknown_version():
    model, _ = trained("default")
    state = model.__getstate__()
    del state["_skgn_version"]
    with pytest.warns(OtherVersionWarning, match="stored by skgn of unknown version and"):
        GNRegressor.__new__(GNRegressor).__setstate__(state)


@pytest.mark.parametrize("case", ["default", "table", "multiclass"])
def test_what_is_absent_is_named_or_not_needed(case, monkeypatch):
    """Of every attribute of a fit: models that lack it are refused by its name, or predict all the same."""
    model, X = trained(case)
    expected, content = predictions(model, X), pickle.dumps(model)
    refused = set()
    # Without the names of the features it is scikit-learn that has something to say; weights: test_weights.py.
    for name in vars(model).keys() - model.get_params().keys() - {"estimators_", "weights_", "feature_names_in_"}:
        incomplete = pickle.loads(content)
        delattr(incomplete, name)
        stored = pickle.dumps(incomplete)
        try:
            loaded = pickle.loads(stored)
        except ValueError as error:
            assert f" needs: {name}. Load it with the version" in str(error)
            refused.add(name)
        else:
            assert_same(predictions(loaded, X), expected)
    assert {"_table", "_target"} < refused and not {"history_", "loss_curve_"} & refused


def parts(value, path=()):
    """Paths to all parts of a state, by the keys that lead there; one member is enough."""
    if dataclasses.is_dataclass(value) or isinstance(value, TableReader):
        keys = list(vars(value))
    elif isinstance(value, (list, dict)):
        keys = list(range(min(len(value), 1)) if isinstance(value, list) else value)
    else:
        return
    for key in keys:
        yield (*path, key)
        if key not in ("history", "history_", "loss_curve_"):
            yield from parts(part_of(value, key), (*path, key))


def part_of(value, key):
    return value[key] if isinstance(value, (list, dict)) else vars(value)[key]


def damaged(state, path, damage):
    """The state with one part less, or with another value in its place; None where that is no damage."""
    state = copy.deepcopy(state)
    *way, last = path
    holder = functools.reduce(part_of, way, state)
    values, value = (vars(holder) if hasattr(holder, "__dict__") else holder), part_of(holder, last)
    if damage == "absent":
        del values[last]
    elif damage == "of another type":
        values[last] = object()
    elif damage == "cut short" and isinstance(value, (list, np.ndarray)) and len(value):
        values[last] = value[:-1]
    else:
        return None
    return state


@pytest.mark.parametrize("damage", ["absent", "of another type", "cut short"])
@pytest.mark.parametrize("case", ["default", "primal", "table of labels", "stream"])
def test_each_part_of_a_state_that_is_damaged_is_named_or_not_needed(case, damage):
    model, X = trained(case)
    expected, state = predictions(model, X), model.__getstate__()
    # Names of the features are scikit-learn's to check. Names of levels, and how many classes there are of which there
    # is one output, are written in one place only.
    known, refused = {*model.get_params(), "feature_names_in_"}, set()
    known_once = {
        "absent": [("_table", "reader", "feature_names_in_")],
        "of another type": [("_table", "reader", "feature_names_in_"), ("_table", "reader", "levels_", 2, 0)],
        "cut short": [("_table", "reader", "feature_names_in_"), ("_target", "classes")],
    }[damage]
    for path in parts({name: value for name, value in state.items() if name not in known}):
        other = damaged(state, path, damage)
        if path == ("_skgn_version",) or other is None or path in known_once:
            continue
        try:
            loaded = type(model).__new__(type(model))
            loaded.__setstate__(other)
        except ValueError as error:
            assert "needs: " in str(error), path
            named = str(error).partition("needs: ")[2]
            # By its own name, or by that of what it is a part of.
            assert any(str(key) in named for key in path), (path, named)
            refused.add(path[0])
        else:
            assert_same(predictions(loaded, X), expected)
    assert {"estimators_", "_table"} <= refused


def arrays(value, path=()):
    """Paths to all arrays of floats of a state, of all members, in lists too."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size:
        yield path
    elif dataclasses.is_dataclass(value) or isinstance(value, (list, dict)):
        for key in range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else vars(value):
            yield from arrays(part_of(value, key), (*path, key))


#: Arrays that may hold nan or infinite numbers, or that predictions do not rest on.
_REPORTS = {"history", "history_", "bounds", "feature_relevance_", "coefs_", "intercepts_", "_seen", "noise_std_"}

#: Those that may hold infinite numbers, but no nan.
_MAY_BE_INFINITE = {"noise_variance", "precision", "values", "steps", "estimates", "loss_precision"}


@pytest.mark.parametrize("case", [*CASES])
def test_an_array_that_is_not_finite_is_named(case):
    model, _ = trained(case)
    state, seen = copy.deepcopy(model.__getstate__()), set()
    paths = list(arrays({name: value for name, value in state.items() if name not in model.get_params()}))
    for path, number in itertools.product(paths, (np.nan, -np.inf)):
        if _REPORTS.intersection(path):
            continue
        if not np.isnan(number) and _MAY_BE_INFINITE.intersection(path[-2:]):
            continue
        values = functools.reduce(part_of, path, state)
        before, values.flat[-1] = values.flat[-1], number
        with pytest.raises(ValueError, match=r"needs: .*\(not finite\)\. Load") as caught:
            type(model).__new__(type(model)).__setstate__(dict(state))
        values.flat[-1] = before
        # What is in a list or a dict has its name.
        assert any(str(key) in str(caught.value) for key in path[-2:])
        seen.add(path[-1])
    assert "weights" in seen


@pytest.mark.parametrize("empty", [[], None, ()])
def test_a_model_without_members_is_refused(empty):
    state = trained("default")[0].__getstate__() | {"estimators_": empty}
    with pytest.raises(ValueError, match=r"needs: estimators_\. Load"):
        GNRegressor.__new__(GNRegressor).__setstate__(state)


def test_parts_of_a_member_that_are_absent_are_named():
    model = copy.deepcopy(trained("dual")[0])
    vars(model.estimators_[1].network).pop("shapes")
    vars(model.estimators_[1].posterior).pop("scale")
    with pytest.raises(ValueError, match=r"needs: Member\.FeedForward\.shapes, Member\.Posterior\.scale\. Load"):
        copy.copy(model)


def test_parameters_that_a_version_did_not_have_take_their_defaults():
    model = copy.deepcopy(trained("default")[0])
    del model.max_time, model.loss
    loaded = copy.copy(model)
    assert loaded.max_time is None and loaded.loss == "squared_error" and loaded.max_iter == SMALL["max_iter"]


@pytest.mark.parametrize("path", sorted(DATA.glob("models-*.pkl.gz")), ids=lambda path: path.name)
def test_models_of_this_and_earlier_versions_load_and_predict_as_they_did(path):
    """See data/store_models.py, which wrote them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stored = pickle.load(io.BytesIO(gzip.decompress(path.read_bytes())))
    other_version = path.name != f"models-{skgn.__version__}.pkl.gz"
    assert {warning.category for warning in caught} == ({OtherVersionWarning} if other_version else set())
    for name, (model, X, expected) in stored.items():
        for value, known in zip(predictions(model, X), expected, strict=True):
            if known.dtype.kind == "f":
                np.testing.assert_allclose(value, known, rtol=1e-11, atol=1e-13, err_msg=name)
            else:
                np.testing.assert_array_equal(value, known, err_msg=name)


def test_there_are_models_of_this_version():
    assert (DATA / f"models-{skgn.__version__}.pkl.gz").is_file(), "Run tests/data/store_models.py."


def test_streams_of_classes_of_the_first_version_go_on():
    """Their starts had no noise precision."""
    X = np.random.RandomState(0).standard_normal((60, 2))
    y = X[:, 0] > 0
    now = GNClassifier((3,), random_state=0).partial_fit(X, y, classes=[False, True])
    then = pickle.loads(pickle.dumps(now)).__getstate__()
    for stream in then["_streams"]:
        object.__setattr__(stream.start, "noise_precision", None)
    loaded = GNClassifier.__new__(GNClassifier)
    loaded.__setstate__(then)
    expected = now.partial_fit(X[::-1], y[::-1]).predict_proba(X)
    np.testing.assert_array_equal(loaded.partial_fit(X[::-1], y[::-1]).predict_proba(X), expected)
