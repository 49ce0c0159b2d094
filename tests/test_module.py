"""`network=`: any torch module, against automatic differentiation and the built-in network."""

import copy
import itertools
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import curve_fit
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.preprocessing import scale
from torch import nn

from skgn import GNClassifier, GNRegressor
from skgn.damping import GainRatio
from skgn.feedforward import FeedForward
from skgn.jacobian import Jacobian
from skgn.module import ModuleNetwork, _PlainAttention
from skgn.network import unrecorded


class TwoBranches(nn.Module):
    """One part of the columns through a hidden layer, the other one linear; a parameter of its own scales the sum."""

    def __init__(self, n_outputs=1):
        super().__init__()
        self.bend, self.mix = nn.Linear(3, 6), nn.Linear(6, n_outputs)
        self.straight = nn.Linear(2, n_outputs, bias=False)
        self.scale = nn.Parameter(torch.ones(n_outputs))

    def reset_parameters(self):
        nn.init.ones_(self.scale)

    def forward(self, X):
        return self.scale * (self.mix(torch.tanh(self.bend(X[:, :3]))) + self.straight(X[:, 3:]))


def convolution(n_outputs=10):
    """Images of 8 x 8 pixels, given as rows."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 4, 3, stride=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(36, n_outputs),
    )


class Attention(nn.Module):
    """Each column is a token; `need_weights=False` asks torch for its fast kernels."""

    def __init__(self):
        super().__init__()
        self.token, self.place = nn.Linear(1, 4), nn.Linear(5, 4, bias=False)
        self.attention, self.mix = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 2)

    def forward(self, X):
        tokens = torch.tanh(self.token(X[..., None]) + self.place.weight.T)
        return self.mix(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))


def encoder():
    layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
    return nn.Sequential(nn.Unflatten(1, (5, 1)), nn.Linear(1, 4), layer, nn.Flatten(), nn.Linear(20, 1))


def perceptron(n_inputs, *widths):
    layers = [nn.LazyLinear(widths[0])] if n_inputs is None else [nn.Linear(n_inputs, widths[0])]
    for into, out in itertools.pairwise(widths):
        layers += [nn.Tanh(), nn.Linear(into, out)]
    return nn.Sequential(*layers)


MODULES = {
    "perceptron": (lambda: perceptron(5, 4, 3, 2), 5, 2),
    "two branches": (lambda: TwoBranches(2), 5, 2),
    "convolution": (lambda: convolution(3), 64, 3),
    "normalised": (lambda: nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 1)), 5, 1),
    "attention": (Attention, 5, 2),
    "encoder": (encoder, 5, 1),
    "frozen": (lambda: nn.Sequential(nn.Linear(5, 4).requires_grad_(False), nn.SiLU(), nn.Linear(4, 1)), 5, 1),
}


@pytest.fixture(params=MODULES)
def case(request):
    """A network at random weights, inputs, and the dense Jacobian (n, k, P) from torch.autograd."""
    make, d, k = MODULES[request.param]
    torch.manual_seed(0)
    network = ModuleNetwork(make(), d, k, alpha=2.0)
    rng = np.random.RandomState(0)
    w = torch.from_numpy(network.initial_weights(rng))
    X = torch.from_numpy(rng.standard_normal((7, d)))
    module = network.trained(w.numpy())
    trainable = [p for p in module.parameters() if p.requires_grad]

    def outputs(*parameters):
        names = [name for name, p in module.named_parameters() if p.requires_grad]
        return 2.0 * torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (X,))

    parts = torch.autograd.functional.jacobian(outputs, tuple(trainable))
    J = torch.cat([part.reshape(len(X), k, -1) for part in parts], 2)
    return network, w, network.with_bias(X), outputs(*trainable).detach(), J


def test_outputs_and_products_are_those_of_automatic_differentiation(case):
    network, w, U, f, J = case
    torch.testing.assert_close(network.forward(U, w)[0], f)
    jacobian = Jacobian.of_outputs(network, w, U)
    v, g = torch.linspace(-1, 1, len(w), dtype=w.dtype), torch.linspace(0, 1, f.numel(), dtype=w.dtype).view_as(f)
    torch.testing.assert_close(jacobian.network_jvp(v), J @ v)
    torch.testing.assert_close(jacobian.network_vjp(g), torch.einsum("nk,nkp->p", g, J))
    dense = J.flatten(0, 1)
    torch.testing.assert_close(jacobian.factors().dense(), dense)
    torch.testing.assert_close(jacobian.gram(), dense.T @ dense)
    scale = [torch.full((1,), 1.0 + layer, dtype=w.dtype) for layer in range(len(network.shapes))]
    torch.testing.assert_close(jacobian.kernel(scale), dense @ torch.diag(network.expand(scale)) @ dense.T)


def test_exchanged_inputs_are_those_of_the_other_row(case):
    network, w, U, f, _ = case
    partner = U.flip(0)
    whole, none = network.forward_exchanged(U, partner, w, [torch.arange(network.n_inputs), torch.arange(0)])
    torch.testing.assert_close(whole, f.flip(0))
    torch.testing.assert_close(none, f)


def test_a_module_does_not_change_and_is_shared_with_nobody():
    module = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 1))
    before, mode = copy.deepcopy(module.state_dict()), module.training
    X = np.random.RandomState(0).standard_normal((60, 5))
    torch_state = torch.get_rng_state()
    model = GNRegressor(network=module, random_state=0).fit(X, X[:, 0])
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert module.training is mode and model.network is module
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.grad is None


@pytest.mark.parametrize("solver", ["primal", "dual", "cg"])
@pytest.mark.parametrize("alpha", [1.0, 0.1])
def test_a_module_of_the_built_in_architecture_trains_like_it(solver, alpha):
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:100], y[:100]
    settings = {
        "l2_regularization": 1e-2,
        "n_estimators": 1,
        "damping": GainRatio(),
        "standardize": "robust",
        "alpha": alpha,
        "random_state": 0,
        "solver": solver,
        "max_iter": 12,
    }
    module = perceptron(10, 6, 4, 1).double()
    built_in, own = GNRegressor((6, 4), linear_path=False, **settings), GNRegressor(network=module, **settings)
    with warnings.catch_warnings():
        # Twelve iterations: later ones have amplified rounding errors.
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = clone(built_in).set_params(max_iter=0).fit(X, y)
        for part, coef, intercept in zip(module[::2], start.coefs_, start.intercepts_, strict=True):
            part.load_state_dict({"weight": torch.from_numpy(coef.T), "bias": torch.from_numpy(intercept)})
        built_in.fit(X, y), own.fit(X, y)
    np.testing.assert_allclose(own.loss_curve_, built_in.loss_curve_, rtol=1e-5 if solver == "cg" else 1e-8)
    np.testing.assert_allclose(own.predict(X), built_in.predict(X), rtol=1e-3 if solver == "cg" else 1e-6)
    if solver != "cg":
        std = (model.predict(X, return_std=True)[1] for model in (own, built_in))
        np.testing.assert_allclose(*std, rtol=1e-5)


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_evidence_of_a_linear_module_is_that_of_the_built_in_linear_model(solver):
    X, y = load_diabetes(return_X_y=True)
    settings = {"n_estimators": 1, "random_state": 0, "solver": solver, "tol": 1e-9, "max_iter": 500}
    settings |= {"standardize": "rank", "loss": "squared_error", "prior_groups": "layer"}
    own = GNRegressor(network=nn.LazyLinear(1), **settings).fit(X[:90], y[:90])
    built_in = GNRegressor((), **settings).fit(X[:90], y[:90])
    assert own.log_evidence_ == pytest.approx(built_in.log_evidence_, abs=1e-3)
    assert own.n_effective_parameters_ == pytest.approx(built_in.n_effective_parameters_, rel=1e-3)
    np.testing.assert_allclose(own.predict(X), built_in.predict(X), rtol=1e-3)


def test_two_branches_find_a_relation_of_that_form():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((300, 5))
    y = np.sin(2 * X[:, 0]) * X[:, 1] + X[:, 3] - 2 * X[:, 4] + 0.1 * rng.standard_normal(300)
    model = GNRegressor(network=TwoBranches(), n_estimators=4, random_state=0).fit(X[:200], y[:200])
    assert model.score(X[200:], y[200:]) > 0.9 > Ridge().fit(X[:200], y[:200]).score(X[200:], y[200:])
    mean, std = model.predict(X[200:], return_std=True)
    assert np.mean(np.abs(mean - y[200:]) < 1.645 * std) > 0.75
    assert len(model.estimators_) == 4
    assert len({member.weights.tobytes() for member in model.estimators_}) == 4
    assert [part.shape for part in model.coefs_] == [(1,), (6, 3), (6,), (1, 6), (1,), (1, 2)]
    assert model.intercepts_ == []
    assert model.feature_relevance_.sum() == pytest.approx(1)


def test_a_convolution_reads_digits():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, train_size=250, random_state=0, stratify=y)
    model = GNClassifier(
        network=convolution(), standardize=False, n_estimators=1, l2_regularization=1e-3, max_iter=8, random_state=0
    )
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    assert model.score(X_test, y_test) > 0.88
    assert model.predict_proba(X_test).shape == (len(X_test), 10)


def test_the_trained_module_gives_the_outputs_of_the_best_member():
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(network=perceptron(None, 5, 1), n_estimators=1, random_state=0, standardize=False)
    model.set_params(l2_regularization=1e-3, alpha=2.0).fit(X, scale(y))
    with torch.no_grad():
        f = model.network_(torch.from_numpy(X))
    np.testing.assert_allclose(2.0 * f.numpy()[:, 0], model.predict(X), rtol=1e-10)
    assert not hasattr(GNRegressor((), n_estimators=1).fit(X, y), "network_")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_generators_of_other_devices_stay_as_they_are(monkeypatch):
    """A mock: without a CUDA device its generators are seeded once there is one."""
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: False)
    X, y = load_diabetes(return_X_y=True)
    module = nn.Sequential(nn.LazyLinear(2), nn.Tanh(), nn.Linear(2, 1))
    GNRegressor(network=module, n_estimators=2, l2_regularization=1e-2, max_iter=1).fit(X, y)
    assert not seeded
    torch.manual_seed(0)
    assert seeded == [0]


def test_a_single_network_begins_from_its_own_weights_and_so_does_the_first_of_several():
    X, y = load_iris(return_X_y=True)
    torch.manual_seed(3)
    module = perceptron(4, 3, 3)
    own = torch.cat([p.detach().double().flatten() for p in module.parameters()])
    for n_estimators in (1, 3):
        model = GNClassifier(network=module, n_estimators=n_estimators, max_iter=0, l2_regularization=0.1)
        with pytest.warns(ConvergenceWarning):
            model.fit(X, y)
        kept = [np.array_equal(member.weights, own) for member in model.estimators_]
        assert len(kept) == n_estimators and sum(kept) == 1


def test_initial_weights_follow_the_random_state_of_the_fit():
    X, y = load_iris(return_X_y=True)
    model = GNClassifier(network=perceptron(4, 3, 3), n_estimators=2, l2_regularization=0.1, max_iter=0)

    def drawn(seed):
        with pytest.warns(ConvergenceWarning):
            members = clone(model).set_params(random_state=seed).fit(X, y).estimators_
        return {member.weights.tobytes() for member in members}

    # One of two has the module's own weights whatever the seed.
    assert drawn(0) == drawn(0)
    assert len(drawn(0) & drawn(1)) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"init": "centered"},
        {"dtype": "float32"},
        {"batch_size": 110, "l2_regularization": 1e-2},
        {"early_stopping": True},
        {"loss": "student_t"},
        {"damping": 1e-2, "l2_regularization": 1e-3},
        {"n_jobs": 2},
        {"prior_groups": "shared"},
    ],
    ids=str,
)
def test_the_options_of_the_estimator_hold_for_a_module(settings):
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(network=perceptron(None, 5, 1), n_estimators=2, tol=1e-2, random_state=0, **settings)
    model.fit(X[::2], y[::2])
    assert model.score(X[1::2], y[1::2]) > 0.25


def test_members_in_threads_do_not_lend_each_other_their_weights():
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(network=perceptron(None, 8, 1), tol=1e-2, random_state=0)
    one, two = (clone(model).set_params(n_jobs=n_jobs).fit(X, y).predict(X) for n_jobs in (1, 4))
    np.testing.assert_array_equal(one, two)


def test_streams_warm_starts_searches_and_pickles():
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(network=perceptron(None, 4, 1), n_estimators=2, tol=1e-2, random_state=0, standardize="robust")
    candidates = [perceptron(None, 4, 1), TwoBranches()]
    search = GridSearchCV(model, {"network": candidates}, cv=2, error_score=-9)
    with pytest.warns(FitFailedWarning, match="fits failed"):
        # Two branches are for five columns, and here are ten.
        search.fit(X, y)
    assert isinstance(search.best_params_["network"], nn.Sequential)
    model.set_params(warm_start=True).fit(X, y)
    before = model.predict(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), before)
    assert model.fit(X, y).n_iter_ >= 1
    with pytest.raises(ValueError, match="warm_start"):
        model.set_params(network=perceptron(None, 3, 1)).fit(X, y)
    stream = clone(model).set_params(warm_start=False)
    for block in np.array_split(np.random.RandomState(0).permutation(len(X)), 2):
        stream.partial_fit(X[block], y[block])
    assert stream.score(X, y) > 0.4


def test_the_choice_of_attention_kernels_is_given_back():
    """torch keeps it for the whole process: the first thread to enter takes it, the last to leave gives it back."""
    kernels = torch.backends.cuda
    before = kernels.flash_sdp_enabled(), kernels.mem_efficient_sdp_enabled(), kernels.math_sdp_enabled()
    context = _PlainAttention()
    try:
        kernels.enable_mem_efficient_sdp(False)
        context.__enter__(), context.__enter__(), context.__exit__()
        assert not kernels.flash_sdp_enabled() and kernels.math_sdp_enabled()
        context.__exit__()
        after = kernels.flash_sdp_enabled(), kernels.mem_efficient_sdp_enabled(), kernels.math_sdp_enabled()
        assert after == (before[0], False, before[2])
    finally:
        kernels.enable_mem_efficient_sdp(before[1])


def test_a_warm_start_reads_through_the_trunk_that_it_is_given():
    torch.manual_seed(0)
    X = np.random.RandomState(0).standard_normal((80, 3))
    trunks = [perceptron(3, 4, 1) for _ in range(2)]
    for trunk in trunks:
        trunk[0].requires_grad_(False)
    model = GNRegressor(network=trunks[0], n_estimators=1, l2_regularization=1e-3, warm_start=True, random_state=0)
    model.fit(X, X[:, 0]).set_params(network=trunks[1]).fit(X, X[:, 0])
    assert torch.equal(model.network_[0].weight, trunks[1][0].weight.double())
    fresh = clone(model).fit(X, X[:, 0])  # The head is a linear model: there is one minimum.
    np.testing.assert_allclose(model.predict(X), fresh.predict(X), rtol=1e-3, atol=1e-3)


class Crosswise(nn.Module):
    """Centres the rows: outputs depend on each other."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(10, 1)

    def forward(self, X):
        return self.linear(X - X.mean(0))


