"""Mini-batches and streams: steps on batches of rows, in a fit and block by block."""

import gc
import pickle

import numpy as np
import pytest
import torch
from dense import weighted_jacobian
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, make_classification, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor
from skgn.batches import Batches, BatchSteps, plan_batches
from skgn.damping import Constant, GainRatio
from skgn.diagnostics import diagnose
from skgn.evidence import FixedPrior
from skgn.feedforward import FeedForward
from skgn.label_losses import LogLoss, SoftmaxLoss
from skgn.losses import SquaredError
from skgn.objective import Objective
from skgn.state import Linearisation, State
from skgn.training import Training

unconverged = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

#: One network of 73 weights, and a fixed objective.
PLAIN = {"hidden_layer_sizes": (8,), "l2_regularization": 1e-4, "n_estimators": 1, "random_state": 0}


def regression(n=2000, noise=0.5):
    return make_friedman1(n, n_features=6, noise=noise, random_state=0)


def classification(n=2000, n_classes=3):
    return make_classification(n, 6, n_informative=5, n_redundant=0, n_classes=n_classes, class_sep=0.7, random_state=0)


def data(estimator, n=2000):
    return regression(n) if estimator is GNRegressor else classification(n)


def error(model, X, y):
    if isinstance(model, GNRegressor):
        return mean_squared_error(y, model.predict(X))
    return log_loss(y, model.predict_proba(X))


def objective(loss, n=60, k=1, seed=0):
    rng = np.random.RandomState(seed)
    X, f = torch.from_numpy(rng.normal(size=(n, 3))), rng.normal(size=(n, k))
    Y = torch.from_numpy(f if isinstance(loss, SquaredError) else (f == f.max(1, keepdims=True)) * 1.0)
    network = FeedForward(3, k, (4,))
    w = torch.from_numpy(network.initial_weights(rng))
    weight = torch.from_numpy(rng.uniform(0.5, 2, size=n))
    return Objective(network, loss, X, Y, weight), w


def dense_jacobian(whole, w):
    """The Jacobian with the roots of curvature and weights, (n c, P)."""
    f = whole.evaluate(w).outputs
    R = whole.data_loss.curvature_root(f, whole.Y) * whole.sample_weight.sqrt()[:, None, None]
    return weighted_jacobian(whole.network, w, whole.U[:, :-1], R)


def batch_steps(rule, rows, solver, whole):
    return BatchSteps(rule, Batches(rows, solver), np.random.RandomState(0), whole, whole.total_weight)


LOSSES = [(SquaredError(), 2), (LogLoss(), 1), (SoftmaxLoss(), 3)]


# --- What is asked of an objective


@pytest.mark.parametrize(("loss", "k"), LOSSES)
def test_a_part_is_the_mean_over_its_samples(loss, k):
    whole, w = objective(loss, k=k)
    index = torch.tensor([3, 5, 41])
    part = whole.part(index)
    losses = loss.value(whole.evaluate(w).outputs, whole.Y)[index]
    weight = whole.sample_weight[index]
    assert part.total_weight == pytest.approx(float(weight.sum()))
    assert part.evaluate(w).loss == pytest.approx(float(losses @ weight / weight.sum()))


@pytest.mark.parametrize(("loss", "k"), LOSSES)
def test_slope_and_curvature_along_a_step_are_those_of_dense_algebra(loss, k):
    whole, w = objective(loss, k=k)
    step = torch.from_numpy(np.random.RandomState(1).normal(size=len(w)))
    at = whole.evaluate(w)
    slope, curvature = whole.along(at, step)
    h = 1e-6
    difference = (whole.evaluate(w + h * step).loss - whole.evaluate(w - h * step).loss) / (2 * h)
    assert slope == pytest.approx(difference, rel=1e-6)
    J = dense_jacobian(whole, w)
    assert curvature == pytest.approx(float((J @ step).square().sum()) / whole.total_weight)


