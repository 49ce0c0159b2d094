"""Evidence: against exact marginal likelihoods, scikit-learn's Bayesian linear models and dense algebra."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import multivariate_normal
from scipy.stats import t as student_t
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.linear_model import ARDRegression, BayesianRidge
from sklearn.preprocessing import scale

from skgn import GNClassifier, GNRegressor, relevance
from skgn.count_losses import PoissonLoss
from skgn.ensemble import Ensemble
from skgn.evidence import EvidencePrior, make_prior
from skgn.feedforward import FeedForward
from skgn.label_losses import LogLoss, SoftmaxLoss
from skgn.losses import SquaredError
from skgn.objective import Objective
from skgn.primal import Primal
from skgn.prior_groups import Groups, PriorKind
from skgn.relevance import exchanges, feature_sensitivity

LINEAR = {
    "hidden_layer_sizes": (),
    "standardize": False,
    "n_estimators": 1,
    "tol": 1e-9,
    "max_iter": 2000,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return scale(X), scale(y)


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_linear_model_with_one_precision_is_bayesian_ridge(diabetes, solver):
    X, y = diabetes
    ours = GNRegressor(prior_groups="layer", solver=solver, **LINEAR).fit(X, y)
    theirs = BayesianRidge(tol=1e-10, max_iter=2000, alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0).fit(X, y)
    # Fixed points of the same equations, each found to about 1e-6.
    np.testing.assert_allclose(ours.coefs_[0][:, 0], theirs.coef_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.noise_std_, theirs.alpha_**-0.5, rtol=1e-4)
    mean, std = ours.predict(X, return_std=True)
    their_mean, their_std = theirs.predict(X, return_std=True)
    np.testing.assert_allclose(mean, their_mean, atol=1e-4)
    np.testing.assert_allclose(std, their_std, rtol=1e-3)


def test_linear_model_with_a_precision_per_feature_is_ard_regression(diabetes):
    X, y = diabetes
    ours = GNRegressor(prior_groups="feature", **LINEAR).fit(X, y)
    theirs = ARDRegression(tol=1e-8, max_iter=2000, alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0).fit(X, y)
    # ARDRegression prunes at a precision of 1e4, ours goes on to 1e10: pruned coefficients agree to a few 1e-3.
    np.testing.assert_allclose(ours.coefs_[0][:, 0], theirs.coef_, atol=5e-3)
    np.testing.assert_allclose(ours.noise_std_, theirs.alpha_**-0.5, rtol=1e-3)


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_log_evidence_of_a_linear_model_is_its_marginal_likelihood(diabetes, solver):
    X, y = diabetes
    model = GNRegressor(prior_groups="shared", solver=solver, **LINEAR).fit(X, y)
    design = np.column_stack([X, np.ones(len(X))])
    w = np.append(model.coefs_[0][:, 0], model.intercepts_[0])
    # At the fixed point the prior variance is ||w||^2 / gamma.
    prior_variance = w @ w / model.n_effective_parameters_
    covariance = model.noise_std_**2 * np.eye(len(X)) + prior_variance * design @ design.T
    expected = multivariate_normal(np.zeros(len(X)), covariance).logpdf(y)
    np.testing.assert_allclose(model.log_evidence_, expected, rtol=1e-6)


@pytest.mark.parametrize("groups", ["feature", "layer", "shared"])
@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_primal_and_dual_estimate_the_same(estimator, groups):
    X, y = load_diabetes(return_X_y=True) if estimator is GNRegressor else load_breast_cancer(return_X_y=True)
    X, y = X[:120], y[:120]
    fits = [
        estimator((6,), solver=solver, prior_groups=groups, n_estimators=1, max_iter=8, tol=0, random_state=0)
        for solver in ("primal", "dual")
    ]
    with pytest.warns(UserWarning, match="max_iter"):
        primal, dual = (fit.fit(X, y) for fit in fits)
    np.testing.assert_allclose(primal.log_evidence_, dual.log_evidence_, rtol=1e-6)
    np.testing.assert_allclose(primal.n_effective_parameters_, dual.n_effective_parameters_, rtol=1e-5)
    if estimator is GNRegressor:
        for first, second in zip(primal.predict(X, return_std=True), dual.predict(X, return_std=True), strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-5)


def test_pure_noise_columns_are_switched_off():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((400, 10))
    y = np.sin(2 * X[:, 0]) + X[:, 1] ** 2 + 0.1 * rng.standard_normal(400)
    relevance = GNRegressor(n_estimators=2, tol=1e-2, random_state=0).fit(X, y).feature_relevance_
    assert relevance.shape == (10,)
    np.testing.assert_allclose(relevance.sum(), 1)
    assert (relevance[:2] > 0.2).all()
    assert (relevance[2:] == 0).all()


def test_noise_beside_real_features_is_switched_off(diabetes):
    X, y = diabetes
    noise = np.random.RandomState(0).standard_normal((len(X), 10))
    model = GNRegressor(standardize="robust", n_estimators=2, tol=1e-2, random_state=0).fit(np.hstack([X, noise]), y)
    assert (model.feature_relevance_[10:] == 0).all()
    assert (model.feature_relevance_[[2, 8]] > 0.2).all()


def test_influence_of_a_feature_in_the_likelihood_is_its_squared_t_statistic():
    """By least squares; the mean over exchanged rows stands for the variance of orthogonal features."""
    rng = np.random.RandomState(0)
    X = np.linalg.qr(rng.standard_normal((400, 4)))[0] * 20
    y = scale(X @ [1.0, 0.3, 0.1, 0.0] + rng.standard_normal(400))
    model = GNRegressor((), l2_regularization=0.0, standardize=False, solver="primal", n_estimators=1).fit(X, y)
    ensemble = Ensemble(model.estimators_, model.weights_, SquaredError(), 1.0)
    found = feature_sensitivity(ensemble, {"raw": X}, {"raw": np.arange(4)}, np.ones(400)).evidence
    design = np.column_stack([X, np.ones(400)])
    covariance = model.noise_std_**2 * np.linalg.inv(design.T @ design)
    t = model.coefs_[0][:, 0] / np.sqrt(np.diag(covariance)[:4])
    np.testing.assert_allclose(found, t**2, rtol=0.15)


@pytest.mark.parametrize("layers", [(), (3,), (4, 3)], ids=str)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_of_many_features_those_that_move_the_outputs_most_have_all_exchanges(layers, monkeypatch):
    X = np.random.RandomState(0).standard_normal((50, 30))
    y = scale(X[:, 3] - 2 * X[:, 8] + X[:, 20])
    model = GNRegressor(layers, l2_regularization=0.1, max_iter=3, n_estimators=1, standardize=False, random_state=0)
    ensemble = Ensemble(model.fit(X, y).estimators_, model.weights_, SquaredError(), 1.0)
    monkeypatch.setattr(relevance, "_MANY_FEATURES", 5)
    found = feature_sensitivity(ensemble, {"raw": X}, {"raw": np.arange(30)}, np.ones(50)).squares
    rows, partners = exchanges(np.ones(50))
    squares = np.empty(30)
    for j in range(30):
        exchanged = X[rows]
        exchanged[:, j] = X[partners, j]
        squares[j] = np.mean((model.predict(exchanged) - model.predict(X[rows])) ** 2)
    most = np.argsort(-found)[:3]
    assert set(most) == {3, 8, 20}
    np.testing.assert_allclose(found[most], squares[most], rtol=1e-8)
    # Of the others one exchange in 16 tells the size.
    others = np.argsort(-found)[5:]
    assert not np.isclose(found[others], squares[others], rtol=1e-8).any()
    np.testing.assert_allclose(found[others].sum(), squares[others].sum(), rtol=0.3)


@pytest.mark.parametrize("n", [40, 200, 1000])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.filterwarnings("ignore:sample_weight has a sum of:UserWarning")
def test_relevance_of_a_line_is_the_variance_of_its_terms(n, weighted):
    """Weights count rows, and those that values come from; so rows of next to no weight have no part in it."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((n, 2))
    weight = rng.choice([0.5, 1, 4], n) if weighted else np.ones(n)
    if weighted:
        X = np.vstack([X, rng.standard_normal((n, 2)) * [1, 100]])
        weight = np.concatenate([weight, np.full(n, 1e-6)])
    line = GNRegressor((), n_estimators=1, random_state=0).fit(X, X @ [1.0, 0.7], sample_weight=weight)
    variances = np.array([np.cov(term, aweights=weight) for term in (X * [1.0, 0.7]).T])
    np.testing.assert_allclose(line.feature_relevance_, variances / variances.sum(), atol=0.02)


