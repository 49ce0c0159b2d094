import inspect
import math

import numpy as np
import pytest
import torch
from dense import draw
from scipy.sparse.linalg import cg
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from test_directions import CASES, Linearisation, relative

import skgn.conjugate_gradient
import skgn.direction
import skgn.directions
from skgn import GNClassifier, GNRegressor
from skgn.conjugate_gradient import ConjugateGradient, forcing_term
from skgn.damping import Adaptive
from skgn.direction import spectrum
from skgn.directions import DIRECTIONS, choose
from skgn.dual import Dual
from skgn.feedforward import FeedForward
from skgn.jacobian import Jacobian
from skgn.losses import SquaredError
from skgn.memory import Extent
from skgn.objective import Objective
from skgn.primal import Primal

unconverged = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

each_case = pytest.mark.parametrize("case", CASES)


def exact(problem):
    """Until the residual is at the level of rounding."""
    return ConjugateGradient(problem.operator, problem.S, lambda norm: 1e-12, 3_000)


def system(problem, precision, damping):
    """The dense matrix A, and the diagonal that preconditions it."""
    A = problem.G + torch.diag(problem.network.expand(precision) + damping)
    return A, A.diagonal()


def scaled_norm(v, diagonal):
    return math.sqrt(float(v @ (v / diagonal)))


@pytest.fixture
def products(monkeypatch):
    """Counts the products with G."""
    count = []
    product = Jacobian.normal_product

    def counted(self, v):
        count.append(1)
        return product(self, v)

    monkeypatch.setattr(Jacobian, "normal_product", counted)
    return count


# --- The direction


@each_case
@pytest.mark.parametrize("damping", [0.0, 1e-3, 1.0, 1e4])
def test_untruncated_step_solves_the_damped_system(case, damping):
    problem = Linearisation(*CASES[case])
    precision = problem.precision()
    A, _ = system(problem, precision, damping)
    step = exact(problem).solve(problem.gradient, precision, damping)
    assert relative(step, -torch.linalg.solve(A, problem.gradient)) < 1e-8


@each_case
@pytest.mark.parametrize("most", [1, 3, 8])
def test_iterates_are_those_of_scipy(case, most):
    problem = Linearisation(*CASES[case])
    precision, damping = problem.precision(), 1e-2
    A, diagonal = system(problem, precision, damping)
    step = ConjugateGradient(problem.operator, problem.S, lambda norm: 0.0, most).solve(
        problem.gradient, precision, damping
    )
    preconditioner = np.diag(1 / diagonal.numpy())
    # Named tol before SciPy 1.12; the default tolerances would end the iteration early.
    no_tolerance = {"rtol" if "rtol" in inspect.signature(cg).parameters else "tol": 0.0, "atol": 0.0}
    expected, _ = cg(A.numpy(), -problem.gradient.numpy(), maxiter=most, M=preconditioner, **no_tolerance)
    assert relative(step, torch.from_numpy(expected)) < 1e-7


@each_case
@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e4])
def test_iteration_ends_as_soon_as_the_forcing_rule_is_met(case, scale, products):
    """Small gradients are solved for to more digits than large ones, which are halved."""
    problem = Linearisation(*CASES[case])
    precision, damping = problem.precision(), 1e-3
    A, diagonal = system(problem, precision, damping)
    norm = scaled_norm(problem.gradient, diagonal)
    gradient = scale / norm * problem.gradient
    step = ConjugateGradient(problem.operator, problem.S).solve(gradient, precision, damping)
    tolerance = min(0.5, math.sqrt(scale)) * scale
    assert scaled_norm(A @ step + gradient, diagonal) <= 1.000001 * tolerance
    used = len(products)
    assert used > 0
    shorter = ConjugateGradient(problem.operator, problem.S, lambda norm: 0.0, used - 1)
    assert scaled_norm(A @ shorter.solve(gradient, precision, damping) + gradient, diagonal) > tolerance


def test_forcing_term_is_at_most_one_half_and_vanishes_with_the_gradient():
    assert forcing_term(100.0) == 0.5
    assert forcing_term(1e-4) == pytest.approx(1e-2)
    assert forcing_term(0.0) == 0.0


