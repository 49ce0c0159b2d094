import dense
import pytest
import torch
from dense import NETWORKS, draw

from skgn.feedforward import FeedForward
from skgn.jacobian import Jacobian
from skgn.jacobian_cost import gram_entries, gram_flops
from skgn.label_losses import LogLoss, SoftmaxLoss
from skgn.losses import SquaredError
from skgn.objective import Objective

N = 23

#: Memory budgets in MB for which the 23 rows take one chunk, a few, or one row each.
BUDGETS = {"one-chunk": "256", "chunks": "0.02", "single-rows": "0.0001"}


def roots(n, k, c):
    """Well-scaled roots with c columns; an operator makes no other demand on them."""
    return draw(n, k, c, seed=7) + torch.eye(k, c, dtype=torch.float64)


def operator(network, c, dtype=torch.float64, factored=None):
    """The package's operator, and the dense matrix it stands for."""
    X, w, R = draw(N, 3), 0.7 * draw(network.n_weights, seed=1), roots(N, network.n_outputs, c)
    R_ = R.to(dtype)
    J = Jacobian(network, w.to(dtype), network.with_bias(X.to(dtype)), lambda rows: R_[rows], c)
    if factored is not None:
        J.factored = factored
    return J, dense.weighted_jacobian(network, w, X, R)


@pytest.fixture(params=BUDGETS)
def budget(request, monkeypatch):
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", BUDGETS[request.param])
    return request.param


#: Systems explicit and factored with each budget but one.
each_system = pytest.mark.parametrize(
    ("factored", "budget"),
    [(False, "one-chunk"), (False, "single-rows"), (True, "one-chunk"), (True, "chunks")],
    ids=["explicit-one-chunk", "explicit-single-rows", "factored-one-chunk", "factored-chunks"],
    indirect=["budget"],
)


#: Fewer columns than outputs too: a root need not be square.
CASES = [(network, c) for network in NETWORKS for c in sorted({1, network.n_outputs})]
each_case = pytest.mark.parametrize(
    ("network", "c"), CASES, ids=[f"{dense.name(case[0])}-c{case[1]}" for case in CASES]
)