class Normalised(nn.Linear):
    """Normalises by the batch, which may not be a single row."""

    def __init__(self):
        super().__init__(10, 1)
        self.norm = nn.BatchNorm1d(1, track_running_stats=False)

    def forward(self, X):
        return self.norm(super().forward(X))


class Fixed(nn.Linear):
    """Cannot draw weights."""

    def __init__(self):
        super().__init__(10, 1)
        self.weight, self.bias = nn.Parameter(torch.ones(1, 10)), nn.Parameter(torch.zeros(1))
        self.reset_parameters = None


class Tuple(nn.Linear):
    def forward(self, X):
        return super().forward(X), X


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"network": nn.Linear(3, 1)}, ValueError, "failed on 3 rows of 10"),
        ({"network": nn.Linear(10, 2)}, ValueError, r"this fit needs \(3, 1\)"),
        ({"network": Tuple(10, 1)}, TypeError, "must return a tensor"),
        ({"network": Crosswise()}, ValueError, "each row on its own"),
        ({"network": Normalised()}, ValueError, "cannot differentiate network=Normalised"),
        ({"network": nn.Linear(10, 1).requires_grad_(False)}, ValueError, "no parameter that requires a gradient"),
        ({"network": Fixed()}, ValueError, "reset_parameters"),
        ({"network": nn.Linear(10, 1), "init": "symmetric"}, ValueError, "centered"),
        ({"network": nn.Linear(10, 1), "prior_groups": "feature"}, ValueError, "prior_groups='layer'|use 'layer'"),
        ({"network": nn.Linear(10, 1), "hidden_layer_sizes": (5,)}, ValueError, "hidden_layer_sizes"),
        ({"network": nn.Linear(10, 1), "linear_path": False}, ValueError, "linear_path"),
        ({"network": nn.Linear}, ValueError, "network"),
        ({"network": "mlp"}, ValueError, "network"),
    ],
)
def test_what_cannot_be_trained_is_told_before_any_work(settings, error, message):
    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(**settings)
    with pytest.raises(error, match=message):
        model.fit(X, y)
    assert not hasattr(model, "estimators_")