@each_case
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("most", [1, 2, 5, 50, 1000])
def test_steps_cut_short_promise_what_exact_ones_do(case, dtype, most):
    """step' A step = -gradient' step > 0: the decrease that the gain ratio is measured by."""
    problem = Linearisation(*CASES[case], dtype=dtype)
    precision, damping = problem.precision(), 1e-4
    A, _ = system(problem, precision, damping)
    step = ConjugateGradient(problem.operator, problem.S, lambda norm: 1e-8, most).solve(
        problem.gradient, precision, damping
    )
    slope = float(problem.gradient @ step)
    assert slope < 0
    assert float(step @ A @ step) == pytest.approx(-slope, rel=1e-9 if dtype == torch.float64 else 1e-4)


def test_longer_iterations_lower_the_model_further():
    problem = Linearisation(*CASES["softmax"])
    A, _ = system(problem, problem.precision(), 1e-3)
    values = []
    for most in (1, 2, 4, 8, 16):
        direction = ConjugateGradient(problem.operator, problem.S, lambda norm: 0.0, most)
        step = direction.solve(problem.gradient, problem.precision(), 1e-3)
        values.append(float(problem.gradient @ step + 0.5 * step @ A @ step))
    assert (np.diff(values) < 0).all()


@pytest.mark.parametrize(("n", "d"), [(6, 10), (30, 4)])
def test_a_linear_model_without_damping_takes_the_shortest_step(n, d):
    """NumPy's minimum-norm least-squares solution, duplicated columns included."""
    X = draw(n, d)
    X[:, 1] = X[:, 0]
    y, s = draw(n, 1, seed=1), draw(n, seed=2).abs() + 0.1
    network = FeedForward(d, 1, ())
    objective = Objective(network, SquaredError(), X, y, s)
    at = objective.evaluate(torch.zeros(network.n_weights, dtype=torch.float64))
    solver = ConjugateGradient(objective.jacobian(at), objective.total_weight, lambda norm: 1e-12)
    step = solver.solve(objective.gradient(at), [torch.zeros(d + 1, dtype=torch.float64)], 0.0)
    root = s.sqrt()[:, None]
    design = (root * torch.cat([X, torch.ones(n, 1)], 1)).numpy()
    expected = np.linalg.lstsq(design, (root * y).numpy()[:, 0], rcond=None)[0]
    np.testing.assert_allclose(step, expected, rtol=1e-7, atol=1e-9)


def test_a_unit_that_no_sample_reaches_does_not_move():
    """Its diagonal entries are 0: nothing to divide by."""
    network = FeedForward(2, 1, (3,), "relu", linear_path=False)
    w = draw(network.n_weights, seed=1)
    network.split(w)[0][1] = torch.tensor([0.0, 0.0, -1.0])
    objective = Objective(network, SquaredError(), draw(9, 2), draw(9, 1, seed=2), torch.ones(9).double())
    at = objective.evaluate(w)
    direction = ConjugateGradient(objective.jacobian(at), objective.total_weight)
    gradient, zeros = objective.gradient(at), [torch.zeros(into).double() for _, into in network.shapes]
    step = direction.solve(gradient, zeros, 0.0)
    assert bool(torch.isfinite(step).all()) and float(step.norm()) > 0
    assert not network.split(step)[0][1].any()


@pytest.mark.parametrize("damping", [0.0, 1.0])
def test_non_finite_jacobian_gives_a_step_that_can_be_rejected(damping):
    network = FeedForward(2, 1, (4,))
    X = draw(10, 2)
    X[3, 0] = torch.inf
    objective = Objective(network, SquaredError(), X, draw(10, 1, seed=1), torch.ones(10).double())
    at = objective.evaluate(draw(network.n_weights, seed=2))
    direction = ConjugateGradient(objective.jacobian(at), objective.total_weight)
    zeros = [torch.zeros(into, dtype=torch.float64) for _, into in network.shapes]
    gradient = torch.ones(network.n_weights).double()  # a finite one, so that the products decide
    assert not bool(torch.isfinite(direction.solve(gradient, zeros, damping)).any())