def test_the_change_of_the_loss_comes_with_its_standard_error():
    whole, w = objective(SquaredError())
    whole = Objective(whole.network, whole.data_loss, whole.U[:, :-1], whole.Y, torch.ones(60).double())
    before, after = whole.evaluate(w), whole.evaluate(1.1 * w)
    differences = 0.5 * ((after.outputs - whole.Y).square() - (before.outputs - whole.Y).square()).numpy()[:, 0]
    mean, deviation = whole.change(before, after)
    assert mean == pytest.approx(differences.mean())
    assert deviation == pytest.approx(differences.std() / np.sqrt(60))


# --- Steps


@pytest.mark.parametrize("factored", [True, False])
@pytest.mark.parametrize(("loss", "k"), LOSSES)
def test_a_step_solves_the_batchs_system_exactly_with_what_is_remembered(loss, k, factored):
    whole, w = objective(loss, k=k)
    network, a, kappa, damping = whole.network, 0.01, 2.5, 0.1
    memory = batch_steps(GainRatio(), 20, "primal" if factored else "dual", whole).memory
    first, second = whole.part(torch.arange(20)), whole.part(torch.arange(20, 40))
    precision = [w.new_full((into,), a) for _, into in network.shapes]
    grams = []
    for part in (first, second):
        memory.linearise(part.jacobian(part.evaluate(w)), part.total_weight)
        J = dense_jacobian(part, w)
        grams.append(J.T @ J / part.total_weight)
    remembered = grams[0]
    if not factored:
        # Its diagonal, the same for all units of a (layer, input).
        layers = network.split(remembered.diagonal().clone())
        remembered = torch.diag(network.expand([layer.mean(0) for layer in layers]))
    g = second.gradient(second.evaluate(w))
    system = grams[1] + kappa * remembered + (a + damping) * torch.eye(len(w)).double()
    np.testing.assert_allclose(memory.solve(g, precision, kappa, damping), -torch.linalg.solve(system, g), rtol=1e-7)


def test_memory_of_all_batches_is_recursive_least_squares():
    # A linear network and squared error: kappa = 1, 2, 3 ... batches, and each gradient moves the solution exactly.
    X, y = regression(300)
    X = StandardScaler().fit_transform(X)
    network, n, l2 = FeedForward(6, 1, ()), 300, 1e-3
    whole = Objective(
        network, SquaredError(), torch.from_numpy(X), torch.from_numpy(y)[:, None], torch.ones(n).double()
    )
    memory = batch_steps(Constant(0.0), 50, "primal", whole).memory
    w, S = torch.zeros(7).double(), 0
    for batch, rows in enumerate(torch.arange(n).split(50)):
        part = whole.part(rows)
        at = part.evaluate(w)
        memory.linearise(part.jacobian(at), part.total_weight)
        precision = [torch.full((7,), l2).double()]
        w = w + memory.solve(part.gradient(at) + 0 * w, precision, float(batch), 0.0)
        memory.remember(1 / (1 + batch))
        S += len(rows)
    # Least squares with a ridge that each batch has added to: damped, not shrunk towards 0 again and again.
    expected = np.linalg.lstsq(np.column_stack([X, np.ones(n)]), y, rcond=None)[0]
    np.testing.assert_allclose(w, expected, rtol=5e-3)


@pytest.mark.parametrize("factored", [True, False])
def test_a_step_is_tested_on_the_next_batch_and_not_on_its_own(factored):
    # Pure noise: each step fits its own batch of 20 rows and spoils the next, and is taken back.
    whole, w = objective(SquaredError(), n=40)
    steps = batch_steps(Constant(0.0), 20, "primal" if factored else "dual", whole)
    steps.learned, steps.most_memory = steps.learned._replace(kappa=1e-6), 1e-6
    prior = FixedPrior(whole.network, 1e-9, True, w)
    after = steps.run(State.at_weights(w, whole, prior, prior.initial(whole.total_weight)), lambda: False)
    assert after.predicted > 0
    assert torch.equal(after.last, w)


# --- Fits


