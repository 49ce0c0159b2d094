"""Exported models give what the estimator predicts: in torch to 1e-10, in onnxruntime to 1e-5 of its scale."""

import copy
import importlib.util
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version
from torch import nn

from skgn import GNClassifier, GNRegressor
from skgn.export import onnx_model, to_onnx, to_torch
from skgn.preprocessing import SCALINGS

N = 50

# Few iterations: exporting is tested, not training.
pytestmark = [
    pytest.mark.usefixtures("one_registry"),
    pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.ConvergenceWarning"),
    # Some rows are far beyond all that was seen, on purpose.
    pytest.mark.filterwarnings("ignore::skgn.unfamiliar.UnfamiliarDataWarning"),
]


def rows(n, seed=0):
    """Features of many values, of four, of two, and a constant one."""
    rng = np.random.default_rng(seed)
    constant = np.full(n, 3.0)
    return np.column_stack([rng.normal(size=n) ** 3, 1e3 * rng.integers(0, 4, n), rng.integers(0, 2, n), constant])


def with_gaps(X):
    X = X.copy()
    X[::7, 0] = X[3::5, 2] = np.nan
    return X


X = rows(N)
SIGNAL = np.sin(X[:, 0]) + X[:, 1] / 1e3 * X[:, 2] + 0.1 * np.random.default_rng(1).normal(size=N)
THREE = np.digitize(SIGNAL, [0, 1])

#: Rows that were seen, new ones, and some far beyond all that was seen.
NEW = np.concatenate([rows(900, seed=2), X, 1e200 * rows(50, seed=3)])


def regressor(**parameters):
    return GNRegressor(**{"hidden_layer_sizes": (5,), "max_iter": 3, "n_estimators": 1, "random_state": 0} | parameters)


def classifier(**parameters):
    return GNClassifier(
        **{"hidden_layer_sizes": (5,), "max_iter": 3, "n_estimators": 1, "random_state": 0} | parameters
    )


def fitted(case, **parameters):
    estimator, X, y = CASES[case]
    estimator = clone(estimator).set_params(**parameters).fit(X, y)
    for made, of in {"finer": "finer", "waves": "waves", "radial": "default"}.items():
        assert (case == of) == any(member.scaling == made for member in estimator.estimators_)
    if case == "shared noise":
        assert estimator._target.scaler.mixing is not None
    return estimator


LOSSES = {"student_t": SIGNAL, "huber": SIGNAL, "cauchy": SIGNAL, "quantile": SIGNAL, "gamma": np.exp(SIGNAL)}
LOSSES["poisson"] = np.exp(SIGNAL).round()
TWO_OUTPUTS = np.column_stack([SIGNAL, 100 + X[:, 0]])
#: Two targets whose noise is nearly the same.
SHARED = (
    TWO_OUTPUTS + 2 * np.random.default_rng(2).normal(size=(N, 1)) + 0.5 * np.random.default_rng(3).normal(size=(N, 2))
)

#: The largest label of int64.
LARGEST = 2**63 - 1

#: More waves along the ranks of a feature than five units can draw.
WAVES = np.sin(np.argsort(np.argsort(X[:, 0])) / 2)