def test_spectrum_of_a_system_that_fits_is_exact_and_of_a_larger_one_refused(monkeypatch):
    problem = Linearisation(*CASES["wide"])
    direction = ConjugateGradient(problem.operator, problem.S)
    eigenvalues = np.linalg.eigvalsh((problem.J @ problem.J.T / problem.S).numpy())[[0, -1]]
    np.testing.assert_allclose(spectrum(problem.operator, direction, problem.S), eigenvalues, rtol=1e-8, atol=1e-13)
    monkeypatch.setattr(skgn.direction, "available_memory", lambda device: 1e3)
    with pytest.raises(ValueError, match=r"Eigenvalues of a matrix of \d+ rows need .* are available"):
        spectrum(problem.operator, direction, problem.S)


# --- Choice by memory


@pytest.mark.parametrize("solver", ["primal", "dual", "cg"])
def test_estimated_memory_grows_with_all_it_depends_on(solver):
    def bytes_(units=400, n=3000, c=2, **more):
        return DIRECTIONS[solver].memory(Extent(FeedForward(10, c, (units,)), n, c, **more))

    assert bytes_() < min(bytes_(units=800), bytes_(n=6000), bytes_(c=4))
    assert bytes_() < bytes_(candidates=3) < bytes_(candidates=3, workers=2) < bytes_(candidates=3, workers=3)
    assert bytes_(candidates=3, workers=3) == bytes_(candidates=3, workers=8)
    assert bytes_() >= bytes_(dtype=torch.float32)
    size = {"primal": FeedForward(10, 2, (400,)).n_weights, "dual": 6000, "cg": 0}[solver]
    assert 24 * size**2 < bytes_() < 24 * size**2 + 2.5e8


def test_conjugate_gradients_take_over_where_no_factorisation_fits(monkeypatch):
    network, n = FeedForward(50, 2, (2000,)), 20_000
    needs = {name: direction.memory(Extent(network, n, 2)) for name, direction in DIRECTIONS.items()}
    assert choose("cg", Extent(network, n, 2)) is ConjugateGradient
    for available, expected in [
        (max(needs.values()), Primal),  # the dual system is smaller here but takes longer
        (min(needs["primal"], needs["dual"]), Primal if needs["primal"] < needs["dual"] else Dual),
        (min(needs["primal"], needs["dual"]) - 1, ConjugateGradient),
        (needs["cg"], ConjugateGradient),
    ]:
        monkeypatch.setattr(skgn.directions, "available_memory", lambda device, available=available: available)
        chosen = choose("auto", Extent(network, n, 2))
        if available < max(needs.values()):
            assert chosen is expected
    monkeypatch.setattr(skgn.directions, "available_memory", lambda device: needs["cg"] - 1)
    for solver in ("auto", "cg"):
        with pytest.raises(ValueError, match=rf"solver='cg' needs .* GB \({network.n_weights} weights\)"):
            choose(solver, Extent(network, n, 2))


def test_evidence_never_takes_conjugate_gradients_but_hears_of_them(monkeypatch):
    network, n = FeedForward(50, 1, (2000,)), 20_000
    with pytest.raises(ValueError, match=r"'evidence' needs a factorisation; solver='cg' takes a float"):
        choose("cg", Extent(network, n, 1), evidence=True)
    need = ConjugateGradient.memory(Extent(network, n, 1))
    monkeypatch.setattr(skgn.directions, "available_memory", lambda device: need)
    for solver in ("auto", "primal", "dual"):
        with pytest.raises(ValueError, match=r"solver='cg' with a float l2_regularization such as 1e-3 needs .* GB"):
            choose(solver, Extent(network, n, 1), evidence=True)


# --- The estimators