@each_case
def test_products_match_the_dense_jacobian(network, c, budget):
    J, expected = operator(network, c)
    assert J.shape == expected.shape == (N * c, network.n_weights)
    v, r = draw(network.n_weights, seed=2), draw(N, c, seed=3)
    torch.testing.assert_close(J.matvec(v).flatten(), expected @ v, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(J.rmatvec(r), expected.T @ r.flatten(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(J.normal_product(v), expected.T @ (expected @ v), rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(J.diagonal(), expected.square().sum(0), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(J.trace(), expected.square().sum(), rtol=1e-12, atol=0)
    # The same after the back-propagated rows were kept.
    torch.testing.assert_close(J.matvec(v).flatten(), expected @ v, rtol=1e-10, atol=1e-12)


@each_case
@each_system
def test_gram_matches_the_dense_jacobian(network, c, factored, budget):
    J, expected = operator(network, c, factored=factored)
    torch.testing.assert_close(J.gram(), expected.T @ expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(J.gram(torch.float32).double(), J.gram(), rtol=1e-4, atol=1e-4)
    assert J.gram(torch.float32).dtype == torch.float32


@pytest.mark.parametrize("c", [2, 7])
@pytest.mark.parametrize("factored", [False, True], ids=["explicit", "factored"])
def test_gram_of_a_system_wide_enough_for_blocks(factored, c):
    J, expected = operator(FeedForward(3, c, (30, 20), alpha=0.5), c, factored=factored)
    assert J.shape[1] > 600
    torch.testing.assert_close(J.gram(), expected.T @ expected, rtol=1e-10, atol=1e-11)


@each_case
def test_kernel_matches_the_dense_jacobian(network, c, budget):
    J, expected = operator(network, c)
    inverse_scale = [draw(into, seed=10 * into).abs() + 0.01 for _, into in network.shapes]
    K = J.kernel(inverse_scale)
    torch.testing.assert_close(K, (expected * network.expand(inverse_scale)) @ expected.T, rtol=1e-10, atol=1e-11)


def test_kernel_of_more_rows_than_one_block():
    network = FeedForward(2, 2, (4,))
    n = 600
    X, w, R = draw(n, 2), draw(network.n_weights, seed=1), roots(n, 2, 2)
    J = Jacobian(network, w, network.with_bias(X), lambda rows: R[rows], 2)
    expected = dense.weighted_jacobian(network, w, X, R)
    ones = [torch.ones(into, dtype=torch.float64) for _, into in network.shapes]
    torch.testing.assert_close(J.kernel(ones), expected @ expected.T, rtol=1e-10, atol=1e-11)


@each_case
@pytest.mark.parametrize("factored", [False, True], ids=["explicit", "factored"])
def test_single_precision(network, c, factored):
    J, expected = operator(network, c, torch.float32, factored)
    v, r = draw(network.n_weights, seed=2), draw(N, c, seed=3)
    results = {
        "matvec": (J.matvec(v.float()).flatten(), expected @ v),
        "rmatvec": (J.rmatvec(r.float()), expected.T @ r.flatten()),
        "gram": (J.gram(), expected.T @ expected),
        "kernel": (J.kernel([torch.ones(into) for _, into in network.shapes]), expected @ expected.T),
    }
    for what, (result, reference) in results.items():
        assert result.dtype == torch.float32, what
        error = float((result.double() - reference).abs().max() / reference.abs().max())
        assert error < 2e-5, what


LOSSES = [
    (SquaredError(), FeedForward(3, 2, (6, 4), "tanh", alpha=2.0)),
    (LogLoss(), FeedForward(3, 1, (5,), "softplus", alpha=0.5)),
    (LogLoss(), FeedForward(3, 3, (5,), "gelu", linear_path=False)),
    (SoftmaxLoss(), FeedForward(3, 3, (6, 4), "silu", alpha=3.0)),
    (SoftmaxLoss(), FeedForward(3, 3, (6,), "tanh", init="centered")),
]


@pytest.mark.parametrize(("loss", "network"), LOSSES, ids=[f"{type(c[0]).__name__}-{c[1].init}" for c in LOSSES])
def test_gram_of_an_objective_is_its_gauss_newton_matrix(loss, network, budget):
    """Exactly the Hessian of the objective along a network linearised at w, by automatic differentiation."""
    n, k = 40, network.n_outputs
    X, s = draw(n, 3), draw(n, seed=8).abs() + 0.01
    Y = draw(n, k, seed=9) if isinstance(loss, SquaredError) else torch.eye(k).double()[torch.arange(n) % k]
    w0, w = 0.5 * draw(network.n_weights, seed=1), 0.5 * draw(network.n_weights, seed=2)
    anchor = w0 if network.init == "centered" else None
    objective = Objective(network, loss, X, Y, s).for_member(anchor)
    jacobian = objective.jacobian(objective.evaluate(w))
    G = jacobian.gram() / objective.total_weight

    f = dense.forward(network, w, X) - (0 if anchor is None else dense.forward(network, anchor, X))
    J = dense.jacobian(network, w, X)

    def linearised(step):
        return (s * loss.value(f + J @ step, Y)).sum() / s.sum()

    expected = torch.func.jacrev(torch.func.grad(linearised))(torch.zeros_like(w))
    torch.testing.assert_close(G, expected, rtol=1e-9, atol=1e-12)
    diagonal = jacobian.diagonal() / objective.total_weight
    torch.testing.assert_close(diagonal, expected.diagonal(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("loss", "network"), [LOSSES[0], LOSSES[2]], ids=["numbers", "labels"])
def test_the_diagonal_is_that_of_targets_in_units_of_their_noise(loss, network):
    """Of many outputs no roots are formed for it; those of the gram matrix have the same units."""
    n, k = 40, network.n_outputs
    root = draw(n, k, seed=4).abs() + 0.1
    objective = Objective(network, loss, draw(n, 3), draw(n, k, seed=9).abs(), draw(n, seed=8).abs() + 0.01, root)
    jacobian = objective.jacobian(objective.evaluate(0.5 * draw(network.n_weights, seed=2)))
    torch.testing.assert_close(jacobian.diagonal(), jacobian.gram().diagonal(), rtol=1e-10, atol=1e-14)


def test_no_array_of_rows_by_weights_when_the_budget_is_small(monkeypatch):
    """The gram of a tall problem is accumulated: the roots are asked for a few rows at a time."""
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", "0.5")
    network = FeedForward(3, 1, (10,))
    n, asked = 5000, []
    R = torch.ones(n, 1, 1, dtype=torch.float64)

    def root(rows):
        asked.append(rows.stop - rows.start)
        return R[rows]

    Jacobian(network, draw(network.n_weights), network.with_bias(draw(n, 3)), root, 1).gram()
    assert sum(asked) == n
    assert max(asked) * network.n_weights * 8 <= 0.5 * 2**20


def test_gram_cost_grows_with_everything_that_makes_it_larger():
    small, wide = FeedForward(3, 1, (8,)), FeedForward(3, 1, (16,))
    assert gram_flops(small, 100_000, 1) == pytest.approx(gram_flops(small, 1000, 1) * 100, rel=0.1)
    assert gram_flops(wide, 100, 1) > gram_flops(small, 100, 1)
    # With D summed over the columns beforehand, outputs beyond a few cost nothing more per row.
    many = FeedForward(3, 20, (8,))
    assert gram_flops(many, 1000, 20) < 1000 * 20 * 0.6 * many.n_weights**2


def symmetric(P):
    B = draw(P, P, seed=5)
    return B + B.T


@each_case
@each_system
def test_diagonal_blocks_match_the_dense_jacobian(network, c, factored, budget):
    J, expected = operator(network, c, factored=factored)
    B, rows = symmetric(network.n_weights), expected.view(N, c, -1)
    torch.testing.assert_close(torch.cat([*J.diagonal_blocks(B)]), rows @ B @ rows.mT, rtol=1e-9, atol=1e-10)
    inverse_scale = [draw(into, seed=10 * into).abs() + 0.01 for _, into in network.shapes]
    scaled = rows * network.expand(inverse_scale)
    torch.testing.assert_close(J.factors().kernel_blocks(inverse_scale), scaled @ rows.mT, rtol=1e-10, atol=1e-11)


@each_case
@pytest.mark.parametrize(
    ("rows", "budget"),
    [
        (slice(0, N), "chunks"),
        (slice(0, 5), "one-chunk"),
        (slice(5, 6), "one-chunk"),
        (slice(9, N), "chunks"),
        (slice(9, N), "single-rows"),
    ],
    indirect=["budget"],
)
def test_part_of_an_operator_is_that_of_its_rows(network, c, rows, budget):
    J, expected = operator(network, c)
    part, expected = J.at(rows), expected.view(N, c, -1)[rows]
    assert part.shape == (len(expected) * c, network.n_weights)
    torch.testing.assert_close(part.factors().dense(), expected.flatten(0, 1), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(part.gram(), expected.flatten(0, 1).T @ expected.flatten(0, 1), rtol=1e-10, atol=1e-11)
    # Parts of parts count from the start of the part.
    inner = part.at(slice(1, len(expected)))
    B = symmetric(network.n_weights)
    if len(expected) > 1:
        blocks = torch.cat([*inner.diagonal_blocks(B)])
        torch.testing.assert_close(blocks, expected[1:] @ B @ expected[1:].mT, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("network", NETWORKS, ids=dense.name)
def test_jacobian_of_outputs_is_that_of_the_network(network, budget):
    X, w = draw(N, 3), 0.7 * draw(network.n_weights, seed=1)
    J = Jacobian.of_outputs(network, w, network.with_bias(X))
    expected = dense.jacobian(network, w, X)
    torch.testing.assert_close(J.factors().dense(), expected.flatten(0, 1), rtol=1e-10, atol=1e-12)
    B = symmetric(network.n_weights)
    torch.testing.assert_close(torch.cat([*J.diagonal_blocks(B)]), expected @ B @ expected.mT, rtol=1e-9, atol=1e-10)


def test_blocks_of_many_outputs_come_in_few_parts_that_fit_the_budget(monkeypatch):
    """The Gram matrix has temporaries for each column of a pair of units, which made the parts of blocks small, too."""
    monkeypatch.setenv("SKGN_MEMORY_BUDGET_MB", "64")
    network, n = FeedForward(5, 60, (10,)), 300
    w = draw(network.n_weights)
    J = Jacobian.of_outputs(network, w, network.with_bias(draw(n, 5)))
    sizes = [len(block) for block in J.diagonal_blocks(torch.eye(network.n_weights).double())]
    of_gram = list(J._parts(torch.float64, gram_entries(network, J.c, J.factored)))
    assert J.factored and sum(sizes) == n and len(sizes) < len(of_gram) / 3
    # Two arrays of blocks, the temporaries of a product of several, and their factors.
    assert max(sizes) * 3 * J.c**2 * 8 < 64e6