def test_a_linear_model_in_batches_is_ridge_regression():
    X, y = load_diabetes(return_X_y=True)
    Z, t = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
    l2 = 1e-2
    model = GNRegressor((), l2_regularization=l2, n_estimators=1, batch_size=60, standardize=False, tol=1e-6)
    model.fit(Z, t)
    ridge = Ridge(alpha=l2 * len(t), fit_intercept=False).fit(np.column_stack([Z, np.ones(len(t))]), t)
    np.testing.assert_allclose(model.predict(Z), ridge.predict(np.column_stack([Z, np.ones(len(t))])), atol=1e-4)
    assert model.status_ in ("gradient", "precision", "decrease")


@unconverged
def test_a_linear_classifier_in_batches_is_logistic_regression():
    X, y = classification(n_classes=2)
    Z, l2 = StandardScaler().fit_transform(X), 1e-2
    model = GNClassifier((), l2_regularization=l2, n_estimators=1, batch_size=100, standardize=False, tol=1e-6)
    p = model.fit(Z, y).predict_proba(Z)[:, 1]
    A = np.column_stack([Z, np.ones(len(y))])
    expected = LogisticRegression(C=1 / (l2 * len(y)), fit_intercept=False, tol=1e-8).fit(A, y).predict_proba(A)[:, 1]
    np.testing.assert_allclose(p, expected, atol=1e-3)


@pytest.mark.parametrize(("estimator", "batch_size"), [(GNRegressor, 200), (GNClassifier, 500)])
@unconverged
def test_batches_reach_the_test_error_of_the_full_batch(estimator, batch_size):
    X, y = data(estimator, 2000)
    full, batches = (estimator(**PLAIN, batch_size=b).fit(X[:1000], y[:1000]) for b in (None, batch_size))
    assert error(batches, X[1000:], y[1000:]) < 1.1 * error(full, X[1000:], y[1000:])


@pytest.mark.parametrize("solver", ["primal", "dual", "cg"])
@unconverged
def test_no_pass_raises_the_objective(solver):
    X, y = regression(600)
    model = GNRegressor(**PLAIN, batch_size=40, solver=solver, damping=GainRatio(), max_iter=15).fit(X, y)
    assert model.solver_ == solver
    assert np.diff(model.history_["objective"]).max() <= 0
    assert model.history_["objective"][-1] < 0.3 * model.history_["objective"][0]


class OwnRule:
    """A rule of a user, which passes on what another one says."""

    def __init__(self, rule):
        self.initial, self.accepted, self.rejected = rule.initial, rule.accepted, rule.rejected
        self.step_size = rule.step_size


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@unconverged
def test_a_rule_that_was_given_is_the_one_that_is_used(method):
    """What "adaptive" does otherwise in batches, it does for nobody else."""
    X, y = regression(600)
    settings = PLAIN | {"l2_regularization": "evidence", "n_estimators": 2, "batch_size": 100, "max_iter": 3}

    def weights(damping):
        model = getattr(GNRegressor(**settings, standardize="robust", damping=damping), method)(X, y)
        return np.concatenate([member.weights for member in model.estimators_])

    given, adaptive = weights(GainRatio()), weights("adaptive")
    np.testing.assert_array_equal(given, weights(OwnRule(GainRatio())))
    np.testing.assert_array_equal(adaptive, weights(GainRatio(initial_fraction=1.0, largest_decrease=0.7)))
    assert not np.array_equal(given, adaptive)


def test_a_batch_of_all_rows_is_the_full_batch():
    X, y = regression(500)
    model = GNRegressor(**PLAIN)
    full, one = (clone(model).set_params(batch_size=b).fit(X, y).predict(X) for b in (None, 500))
    np.testing.assert_array_equal(full, one)