def test_relevance_counts_all_columns_of_a_feature():
    """Of y = cos 2z only the cosine column knows; it belongs to the second feature of three."""
    rng = np.random.RandomState(0)
    X = np.column_stack([rng.randint(0, 2, 300), rng.standard_normal((300, 2))])
    y = np.cos(2 * X[:, 1]) + 0.05 * rng.standard_normal(300)
    model = GNRegressor((), standardize="periodic", n_estimators=1, random_state=0).fit(X, y)
    assert model.feature_relevance_.shape == (3,)
    assert model.feature_relevance_[1] > 0.9
    assert model.coefs_[0].shape == (3 + 2 + 2, 1)
    assert model.score(X, y) > 0.9


def test_relevance_exchanges_squashed_and_straight_columns_together():
    """Two features count alike, one by the hidden layer and one by the linear path; a third one does not."""
    rng = np.random.RandomState(0)
    X = rng.uniform(-2, 2, (300, 3))
    y = 2 * np.cos(2 * X[:, 0]) + X[:, 1] + 0.05 * rng.standard_normal(300)
    model = GNRegressor((10,), standardize="robust", n_estimators=1, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.98
    shares = np.array([np.var(2 * np.cos(2 * X[:, 0])), np.var(X[:, 1]), 0])
    np.testing.assert_allclose(model.feature_relevance_, shares / shares.sum(), atol=0.1)


def test_each_output_has_its_own_noise_level():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((500, 3))
    signal = np.column_stack([X[:, 0], X[:, 1] - X[:, 2]])
    Y = signal + rng.standard_normal((500, 2)) * [0.5, 0.05]
    model = GNRegressor(n_estimators=1, random_state=0).fit(X, Y)
    np.testing.assert_allclose(model.noise_std_, [0.5, 0.05], rtol=0.15)
    _, std = model.predict(X, return_std=True)
    assert std.shape == (500, 2)
    assert (std[:, 0] > 5 * std[:, 1]).all()


def test_intervals_cover_new_observations_and_widen_away_from_the_data():
    rng = np.random.RandomState(1)
    X = rng.uniform(-2, 2, (600, 1))
    y = np.sin(3 * X[:, 0]) + 0.2 * rng.standard_normal(600)
    model = GNRegressor(n_estimators=4, random_state=0).fit(X[:300], y[:300])
    mean, std = model.predict(X[300:], return_std=True)
    # 90 % of 300 has a standard deviation of 1.7 %.
    assert 0.84 < np.mean(np.abs(y[300:] - mean) < 1.645 * std) < 0.96
    assert model.predict([[6.0]], return_std=True)[1][0] > 2 * np.median(std)


# Without noise the evidence rises for ever.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_noise_free_and_very_noisy_small_data(noise):
    rng = np.random.RandomState(0)
    X = rng.standard_normal((300, 4))
    truth = np.tanh(X[:, 0]) * X[:, 1] + X[:, 2]
    y = truth + noise * rng.standard_normal(300)
    model = GNRegressor(n_estimators=2, random_state=0, max_iter=60).fit(X[:150], y[:150])
    error = np.sqrt(np.mean((model.predict(X[150:]) - truth[150:]) ** 2))
    # Noise-free data are learned, and with four times more noise than signal the mean is not much worse than the
    # best linear fit.
    assert error < (0.1 if noise == 0 else 0.9) * truth.std()


def test_estimates_stand_while_the_system_is_singular():
    network = FeedForward(2, 1, (3,))
    w = torch.ones(network.n_weights, dtype=torch.float64)
    X, y, s = torch.ones(4, 2).double(), torch.ones(4, 1).double(), torch.ones(4).double()
    objective = Objective(network, SquaredError(), X, y, s)
    groups = Groups.of("feature", network, w.device)
    prior = EvidencePrior(network, groups, 1.0, w)
    estimates = prior.initial(4.0)

    class Singular:
        def inverse_traces(self, precision):
            return [a * np.nan for a in precision], np.nan

    after, loss = prior.update(estimates, objective, objective.evaluate(w), Singular())
    assert after is estimates and loss is objective.data_loss


def test_an_undetermined_fit_refuses_a_standard_deviation():
    X = np.random.RandomState(0).standard_normal((5, 3))
    model = GNRegressor((8,), l2_regularization=0.0, n_estimators=1, random_state=0).fit(X, X[:, 0])
    assert np.isnan(model.noise_std_)
    with pytest.raises(ValueError, match="return_std"):
        model.predict(X, return_std=True)


@pytest.mark.parametrize("kind", ["layer", "feature", "shared"])
def test_a_layer_without_inputs_makes_no_group(kind):
    """A group without members had a mean precision of 0 / 0. Labels may have a network of a bias alone."""
    network = FeedForward(0, 1, ())
    w = torch.zeros(1, dtype=torch.float64)
    groups = Groups.of(kind, network, w.device)
    assert groups.count == 1
    assert float(EvidencePrior(network, groups, 1.0, w).initial(10.0).precision[0]) == pytest.approx(0.1)


def test_an_interpolating_fit_has_converged():
    x = np.linspace(0, 1, 5)
    model = GNRegressor((), n_estimators=1, standardize=False, tol=1e-10, damping=0, l2_regularization=0.0)
    model.fit(np.vander(x, 9), np.sin(x))
    assert model.status_ in {"precision", "gradient", "decrease"}
    np.testing.assert_allclose(model.predict(np.vander(x, 9)), np.sin(x), atol=1e-10)


@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_every_precision_of_a_rectified_member_is_one(alpha):
    """In units of the outputs: the output scale multiplies the readout, whose precision is alpha^2."""
    X, y = load_breast_cancer(return_X_y=True)
    X, y = X[:100, :5], y[:100]
    model = GNClassifier((4,), alpha=alpha, n_estimators=3, tol=1e-6, max_iter=300, random_state=0).fit(X, y)
    for member in [member for member in model.estimators_ if member.prior_kind.unit]:
        weights = member.weights * np.concatenate([np.full(4 * 6, 1.0), np.full(len(member.weights) - 4 * 6, alpha)])
        # The mean-form objective of the weights that are kept: loss + sum of squares / (2 S).
        penalty = member.history["objective"][-1] - member.history["loss"][-1]
        assert penalty == pytest.approx(weights @ weights / (2 * len(X)), rel=1e-5)


@pytest.mark.parametrize("solver", ["primal", "dual", "cg"])
@pytest.mark.parametrize("classes", [2, 3])
def test_evidence_and_effective_parameters_of_a_rectified_member_are_laplace_s(classes, solver, monkeypatch):
    """Known at the end alone, by a factorisation, whatever has trained it."""
    if solver == "cg":
        monkeypatch.setattr("skgn.conjugate_gradient._EXPECTED_PRODUCTS", 0)
    X, y = load_wine(return_X_y=True)
    X = scale(X[y < classes])[:, :4]
    solvers = {"solver": "auto" if solver == "cg" else solver, "standardize": False}
    model = GNClassifier((3,), n_estimators=3, tol=1e-1, random_state=0, **solvers).fit(X, y[y < classes])
    member = next(member for member in model.estimators_ if member.prior_kind.unit)
    assert np.isnan(member.history["log_evidence"]).all()
    U = member.network.with_bias(torch.from_numpy(X))
    w = torch.from_numpy(member.weights)

    def scores(w):
        f = member.network.forward(U, w)[0]
        return torch.cat([torch.zeros_like(f), f], 1) if classes == 2 else f

    f, J = scores(w).numpy(), torch.func.jacrev(scores)(w).numpy()
    p = softmax(f, axis=1)
    H = np.einsum("nkp,nk,nkq->pq", J, p, J) - np.einsum("np,nq->pq", *2 * [np.einsum("nkp,nk->np", J, p)])
    log_likelihood = np.log(p[np.arange(len(X)), y[y < classes]]).sum()
    expected = log_likelihood - w @ w / 2 - np.linalg.slogdet(H + np.eye(len(H)))[1] / 2
    assert member.log_evidence == pytest.approx(float(expected), rel=1e-4)
    effective = len(H) - np.trace(np.linalg.inv(H + np.eye(len(H))))
    assert member.n_effective_parameters == pytest.approx(effective, rel=1e-4)


def test_estimates_hold_for_any_number_of_samples():
    """A prior moved to ten times the data keeps its precisions and noise; the mean form has a tenth of them."""
    network = FeedForward(2, 1, (3,))
    w = torch.from_numpy(network.initial_weights(np.random.RandomState(0)))
    X = torch.from_numpy(np.random.RandomState(1).standard_normal((40, 2)))
    y = X[:, :1] + 0.1
    few = Objective(network, SquaredError(), X[:4], y[:4], torch.ones(4).double())
    many = Objective(network, SquaredError(), X, y, torch.ones(40).double())
    prior = EvidencePrior(network, Groups.of("feature", network, w.device), 30.0, w)
    at, initial = few.evaluate(w), prior.initial(few.total_weight)
    before, _ = prior.update(initial, few, at, Primal(few.jacobian(at), 4.0))
    # What was learned is a value of its own.
    assert not torch.equal(before.squared_scale, initial.squared_scale)
    after = prior.on(before, many.total_weight)
    assert torch.equal(after.squared_scale, before.squared_scale)
    for a, b in zip(after.precision, before.precision, strict=True):
        torch.testing.assert_close(a, b / 10, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("kind", "unit", "count"), [("feature", False, 7), ("layer", False, 5), ("shared", False, 1), ("feature", True, 0)]
)
def test_number_of_estimated_precisions(kind, unit, count):
    """Feature: 3 features, bias of the hidden layer, its outgoing weights, linear path, readout's bias."""
    network = FeedForward(3, 1, (4,))
    like = torch.zeros(1, dtype=torch.float64)
    prior = EvidencePrior(network, Groups.of(kind, network, like.device), 1.0, like, unit)
    assert prior.n_precisions == count


# --- Noise with heavy tails


def with_outliers(y, share=0.1, seed=0):
    """The target with gross errors in a share of its values."""
    rng = np.random.RandomState(seed)
    y, hit = y.copy(), rng.rand(len(y)) < share
    y[hit] += 10 * y.std() * rng.standard_t(2, hit.sum())
    return y


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_linear_student_t_regression_is_that_of_greatest_likelihood(solver):
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:100, :4] / X[:100, :4].std(0), with_outliers(y[:100] / 100)
    linear = {"n_estimators": 1, "standardize": False, "tol": 1e-10, "max_iter": 500}
    model = GNRegressor((), loss="student_t", solver=solver, l2_regularization=0.0, **linear).fit(X, y)
    design = np.column_stack([X, np.ones(len(X))])

    def negative_log_likelihood(theta):
        return -student_t(8, design @ theta[:-1], np.exp(theta[-1])).logpdf(y).sum()

    start = np.append(np.linalg.lstsq(design, y, rcond=1e-10)[0], np.log(y.std()))
    fit = minimize(negative_log_likelihood, start, method="BFGS", options={"gtol": 1e-6})
    np.testing.assert_allclose(model.predict(X), design @ fit.x[:-1], atol=1e-4)
    if solver == "primal":  # the dual has no posterior without a prior
        # The fit divides by the degrees of freedom that its weights leave.
        scale = np.exp(fit.x[-1]) * np.sqrt(100 / (100 - 5))
        assert model.noise_std_ == pytest.approx(scale * np.sqrt(8 / 6), rel=1e-3)


