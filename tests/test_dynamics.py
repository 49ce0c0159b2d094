"""Training flows: closed forms of linear models, an integration of their own of dense twins, and the rates told."""

import dense
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

from skgn import GNClassifier, GNRegressor
from skgn.damping import Constant, GainRatio, GeometricDecay, ProportionalToCurvature, ProportionalToLoss
from skgn.dynamics import Trajectory, gauss_newton_flow, gradient_flow, levenberg_marquardt_flow
from skgn.estimator import network_on

TIGHT = {"rtol": 1e-9, "atol": 1e-11}


@pytest.fixture(scope="module")
def data():
    X, y = load_diabetes(return_X_y=True)
    X = X[:, [2, 3, 8]] / X[:, [2, 3, 8]].std(0) * [1.0, 0.3, 2.0]
    return X[:80], scale(y[:80])


def regressor(hidden=(), **parameters):
    parameters = {"standardize": False, "linear_path": False, "random_state": 0, "l2_regularization": 0.0} | parameters
    return GNRegressor(hidden, **parameters)


def least_squares(X, y, l2=0.0):
    A = np.column_stack([X, np.ones(len(X))])
    H, b = A.T @ A / len(y) + l2 * np.eye(A.shape[1]), A.T @ y / len(y)
    return A, H, np.linalg.solve(H, b)