@unconverged
def test_weights_are_repetitions_in_batches_too():
    X, y = regression(400)
    weight = np.random.RandomState(0).randint(0, 3, len(y))
    model = GNRegressor(**PLAIN, batch_size=100, max_iter=5)
    weighted = clone(model).fit(X, y, sample_weight=weight)
    repeated = clone(model).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_array_equal(weighted.predict(X), repeated.predict(X))


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
@unconverged
def test_evidence_in_batches_is_that_of_all_rows(estimator):
    X, y = data(estimator, 2000 if estimator is GNRegressor else 1000)
    model = estimator(hidden_layer_sizes=(8,), n_estimators=1, tol=1e-2, random_state=0)
    full, batches = (clone(model).set_params(batch_size=b).fit(X, y) for b in (None, 200))
    assert batches.log_evidence_ == pytest.approx(full.log_evidence_, abs=0.03 * len(y))
    assert batches.n_effective_parameters_ == pytest.approx(full.n_effective_parameters_, rel=0.15)
    if estimator is GNRegressor:
        assert batches.noise_std_ == pytest.approx(0.5, rel=0.1)
        mean, std = batches.predict(X, return_std=True)
        assert 0.85 < np.mean(np.abs(y - mean) < 1.645 * std) < 0.95


def test_passes_end_when_their_evidence_no_longer_rises():
    X, y = classification(1500)
    model = GNClassifier(
        (10,), prior_groups="layer", batch_size=150, n_estimators=1, tol=0, n_iter_no_change=2, max_iter=200,
        random_state=0,
    )  # fmt: skip
    model.fit(X, y)
    evidence = model.history_["log_evidence"][1:]
    assert model.status_ == "evidence"
    assert len(evidence) - 1 - evidence.argmax() >= 2 and len(evidence) < 200
    # It has not fallen so far that the weights of the highest would be kept.
    assert model.log_evidence_ == evidence[-1] > evidence.max() - 0.03 * len(y)


@unconverged
def test_members_of_a_search_go_on_in_batches():
    X, y = regression(2500)
    model = GNRegressor(hidden_layer_sizes=(5,), n_estimators=2, batch_size=500, max_iter=10, random_state=0).fit(X, y)
    assert len(model.estimators_) == 2
    assert model.score(X, y) > 0.95


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
@unconverged
def test_float32_trains_to_nearly_the_same_network(estimator):
    X, y = data(estimator, 1000)
    model = estimator(**PLAIN, batch_size=200, max_iter=3)
    double, single = (clone(model).set_params(dtype=t).fit(X, y) for t in ("float64", "float32"))
    np.testing.assert_allclose(single.loss_, double.loss_, rtol=1e-3)
    block = single.partial_fit(X, y)
    assert error(block, X, y) < 1.1 * error(double, X, y)


@unconverged
def test_a_constant_damping_is_kept_in_batches():
    X, y = regression(500)
    model = GNRegressor(**PLAIN, batch_size=100, damping=0.5, max_iter=3).fit(X, y)
    np.testing.assert_array_equal(model.history_["damping"][1:], 0.5)


@unconverged
def test_early_stopping_watches_the_passes():
    X, y = regression(600)
    model = GNRegressor(**PLAIN, batch_size=100, early_stopping=True, max_iter=30).fit(X, y)
    assert len(model.history_["validation_loss"]) == model.n_iter_ + 1


@unconverged
def test_batches_in_the_dual_have_no_posterior_and_the_error_says_what_has():
    X, y = regression(200)
    plain = PLAIN | {"l2_regularization": 1e-2, "max_iter": 2}
    dual = GNRegressor(**plain, batch_size=10, solver="dual").fit(X, y)
    with pytest.raises(ValueError, match="refit with solver='primal' or batch_size=None"):
        dual.predict(X, return_std=True)
    # Nor do the reports blame the penalty.
    report = str(diagnose(dual, X, y, verbose=False))
    assert "unknown: solver dual does not tell" in report and "solver dual has none" in report
    _, std = GNRegressor(**plain, batch_size=10, solver="primal").fit(X, y).predict(X, return_std=True)
    assert (std > 0).all()


def test_time_ends_a_fit_between_two_batches(clock):
    X, y = regression(4000)
    model = GNRegressor(**PLAIN, batch_size=20, max_time=0.2, max_iter=10**6, tol=0)
    with pytest.warns(ConvergenceWarning, match="max_time"):
        model.fit(X, y)
    assert model.status_ == "max_time"
    assert np.isfinite(model.predict(X)).all()