def test_outliers_do_little_harm_to_student_t_noise():
    rng = np.random.RandomState(0)
    X = rng.uniform(-2, 2, (200, 2))
    truth = np.sin(2 * X[:, 0]) + X[:, 1] ** 2
    clean = truth + 0.1 * rng.standard_normal(200)
    error = {}
    for name, loss, y in [
        ("clean", "squared_error", clean),
        ("squared", "squared_error", with_outliers(clean)),
        ("student_t", "student_t", with_outliers(clean)),
    ]:
        with pytest.warns(UserWarning, match="extreme") if name == "squared" else nullcontext():
            model = GNRegressor(loss=loss, standardize="robust", n_estimators=2, tol=1e-2, random_state=0).fit(X, y)
        assert model.noise_distribution_ == ("student_t" if name == "student_t" else "normal")
        error[name] = np.sqrt(np.mean((model.predict(X) - truth) ** 2))
    assert error["student_t"] < 0.5 * error["squared"]
    assert error["clean"] < 0.1


def test_a_target_that_is_mostly_zero_keeps_its_mean():
    """Of 400 values all but some 60 are zero; the default is asked for the mean, not for what is usual."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((400, 3))
    y = np.where(rng.rand(400) < 0.1 * np.exp(X[:, 0]), np.exp(rng.standard_normal(400)), 0.0)
    model = GNRegressor(standardize="robust", n_estimators=2, random_state=0).fit(X, y)
    assert model.predict(X).mean() == pytest.approx(y.mean(), rel=0.1)


def test_student_t_noise_level_is_a_standard_deviation():
    rng = np.random.RandomState(0)
    X = rng.uniform(-2, 2, (1000, 1))
    Y = np.column_stack([np.sin(2 * X[:, 0]), X[:, 0]]) + rng.standard_t(8, (1000, 2)) * [0.3, 0.03]
    model = GNRegressor(loss="student_t", standardize="robust", n_estimators=2, random_state=0).fit(X, Y)
    expected = np.sqrt(8 / 6) * np.array([0.3, 0.03])
    np.testing.assert_allclose(model.noise_std_, expected, rtol=0.08)
    _, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(np.median(std, axis=0), expected, rtol=0.1)
    np.testing.assert_allclose(
        model.history_["noise_std"][-1], np.sqrt(np.mean(np.square(model.noise_std_ / Y.std(0))))
    )


def test_the_evidence_of_quantiles_is_that_of_a_density():
    """A linear model, and the integral of the density by quadrature; rows have the weight of the quantile."""
    X, y = load_diabetes(return_X_y=True)
    X, y, q, h = X[:60, :3] / X[:60, :3].std(0), y[:60], 0.3, 0.5
    linear = {"n_estimators": 1, "standardize": False, "tol": 1e-12, "max_iter": 500, "prior_groups": "shared"}
    model = GNRegressor((), loss="quantile", quantile=q, **linear).fit(X, y)
    member, scaler = model.estimators_[0], model._target.scaler

    def minus_log(z):
        size = np.abs(z)
        return np.where(size < h, (z**2 / h + h) / 2, size) / 2 + (0.5 - q) * z

    total = quad(lambda z: np.exp(-minus_log(z)), -100, 200, points=[-h, h], limit=200)[0]
    beta = 1 / (q * (1 - q)) / member.posterior.noise_variance[0]
    U, w = np.column_stack([X, np.ones(60)]), member.weights
    z = np.sqrt(beta) * (U @ w - (y - scaler.mean) / scaler.scale)
    alpha = model.n_effective_parameters_ / (w @ w)
    weight = 2 * np.sqrt(q * (1 - q))
    A = weight * beta * (U.T * (0.5 / np.maximum(np.abs(z), h))) @ U + alpha * np.eye(4)
    expected = weight * (30 * np.log(beta) - 60 * np.log(total) - minus_log(z).sum()) - alpha / 2 * w @ w
    expected += 2 * np.log(alpha) - np.linalg.slogdet(A)[1] / 2
    assert model.log_evidence_ == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_student_t_evidence_is_laplace_s(solver):
    """A linear model: log posterior at its peak and log determinant by dense algebra."""
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:60, :3] / X[:60, :3].std(0), scale(with_outliers(y[:60]))
    linear = {"n_estimators": 1, "standardize": False, "tol": 1e-12, "max_iter": 500}
    model = GNRegressor((), loss="student_t", prior_groups="shared", solver=solver, **linear).fit(X, y)
    member = model.estimators_[0]
    beta = 8 / 6 / member.posterior.noise_variance[0]
    U = np.column_stack([X, np.ones(60)])
    w, residual = member.weights, U @ member.weights - y
    alpha = model.n_effective_parameters_ / (w @ w)
    u = 9 / (8 + beta * residual**2)
    A = beta * (U.T * u) @ U + alpha * np.eye(4)
    expected = student_t(8, 0, beta**-0.5).logpdf(residual).sum() - alpha / 2 * w @ w
    expected += 2 * np.log(alpha) - np.linalg.slogdet(A)[1] / 2
    # The highest evidence is met shortly before the fixed point whose precision that is.
    assert model.log_evidence_ == pytest.approx(expected, rel=1e-5)
    # Stationary: the gradient of the log posterior all but vanishes.
    np.testing.assert_allclose(beta * (U.T * u) @ residual, -alpha * w, atol=0.02 * alpha * abs(w).max())


# --- The peak of the evidence


@pytest.mark.parametrize("estimator", [GNRegressor, GNClassifier])
def test_training_ends_when_the_evidence_has_not_risen_for_long(estimator):
    """A nat a sample is the unit for regression; of 1,600 samples of a log loss it is sqrt(400 n), half of that."""
    n, tol, patience = 1600, 1e-3, 4
    rng = np.random.RandomState(0)
    X = rng.standard_normal((n, 2))
    y = np.sin(2 * X[:, 0]) + X[:, 1] + 0.5 * rng.standard_normal(n)
    y = y if estimator is GNRegressor else (y > 0).astype(int)
    choice = {"prior_groups": "layer", "standardize": "robust", "n_estimators": 1, "random_state": 0}
    model = estimator((6,), tol=tol, n_iter_no_change=patience, **choice).fit(X, y)
    assert model.status_ == "evidence"
    # The evidence at the start is not known.
    evidence = model.history_["log_evidence"][1:]
    unit = n if estimator is GNRegressor else n / 2
    rises = evidence[1:] > np.maximum.accumulate(evidence)[:-1] + tol * unit
    assert len(rises) - 1 - np.flatnonzero(rises)[-1] == patience
    assert np.diff(np.flatnonzero(rises)).max() <= patience


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_without_noise_training_ends_once_the_noise_is_tol(loss, scale):
    """In standard deviations of the target, as that of the history is, however much the evidence still rises."""
    tol, patience = 1e-3, 4
    X = np.random.RandomState(0).standard_normal((300, 2))
    y = scale * (np.sin(X[:, 0]) + X[:, 1])
    choice = {"prior_groups": "layer", "standardize": "robust", "n_estimators": 1, "random_state": 0}
    model = GNRegressor((10,), loss=loss, tol=tol, n_iter_no_change=patience, **choice).fit(X, y)
    assert (model.status_, model.status_message_[:9]) == ("exact", "Converged")
    noise = model.history_["noise_std"]
    assert np.flatnonzero(noise > tol)[-1] == model.n_iter_ - patience
    # The evidence had risen by far more than tol in the last of these iterations.
    evidence = np.diff(model.history_["log_evidence"])[-patience:]
    assert evidence.max() > 10 * tol * len(X)


def test_where_the_evidence_has_fallen_the_weights_of_its_peak_are_kept():
    """By 0.03 nats a sample: here one of the members goes back, and one does not."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((40, 6))
    y = X[:, 0] + rng.standard_normal(40)
    choice = {"prior_groups": "feature", "standardize": "robust", "n_iter_no_change": 10}
    model = GNRegressor((8,), **choice, n_estimators=2, random_state=0).fit(X, y)
    goes_back = set()
    for member in model.estimators_:
        evidence = member.history["log_evidence"]
        peak = int(np.nanargmax(evidence))
        goes_back.add(evidence[peak] - evidence[-1] > 0.03 * 40)
        kept = peak if evidence[peak] - evidence[-1] > 0.03 * 40 else member.n_iter
        assert member.log_evidence == evidence[kept]
        if kept < member.n_iter:
            with pytest.warns(UserWarning, match="max_iter"):
                short = clone(model).set_params(max_iter=kept).fit(X, y)
            assert any(np.array_equal(member.weights, other.weights) for other in short.estimators_)
    assert goes_back == {True, False}


