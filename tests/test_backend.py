import numpy as np
import pytest
import torch
from silent import Silent

from skgn import GNClassifier, GNRegressor
from skgn.backend import (
    chunks,
    denormals_flushed,
    flushes_denormals,
    gigabytes,
    linear_algebra_device,
    memory_budget,
    resolve_device,
    sum_float64,
)
from skgn.export import to_torch

CPU = torch.device("cpu")


# Memory


@pytest.mark.parametrize(("text", "expected"), [("1", 2**20), ("0.5", 2**19), ("1e3", 1000 * 2**20)])
def test_memory_budget_is_read_from_the_environment_at_each_call(text, expected, monkeypatch):
    monkeypatch.delenv("SKGN_MEMORY_BUDGET_MB", raising=False)
    assert memory_budget() == 256 * 2**20
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", text)
    assert memory_budget() == expected


@pytest.mark.parametrize("text", ["", "much", "0", "-1", "nan", "inf"])
def test_bad_memory_budget_is_named(text, monkeypatch):
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", text)
    with pytest.raises(ValueError, match=f"SKGN_MEMORY_BUDGET_MB must be a positive number of megabytes, got '{text}'"):
        memory_budget()


@pytest.mark.parametrize("n", [1, 2, 999, 5000])
@pytest.mark.parametrize("bytes_per_row", [0, 8, 10_000, 2**30])
@pytest.mark.parametrize("device", [CPU, torch.device("meta")], ids=str)
def test_chunks_cover_every_row_once_within_the_budget(n, bytes_per_row, device, monkeypatch):
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", "1")
    slices = chunks(n, bytes_per_row, device, most=700)
    np.testing.assert_array_equal(np.concatenate([np.arange(n)[rows] for rows in slices]), np.arange(n))
    sizes = [rows.stop - rows.start for rows in slices]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
    # One row at the least, even where that exceeds the budget.
    assert max(sizes) == 1 or max(sizes) * bytes_per_row <= 2**20
    if device.type == "cpu":
        assert max(sizes) <= 700
    elif bytes_per_row == 8:
        assert len(slices) == 1


def test_sizes_are_told_in_gigabytes():
    assert gigabytes(3 * 2**30) == "3 GB"
    assert gigabytes(2**20) == "0.000977 GB"


# Device


def test_device_is_cpu_unless_another_one_pays(monkeypatch):
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto", flops=1e3) == CPU
    assert resolve_device("auto", flops=1e13) == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"device='cuda:2' is not available.*'cuda:0', 'cuda:1'"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps", "tpu", "CPU", "cuda:x"])
def test_missing_device_is_an_error_that_lists_what_is_there(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=rf"device='{device}' is not available; 'auto' or one of \['cpu'\] is"):
        resolve_device(device)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", ["regressor", "classifier", "network"])
def test_the_default_device_of_torch_is_not_asked(case):
    """ "meta" stands for a GPU: its tensors have no values, and go into no sum with others."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = X[:, 0] + 0.1 * rng.normal(size=60)
    model = GNRegressor(4, n_estimators=2, max_iter=3, random_state=0)
    if case == "network":
        network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1))
        model = GNRegressor(network=network, n_estimators=2, max_iter=3, random_state=0)
    if case == "classifier":
        model, y = GNClassifier(4, n_estimators=2, max_iter=3, random_state=0), y > 0

    def results():
        model.fit(X, y)
        if case == "classifier":
            return [model.predict_proba(X), to_torch(model)(torch.from_numpy(X)).detach().numpy()]
        exported = to_torch(model, return_std=True)(torch.from_numpy(X))
        mean, std = model.predict(X, return_std=True)
        return [mean, std, model.sample_y(X), *(each.detach().numpy() for each in exported)]

    expected = results()
    with torch.device("meta"):
        found = results()
    for values, others in zip(found, expected, strict=True):
        np.testing.assert_array_equal(values, others)


def test_systems_are_solved_where_there_is_float64():
    assert linear_algebra_device(CPU) == CPU
    assert linear_algebra_device(torch.device("cuda:1")) == torch.device("cuda:1")
    assert linear_algebra_device(torch.device("mps")) == CPU


def test_sum_of_single_precision_keeps_small_terms():
    values = torch.full((2**20,), 2.0**-30)
    values[0] = 1.0
    total = sum_float64(values)
    assert total.dtype == torch.float64
    assert float(total) == 1 + (2**20 - 1) * 2.0**-30


# Denormals

#: The smallest normal number of float32, and a half, whose product is denormal.
TINY, HALF = torch.tensor([2.0**-126]), torch.tensor([0.5])


def test_denormals_are_taken_for_0_within_only():
    assert not flushes_denormals() and float(TINY * HALF) == 2.0**-127
    with denormals_flushed():
        assert flushes_denormals() and float(TINY * HALF) == 0 and float(TINY * 1) == 2.0**-126
        with denormals_flushed(False):
            assert not flushes_denormals() and float(TINY * HALF) == 2.0**-127
        assert flushes_denormals()
    assert not flushes_denormals()
    with denormals_flushed(False):
        assert not flushes_denormals()


def test_denormals_are_as_before_after_an_error():
    with pytest.raises(KeyError), denormals_flushed():
        raise KeyError
    assert not flushes_denormals()


class Looks:
    """A damping rule that looks whether denormals are flushed."""

    step_size = 1.0

    def __init__(self):
        self.seen = set()

    def initial(self, at):
        self.seen.add(flushes_denormals())
        return at.curvature

    def accepted(self, damping, gain_ratio, at):
        return self.initial(at)

    def rejected(self, damping, at):
        return 4 * damping


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_training_has_no_denormals(n_jobs):
    looks, X = Looks(), np.random.RandomState(0).normal(size=(30, 2))
    GNRegressor((3,), damping=looks, n_estimators=2, n_jobs=n_jobs, max_iter=5, random_state=0).fit(X, X[:, 0])
    assert looks.seen == {True} and not flushes_denormals()


class LooksToo(Silent):
    """A callback that looks whether denormals are flushed."""

    def on_fit_task_begin(self, estimator, context):
        self.seen.add(flushes_denormals())

    def on_fit_task_end(self, estimator, context):
        self.seen.add(flushes_denormals())


def test_callbacks_find_denormals_as_the_caller_has_them():
    pytest.importorskip("sklearn.callback", reason="sklearn.callback comes with scikit-learn 1.9")
    looks, X = LooksToo(), np.random.RandomState(0).normal(size=(30, 2))
    model = GNRegressor((3,), n_estimators=2, random_state=0).set_callbacks(looks)
    model.fit(X, X[:, 0])
    assert looks.seen == {False}
    looks.seen.clear()
    with denormals_flushed():
        model.fit(X, X[:, 0])
    assert looks.seen == {True}