def test_the_smaller_system_of_a_batch_is_solved():
    network = FeedForward(10, 2, (20,))
    P = network.n_weights
    assert plan_batches(P // 2, "auto", network, 2, evidence=False).solver == "primal"
    assert plan_batches(P // 2 - 1, "auto", network, 2, evidence=False).solver == "dual"
    assert plan_batches(P // 2 - 1, "dual", network, 2, evidence=True).solver == "primal"
    assert plan_batches(P, "cg", network, 2, evidence=False).solver == "cg"
    assert plan_batches("auto", "auto", network, 2, evidence=False).rows >= P


# --- Streams


@unconverged
def test_a_block_is_freed_when_it_is_done():
    X, y = regression(500)
    model = GNRegressor(**PLAIN, max_iter=5).partial_fit(X, y)
    gc.collect()
    gc.disable()
    try:
        model.partial_fit(X, y)
        clone(model).fit(X, y)
        alive = [
            type(kept).__name__
            for kept in gc.get_objects()
            if issubclass(type(kept), (Objective, Training, State, Linearisation))
        ]
    finally:
        gc.enable()
    # Cycles would wait for the collector, block upon block.
    assert alive == []


def blocks(X, y, n_blocks):
    return zip(np.array_split(X, n_blocks), np.array_split(y, n_blocks), strict=True)


@pytest.mark.parametrize("parameters", [{"l2_regularization": 1e-4}, {}], ids=["fixed", "evidence"])
@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_one_pass_over_a_stream_comes_close_to_a_fit(estimator, parameters):
    X, y = data(estimator, 42000)
    X, X_test, y, y_test = X[:40000], X[40000:], y[:40000], y[40000:]
    model = estimator(hidden_layer_sizes=(8,), n_estimators=1, random_state=0, **parameters)
    # A stream has no choice of priors; the fit is the best of several starts. For so few weights a fifth of the rows
    # tells nearly as much as all of them: errors are at most a tenth larger.
    fitted = clone(model).set_params(batch_size="auto", prior_groups="layer").fit(X[:8000], y[:8000])
    options = {} if estimator is GNRegressor else {"classes": np.unique(y)}
    for X_block, y_block in blocks(X, y, 10):
        model.partial_fit(X_block, y_block, **options)
    assert model.status_ == "stream" and model.n_iter_ == 10
    assert error(model, X_test, y_test) < 1.3 * error(fitted, X_test, y_test)
    if estimator is GNRegressor:
        mean, std = model.predict(X_test, return_std=True)
        assert 0.85 < np.mean(np.abs(y_test - mean) < 1.645 * std) < 0.95


@pytest.mark.parametrize("parameters", [{"l2_regularization": 1e-4}, {}, {"loss": "student_t"}])
def test_a_stream_goes_on_from_a_pickle_bit_for_bit_and_holds_no_tensor(parameters):
    X, y = regression(3000)
    model = GNRegressor(hidden_layer_sizes=(5,), n_estimators=2, random_state=0, **parameters)
    kept = clone(model)
    for X_block, y_block in blocks(X, y, 3):
        model.partial_fit(X_block, y_block)
        content = pickle.dumps(kept.partial_fit(X_block, y_block))
        assert b"torch" not in content
        kept = pickle.loads(content)
    np.testing.assert_array_equal(model.predict(X), kept.predict(X))
    assert len(kept.history_["objective"]) == 4
    assert np.diff(kept.history_["time"]).min() > 0


@unconverged
def test_a_memory_map_is_read_block_by_block(tmp_path):
    X, y = regression(2000)
    on_disk = np.memmap(tmp_path / "X", dtype=np.float64, mode="w+", shape=X.shape)
    on_disk[:] = X
    on_disk.flush()
    read_only = np.memmap(tmp_path / "X", dtype=np.float64, mode="r", shape=X.shape)
    models = [GNRegressor(**PLAIN) for _ in range(2)]
    for rows in np.array_split(np.arange(2000), 2):
        block = slice(rows[0], rows[-1] + 1)
        models[0].partial_fit(read_only[block], y[block])
        models[1].partial_fit(X[block], y[block])
    np.testing.assert_array_equal(*(model.predict(X) for model in models))
    whole = GNRegressor(**PLAIN, batch_size=500, max_iter=3)
    np.testing.assert_array_equal(whole.fit(read_only, y).predict(X), clone(whole).fit(X, y).predict(X))


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_a_stream_goes_on_from_a_fit(estimator):
    X, y = data(estimator)
    model = estimator(**PLAIN).fit(X[:1000], y[:1000])
    before = model.coefs_[0].copy()
    loss = error(model, X[1000:], y[1000:])
    model.partial_fit(X[1000:], y[1000:])
    assert model.coefs_[0].shape == before.shape
    assert 0 < np.abs(model.coefs_[0] - before).max()
    assert error(model, X[1000:], y[1000:]) < loss


def test_members_of_a_fit_count_in_its_stream_as_before():
    """Failed ones counted as much as others: R2 fell from 0.997 to 0.75 with the first block."""
    rng = np.random.default_rng(1)
    X = rng.uniform(-1, 1, (1500, 2))
    y = np.sin(9 * X[:, 0]) * np.cos(7 * X[:, 1])
    model = GNRegressor(n_estimators=2, random_state=0).fit(X[:500], y[:500])
    votes, before = model.weights_.copy(), model.score(X[1000:], y[1000:])
    assert votes.min() < 0.01
    for block in (slice(500, 750), slice(750, 1000)):
        model.partial_fit(X[block], y[block])
        np.testing.assert_allclose(model.weights_, votes, atol=1e-12)
    assert model.score(X[1000:], y[1000:]) > before - 0.01


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_a_short_block_after_a_fit_is_warned_of(estimator):
    """It has fewer observations than half of the weights."""
    X, y = data(estimator, 600)
    options = {"classes": [0, 1, 2]} if estimator is GNClassifier else {}
    model = estimator(**PLAIN).fit(X[:500], y[:500])
    needed = -(-len(model.estimators_[0].weights) // 2)
    block = slice(500, 500 + needed)
    content = pickle.dumps(model)
    pickle.loads(content).partial_fit(X[block], y[block], **options).partial_fit(X[:1], y[:1])
    message = f"the 500 observations of the fit .* the {needed - 1} of its first .* Begin with {needed} observations"
    with pytest.warns(UserWarning, match=message):
        pickle.loads(content).partial_fit(X[block][1:], y[block][1:], **options)
    weight = np.full(needed, 0.9)
    with pytest.warns(UserWarning, match=f"Begin with {needed} observations or more"):
        pickle.loads(content).partial_fit(X[block], y[block], sample_weight=weight, **options)


@pytest.mark.parametrize("l2", ["evidence", 1e-2, 1e-6])
@pytest.mark.parametrize("hidden", [(), (20,)])
def test_the_first_block_after_a_fit_counts_beside_the_rows_of_the_fit(l2, hidden):
    X, y = make_friedman1(2500, noise=1.0, random_state=0)
    model = GNRegressor(hidden, l2_regularization=l2, n_estimators=1, random_state=0).fit(X[:1000], y[:1000])
    before, noise = error(model, X[1500:], y[1500:]), model.noise_std_
    for n in (150, 350):
        later = pickle.loads(pickle.dumps(model)).partial_fit(X[1000 : 1000 + n], y[1000 : 1000 + n])
        assert error(later, X[1500:], y[1500:]) < 1.1 * before
        assert later.noise_std_ == pytest.approx(noise, rel=0.25)


@pytest.mark.filterwarnings("ignore:A stream does not know which weights")
def test_few_rows_after_a_fit_do_not_throw_it_away():
    X, y = make_friedman1(1500, noise=1.0, random_state=0)
    fitted = GNRegressor((20,), n_estimators=1, random_state=0).fit(X[:500], y[:500])
    for n in (1, 5, 20):
        model = streamed(fitted, X[500:], y[500:], n)
        assert model.score(X[600:], y[600:]) > 0.9
        assert model.noise_std_ == pytest.approx(fitted.noise_std_, rel=0.2)


def test_a_fit_forgets_the_stream():
    X, y = regression(600)
    model = GNRegressor(**PLAIN).partial_fit(X[:300], y[:300]).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), GNRegressor(**PLAIN).fit(X, y).predict(X))


def test_a_stream_follows_a_relation_that_drifts():
    X, y = regression(20000)
    model = GNRegressor(**PLAIN)
    for X_block, y_block in blocks(X, y, 10):
        model.partial_fit(X_block, y_block)
    for X_block, y_block in blocks(X, -y, 10):
        model.partial_fit(X_block, y_block)
    assert model.score(X, -y) > 0.9


@pytest.mark.parametrize("n", [1, 2, 5])
def test_blocks_may_be_small(n):
    X, y = regression(100)
    model = GNRegressor(**PLAIN)
    for i in range(0, 20, n):
        model.partial_fit(X[i : i + n], y[i : i + n])
    assert np.isfinite(model.predict(X)).all()


def linear(n, d=8):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(n, d))
    return X, X @ np.arange(d) / 2 + rng.normal(size=n)


def binary(n):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(n, 8))
    return X, (X @ np.arange(8) / 3 + rng.logistic(size=n) > 0).astype(int)