@pytest.mark.parametrize(("n", "n_estimators"), [(150, 4), (2100, 1)])
def test_of_pure_noise_the_mean_is_left(n, n_estimators):
    rng = np.random.RandomState(0)
    X, new = rng.standard_normal((2, n, 4))
    y = 3 + rng.standard_normal(n)
    model = GNRegressor((10,), n_estimators=n_estimators, random_state=0).fit(X, y)
    assert np.sqrt(np.mean((model.predict(new) - 3) ** 2)) < 0.25
    assert model.noise_std_ == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("loss", "weaker"), [(LogLoss(), 30), (SoftmaxLoss(), 30), (PoissonLoss(), 1)])
def test_a_level_of_little_noise_is_a_weak_prior_for_labels(loss, weaker):
    network = FeedForward(3, 2, (4,))
    like = torch.zeros(1, dtype=torch.float64)
    usual, weak = (make_prior(PriorKind("feature"), network, loss, level, like).initial(10.0) for level in (1.0, 30.0))
    for before, after in zip(usual.precision, weak.precision, strict=True):
        np.testing.assert_allclose(after * weaker, before)
    # The dispersion of counts begins at 1 at the least.
    assert (weak.squared_scale is None) if weaker > 1 else bool((weak.squared_scale == 1).all())