class TestLinearModels:
    """From w = 0 each flow of a quadratic has a closed form in the eigenvectors of its Hessian."""

    t = np.array([0.0, 0.3, 1.0, 4.0])

    def check(self, trajectory, A, weights, y):
        np.testing.assert_allclose(trajectory.times, self.t)
        np.testing.assert_allclose(trajectory.weights, weights, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(trajectory.outputs[:, :, 0], weights @ A.T, rtol=1e-6, atol=1e-7)
        residuals = weights @ A.T - y
        np.testing.assert_allclose(trajectory.loss, np.mean(residuals**2, axis=1) / 2, rtol=1e-7)
        np.testing.assert_allclose(trajectory.distance_from_init, np.linalg.norm(weights, axis=1), rtol=1e-6)
        assert trajectory.status == "end"

    def options(self):
        return {"t_eval": self.t, "keep_weights": True} | TIGHT

    def test_gauss_newton(self, data):
        A, _, best = least_squares(*data)
        flow = gauss_newton_flow(regressor(), *data, 4.0, **self.options())
        self.check(flow, A, (1 - np.exp(-self.t))[:, None] * best, data[1])
        assert (flow.damping == 0).all()

    @pytest.mark.parametrize("damping", [0.1, Constant(3.0)])
    def test_constant_damping(self, data, damping):
        A, H, best = least_squares(*data)
        value = damping if isinstance(damping, float) else damping.damping
        rates = np.linalg.solve(H + value * np.eye(len(H)), H)
        weights = np.stack([best - expm(-t * rates) @ best for t in self.t])
        flow = levenberg_marquardt_flow(regressor(damping=damping), *data, 4.0, **self.options())
        self.check(flow, A, weights, data[1])
        assert (flow.damping == value).all()

    @pytest.mark.parametrize("method", ["BDF", "RK45", "Radau"])
    def test_gradient(self, data, method):
        A, H, best = least_squares(*data)
        weights = np.stack([best - expm(-t * H) @ best for t in self.t])
        flow = gradient_flow(regressor(), *data, 4.0, method=method, **self.options())
        self.check(flow, A, weights, data[1])
        assert np.isnan(flow.damping).all()
        np.testing.assert_allclose(flow.min_eigenvalue, np.linalg.eigvalsh(H)[0], rtol=1e-8)
        np.testing.assert_allclose(flow.max_eigenvalue, np.linalg.eigvalsh(H)[-1], rtol=1e-8)

    def test_regularised(self, data):
        A, _, best = least_squares(*data, l2=0.5)
        flow = gauss_newton_flow(regressor(l2_regularization=0.5), *data, 4.0, **self.options())
        self.check(flow, A, (1 - np.exp(-self.t))[:, None] * best, data[1])
        at_best = np.mean((A @ best - data[1]) ** 2) / 2 + 0.25 * best @ best
        np.testing.assert_allclose(flow.best_loss, at_best, rtol=1e-9)

    def test_norms_and_excess(self, data):
        A, H, best = least_squares(*data)
        flow = gauss_newton_flow(regressor(), *data, 4.0, **self.options())
        gradients = (flow.weights - best) @ H
        np.testing.assert_allclose(flow.gradient_norm, np.linalg.norm(gradients, axis=1), rtol=1e-6)
        projected = np.sqrt(np.mean(((flow.weights - best) @ A.T) ** 2, axis=1))
        np.testing.assert_allclose(flow.riemannian_gradient_norm, projected, rtol=1e-6)
        np.testing.assert_allclose(flow.excess_loss, projected**2 / 2, rtol=1e-5)

    def test_rates_are_those_of_the_theory(self, data):
        _, H, _ = least_squares(*data)
        tight = {"rtol": 1e-7, "atol": 1e-9}
        undamped = gauss_newton_flow(regressor(), *data, 8.0, **tight)
        for quantity in ("excess_loss", "riemannian_gradient_norm", "gradient_norm"):
            rate, error = undamped.rate(quantity)
            np.testing.assert_allclose(rate, 1.0, atol=1e-4)
            assert error < 1e-4
        smallest = np.linalg.eigvalsh(H)[0]
        slow = gradient_flow(regressor(), *data, 60 / smallest, **tight)
        np.testing.assert_allclose(slow.rate(start=4 / smallest).rate, smallest, rtol=1e-3)
        assert slow.rate().error > 10 * slow.rate(start=4 / smallest).error  # many modes are no exponential
        adaptive = regressor(damping=ProportionalToCurvature(3.0))
        flow = levenberg_marquardt_flow(adaptive, *data, 40.0, **tight)
        np.testing.assert_allclose(flow.rate(start=15).rate, 1 / 4, rtol=1e-3)


def dense_velocity(network, X, Y, rule, w0):
    """dw/dt with the Jacobian of the dense twin by automatic differentiation, and NumPy's least squares."""
    X, Y = torch.as_tensor(X), torch.as_tensor(Y)
    start = dense.forward(network, torch.as_tensor(w0), X)

    def velocity(t, w):
        w = torch.as_tensor(w)
        f = dense.forward(network, w, X)
        J = torch.func.jacrev(lambda v: dense.forward(network, v, X).flatten())(w).numpy()
        residual = (f - start - Y).flatten().numpy()
        n = len(X)
        G, gradient = J.T @ J / n, J.T @ residual / n
        if rule is None:
            return -gradient
        damping = rule(t, np.mean(np.sum(residual.reshape(n, -1) ** 2, 1)) / 2)
        if damping == 0:
            return -np.linalg.lstsq(J, residual, rcond=1e-10)[0]
        return -np.linalg.solve(G + damping * np.eye(len(G)), gradient)

    return velocity


CASES = {
    "gradient": (gradient_flow, "adaptive", None, (4,), 1),
    "gauss-newton": (gauss_newton_flow, "adaptive", lambda t, loss: 0.0, (2,), 1),
    "decay": (levenberg_marquardt_flow, GeometricDecay(0.5, 0.3), lambda t, loss: 0.5 * 0.3**t, (4,), 1),
    "loss": (levenberg_marquardt_flow, ProportionalToLoss(0.2), lambda t, loss: 0.2 * loss, (4,), 2),
    "dual": (levenberg_marquardt_flow, 0.05, lambda t, loss: 0.05, (40,), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_networks_follow_the_flow_of_their_dense_twin(data, case):
    flow, damping, rule, hidden, k = CASES[case]
    X, y = data[0][:30], scale(np.column_stack([data[1][:30], np.abs(data[1][:30])])[:, :k])
    estimator = regressor(hidden, damping=damping, init="centered", alpha=30.0)
    network = network_on(estimator, X, y)[0].network
    tight = {"rtol": 1e-7, "atol": 1e-8}
    trajectory = flow(estimator, X, y, 0.2, t_eval=[0.0, 0.1, 0.2], keep_weights=True, best_loss=0.0, **tight)
    w0 = trajectory.weights[0]
    velocity = dense_velocity(network, X, y, rule, w0)
    expected = solve_ivp(velocity, (0, 0.2), w0, "LSODA", [0.0, 0.1, 0.2], **tight)
    np.testing.assert_allclose(trajectory.weights, expected.y.T, rtol=1e-5, atol=1e-6)


def test_training_is_eulers_method_for_the_flow(data):
    X, y = data
    estimator = regressor((3,), damping=0.1, n_estimators=1, tol=0.0)
    flow = levenberg_marquardt_flow(estimator, X, y, 1.0, t_eval=[1.0])
    errors = []
    for steps in (10, 20, 40):
        estimator.set_params(damping=Constant(0.1, step_size=1 / steps), max_iter=steps)
        with pytest.warns(ConvergenceWarning):
            estimator.fit(X, y)
        errors.append(np.linalg.norm(estimator.predict(X) - flow.outputs[-1, :, 0]))
    # First order: half the step, half the error.
    np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 2.0, atol=0.2)


def test_a_flow_of_a_fitted_estimator_starts_from_its_weights(data):
    X, y = data
    model = GNRegressor((4,), random_state=0, l2_regularization=1e-2, damping=1e-3).fit(X, y)
    before = {name: np.array(value) for name, value in vars(model).items() if name in ("n_iter_", "loss_")}
    weights = model.estimators_[0].weights.copy()
    flow = levenberg_marquardt_flow(model, X, y, 1.0, keep_weights=True)
    np.testing.assert_array_equal(flow.weights[0], weights)
    np.testing.assert_allclose(flow.loss[0], model.loss_, rtol=1e-9)
    assert flow.distance_from_init[-1] < 0.05  # it was fitted: next to nothing is left to do
    np.testing.assert_array_equal(model.estimators_[0].weights, weights)
    assert {name: getattr(model, name) for name in before} == before


def test_the_estimator_is_left_as_it_was(data):
    estimator = GNRegressor((3,), alpha=30.0, init="centered", random_state=0)
    parameters, state = estimator.get_params(), set(vars(estimator))
    gauss_newton_flow(estimator, *data, 0.5, best_loss=0.0)
    assert estimator.get_params() == parameters and set(vars(estimator)) == state
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    gauss_newton_flow(estimator, *data, 0.5, best_loss=0.0)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, grad)


def test_sample_weight_counts_repetitions_and_zero_leaves_out(data):
    X, y = data
    weight = np.arange(len(y)) % 3
    estimator = regressor((3,), alpha=10.0, init="centered")
    options = {"t_eval": np.linspace(0, 0.5, 11), "best_loss": 0.0}
    weighted = gauss_newton_flow(estimator, X, y, 0.5, sample_weight=weight, **options)
    repeated = gauss_newton_flow(estimator, np.repeat(X, weight, 0), np.repeat(y, weight), 0.5, **options)
    np.testing.assert_allclose(weighted.loss, repeated.loss, rtol=1e-7)
    assert weighted.outputs.shape == (11, (weight > 0).sum(), 1)


@pytest.mark.parametrize(("init", "start"), [("centered", 0.0), ("symmetric", 0.0), ("random", None)])
def test_alpha_and_initialisation_are_the_estimators(data, init, start):
    flows = [
        gradient_flow(regressor((4,), alpha=alpha, init=init), *data, 1e-6, t_eval=[0.0], best_loss=0.0)
        for alpha in (1.0, 5.0)
    ]
    np.testing.assert_allclose(flows[1].outputs, 5 * flows[0].outputs, atol=1e-12)
    np.testing.assert_allclose(flows[1].max_eigenvalue, 25 * flows[0].max_eigenvalue, rtol=1e-9)
    if start is not None:
        assert (flows[0].outputs == start).all()


CLASSIFICATION = {
    "binary": load_breast_cancer(return_X_y=True),
    "three classes": load_iris(return_X_y=True),
    "multilabel": make_multilabel_classification(60, 5, n_classes=3, random_state=0),
}


@pytest.mark.parametrize("kind", CLASSIFICATION)
def test_classifiers_flow_down_the_log_loss(kind):
    X, y = CLASSIFICATION[kind]
    X, y = X[::2, :5], y[::2]
    model = GNClassifier((3,), damping=1e-2, random_state=0)
    flow = levenberg_marquardt_flow(model, X, y, 2.0, t_eval=[0.0, 1.0, 2.0], best_loss=0.0)
    assert (np.diff(flow.loss) < 0).all()
    Y = y if y.ndim == 2 else y[:, None] if y.max() == 1 else np.eye(3)[y]
    f = torch.from_numpy(flow.outputs[-1])
    if kind == "three classes":
        expected = torch.nn.functional.cross_entropy(f, torch.from_numpy(Y.argmax(1)))
    else:
        target = torch.from_numpy(Y.astype(float))
        expected = torch.nn.functional.binary_cross_entropy_with_logits(f, target, reduction="none").sum(1).mean()
    np.testing.assert_allclose(flow.loss[-1], float(expected), rtol=1e-9)


def test_a_flow_too_stiff_is_given_up_and_says_so(data):
    X, y = data
    estimator = regressor((3,), alpha=100.0)
    flow = gradient_flow(estimator, X, y, 10.0, method="RK45", max_evaluations=100, best_loss=0.0)
    assert flow.status == "max_evaluations" and "too stiff for method='RK45'" in flow.message
    assert 100 < flow.n_evaluations < 120
    assert len(flow.times) == len(flow.loss) < 101 and flow.times[0] == 0
    followed = gradient_flow(estimator, X, y, 10.0, max_evaluations=2000, best_loss=0.0)
    assert followed.status == "end" and len(followed.times) == 101
    nothing = gradient_flow(
        estimator, X, y, 10.0, method="RK45", max_evaluations=100, t_eval=[9.0, 10.0], best_loss=0.0
    )
    assert nothing.status == "max_evaluations" and len(nothing.times) == len(nothing.loss) == 0
    with pytest.raises(ValueError, match="too stiff"):
        nothing.rate()


def test_best_loss_is_that_of_the_minimum_the_flow_goes_to(data):
    X, y = data
    estimator = regressor((2,), alpha=300.0, init="centered")
    short, long = (gauss_newton_flow(estimator, X, y, t) for t in (1.0, 12.0))
    np.testing.assert_allclose(short.best_loss, long.best_loss, rtol=1e-6)
    np.testing.assert_allclose(long.loss[-1], long.best_loss, rtol=1e-6)
    assert (short.excess_loss > 0).all()


def test_a_rate_does_not_look_at_rounding_errors(data):
    flow = gauss_newton_flow(regressor(), *data, 30.0)
    np.testing.assert_allclose(flow.rate(start=5).rate, 1, atol=0.01)
    with pytest.raises(ValueError, match=r"of 101 moments up to t=30, 0 are so"):
        flow.rate(start=15)


def test_separable_classes_are_approached_at_half_the_rate():
    X = np.random.RandomState(0).normal(size=(50, 2))
    flow = gauss_newton_flow(GNClassifier((), random_state=0), X, (X[:, 0] > 0).astype(int), 15.0)
    np.testing.assert_allclose(flow.rate(start=6).rate, 0.5, atol=0.03)


def test_the_smallest_eigenvalue_of_several_classes_is_not_the_zero_of_a_common_constant():
    X, y = load_iris(return_X_y=True)
    estimator = GNClassifier((3,), damping=ProportionalToCurvature(2.0), random_state=0)
    objective, w = network_on(estimator, X, y)
    network, inputs = objective.network, objective.U[:, :-1]
    J = torch.func.jacrev(lambda v: dense.forward(network, v, inputs))(w).numpy()
    p = torch.softmax(dense.forward(network, w, inputs), 1).numpy()
    H = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    eigenvalues = np.linalg.eigvalsh(np.einsum("nkp,nkl,nlq->pq", J, H, J) / len(y))
    # One direction for each input of the readout: 3 units, 4 features and the bias.
    assert abs(eigenvalues[7]) < 1e-12
    flow = levenberg_marquardt_flow(estimator, X, y, 1e-3, t_eval=[0.0], best_loss=0.0)
    np.testing.assert_allclose(flow.min_eigenvalue[0], eigenvalues[8], rtol=1e-6)
    np.testing.assert_allclose(flow.damping[0], 2 * eigenvalues[8], rtol=1e-6)


def test_rates_that_cannot_be_told(data):
    flow = gauss_newton_flow(regressor(), *data, 3.0, t_eval=[0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="A rate needs four moments"):
        flow.rate()
    for quantity in ("times", "best_loss", "outputs", "speed", "weights"):
        with pytest.raises(ValueError, match="quantity must be one of"):
            flow.rate(quantity)
    assert isinstance(flow, Trajectory) and flow.weights is None


class Halving:
    """A user's own rule, which adapts to steps."""

    step_size = 1.0

    def initial(self, at):
        return at.curvature

    def accepted(self, damping, gain_ratio, at):
        return damping / 2

    def rejected(self, damping, at):
        return 10 * damping


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"estimator": object()}, TypeError, "estimator must be a GNRegressor or GNClassifier"),
        ({"estimator": regressor(damping="adaptive")}, ValueError, "adapts to steps"),
        ({"estimator": regressor(damping=GainRatio())}, ValueError, "adapts to steps"),
        ({"estimator": regressor(damping=Halving())}, ValueError, "adapts to steps"),
        ({"estimator": regressor(damping=-1.0)}, ValueError, "damping must be a finite number"),
        ({"estimator": regressor(damping=1.0, solver="cg")}, ValueError, "exact steps"),
        ({"keep_weight": True}, TypeError, r"no option\(s\) \['keep_weight'\]"),
        ({"t_end": 0.0}, ValueError, "t_end must be a positive"),
        ({"t_end": "1"}, ValueError, "t_end must be a positive"),
        ({"t_end": np.inf}, ValueError, "t_end must be a positive"),
        ({"t_eval": [0.0, 5.0]}, ValueError, "t_eval must be increasing"),
        ({"t_eval": [0.5, 0.1]}, ValueError, "t_eval must be increasing"),
        ({"t_eval": []}, ValueError, "t_eval must be increasing"),
        ({"t_eval": [np.nan]}, ValueError, "t_eval must be increasing"),
        ({"max_evaluations": 0}, ValueError, "max_evaluations"),
        ({"max_evaluations": "a"}, ValueError, "max_evaluations"),
        ({"best_loss": "x"}, ValueError, "best_loss"),
        ({"best_loss": np.nan}, ValueError, "best_loss"),
        ({"estimator": regressor(damping="foo")}, ValueError, "damping must be 'adaptive'"),
        ({"events": lambda t, w: t}, TypeError, "do not take"),
        ({"y": np.zeros(3)}, ValueError, "inconsistent"),
        ({"X": np.full((80, 3), np.inf)}, ValueError, "infinity"),
    ],
)
def test_bad_input_is_refused_before_any_work(data, change, error, message):
    arguments = {"estimator": regressor(damping=1.0), "X": data[0], "y": data[1], "t_end": 1.0} | change
    with pytest.raises(error, match=message):
        levenberg_marquardt_flow(**arguments)