def streamed(model, X, y, *sizes, **options):
    """A copy of a model that has read so many of the rows in each block."""
    model = pickle.loads(pickle.dumps(model))
    for block in np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]):
        model.partial_fit(X[block], y[block], **options)
    return model


@pytest.mark.parametrize("parameters", [{}, {"l2_regularization": 1e-3}, {"loss": "student_t"}], ids=str)
def test_few_rows_tell_little_of_a_line_and_its_noise(parameters):
    X, y = linear(3000)
    before = streamed(GNRegressor((), n_estimators=1, random_state=0, **parameters), X, y, *[250] * 6)
    new, truth = X[2000:], y[2000:]
    for sizes in [(1,), (2,), (5,), (5,) * 4, (1,) * 20]:
        model = streamed(before, X[1500:2000], y[1500:2000], *sizes)
        assert error(model, new, truth) < 1.03 * error(before, new, truth), sizes
        assert model.noise_std_ == pytest.approx(before.noise_std_, rel=0.1), sizes
        low, high = model.predict_interval(new, 0.9).T
        assert 0.86 < np.mean((low <= truth) & (truth <= high)) < 0.94, sizes


def test_few_rows_tell_little_of_classes():
    X, y = binary(3000)
    before = streamed(GNClassifier(n_estimators=1, random_state=0), X, y, *[250] * 6, classes=[0, 1])
    for sizes in [(1,), (5,) * 4, (1,) * 20]:
        model = streamed(before, X[1500:2000], y[1500:2000], *sizes)
        assert error(model, X[2000:], y[2000:]) < 1.1 * error(before, X[2000:], y[2000:]), sizes