class Power(nn.Module):
    """A formula for positive numbers: factor * x ** power + offset."""

    def __init__(self, power=1.0):
        super().__init__()
        self.factor, self.power, self.offset = (nn.Parameter(torch.tensor(x)) for x in (1.0, power, 0.0))

    def forward(self, X):
        return self.factor * X[:, 0] ** self.power + self.offset


class Lookup(nn.Module):
    """A number for each of five levels."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 1)

    def forward(self, X):
        return self.table(X[:, 0].long())


def test_a_formula_for_positive_numbers_finds_the_constants_of_least_squares():
    rng = np.random.RandomState(0)
    x = rng.uniform(1, 4, 80)
    y = 3 * x**1.7 + 0.1 * rng.standard_normal(80)
    model = GNRegressor(network=Power(), standardize=False, n_estimators=1, l2_regularization=0.0).fit(x[:, None], y)
    (_, power, _), _ = curve_fit(lambda x, factor, power, offset: factor * x**power + offset, x, y, p0=(1, 1, 0))
    assert model.coefs_[1] == pytest.approx(power, rel=1e-5)


def test_an_embedding_reads_indices():
    levels = np.tile(np.arange(5.0), 20)
    y = np.array([0.0, 3.0, -2.0, 1.0, 5.0])[levels.astype(int)]
    model = GNRegressor(network=Lookup(), standardize=False, n_estimators=1, l2_regularization=0.0)
    np.testing.assert_allclose(model.fit(levels[:, None], y).predict(levels[:, None]), y, atol=1e-6)


class Total(nn.Linear):
    """Makes one number of all rows."""

    def forward(self, X):
        return super().forward(X).sum()


@pytest.mark.parametrize("k", [1, 2])
def test_one_number_for_all_rows_is_no_output(k):
    X = np.linspace(-1, 1, 40).reshape(20, 2)
    with pytest.raises(ValueError, match=rf"to the shape \(\); this fit needs \(3, {k}\)"):
        GNRegressor(network=Total(2, k)).fit(X, X[:, :k])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_outputs_that_are_not_finite_are_refused(method):
    X = np.linspace(-1, 1, 60)[:, None]
    model = GNRegressor(network=Power(0.5), n_estimators=1, random_state=0)
    with pytest.raises(ValueError, match="network=Power has outputs that are not finite numbers"):
        getattr(model, method)(X, X[:, 0])
    assert not hasattr(model, "estimators_")
    with pytest.raises(ValueError, match="network=Power has weights that are not finite"):
        getattr(model.set_params(network=Power(float("nan"))), method)(X, X[:, 0])


def test_weights_that_cannot_be_drawn_do_for_a_single_network():
    X, y = load_diabetes(return_X_y=True)
    assert GNRegressor(network=Fixed(), n_estimators=1).fit(X, y).score(X, y) > 0.4


class Watched(nn.Module):
    """A line that notes whether it is ever evaluated in torch's inference mode."""

    def __init__(self):
        super().__init__()
        self.line, self.modes = nn.Linear(2, 1), set()

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.modes.add(torch.is_inference_mode_enabled())
        return self.line(x)


def test_torch_never_differentiates_in_inference_mode():
    """There torch 2.3 to 2.9 has derivatives that are wrong, without an error: fits ended at once."""
    module, X = Watched(), np.random.default_rng(0).normal(size=(40, 2))
    model = GNRegressor(network=module, n_estimators=1, random_state=0, max_iter=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, X[:, 0])
    assert module.modes == {False}
    # Other networks are trained in it, which is faster.
    with unrecorded([FeedForward(2, 1, (3,))]):
        assert torch.is_inference_mode_enabled()