@pytest.mark.parametrize(("units", "solver"), [(120, "cg"), (3, "primal")])
def test_a_classifier_takes_the_cheapest_solver_and_a_regressor_keeps_its_standard_deviation(units, solver):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 10))
    y = (X[:, 0] + 0.3 * rng.normal(size=len(X)) > 0).astype(int)
    settings = {"hidden_layer_sizes": (units,), "n_estimators": 1, "random_state": 0, "l2_regularization": 0.1}
    classifier = GNClassifier(**settings).fit(X, y)
    assert classifier.solver_ == solver
    assert classifier.score(X, y) > 0.85
    assert np.isnan(classifier.n_effective_parameters_) == (solver == "cg")
    regressor = GNRegressor(**settings).fit(X, y)
    assert regressor.solver_ in ("primal", "dual")
    assert (regressor.predict(X[:5], return_std=True)[1] > 0).all()


def data(estimator, kind="", n=60):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    signal = np.column_stack([np.sin(X[:, 0]) + 0.5 * X[:, 2], X[:, 1] * X[:, 2]]) + 0.1 * rng.normal(size=(n, 2))
    if estimator is GNRegressor:
        return X, signal if kind == "two outputs" else signal[:, 0]
    if kind == "multilabel":
        return X, (signal > 0).astype(int)
    return X, np.digitize(signal[:, 0], [0.0] if kind == "binary" else [-0.4, 0.4])


def outputs(model, X):
    return model.predict(X) if isinstance(model, GNRegressor) else model.predict_proba(X)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_no_hidden_layer_is_ridge(alpha):
    X, Y = data(GNRegressor, "two outputs")
    s = np.random.default_rng(1).uniform(0.5, 3, size=len(X))
    mean = np.average(Y, axis=0, weights=s)
    Y = (Y - mean) / np.sqrt(np.average((Y - mean) ** 2, axis=0, weights=s))
    model = GNRegressor(
        (), solver="cg", l2_regularization=0.05, alpha=alpha, n_estimators=1, standardize=False, tol=1e-9
    )
    model.fit(X, Y, s)
    ridge = Ridge(alpha=0.05 * s.sum() / alpha**2, fit_intercept=False, solver="cholesky")
    ones = np.column_stack([X, np.ones(len(X))])
    np.testing.assert_allclose(model.predict(X), ridge.fit(ones, Y, s).predict(ones), rtol=1e-6, atol=1e-7)


def test_no_hidden_layer_is_logistic_regression():
    X, y = data(GNClassifier)
    model = GNClassifier((), solver="cg", l2_regularization=0.02, n_estimators=1, standardize=False, tol=1e-8).fit(X, y)
    logistic = LogisticRegression(C=1 / (0.02 * len(y)), fit_intercept=False, solver="newton-cholesky", tol=1e-12)
    ones = np.column_stack([X, np.ones(len(X))])
    expected = logistic.fit(ones, y).predict_proba(ones)
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("estimator", "kind", "parameters"),
    [
        (GNRegressor, "", {}),
        # Of the two minima a start may end in the solvers find the same.
        (GNRegressor, "two outputs", {"hidden_layer_sizes": (6, 4), "random_state": 2}),
        (GNRegressor, "", {"alpha": 5.0, "init": "centered", "damping": Adaptive(step_size=0.7)}),
        (GNRegressor, "", {"loss": "student_t"}),
        (GNRegressor, "", {"dtype": "float32", "tol": 1e-5}),
        (GNRegressor, "", {"damping": 1e-2}),
        (GNClassifier, "binary", {"linear_path": False}),
        (GNClassifier, "", {"init": "symmetric", "hidden_layer_sizes": (6,)}),
        (GNClassifier, "", {"class_weight": "balanced"}),
        (GNClassifier, "multilabel", {"activation": "softplus"}),
    ],
    ids=str,
)
@unconverged
def test_objective_is_as_low_as_with_a_factorisation(estimator, kind, parameters):
    X, y = data(estimator, kind)
    settings = {"hidden_layer_sizes": (5,), "l2_regularization": 1e-2, "n_estimators": 1, "random_state": 0}
    model = estimator(**settings | {"max_iter": 400, "tol": 1e-6} | parameters)
    objective = {}
    for solver in ("primal", "cg"):
        fitted = clone(model).set_params(solver=solver).fit(X, y)
        assert fitted.solver_ == solver
        assert (np.diff(fitted.history_["objective"]) <= 0).all() or parameters.get("loss") == "student_t"
        objective[solver] = fitted.history_["objective"][-1]
    assert objective["cg"] == pytest.approx(objective["primal"], rel=1e-3 if "dtype" in parameters else 1e-5)


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
@pytest.mark.parametrize("init", ["random", "symmetric"])
@unconverged
def test_undamped_rank_deficient_network_trains(estimator, init):
    X, y = data(estimator, n=20)
    settings = {"l2_regularization": 0.0, "damping": 0, "n_estimators": 1, "max_iter": 40, "random_state": 0}
    model = estimator((40,), solver="cg", init=init, **settings).fit(X, y)
    assert np.isfinite(outputs(model, X)).all()
    assert model.loss_ < 0.1 * model.history_["loss"][0]


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
@unconverged
def test_weights_are_repetitions(estimator):
    X, y = data(estimator)
    s = np.random.default_rng(3).integers(0, 4, size=len(y))
    model = estimator((5,), solver="cg", l2_regularization=1e-3, n_estimators=2, max_iter=10, random_state=0)
    weighted = outputs(clone(model).fit(X, y, s), X)
    repeated = np.random.default_rng(4).permutation(np.repeat(np.arange(len(y)), s))
    np.testing.assert_allclose(weighted, outputs(clone(model).fit(X[repeated], y[repeated]), X), rtol=1e-7, atol=1e-9)
    assert np.abs(weighted - outputs(clone(model).fit(X, y), X)).max() > 1e-3


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_evidence_is_refused_before_any_work(estimator, monkeypatch):
    monkeypatch.setattr("skgn.objective.Objective.evaluate", lambda *_: pytest.fail("work was done"))
    X, y = data(estimator)
    with pytest.raises(ValueError, match=r"l2_regularization='evidence'.*solver='cg'.*l2_regularization=1e-3"):
        estimator((5,), solver="cg").fit(X, y)