def test_few_rows_tell_nearly_the_same_in_one_block_and_in_several():
    X, y = binary(3000)
    before = streamed(GNClassifier(n_estimators=1, random_state=0), X, y, *[250] * 4, classes=[0, 1])
    whole, *parts = (
        streamed(before, X[1000:], y[1000:], *sizes).predict_proba(X[2000:]) for sizes in [(20,), (5,) * 4, (1,) * 20]
    )
    for part in parts:
        assert np.abs(part - whole).mean() < 0.03


@pytest.mark.parametrize("first", [250, 1000])
def test_a_block_of_little_weight_tells_little(first):
    X, y = linear(2500)
    before = streamed(GNRegressor((), n_estimators=1, random_state=0), X, y, first, first)
    with pytest.warns(UserWarning, match="sample_weight has a mean of 1e-06"):
        model = pickle.loads(pickle.dumps(before)).partial_fit(X[2000:], y[2000:] + 50, np.full(500, 1e-6))
    np.testing.assert_allclose(model.predict(X), before.predict(X), atol=0.01)
    assert model.noise_std_ == pytest.approx(before.noise_std_, rel=0.05)


def test_a_stream_of_single_rows_learns_a_line_and_its_noise():
    X, y = linear(4200, d=4)
    model = streamed(GNRegressor((), n_estimators=1, random_state=0), X, y, *[1] * 200)
    X, y = X[200:], y[200:]
    assert error(model, X, y) < 1.1
    low, high = model.predict_interval(X, 0.9).T
    assert 0.8 < np.mean((low <= y) & (y <= high)) < 0.95