CASES = {
    "default": (regressor(n_estimators=3, hidden_layer_sizes="auto"), X, SIGNAL),
    "l2": (regressor(l2_regularization=1e-2, n_estimators=2), X, SIGNAL),
    "robust": (regressor(standardize="robust", alpha=0.3, n_estimators=2), X, TWO_OUTPUTS),
    "rank": (
        regressor(standardize="rank", init="symmetric", hidden_layer_sizes=(4,), activation="silu"),
        with_gaps(X),
        SIGNAL,
    ),
    "periodic": (
        regressor(standardize="periodic", activation="gelu", hidden_layer_sizes=(4, 3), linear_path=False),
        X,
        SIGNAL,
    ),
    "piecewise": (regressor(standardize="piecewise", activation="relu"), with_gaps(X), SIGNAL),
    "finer": (regressor(n_estimators=2), X, WAVES),
    "waves": (regressor(n_estimators=2), X, np.sin(5 * np.pi * X[:, 0])),
    "centered": (regressor(init="centered", activation="softplus", dtype="float32"), X, SIGNAL),
    "symmetric layers": (regressor(init="symmetric", hidden_layer_sizes=(4, 6)), X, SIGNAL),
    "linear": (regressor(hidden_layer_sizes=()), X, SIGNAL),
    "column": (regressor(), X, SIGNAL[:, None]),
    "noise at x": (regressor(noise="input", n_estimators=2, alpha=0.3, activation="gelu"), X, TWO_OUTPUTS),
    "noise at x, dual": (regressor(noise="input", solver="dual", standardize="rank"), X, TWO_OUTPUTS),
    "shared noise": (regressor(noise="input", n_estimators=2, alpha=0.3, activation="gelu"), X, SHARED),
    "primal, two outputs": (regressor(solver="primal"), X, TWO_OUTPUTS),
    "dual, two outputs": (regressor(solver="dual"), X, TWO_OUTPUTS),
    "dual, huber": (regressor(solver="dual", loss="huber", init="centered"), X, SIGNAL),
    "dual, poisson": (regressor(solver="dual", loss="poisson", hidden_layer_sizes=(3, 3)), X, LOSSES["poisson"]),
    "cg": (regressor(solver="cg", l2_regularization=1e-2, activation="logistic"), X, SIGNAL),
    **{loss: (regressor(loss=loss, n_estimators=2), X, y) for loss, y in LOSSES.items()},
    "quantiles": (
        regressor(
            **{"loss": "quantile", "quantile": [0.1, 0.5, 0.9], "n_estimators": 2},
            **{"standardize": "rank", "init": "symmetric", "hidden_layer_sizes": (4,), "activation": "silu"},
        ),
        with_gaps(X),
        SIGNAL,
    ),
    "quantiles, two outputs": (regressor(loss="quantile", quantile=[0.1, 0.9]), X, TWO_OUTPUTS),
    "binary": (classifier(n_estimators=2), X, np.array(["no", "yes"])[(SIGNAL > 1).astype(int)]),
    "class weights": (classifier(class_weight={0: 9.0, 2: 0.5}, n_estimators=2), X, THREE),
    "binary, balanced": (classifier(class_weight="balanced"), X, SIGNAL > 1),
    "binary, float l2": (classifier(l2_regularization=1e-2, init="symmetric", hidden_layer_sizes=(4,)), X, SIGNAL > 1),
    "three classes": (
        classifier(n_estimators=2, standardize="piecewise", activation="relu", class_weight={0: 9.0, LARGEST: 0.5}),
        with_gaps(X),
        np.array([0, 10, LARGEST], dtype=np.uint64)[THREE],
    ),
    "labels": (classifier(), X, np.column_stack([SIGNAL > 0, SIGNAL > 1, X[:, 0] > 0]).astype(int)),
    "one class": (classifier(), X, np.full(N, 2.0)),
}