@unconverged
def test_what_needs_a_factorisation_is_missing_and_says_so():
    X, y = data(GNRegressor)
    model = GNRegressor((5,), solver="cg", l2_regularization=1e-3, n_estimators=1, max_iter=5).fit(X, y)
    assert math.isnan(model.noise_std_) and math.isnan(model.n_effective_parameters_)
    assert model.feature_relevance_.sum() == pytest.approx(1)
    with pytest.raises(ValueError, match=r"return_std=True needs a factorisation.*solver='cg'.*solver='primal'"):
        model.predict(X, return_std=True)


@unconverged
def test_auto_trains_with_conjugate_gradients_where_memory_is_short(monkeypatch):
    X, y = data(GNClassifier, n=300)
    model = GNClassifier((300,), l2_regularization=1e-3, n_estimators=1, max_iter=3, random_state=0)
    network = FeedForward(6, 3, (300,), n_straight=3)
    # Evidence compares three candidates.
    available = ConjugateGradient.memory(Extent(network, 300, 3, candidates=3))
    assert min(direction.memory(Extent(network, 300, 3)) for direction in (Primal, Dual)) > available
    monkeypatch.setattr("skgn.directions.available_memory", lambda device: available)
    assert model.fit(X, y).solver_ == "cg"
    with pytest.raises(ValueError, match=r"solver='cg' with a float l2_regularization such as 1e-3 needs"):
        clone(model).set_params(l2_regularization="evidence").fit(X, y)


@unconverged
def test_readout_is_not_projected_where_its_system_exceeds_the_budget(monkeypatch):
    """Solving it would take more memory than training does."""
    X, y = data(GNRegressor, n=100)
    model = GNRegressor((20,), solver="cg", l2_regularization=1e-3, n_estimators=1, max_iter=3, random_state=0)
    monkeypatch.setattr("skgn.objective.Objective.readout", lambda *_: pytest.fail("the readout was solved"))
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", "0.01")
    assert model.fit(X, y).n_iter_ == 3
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", "256")
    with pytest.raises(pytest.fail.Exception, match="the readout was solved"):
        model.fit(X, y)