def test_classes_may_come_late():
    X, y = (values[::3] for values in load_digits(return_X_y=True))
    X = X[:, X.std(axis=0) > 4.5]
    order = np.argsort(y % 3, kind="stable")
    model = GNClassifier((10,), l2_regularization=1e-3, n_estimators=1, random_state=0)
    for _ in range(2):
        for X_block, y_block in blocks(X[order], y[order], 3):
            model.partial_fit(X_block, y_block, classes=range(10))
    assert model.predict_proba(X).shape == (len(X), 10)
    assert len(np.unique(model.predict(X))) == 10


def test_nothing_is_left_to_learn_of_a_target_that_is_constant():
    """Outputs, gradients and steps are 0 from the start, so that no step has a best length."""
    X, _ = regression(200)
    model = GNRegressor(**PLAIN | {"l2_regularization": 0.0}, init="centered")
    for X_block in np.array_split(X, 2):
        model.partial_fit(X_block, np.full(len(X_block), 3.0))
    np.testing.assert_allclose(model.predict(X), 3.0)


def test_a_multilabel_stream_needs_no_classes():
    X, y = classification()
    Y = np.column_stack([y == 0, y == 1]).astype(int)
    model = GNClassifier(**PLAIN)
    for X_block, Y_block in blocks(X, Y, 4):
        model.partial_fit(X_block, Y_block)
    assert model.predict(X).shape == Y.shape
    assert model.score(X, Y) > 0.5


def test_bad_blocks_are_refused_and_leave_what_was_learned():
    X, y = classification()
    model = GNClassifier(**PLAIN)
    with pytest.raises(ValueError, match="classes must be passed"):
        model.partial_fit(X, y)
    model.partial_fit(X, y, classes=[0, 1, 2])
    before = model.predict_proba(X)
    for bad, message in [
        (lambda: model.partial_fit(X, y + 1), r"labels \[3\]"),
        (lambda: model.partial_fit(X, y, classes=[0, 1]), "classes"),
        (lambda: model.partial_fit(X[:, :3], y), "features"),
        (lambda: model.partial_fit(np.full_like(X, np.inf), y), "infinity"),
        (lambda: model.partial_fit(X, y, sample_weight=np.zeros(len(y))), "zero"),
        (lambda: clone(model).set_params(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2]), "balanced"),
        (lambda: clone(model).set_params(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2]), "early_stopping"),
    ]:
        with pytest.raises(ValueError, match=message):
            bad()
    np.testing.assert_array_equal(model.predict_proba(X), before)
    regressor = GNRegressor(**PLAIN).partial_fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"must have shape \(n,\) as before"):
        regressor.partial_fit(X, X[:, :2])
    with pytest.raises(ValueError, match=r"\(\d+, 1\); it must have shape \(n,\) as before"):
        regressor.partial_fit(X, X[:, :1])


@pytest.mark.parametrize(
    ("classes", "what"),
    [
        ([0, 1, np.nan], "a missing value at position 2"),
        (np.array([np.nan, 0, 1]), "a missing value at position 0"),
        ([0, None], "a missing value at position 1"),
        (["a", np.nan], "a missing value at position 1"),
        (np.array(["NaT", "2020"], dtype="datetime64[D]"), "a missing value at position 0"),
        ([0, 1, -np.inf], "-inf at position 2"),
    ],
)
def test_classes_that_no_row_may_have_are_refused_by_their_position(classes, what):
    X, y = classification(n=20, n_classes=2)
    model = GNClassifier(**PLAIN)
    for _ in range(2):  # As the first block, and as a later one.
        with pytest.raises(ValueError, match=f"^classes has {what}, which is no label"):
            model.partial_fit(X, y, classes=classes)
        model.partial_fit(X, y, classes=[0, 1])