class Branches(nn.Module):
    """Two branches, one of them a convolution, with a buffer."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.readout = nn.Conv1d(1, 2, 3), nn.Linear(2, 3), nn.Linear(7, 1)
        self.register_buffer("factor", torch.tensor(0.5))

    def forward(self, X):
        left = self.left(X[:, None]).flatten(1)
        return self.readout(torch.cat([left.tanh(), self.factor * nn.functional.gelu(self.right(X[:, 2:]))], 1))


CASES["own network"] = (regressor(network=Branches(), hidden_layer_sizes="auto", init="centered"), X, SIGNAL)

#: Translation takes seconds. The graphs of these cases have all the parts that the others consist of: members are mixed
#: in three of them, and two have no hidden layers. "finer" has the pieces of "three classes" where "waves" has waves.
#: Other tests translate radial units, "linear" and a mean alone. Of regressors, how much each member counts: those that
#: count nothing are in no graph.
IN_ONNX = {
    **{"default": (1, 2, 0), "waves": (1, 0), "shared noise": (1, 2)},
    **{"dual, poisson": (1,), "quantiles": (1, 0), "own network": (1,)},
}
LINEAR = {"n_estimators": 1, "hidden_layer_sizes": ()}
CLASSES_IN_ONNX = {"binary": {}, "three classes": {"n_estimators": 1}, "labels": LINEAR, "one class": LINEAR}


def predictions(estimator, X):
    """What the exported model is to give, and whether that includes a standard deviation."""
    if isinstance(estimator, GNClassifier):
        return [estimator.predict_proba(X)], False
    try:
        return list(estimator.predict(X, return_std=True)), True
    except ValueError:
        return [estimator.predict(X)], False


def module_predictions(estimator, X, std):
    with torch.no_grad():
        result = to_torch(estimator, return_std=std)(torch.tensor(X))
    return [values.numpy() for values in (result if std else [result])]


def assert_equal(found, expected, part):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=part * np.abs(b).max())


@pytest.mark.parametrize("case", CASES)
def test_module_gives_the_predictions(case):
    estimator = fitted(case)
    for batch in (NEW, with_gaps(NEW), NEW[:1]):
        expected, std = predictions(estimator, batch)
        assert_equal(module_predictions(estimator, batch, std), expected, 1e-10)
    assert std == (case not in ("cauchy", "cg") and "quantile" not in case and isinstance(estimator, GNRegressor))


def test_module_gives_the_predictions_without_any_scaling():
    units = [10, 1e3, 1, 3]
    estimator, batch = regressor(standardize=False).fit(rows(N) / units, SIGNAL), rows(200, seed=2) / units
    assert_equal(module_predictions(estimator, batch, True), estimator.predict(batch, return_std=True), 1e-10)


def test_the_std_agrees_relative_to_itself():
    estimator = fitted("dual, two outputs")
    (_, std), (_, expected) = module_predictions(estimator, X, True), estimator.predict(X, return_std=True)
    np.testing.assert_allclose(std, expected, rtol=1e-8)


def with_weights(estimator, weights):
    """The estimator with members that count so much in a prediction."""
    assert len(weights) == len(estimator.estimators_)
    estimator.weights_ = np.divide(weights, sum(weights))
    return estimator


def session(path):
    # Earlier ones turn "silu" into an operator that they have not in float64.
    refused = ["QuickGeluFusion"] if parse_version(onnxruntime.__version__) < parse_version("1.31") else None
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"], disabled_optimizers=refused)


def test_onnx_has_the_deviations_between_rows_without_noise(tmp_path):
    """Near a row they are the root of a difference, which a constant of float32 would spoil."""
    near = np.linspace(0, 1, 24)[:, None]
    model = GNRegressor(n_estimators=2, random_state=0).fit(near, ((6 * near - 2) ** 2 * np.sin(12 * near - 4))[:, 0])
    model.weights_ = np.array([float(member.scaling == "radial") for member in model.estimators_])
    assert model.weights_.sum() == 1
    to_onnx(model, tmp_path / "model.onnx")
    run = session(tmp_path / "model.onnx")
    _, std = model.predict(near + 1e-4, return_std=True)
    _, found = run.run(None, {"X": near + 1e-4})
    np.testing.assert_allclose(found.ravel(), std, rtol=1e-3)
    # Elsewhere they are as all other results.
    far = np.array([[0.5], [np.nan], [-1.0], [1e200]])
    assert_equal(run.run(None, {"X": far}), model.predict(far, return_std=True), 1e-5)


@pytest.mark.parametrize("case", IN_ONNX)
def test_onnx_gives_the_predictions_of_a_regressor(case, tmp_path):
    estimator = with_weights(fitted(case), IN_ONNX[case])
    # The deviations of other cases have all the parts of those of waves.
    to_onnx(estimator, tmp_path / "model.onnx", return_std=False if case == "waves" else None)
    run = session(tmp_path / "model.onnx")
    for batch in (NEW, with_gaps(NEW), NEW[:1]):
        expected, std = predictions(estimator, batch)
        if case in ("own network", "waves"):
            expected, std = expected[:1], False
        assert [output.name for output in run.get_outputs()] == ["y_mean", "y_std"][: 1 + std]
        assert_equal(run.run(None, {"X": batch}), expected, 1e-5)


@pytest.mark.parametrize("case", CLASSES_IN_ONNX)
def test_onnx_gives_labels_and_probabilities_of_a_classifier(case, tmp_path):
    estimator = fitted(case, **CLASSES_IN_ONNX[case])
    with_weights(estimator, range(1, 1 + len(estimator.estimators_)))
    to_onnx(estimator, tmp_path / "model.onnx")
    run = session(tmp_path / "model.onnx")
    for batch in (NEW, with_gaps(NEW), NEW[:1]):
        label, *p = run.run(["label", "probabilities"], {"X": batch})
        np.testing.assert_array_equal(label, estimator.predict(batch))
        assert_equal(p, [estimator.predict_proba(batch)], 1e-5)
    classes = run.get_modelmeta().custom_metadata_map["classes"]
    np.testing.assert_array_equal(json.loads(classes), estimator.classes_)


def test_float32_is_the_type_of_inputs_and_results_only(tmp_path):
    """A mean alone; the file replaces an earlier one, and its name may be a string."""
    estimator, batch, path = fitted("linear"), rows(20).astype(np.float32), tmp_path / "model.onnx"
    path.write_text("earlier")
    to_onnx(estimator, str(path), dtype="float32", return_std=False)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    (mean,) = session(path).run(None, {"X": batch})
    assert_equal([mean], [estimator.predict(batch)], 1e-6)
    assert_equal(module_predictions(estimator, batch, True), estimator.predict(batch, return_std=True), 1e-6)
    whole = to_torch(estimator)(torch.ones(2, 4, dtype=torch.long))
    np.testing.assert_allclose(whole.detach().numpy(), estimator.predict(np.ones((2, 4))))


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    few, many = rng.choice(["red", "green", None], N), rng.choice([f"c{i:02}" for i in range(15)], N)
    return pd.DataFrame({"few": few, "number": with_gaps(X)[:, 0], "many": pd.Categorical(many), "whole": X[:, 1]})


@pytest.mark.parametrize("streamed", [False, True], ids=["target codes", "frequent levels"])
def test_tables_are_exported_as_they_are_read(table, streamed, tmp_path):
    estimator = regressor(hidden_layer_sizes=())
    (estimator.partial_fit if streamed else estimator.fit)(table, SIGNAL)
    new = table.iloc[:20].assign(few=["violet", None, *table.few[2:20]], many=["c99", *table.many[1:20]])
    codes = estimator.preprocessor_[0].transform(new)
    assert np.isnan(codes).any() and (codes == -1).any()
    expected = estimator.predict(new, return_std=True)
    assert_equal(module_predictions(estimator, codes, True), expected, 1e-10)
    if not streamed:
        to_onnx(estimator, tmp_path / "model.onnx", return_std=False)
        run = session(tmp_path / "model.onnx")
        assert_equal(run.run(None, {"X": codes}), expected[:1], 1e-5)
        known = {name: json.loads(text) for name, text in run.get_modelmeta().custom_metadata_map.items()}
        assert known["feature_names"] == list(table.columns)
        assert known["levels"] == {"few": ["green", "red"], "many": sorted(set(table.many))}


@pytest.mark.parametrize("scaling", SCALINGS)
def test_gradients_reach_inputs_and_weights(scaling):
    module = to_torch(regressor(standardize=scaling, max_iter=2).fit(X, SIGNAL), return_std=True)
    assert torch.autograd.gradcheck(module, torch.tensor(rows(4, seed=5) + 0.1, requires_grad=True))
    before = module(torch.tensor(X))[0]
    loss = (before - torch.tensor(SIGNAL)).square().mean()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-2)
    loss.backward()
    optimizer.step()
    assert (module(torch.tensor(X))[0] - torch.tensor(SIGNAL)).square().mean() < loss


def test_module_is_saved_and_loaded(tmp_path):
    estimator = fitted("dual, two outputs")
    module = to_torch(estimator, return_std=True)
    torch.save(module, tmp_path / "module.pt")
    torch.save(module.state_dict(), tmp_path / "state.pt")
    whole = torch.load(tmp_path / "module.pt", weights_only=False)
    other = to_torch(regressor(solver="dual", noise="constant", random_state=1).fit(X, TWO_OUTPUTS), return_std=True)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for loaded in (whole, other):
        for a, b in zip(loaded(torch.tensor(NEW)), module(torch.tensor(NEW)), strict=True):
            assert torch.equal(a, b)


def test_module_is_independent_of_the_estimator():
    estimator = fitted("linear")
    expected, module = estimator.predict(X), to_torch(estimator)
    estimator.fit(X, -SIGNAL)
    np.testing.assert_allclose(module(torch.tensor(X)).detach().numpy(), expected)


def test_classes_are_an_attribute():
    np.testing.assert_array_equal(to_torch(fitted("binary")).classes_, ["no", "yes"])


def test_distributed_estimators_are_exported():
    from skgn.dask import DaskGNRegressor

    local = fitted("robust")
    distributed = DaskGNRegressor(**{**local.get_params(), "client": None})
    # A fit leaves the same on either.
    distributed.__dict__.update(local.__dict__)
    assert_equal(module_predictions(distributed, X, True), local.predict(X, return_std=True), 1e-10)


@pytest.mark.parametrize(
    "export", [to_torch, lambda estimator: to_onnx(estimator, "never.onnx")], ids=["torch", "onnx"]
)
def test_what_cannot_be_exported_is_an_error(export):
    with pytest.raises(NotFittedError):
        export(GNRegressor())
    with pytest.raises(TypeError, match=r"got Pipeline; .* pipeline\[-1\]"):
        export(make_pipeline(StandardScaler(), regressor()).fit(X, SIGNAL))


@pytest.mark.parametrize("export", [to_torch, lambda estimator, **options: to_onnx(estimator, "never.onnx", **options)])
def test_a_std_that_does_not_exist_is_an_error(export):
    with pytest.raises(ValueError, match="Cauchy noise has no variance"):
        export(fitted("cauchy"), return_std=True)
    with pytest.raises(ValueError, match="solver='cg' has none"):
        export(fitted("cg"), return_std=True)
    with pytest.raises(TypeError, match="for regressors"):
        export(fitted("binary"), return_std=True)


def test_the_std_of_a_network_of_ones_own_is_not_for_onnx(tmp_path):
    with pytest.raises(ValueError, match=r"to_torch\(estimator, return_std=True\) has it"):
        to_onnx(fitted("own network"), tmp_path / "model.onnx", return_std=True)


def test_module_refuses_other_shapes_and_types():
    module = to_torch(fitted("linear"))
    with pytest.raises(ValueError, match=r"\(n_samples, 4\), got \(3, 2\)"):
        module(torch.ones(3, 2))
    with pytest.raises(TypeError, match="computes in float64"):
        module.float()(torch.ones(3, 4))


def test_labels_that_int64_does_not_hold_are_refused(tmp_path):
    """Labels up to the largest one are in "three classes"."""
    estimator = fitted("binary", **LINEAR)
    estimator._target = replace(estimator._target, classes=np.array([1, LARGEST + 1], dtype=np.uint64))
    with pytest.raises(TypeError, match=r"int64, which ends at 9223372036854775807, got .* 9223372036854775808"):
        to_onnx(estimator, tmp_path / "model.onnx")


@pytest.fixture(scope="module")
def means():
    """What the mean of "linear" is translated to."""
    return onnx_model._translate(to_torch(fitted("linear")), torch.float64)


@pytest.fixture
def translated(means, monkeypatch):
    """All files are of one translation: what they are written by is tested."""
    monkeypatch.setattr(onnx_model, "_translate", lambda *args: copy.deepcopy(means))


def test_failed_export_leaves_the_earlier_file(tmp_path, translated, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_text("earlier")
    estimator = fitted("linear")
    with pytest.raises(ValueError, match="dtype must be one of"):
        to_onnx(estimator, path, dtype="float16")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        to_onnx(estimator, tmp_path / "nowhere" / "model.onnx")
    with pytest.raises(TypeError, match="numbers or strings"):
        labels = np.array([1, "a"], dtype=object)
        odd = fitted("binary")
        odd._target = replace(odd._target, classes=labels)
        to_onnx(odd, path)
    with monkeypatch.context() as patch:
        patch.setattr("skgn.export.onnx_model._LARGEST_FILE", 100)
        with pytest.raises(ValueError, match="2 GB; return_std=False"):
            to_onnx(estimator, path)
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r"onnx and onnxscript: pip install 'skgn\[onnx\]'"):
            to_onnx(estimator, path)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "2.7.1+cpu")
        with pytest.raises(ImportError, match=r"torch 2\.9 or newer, got 2\.7\.1\+cpu"):
            to_onnx(estimator, path)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", lambda *args: (_ for _ in ()).throw(OSError("disk")))
        with pytest.raises(OSError, match="disk"):
            to_onnx(estimator, path, return_std=False)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_text() == "earlier"


def test_a_file_keeps_its_mode_and_links_lead_to_it(tmp_path, translated):
    estimator, target, link = fitted("linear"), tmp_path / "there" / "model.onnx", tmp_path / "link.onnx"
    target.parent.mkdir()
    target.write_text("earlier")
    target.chmod(0o640)
    link.symlink_to(Path("there") / "model.onnx")
    to_onnx(estimator, link, return_std=False)
    assert link.is_symlink() and stat.S_IMODE(target.stat().st_mode) == 0o640
    assert_equal(session(target).run(None, {"X": NEW}), [estimator.predict(NEW)], 1e-5)
    # The longest name there is, of a file that is not there yet, by a link.
    longest = target.with_name("m" * 250 + ".onnx")
    dangling = tmp_path / "dangling.onnx"
    dangling.symlink_to(longest)
    to_onnx(estimator, dangling, return_std=False)
    assert dangling.is_symlink() and longest.read_bytes() == target.read_bytes()
    plain = tmp_path / "plain"
    plain.touch()
    assert longest.stat().st_mode == plain.stat().st_mode
    assert sorted(file.name for file in target.parent.iterdir()) == [longest.name, "model.onnx"]


def test_a_path_that_is_no_file_is_refused_before_any_work(tmp_path):
    estimator = fitted("linear")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(OSError, match="is no regular file, and is left as it is"):
            to_onnx(estimator, path)
    for path in (tmp_path / ("m" * 300), tmp_path / "circle", tmp_path / "file" / "model.onnx"):
        with pytest.raises(OSError, match="path cannot be written to"):
            to_onnx(estimator, path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        to_onnx(estimator, tmp_path / "nowhere" / "model.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["circle", "file", "pipe"]
