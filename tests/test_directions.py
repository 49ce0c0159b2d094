import math

import dense
import numpy as np
import pytest
import torch
from dense import draw

import skgn.directions
from skgn.conjugate_gradient import ConjugateGradient
from skgn.direction import spectrum
from skgn.directions import DIRECTIONS, choose, choose_for_batches, lacking, serves_evidence
from skgn.dual import Dual
from skgn.feedforward import FeedForward
from skgn.jacobian import Jacobian
from skgn.label_losses import LogLoss, SoftmaxLoss
from skgn.losses import SquaredError
from skgn.memory import Extent
from skgn.objective import Objective
from skgn.primal import Primal
from skgn.spectrum import decompose

#: Directions that solve the system to the last digits, and those that know its inverse: every one of the registry.
EXACT = [direction for direction in DIRECTIONS.values() if direction.exact]
WITH_TRACES = [direction for direction in DIRECTIONS.values() if not direction.lacks]


class Linearisation:
    """An objective at general weights, as operator and as dense matrices of the same quantities."""

    def __init__(self, network, loss, n, dtype=torch.float64, seed=0):
        k = network.n_outputs
        X, s = draw(n, network.n_inputs, seed=seed), draw(n, seed=seed + 1).abs() + 0.05
        Y = draw(n, k, seed=seed + 2) if isinstance(loss, SquaredError) else torch.eye(k).double()[torch.arange(n) % k]
        self.w = 0.7 * draw(network.n_weights, seed=seed + 3)
        if network.init == "symmetric":
            self.w = torch.from_numpy(network.initial_weights(np.random.RandomState(seed)))
        objective = Objective(network, loss, X.to(dtype), Y.to(dtype), s.to(dtype))
        at = objective.evaluate(self.w)
        self.network, self.S, self.X = network, objective.total_weight, X
        self.operator, self.gradient = objective.jacobian(at), objective.gradient(at)
        self.in_float32 = objective.jacobian(at, torch.float32)

        f = dense.forward(network, self.w, X)
        R = loss.curvature_root(f, Y) * s.sqrt()[:, None, None]
        self.J = dense.weighted_jacobian(network, self.w, X, R)
        self.G = self.J.T @ self.J / self.S
        if dtype == torch.float64:
            output_gradient = s[:, None] * loss.gradient(f, Y) / self.S
            expected = torch.einsum("nkp,nk->p", dense.jacobian(network, self.w, X), output_gradient)
            torch.testing.assert_close(self.gradient, expected, rtol=1e-10, atol=1e-14)

    def precision(self, seed=9):
        """One positive value for each (layer, input), over two orders of magnitude."""
        return [10 ** (0.5 * draw(into, seed=seed + into) - 2) for _, into in self.network.shapes]

    def zeros(self):
        return [torch.zeros(into, dtype=torch.float64) for _, into in self.network.shapes]


#: More rows than weights and fewer, one output and several, with a prior of its own for every (layer, input).
CASES = {
    "tall": (FeedForward(3, 1, (5,)), SquaredError(), 60),
    "tall-two-outputs": (FeedForward(3, 2, (4, 3), "silu", alpha=3.0), SquaredError(), 60),
    "wide": (FeedForward(3, 1, (20,), "softplus"), SquaredError(), 15),
    "wide-linear": (FeedForward(12, 2, ()), SquaredError(), 5),
    "binary": (FeedForward(3, 1, (10,), "logistic", alpha=0.5), LogLoss(), 20),
    "multilabel": (FeedForward(3, 3, (6,), "gelu", linear_path=False), LogLoss(), 12),
    # The curvature of the softmax is singular along the constant.
    "softmax": (FeedForward(3, 3, (6, 4), "tanh", alpha=2.0), SoftmaxLoss(), 14),
    "symmetric": (FeedForward(3, 1, (6,), init="symmetric"), SquaredError(), 60),
}

each_case = pytest.mark.parametrize("problem", CASES, indirect=True)


@pytest.fixture
def problem(request):
    return Linearisation(*CASES[request.param])


def relative(a, b):
    return float((a - b).norm() / b.norm())


