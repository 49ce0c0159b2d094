import dense
import numpy as np
import pytest
import torch
from dense import NETWORKS, draw
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

from skgn import GNClassifier, GNRegressor
from skgn.dynamics import gauss_newton_flow
from skgn.estimator import network_on
from skgn.feedforward import FeedForward
from skgn.label_losses import LogLoss, SoftmaxLoss
from skgn.losses import SquaredError
from skgn.objective import Objective

INITS_AT_ZERO = [
    FeedForward(3, k, hidden, activation, linear_path, alpha, init)
    for init in ("symmetric", "centered")
    for k, hidden, activation, linear_path, alpha in [
        (1, (2,), "tanh", True, 1.0),
        (3, (6,), "softplus", False, 100.0),
        (3, (6, 4), "gelu", True, 0.01),
        (1, (4, 6, 8), "logistic", False, 7.0),
        (2, (50,), "relu", True, 1.0),
        (2, (), "tanh", True, 3.0),
    ]
] + [FeedForward(3, 2, (6,), init=init, n_straight=2) for init in ("symmetric", "centered")]


@pytest.fixture(params=NETWORKS, ids=dense.name)
def network(request):
    return request.param


@pytest.fixture
def point(network):
    """Inputs with bias, general weights, and the outputs' dense Jacobian (n, k, P)."""
    X, w = draw(17, 3), 0.7 * draw(network.n_weights, seed=1)
    return X, network.with_bias(X), w, dense.jacobian(network, w, X)


def test_forward_matches_the_definition(network, point):
    X, U, w, _ = point
    torch.testing.assert_close(network.forward(U, w)[0], dense.forward(network, w, X), rtol=1e-12, atol=1e-13)
    single = network.forward(U.float(), w.float())[0]
    assert single.dtype == torch.float32
    scale = float(dense.forward(network, w, X).abs().max())
    torch.testing.assert_close(single.double(), dense.forward(network, w, X), rtol=1e-5, atol=1e-5 * scale)