@each_case
@pytest.mark.parametrize("damping", [0.0, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("direction", EXACT)
def test_step_solves_the_damped_system(direction, damping, problem):
    precision = problem.precision()
    step = direction(problem.operator, problem.S).solve(problem.gradient, precision, damping)
    A = problem.G + torch.diag(problem.network.expand(precision) + damping)
    assert relative(step, -torch.linalg.solve(A, problem.gradient)) < 1e-8


@each_case
@pytest.mark.parametrize("damping", [1e2, 1.0, 1e-3, 1e-6])
def test_all_exact_directions_take_the_same_step(damping, problem):
    first, *others = (
        direction(problem.operator, problem.S).solve(problem.gradient, problem.zeros(), damping) for direction in EXACT
    )
    assert others
    assert max(relative(step, first) for step in others) < 1e-8


@each_case
@pytest.mark.parametrize("direction", EXACT)
def test_one_direction_serves_every_damping_in_any_order(direction, problem):
    shared = direction(problem.operator, problem.S)
    trials = [(problem.precision(), 0.1), (problem.zeros(), 1e-2), (problem.zeros(), 10.0), (problem.precision(4), 0.0)]
    for precision, damping in trials:
        alone = direction(problem.operator, problem.S).solve(problem.gradient, precision, damping)
        assert relative(shared.solve(problem.gradient, precision, damping), alone) < 1e-9


@each_case
@pytest.mark.parametrize("direction", EXACT)
def test_pure_gauss_newton_takes_the_shortest_step(direction, problem):
    """Without prior and damping the system may be singular; the step is then the least-squares one of least norm."""
    step = direction(problem.operator, problem.S).solve(problem.gradient, problem.zeros(), 0.0)
    expected = -np.linalg.pinv(problem.G.numpy(), rcond=1e-13, hermitian=True) @ problem.gradient.numpy()
    assert relative(step, torch.from_numpy(expected)) < 1e-5


@pytest.mark.parametrize("direction", EXACT)
@pytest.mark.parametrize(("n", "d"), [(6, 10), (30, 4)])
def test_a_linear_model_is_solved_by_one_undamped_step(direction, n, d):
    """From weights 0 the step is NumPy's minimum-norm least-squares solution, duplicated columns included."""
    X = draw(n, d)
    X[:, 1] = X[:, 0]
    y, s = draw(n, 1, seed=1), draw(n, seed=2).abs() + 0.1
    network = FeedForward(d, 1, ())
    objective = Objective(network, SquaredError(), X, y, s)
    at = objective.evaluate(torch.zeros(network.n_weights, dtype=torch.float64))
    solver = direction(objective.jacobian(at), objective.total_weight)
    step = solver.solve(objective.gradient(at), [torch.zeros(d + 1, dtype=torch.float64)], 0.0)
    root = s.sqrt()[:, None]
    design = (root * torch.cat([X, torch.ones(n, 1)], 1)).numpy()
    expected = np.linalg.lstsq(design, (root * y).numpy()[:, 0], rcond=None)[0]
    np.testing.assert_allclose(step, expected, rtol=1e-8, atol=1e-10)


@each_case
def test_riemannian_norm_is_that_of_the_projected_output_gradient(problem):
    found = decompose(problem.operator, problem.gradient, problem.S)
    pinv = np.linalg.pinv(problem.G.numpy(), rcond=1e-13, hermitian=True)
    expected = math.sqrt(problem.gradient.numpy() @ pinv @ problem.gradient.numpy())
    assert found.riemannian_gradient_norm == pytest.approx(expected, rel=1e-3)
    assert found[:2] == pytest.approx(spectrum(problem.operator, None, problem.S), rel=1e-8, abs=1e-13 * found[1])


def test_riemannian_norm_is_the_whole_residual_where_the_network_can_move_it_anywhere():
    """With P > n and full rank nothing of the residual is out of reach: its root mean square, weighted."""
    network, n = FeedForward(4, 1, (30,), "tanh"), 12
    X, y, s = draw(n, 4), draw(n, 1, seed=1), draw(n, seed=2).abs() + 0.1
    objective = Objective(network, SquaredError(), X, y, s)
    at = objective.evaluate(draw(network.n_weights, seed=3))
    found = decompose(objective.jacobian(at), objective.gradient(at), objective.total_weight)
    residual = (dense.forward(network, at.w, X) - y)[:, 0]
    expected = math.sqrt(float(s @ residual.square()) / float(s.sum()))
    assert found.riemannian_gradient_norm == pytest.approx(expected, rel=1e-4)


@each_case
@pytest.mark.parametrize("direction", DIRECTIONS.values())
def test_spectrum_is_that_of_the_smaller_system(direction, problem):
    solver = direction(problem.operator, problem.S)
    J = problem.J / math.sqrt(problem.S)
    smaller = J @ J.T if len(J) < J.shape[1] else J.T @ J
    expected = np.linalg.eigvalsh(smaller.numpy())[[0, -1]]
    np.testing.assert_allclose(
        spectrum(problem.operator, solver, problem.S), expected, rtol=1e-8, atol=1e-13 * expected[1]
    )


@each_case
@pytest.mark.parametrize("blocks_before", [None, 1.0, 2.0], ids=["at once", "after blocks", "after others"])
@pytest.mark.parametrize("direction", WITH_TRACES)
def test_inverse_traces_match_the_dense_inverse(direction, blocks_before, problem):
    """Also where the blocks of samples have been asked for under these precisions, or under others."""
    precision, solver = problem.precision(), direction(problem.operator, problem.S)
    if blocks_before is not None:
        solver.output_blocks(precision if blocks_before == 1 else [blocks_before * p for p in precision])
    traces, log_determinant = solver.inverse_traces(precision)
    A = problem.G + torch.diag(problem.network.expand(precision))
    layers = problem.network.split(torch.linalg.inv(A).diagonal().contiguous())
    for trace, layer in zip(traces, layers, strict=True):
        torch.testing.assert_close(trace, layer.sum(0), rtol=1e-7, atol=0)
    assert log_determinant == pytest.approx(float(torch.linalg.slogdet(A)[1]), rel=1e-9)


@each_case
@pytest.mark.parametrize("budget", ["256", "0.002"], ids=["one-chunk", "chunks"])
@pytest.mark.parametrize("direction", WITH_TRACES)
def test_output_blocks_match_the_dense_inverse(direction, budget, problem, monkeypatch):
    """At the samples of the system and at others, in any number."""
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", budget)
    network, precision = problem.network, problem.precision()
    solver = direction(problem.operator, problem.S)
    inverse = torch.linalg.inv(problem.G + torch.diag(network.expand(precision)))
    for X in (problem.X, draw(17, network.n_inputs, seed=20)):
        J = dense.jacobian(network, problem.w, X)
        outputs = Jacobian.of_outputs(network, problem.w, network.with_bias(X))
        blocks = torch.cat([*solver.output_blocks(precision)(outputs)])
        expected = J @ inverse @ J.mT
        torch.testing.assert_close(blocks, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


@each_case
@pytest.mark.parametrize("direction", WITH_TRACES)
def test_a_system_in_float32_is_that_of_float64_but_for_rounding(direction, problem):
    """The posterior of the same rows has the digits of float64 from either."""
    precision, damping = problem.precision(), 1e-2
    single, double = (direction(jacobian, problem.S) for jacobian in (problem.in_float32, problem.operator))
    assert relative(*(d.solve(problem.gradient, precision, damping) for d in (single, double))) < 1e-3
    (traces, log_determinant), (exact, exact_log_determinant) = (d.inverse_traces(precision) for d in (single, double))
    for a, trace, expected in zip(precision, traces, exact, strict=True):
        assert trace.dtype == torch.float64
        # Their part of the effective parameters.
        torch.testing.assert_close(a * trace, a * expected, rtol=1e-3, atol=1e-3)
    assert log_determinant == pytest.approx(exact_log_determinant, rel=1e-4, abs=1e-2)
    factor = single.posterior_factor(precision)
    assert factor.dtype == torch.float64
    assert relative(factor, double.posterior_factor(precision)) < 1e-12


@pytest.mark.parametrize("direction", WITH_TRACES)
def test_a_system_that_float32_cannot_factorise_is_one_of_float64(direction):
    """Two samples that are nearly the same leave nothing of their difference in float32."""
    network = FeedForward(1, 1, ())
    X = torch.tensor([[1.0], [1.0 + 1e-6]], dtype=torch.float64)
    objective = Objective(network, SquaredError(), X, X, torch.full((2,), 1e-13, dtype=torch.float64))
    at = objective.evaluate(torch.zeros(2, dtype=torch.float64))
    single, double = (direction(objective.jacobian(at, dtype), 1e-13) for dtype in (torch.float32, None))
    precision = [torch.full((2,), 1e-14, dtype=torch.float64)]
    for damping in (0.0, 1e-13):
        step, expected = (d.solve(torch.ones(2, dtype=torch.float64), precision, damping) for d in (single, double))
        assert relative(step, expected) < 1e-3
    assert single.inverse_traces(precision)[1] == pytest.approx(double.inverse_traces(precision)[1], rel=1e-3)
    # The posterior may be the first to ask for the factor.
    first = direction(objective.jacobian(at, torch.float32), 1e-13)
    assert relative(first.posterior_factor(precision), double.posterior_factor(precision)) < 1e-12


@pytest.mark.parametrize("direction", WITH_TRACES)
def test_output_blocks_of_a_singular_system_are_none(direction):
    problem = Linearisation(*CASES["wide"])
    assert direction(problem.operator, problem.S).output_blocks([-p for p in problem.precision()]) is None


@pytest.mark.parametrize("direction", WITH_TRACES)
def test_inverse_traces_of_a_singular_system_are_nan(direction):
    problem = Linearisation(*CASES["wide"])
    traces, log_determinant = direction(problem.operator, problem.S).inverse_traces([-p for p in problem.precision()])
    assert math.isnan(log_determinant)
    assert all(bool(torch.isnan(trace).all()) for trace in traces)


@each_case
@pytest.mark.parametrize("direction", WITH_TRACES)
def test_posterior_factor_is_that_of_the_system_it_says(direction, problem):
    precision = problem.precision()
    factor = direction(problem.operator, problem.S).posterior_factor(precision)
    a = problem.network.expand(precision)
    if direction.posterior_of_rows:
        system = problem.S * torch.eye(len(problem.J)).double() + problem.J @ torch.diag(1 / a) @ problem.J.T
    else:
        system = problem.G + torch.diag(a)
    torch.testing.assert_close(factor @ factor.T, system, rtol=1e-9, atol=1e-12 * float(system.abs().max()))


@each_case
@pytest.mark.parametrize("direction", DIRECTIONS.values())
def test_trace_is_that_of_the_gauss_newton_matrix(direction, problem):
    assert direction(problem.operator, problem.S).trace() == pytest.approx(float(problem.G.trace()), rel=1e-10)


@pytest.mark.parametrize("direction", [d for d in DIRECTIONS.values() if d.lacks])
def test_a_direction_that_lacks_a_posterior_has_no_part_of_one(direction):
    problem = Linearisation(*CASES["tall"])
    solver, precision = direction(problem.operator, problem.S), problem.precision()
    traces, log_determinant = solver.inverse_traces(precision)
    assert math.isnan(log_determinant)
    assert all(bool(torch.isnan(trace).all()) for trace in traces)
    assert solver.output_blocks(precision) is None and solver.posterior_factor(precision) is None
    assert direction.lacks_in_batches, "batches have no more than all rows at once"


# Single precision: the operator is float32, the system is solved in float64.


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("direction", EXACT)
def test_single_precision_steps_are_close(case, direction):
    problem = Linearisation(*CASES[case], dtype=torch.float32)
    step = direction(problem.operator, problem.S).solve(problem.gradient, problem.precision(), 1e-2)
    A = problem.G + torch.diag(problem.network.expand(problem.precision()) + 1e-2)
    assert step.dtype == torch.float64
    assert relative(step, -torch.linalg.solve(A, problem.gradient)) < 1e-3


@pytest.mark.parametrize("case", CASES)
def test_single_precision_rounding_is_not_mistaken_for_curvature(case):
    """No gradient is longer in the Riemannian norm than the residual it comes from, nor nan."""
    problem = Linearisation(*CASES[case], dtype=torch.float32)
    value = decompose(problem.operator, problem.gradient, problem.S).riemannian_gradient_norm
    exact = Linearisation(*CASES[case])
    pinv = np.linalg.pinv(exact.G.numpy(), rcond=1e-13, hermitian=True)
    expected = math.sqrt(exact.gradient.numpy() @ pinv @ exact.gradient.numpy())
    assert 0.5 * expected < value < 1.1 * expected


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("direction", EXACT)
def test_single_precision_keeps_the_shortest_step_short(case, direction):
    """Eigenvalues that are 0 but for the rounding of float32 add nothing; the step still fits what it can."""
    problem, exact = Linearisation(*CASES[case], dtype=torch.float32), Linearisation(*CASES[case])
    step = direction(problem.operator, problem.S).solve(problem.gradient, problem.zeros(), 0.0)
    pinv = torch.from_numpy(np.linalg.pinv(exact.G.numpy(), rcond=1e-13, hermitian=True))
    # Rounding may double what an eigenvalue at the cutoff contributes; one below it would add orders of magnitude.
    assert float(step.norm()) < 3 * float((pinv @ exact.gradient).norm())
    decrease = -float(exact.gradient @ step + 0.5 * step @ exact.G @ step)
    # Directions of small but true curvature are lost among the rounding errors, no more.
    assert decrease > 0.4 * float(0.5 * exact.gradient @ pinv @ exact.gradient)


@pytest.mark.parametrize("direction", EXACT)
@pytest.mark.parametrize("damping", [0.0, 1.0])
def test_non_finite_jacobian_gives_a_step_that_can_be_rejected(direction, damping):
    network = FeedForward(2, 1, (4,))
    X = draw(10, 2)
    X[3, 0] = torch.inf
    objective = Objective(network, SquaredError(), X, draw(10, 1, seed=1), torch.ones(10).double())
    at = objective.evaluate(draw(network.n_weights, seed=2))
    solver = direction(objective.jacobian(at), objective.total_weight)
    zeros = [torch.zeros(into, dtype=torch.float64) for _, into in network.shapes]
    assert not bool(torch.isfinite(solver.solve(objective.gradient(at), zeros, damping)).all())


# choose


def test_each_direction_stands_under_its_own_name():
    assert all(name == direction.name for name, direction in DIRECTIONS.items())


def test_what_a_solver_is_good_for():
    assert serves_evidence("auto") and serves_evidence("dual") and not serves_evidence("cg")
    assert not lacking("primal", in_batches=True) and not lacking("dual", in_batches=False)
    assert "all rows" in lacking("dual", in_batches=True)
    assert "factorisation" in lacking("cg", in_batches=False)
    batch = Extent(FeedForward(10, 2, (20,)), 5, 2)
    assert choose_for_batches("auto", batch, evidence=False) is Dual
    assert choose_for_batches("auto", batch, evidence=True) is Primal
    assert choose_for_batches("cg", batch, evidence=False) is ConjugateGradient


@pytest.mark.parametrize(
    ("network", "n", "expected"),
    [
        (FeedForward(5, 1, (10,)), 10_000, Primal),
        (FeedForward(5, 1, (2000,)), 100, Dual),
        (FeedForward(5, 3, (10,)), 2000, Primal),
        (FeedForward(500, 1, ()), 20, Dual),
    ],
)
def test_auto_takes_the_cheaper_space(network, n, expected):
    assert choose("auto", Extent(network, n, network.n_outputs)) is expected
    assert choose("primal", Extent(network, n, network.n_outputs)) is Primal
    assert choose("dual", Extent(network, n, network.n_outputs)) is Dual


@pytest.mark.parametrize(
    ("network", "n", "c", "expected"),
    [
        (FeedForward(61, 10, (100,)), 1437, 9, ConjugateGradient),
        (FeedForward(20, 1, (100,)), 5000, 1, ConjugateGradient),
        (FeedForward(20, 1, (20,)), 5000, 1, Primal),
        (FeedForward(64, 3, (100,)), 150, 2, Dual),
    ],
)
def test_auto_takes_conjugate_gradients_for_their_cost_where_no_posterior_is_lost(network, n, c, expected):
    extent = Extent(network, n, c)
    assert choose("auto", extent, posterior=False) is expected
    assert expected.flops(extent) == min(direction.flops(extent) for direction in DIRECTIONS.values())
    assert not choose("auto", extent).lacks
    assert not choose("auto", extent, evidence=True, posterior=False).lacks


def test_auto_gives_way_to_the_space_that_fits(monkeypatch):
    network, n = FeedForward(5, 1, (300,)), 1000
    assert choose("auto", Extent(network, 20_000, 1)) is Primal
    # 2106 weights against 1000 rows: room for the smaller system only.
    extent = Extent(network, n, 1)
    need = Dual.memory(extent)
    assert need < Primal.memory(extent)
    monkeypatch.setattr(skgn.directions, "available_memory", lambda device: need)
    assert choose("auto", Extent(network, n, 1)) is Dual
    assert choose("auto", Extent(network, n, 1), evidence=True) is Dual


@pytest.mark.parametrize("solver", ["auto", "primal", "dual"])
def test_a_system_beyond_memory_is_refused_with_a_way_out(solver, monkeypatch):
    network, n = FeedForward(9, 1, (100,)), 5000
    monkeypatch.setattr(skgn.directions, "available_memory", lambda device: 2.0**23)
    with pytest.raises(ValueError, match=rf"needs .* GB .*{network.n_weights} weights.*but 0.00781 GB are") as error:
        choose(solver, Extent(network, n, 1))
    # The suggestion holds what it promises.
    width = int(str(error.value).split("hidden_layer_sizes=(")[1].split(",")[0])
    assert width >= 1
    assert choose("primal", Extent(FeedForward(9, 1, (width,)), n, 1)) is Primal


def test_the_other_solver_is_named_where_it_would_fit(monkeypatch):
    monkeypatch.setattr(skgn.directions, "available_memory", lambda device: 2.0**23)
    with pytest.raises(ValueError, match=r"solver='primal' needs .*solver='dual' needs .* would fit"):
        choose("primal", Extent(FeedForward(9, 1, (100,)), 50, 1))
    with pytest.raises(ValueError, match=r"solver='dual' needs .*solver='primal' needs .* would fit"):
        choose("dual", Extent(FeedForward(9, 1, (5,)), 5000, 1))