def test_vjp_and_jvp_match_autograd(network, point):
    _, U, w, J = point
    tape = network.forward(U, w)[1]
    g, v = draw(17, network.n_outputs, seed=2), draw(network.n_weights, seed=3)
    torch.testing.assert_close(network.vjp(tape, w, g), torch.einsum("nkp,nk->p", J, g), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(network.jvp(tape, w, v), J @ v, rtol=1e-10, atol=1e-12)


def test_backward_rows_are_the_factors_of_the_jacobian(network, point):
    _, U, w, J = point
    tape = network.forward(U, w)[1]
    columns = draw(17, network.n_outputs, 2, seed=4)
    rows = network.backward(tape, w, columns)
    outer = [(d[..., None] * u[:, None, None, :]).flatten(2) for d, u in zip(rows, tape.inputs, strict=True)]
    expected = torch.einsum("nkp,nkc->ncp", J, columns)
    torch.testing.assert_close(torch.cat(outer, 2), expected, rtol=1e-10, atol=1e-12)


def test_split_and_expand_use_the_same_layout(network):
    per_input = [draw(into, seed=into) for _, into in network.shapes]
    for W, row in zip(network.split(network.expand(per_input)), per_input, strict=True):
        assert bool((W == row).all())


def test_weight_count_of_known_architectures():
    assert FeedForward(4, 2, ()).n_weights == 2 * 5
    assert FeedForward(4, 2, (7,)).n_weights == 7 * 5 + 2 * (7 + 4 + 1)
    assert FeedForward(4, 2, (7, 3), linear_path=False).n_weights == 7 * 5 + 3 * 8 + 2 * 4
    assert FeedForward(4, 2, (), n_straight=3).n_weights == 2 * 4
    assert FeedForward(4, 2, (7,), n_straight=3).n_weights == 7 * 2 + 2 * (7 + 3 + 1)
    assert FeedForward(4, 2, (7,), linear_path=False, n_straight=3).n_weights == 7 * 2 + 2 * 8
    # As many straight columns as others: no weight more than if both paths read the same.
    assert FeedForward(8, 2, (7,), n_straight=4).n_weights == FeedForward(4, 2, (7,)).n_weights


def test_kinds_of_inputs_and_their_first_precisions_tell_the_paths_apart(network):
    *_, last = range(len(network.shapes))
    for layer, (_, into) in enumerate(network.shapes):
        assert sum(network.input_blocks(layer)) == into
        assert network.fan_in(layer).shape == (into,)
    direct = [1.0] * (network.shapes[-1][1] - 1)
    if network.hidden_layer_sizes:
        h = network.hidden_layer_sizes[-1]
        direct = [float(h)] * h + direct[h:]
        linear = network.n_straight or network.n_inputs
        assert network.input_blocks(last) == [h, *([linear] if network.linear_path else []), 1]
        assert network.input_blocks(0) == [network.n_inputs - network.n_straight, 1]
    assert network.fan_in(last).tolist() == [*direct, 1.0]
    assert network.readout.shapes == network.shapes[-1:]


def test_initial_weights_depend_on_the_generator_only(network):
    a, b = (network.initial_weights(np.random.RandomState(3)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert a.shape == (network.n_weights,)
    if network.hidden_layer_sizes:
        assert not np.array_equal(a, network.initial_weights(np.random.RandomState(4)))


def test_initial_outputs_have_unit_order_whatever_the_width():
    X = draw(200, 30)
    for width in (10, 1000):
        network = FeedForward(30, 1, (width,), "identity")
        draws = [
            dense.forward(network, torch.from_numpy(network.initial_weights(np.random.RandomState(seed))), X)
            for seed in range(20)
        ]
        assert 0.5 < float(torch.stack(draws).std()) < 2.0


@pytest.mark.parametrize("init", ["random", "centered"])
def test_random_starts_break_the_symmetry_of_units(init):
    network = FeedForward(3, 1, (8,), init=init)
    w = torch.from_numpy(network.initial_weights(np.random.RandomState(0)))
    J = dense.jacobian(network, w, draw(100, 3))[:, 0]
    assert int(torch.linalg.matrix_rank(J)) == network.n_weights


@pytest.mark.parametrize("network", INITS_AT_ZERO, ids=dense.name)
@pytest.mark.parametrize("budget", ["256", "0.002"], ids=["one-chunk", "chunks"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_output_at_the_start_is_exactly_zero(network, budget, dtype, monkeypatch):
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", budget)
    # 181 rows: no multiple of a vector register, so that every kernel has left-over elements.
    X = torch.cat([draw(149, 3), 1e3 * draw(30, 3), torch.zeros(1, 3), torch.full((1, 3), -1e6)]).to(dtype)
    w = torch.from_numpy(network.initial_weights(np.random.RandomState(0)))
    anchor = w if network.init == "centered" else None
    Y = torch.zeros(len(X), network.n_outputs)
    objective = Objective(network, SquaredError(), X, Y, torch.ones(len(X))).for_member(anchor)
    outputs = objective.evaluate(w).outputs
    assert outputs.shape == (len(X), network.n_outputs)
    assert bool((outputs == 0.0).all())
    if network.hidden_layer_sizes:
        # The start is no stationary point: outputs move with the weights.
        assert float(objective.evaluate(w + 0.1 * draw(len(w))).outputs.abs().max()) > 0


def test_symmetric_start_is_rank_deficient_and_centered_is_not():
    X = draw(200, 3)
    ranks = {}
    for init in ("symmetric", "centered"):
        network = FeedForward(3, 1, (6,), init=init)
        w = torch.from_numpy(network.initial_weights(np.random.RandomState(0)))
        ranks[init] = int(torch.linalg.matrix_rank(dense.jacobian(network, w, X)[:, 0]))
    # Paired units share a Jacobian direction: at most half of the hidden and readout weights count.
    assert ranks == {"symmetric": 3 * (4 + 1) + 4, "centered": 6 * (4 + 1) + 4}


@pytest.mark.parametrize("hidden", [(5,), (6, 3), (1, 2)])
def test_symmetric_start_refuses_odd_widths(hidden):
    with pytest.raises(ValueError, match=r"even widths.*\(" + str(hidden[0])):
        FeedForward(3, 1, hidden, init="symmetric")


OBJECTIVES = [
    (SquaredError(), FeedForward(3, 2, (6, 4), "tanh", alpha=2.0)),
    (SquaredError(), FeedForward(3, 1, ())),
    (LogLoss(), FeedForward(3, 1, (5,), "softplus", alpha=0.5)),
    (LogLoss(), FeedForward(3, 3, (5,), "gelu", linear_path=False)),
    (SoftmaxLoss(), FeedForward(3, 3, (6, 4), "silu", alpha=3.0)),
    (SoftmaxLoss(), FeedForward(3, 3, (6,), "tanh", init="centered")),
    (SquaredError(), FeedForward(3, 2, (4,), "tanh", n_straight=2)),
]


@pytest.mark.parametrize(("loss", "network"), OBJECTIVES, ids=lambda c: getattr(c, "init", type(c).__name__))
@pytest.mark.parametrize("budget", ["256", "0.002"], ids=["one-chunk", "chunks"])
def test_objective_is_the_weighted_mean_and_its_gradient_matches_finite_differences(loss, network, budget, monkeypatch):
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", budget)
    n, k = 60, network.n_outputs
    X, s = draw(n, 3), draw(n, seed=8).abs() + 0.01
    Y = draw(n, k, seed=9) if isinstance(loss, SquaredError) else torch.eye(k)[torch.arange(n) % k].double()
    w0, w = 0.5 * draw(network.n_weights, seed=1), 0.5 * draw(network.n_weights, seed=2)
    anchor = w0 if network.init == "centered" else None
    objective = Objective(network, loss, X, Y, s).for_member(anchor)

    def value(v):
        f = dense.forward(network, v, X) - (0 if anchor is None else dense.forward(network, anchor, X))
        return float((s * loss.value(f, Y)).sum() / s.sum())

    at = objective.evaluate(w)
    assert at.loss == pytest.approx(value(w), rel=1e-12)
    assert objective.total_weight == pytest.approx(float(s.sum()), rel=1e-14)
    h = 1e-5
    slopes = [(value(w + h * e) - value(w - h * e)) / (2 * h) for e in torch.eye(len(w), dtype=torch.float64)]
    np.testing.assert_allclose(objective.gradient(at), slopes, rtol=1e-6, atol=1e-8)


def test_weights_stay_float64_where_data_are_float32():
    network = FeedForward(3, 1, (5,))
    X, w = draw(40, 3), draw(network.n_weights, seed=1)
    single = Objective(network, SquaredError(), X.float(), torch.zeros(40, 1), torch.ones(40))
    double = Objective(network, SquaredError(), X, torch.zeros(40, 1).double(), torch.ones(40).double())
    gradient = single.gradient(single.evaluate(w))
    assert gradient.dtype == torch.float64
    torch.testing.assert_close(gradient, double.gradient(double.evaluate(w)), rtol=1e-4, atol=1e-6)
    # Steps are tested against the rounding of the dtype in which the objective was computed.
    ratio = single.rounding_error(1.0) / double.rounding_error(1.0)
    assert ratio == np.finfo(np.float32).eps / np.finfo(np.float64).eps


@pytest.mark.parametrize("blocks", [[[0], [1, 3], [2], []], [[0, 2], [1, 3]]], ids=str)
@pytest.mark.parametrize("n_straight", [0, 1, 2])
@pytest.mark.parametrize("linear_path", [True, False])
@pytest.mark.parametrize("hidden", [(), (5,), (4, 6)])
def test_inputs_exchanged_equal_a_forward_pass_on_the_exchanged_inputs(hidden, linear_path, n_straight, blocks):
    rng = np.random.RandomState(0)
    network = FeedForward(4, 2, hidden, linear_path=linear_path, alpha=1.7, n_straight=n_straight)
    w = torch.from_numpy(rng.standard_normal(network.n_weights))
    U = FeedForward.with_bias(torch.from_numpy(rng.standard_normal((11, 4))))
    partner = U.roll(-5, 0)
    outputs = list(network.forward_exchanged(U, partner, w, [torch.tensor(b, dtype=torch.long) for b in blocks]))
    for block, f in zip(blocks, outputs, strict=True):
        exchanged = U.clone()
        exchanged[:, block] = partner[:, block]
        np.testing.assert_allclose(f, network.forward(exchanged, w)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_a_lazy_network_is_kernel_ridge_regression_with_its_tangent_kernel(solver):
    """A prior of mean 0 would pull a centred network of a large alpha towards minus the initial one, times alpha."""
    X, y = load_diabetes(return_X_y=True)
    X, new, z, alpha, l2 = scale(X[:80, 2:5]), scale(X[80:100, 2:5]), scale(y[:80]), 1e4, 1e7
    estimator = GNRegressor(
        (6,), alpha=alpha, init="centered", l2_regularization=l2, solver=solver, standardize=False, n_estimators=1
    )
    _, w0 = network_on(estimator.set_params(random_state=0, tol=1e-8), X, z)
    network = FeedForward(3, 1, (6,), alpha=alpha)
    J, J_new = (
        torch.autograd.functional.jacobian(lambda w, X=X: dense.forward(network, w, torch.tensor(X))[:, 0], w0).numpy()
        for X in (X, new)
    )
    expected = J_new @ J.T @ np.linalg.solve(J @ J.T + len(z) * l2 * np.eye(len(z)), z)
    model = estimator.fit(X, z)
    np.testing.assert_allclose(model.predict(new), expected, atol=2e-3)
    assert np.ptp(expected) > 0.5 and model.history_["distance_from_init"][-1] < 1e-3


@pytest.mark.parametrize("init", ["random", "symmetric", "centered"])
@pytest.mark.parametrize("batch_size", [None, 40])
def test_an_infinite_penalty_leaves_a_constant(init, batch_size):
    X, y = load_diabetes(return_X_y=True)
    common = {"init": init, "l2_regularization": 1e6, "n_estimators": 1, "batch_size": batch_size, "random_state": 0}
    regressor = GNRegressor((6,), **common).fit(X[:200], y[:200])
    np.testing.assert_allclose(regressor.predict(X[200:]), y[:200].mean(), rtol=1e-3)
    classifier = GNClassifier((6,), **common).fit(X[:200], y[:200] > 140)
    np.testing.assert_allclose(classifier.predict_proba(X[200:]), 0.5, atol=1e-3)


def test_the_penalty_of_a_centered_network_is_0_at_its_start():
    X, y = load_diabetes(return_X_y=True)
    network = GNRegressor((6,), init="centered", damping=0.1, n_estimators=1, random_state=0)
    histories = [network.set_params(l2_regularization=l2).fit(X, y).history_ for l2 in (0.1, 1.0)]
    for history in histories:
        np.testing.assert_allclose([history["objective"][0], history["loss"][0]], 0.5)
        assert history["gradient_norm"][0] == histories[0]["gradient_norm"][0]
    # A flow begins where the fit has ended.
    flow = gauss_newton_flow(network, X, y, 1.0, t_eval=[0.0, 1.0], max_evaluations=100)
    np.testing.assert_allclose(flow.gradient_norm[0], history["gradient_norm"][-1], rtol=1e-6)
    np.testing.assert_allclose(flow.excess_loss[0] + flow.best_loss, history["objective"][-1])
