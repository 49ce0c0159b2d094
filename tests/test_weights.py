"""Members count by their weights, in whatever is made of their outputs; the oracle asks each member alone."""

import copy
import pickle
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, logsumexp
from sklearn.metrics import log_loss, r2_score

import skgn.noise_fit
from skgn import GNClassifier, GNRegressor, diagnose
from skgn.ensemble import Ensemble, member_outputs
from skgn.estimator import table_and_target
from skgn.export import to_torch
from skgn.label_losses import LogLoss, SoftmaxLoss
from skgn.leave_one_out import LeftOut
from skgn.left_out_samples import LeftOutSamples, log_mixture
from skgn.losses import SquaredError
from skgn.mixed_members import posteriors
from skgn.mixture import equal_weights, mixture_log_probability, mixture_mean, weights_at_rows
from skgn.persistence import SKOPS_TRUSTED
from skgn.relevance import exchanges, feature_sensitivity
from skgn.skill import left_out_skill

# Few iterations, so that the members differ.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"hidden_layer_sizes": (3,), "n_estimators": 3, "max_iter": 3, "random_state": 0}
WEIGHTS = np.array([0.55, 0.15, 0.3])

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
SIGNAL = np.sin(X[:, 0]) + X[:, 1] + 0.3 * rng.normal(size=60)
NEW = 2 * rng.normal(size=(40, 3))

CASES = {
    "normal": (GNRegressor(**SMALL), 100 + 7 * SIGNAL),
    "dual": (GNRegressor(**SMALL, solver="dual", init="centered"), SIGNAL),
    "student_t": (GNRegressor(**SMALL, loss="student_t", standardize="rank"), SIGNAL),
    "poisson": (GNRegressor(**SMALL, loss="poisson"), np.exp(SIGNAL).round()),
    "gamma": (GNRegressor(**SMALL, loss="gamma"), np.exp(SIGNAL)),
    # Noise that depends on the input multiplies the variance as a whole.
    "two outputs": (GNRegressor(**SMALL, noise="constant"), np.column_stack([SIGNAL, 1e3 * X[:, 2] - SIGNAL])),
    "binary": (GNClassifier(**SMALL), np.where(SIGNAL > 0, "yes", "no")),
    "multiclass": (GNClassifier(**SMALL), np.digitize(SIGNAL, [-0.7, 0.7])),
    "multilabel": (GNClassifier(**SMALL), np.column_stack([SIGNAL > 0, X[:, 2] > 0]).astype(int)),
    "one class": (GNClassifier(**SMALL), np.ones(60)),
}
REGRESSIONS = [case for case, (estimator, _) in CASES.items() if isinstance(estimator, GNRegressor)]
CLASSIFICATIONS = [case for case in CASES if case not in REGRESSIONS]
BY_ROW = ["normal", "dual", "two outputs"]
NO_NOISE = [np.zeros(1), np.zeros(1)]


@cache
def fitted(case):
    estimator, y = CASES[case]
    model = estimator.fit(X, y)
    if case in BY_ROW:
        # Also where a single member counts in the fit.
        model._votes_by_row = True
    return model


def weighted(case, weights, members=None):
    """A copy of the fit whose members have such weights."""
    model = copy.copy(fitted(case))
    model.weights_ = np.array(weights, dtype=float)
    model.estimators_ = list(model.estimators_) if members is None else list(members)
    return model


def alone(case):
    """The members, each by itself."""
    return [weighted(case, [1.0], [member]) for member in fitted(case).estimators_]


def spoiled(case, weights):
    """The fit with such weights; members of weight 0 have nothing but nan, and no posterior."""
    members = [
        member if weight else replace(member, weights=np.full_like(member.weights, np.nan), posterior=None)
        for member, weight in zip(fitted(case).estimators_, weights, strict=True)
    ]
    return weighted(case, weights, members)


def spoiled_posterior(case):
    """The fit without the posterior of its last member."""
    *others, last = fitted(case).estimators_
    return weighted(case, WEIGHTS, [*others, replace(last, posterior=None)])


def predictions(model, X=NEW):
    if isinstance(model, GNRegressor):
        return [model.predict(X), *model.predict(X, return_std=True)]
    return [model.predict(X), model.predict_proba(X), model.predict_log_proba(X), model.decision_function(X)]


def shares(case, weights):
    """How much each member counts at each row: of normal noise, by its weight over the variance that it predicts."""
    if case not in BY_ROW:
        return weights
    model, votes = fitted(case), []
    counted = [(weight, member) for weight, member in zip(weights, model.estimators_, strict=True) if weight]
    least = 0.1 * sum(weight * member.posterior.noise_in_mixture for weight, member in counted) / np.sum(weights)
    for weight, member in zip(weights, model.estimators_, strict=True):
        Z = table_and_target(model)[0].scalings[member.scaling].transform(NEW)
        of_output = member.posterior.variance(member.network, member.weights, Z, torch.device("cpu"))
        votes.append(weight / (of_output + np.maximum(member.posterior.noise_in_mixture, least)))
    # Of several outputs, by the mean of their variances relative to those of the pool.
    votes = [
        weight / (sum(votes) / vote * weight).mean(axis=1)
        for weight, vote in zip(weights, votes, strict=True)
        if weight
    ]
    return np.insert(np.array(votes), np.flatnonzero(np.equal(weights, 0)), 0.0, axis=0) / sum(votes)


def expected_mean_and_std(case, weights):
    """The law of total variance, by hand."""
    parts = [model.predict(NEW, return_std=True) for model in alone(case)]
    weights = shares(case, weights)
    if parts[0][0].ndim == 2:
        weights = weights[:, :, None]
    mean = sum(w * m for w, (m, _) in zip(weights, parts, strict=True))
    within = sum(w * s**2 for w, (_, s) in zip(weights, parts, strict=True))
    between = sum(w * (m - mean) ** 2 for w, (m, _) in zip(weights, parts, strict=True))
    return mean, np.sqrt(within + between)


def assert_all_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


# --- Predictions


@pytest.mark.parametrize("case", REGRESSIONS)
@pytest.mark.parametrize("weights", [WEIGHTS, [0.2, 0.0, 0.8]])
def test_means_and_standard_deviations_are_those_of_a_mixture(case, weights):
    found = predictions(weighted(case, weights))
    mean, std = expected_mean_and_std(case, weights)
    for values, expected in zip(found, [mean, mean, std], strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-10)
    # It matters.
    assert abs(mean - weighted(case, equal_weights(3)).predict(NEW)).max() > 1e-3


def test_a_network_written_out_by_hand_has_its_weight():
    model = weighted("normal", WEIGHTS)
    model._votes_by_row = False
    (table, target), expected = table_and_target(model), 0
    units = {"tanh": torch.tanh, "gelu": torch.nn.functional.gelu}
    for weight, member in zip(WEIGHTS, model.estimators_, strict=True):
        Z = table.scalings[member.scaling].transform(NEW)
        (W, V), (b, c) = member.network.arrays(member.weights)
        # Either both paths read all columns, or the linear path those that the hidden layer does not.
        straight = Z[:, len(W) :] if member.network.n_straight else Z
        a = units[member.network.activation](torch.tensor(Z[:, : len(W)] @ W + b)).numpy()
        f = np.hstack([a, straight]) @ V + c
        expected = expected + weight * (target.scaler.mean + target.scaler.scale * f[:, 0])
    np.testing.assert_allclose(model.predict(NEW), expected, rtol=1e-12)


@pytest.mark.parametrize("case", CLASSIFICATIONS)
@pytest.mark.parametrize("weights", [WEIGHTS, [0.2, 0.0, 0.8]])
def test_probabilities_are_weighted_means(case, weights):
    model = weighted(case, weights)
    parts = np.stack([single.predict_log_proba(NEW) for single in alone(case)])
    with np.errstate(divide="ignore"):
        log_p = logsumexp(parts + np.log(weights)[:, None, None], axis=0)
    np.testing.assert_allclose(model.predict_log_proba(NEW), log_p, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(model.predict_proba(NEW), np.exp(log_p), rtol=1e-10)
    scores = model.decision_function(NEW)
    if case == "multiclass":
        np.testing.assert_allclose(scores, log_p, rtol=1e-10, atol=1e-14)
        np.testing.assert_array_equal(model.predict(NEW), log_p.argmax(axis=1))
    elif case == "binary":
        np.testing.assert_allclose(scores, log_p[:, 1] - log_p[:, 0], rtol=1e-9, atol=1e-12)
    elif case == "multilabel":
        p = np.exp(log_p)
        # Nearer to 1 the complement of a probability is its rounding error.
        near = p > 1 - 1e-9
        np.testing.assert_allclose(scores[~near], np.log(p / (1 - p))[~near], rtol=1e-6, atol=1e-9)
        assert (scores[near] > 20).all()


@pytest.mark.parametrize("case", [case for case in CASES if case not in BY_ROW])
def test_equal_weights_give_plain_means(case):
    model = weighted(case, equal_weights(3))
    if isinstance(model, GNClassifier):
        expected = [np.mean([single.predict_proba(NEW) for single in alone(case)], axis=0)]
        found = [model.predict_proba(NEW)]
    else:
        means = np.stack([single.predict(NEW) for single in alone(case)])
        variances = np.stack([single.predict(NEW, return_std=True)[1] ** 2 for single in alone(case)])
        mean = means.mean(axis=0)
        expected = [mean, np.sqrt((variances + (means - mean) ** 2).mean(axis=0))]
        found = model.predict(NEW, return_std=True)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * abs(b).max())


@pytest.mark.parametrize("case", CASES)
def test_a_member_of_weight_0_takes_no_part(case):
    kept = [fitted(case).estimators_[i] for i in (0, 2)]
    expected = predictions(weighted(case, [0.4, 0.6], kept))
    assert_all_equal(predictions(weighted(case, [0.4, 0.0, 0.6])), expected)
    assert_all_equal(predictions(spoiled(case, [0.4, 0.0, 0.6])), expected)
    # Also the best.
    assert_all_equal(predictions(spoiled(case, [0.0, 0.0, 1.0])), predictions(alone(case)[2]))


def test_nothing_is_computed_for_a_weight_of_0(monkeypatch):
    asked = []

    def outputs(member, *args):
        asked.append(member)
        return member_outputs(member, *args)

    monkeypatch.setattr("skgn.ensemble.member_outputs", outputs)
    model = weighted("normal", [0.5, 0.0, 0.5])
    model.predict(NEW)
    assert [id(member) for member in asked] == [id(model.estimators_[i]) for i in (0, 2)]


def test_a_member_that_counts_needs_a_posterior():
    model = spoiled("normal", [0.0, 0.5, 0.5])
    assert len(posteriors(model)) == 2
    model.weights_ = WEIGHTS
    with pytest.raises(ValueError, match="return_std=True needs weights determined"):
        model.predict(NEW, return_std=True)


def test_who_is_less_sure_of_a_row_counts_less_there():
    """Variances 1 and 4 to 1 and 1: by hand."""
    outputs, noise = [np.array([[0.75], [0.75]]), np.array([[3.0], [0.0]])], [np.array([0.25]), np.array([1.0])]
    one, other = weights_at_rows([0.5, 0.5], outputs, noise)
    np.testing.assert_allclose(one[:, 0], [0.8, 0.5], rtol=1e-12)
    np.testing.assert_allclose(other[:, 0], [0.2, 0.5], rtol=1e-12)
    # Nobody is taken to have less than a tenth of the noise of all.
    outputs = [torch.tensor([[0.9]]), torch.tensor([[3.9]])]
    tensors = weights_at_rows(torch.tensor([0.5, 0.5]).double(), outputs, [torch.zeros(1), torch.full((1,), 2.0)])
    assert [float(weight) for weight in tensors] == pytest.approx([5.9 / 6.9, 1 / 6.9], rel=1e-6)
    outputs = [torch.tensor([[1.0]]), torch.tensor([[4.0]])]
    tensors = weights_at_rows(torch.tensor([0.5, 0.5]).double(), outputs, [torch.zeros(1), torch.zeros(1)])
    assert [float(weight) for weight in tensors] == pytest.approx([0.8, 0.2], rel=1e-6)
    # Variances of several outputs, relative to what the pool has: 3/4 and 3/2 to 3/2 and 3/4.
    shares = weights_at_rows([0.5, 0.5], [np.array([[1.0, 20.0]]), np.array([[2.0, 10.0]])], NO_NOISE)
    assert [weight.item() for weight in shares] == pytest.approx([0.5, 0.5], rel=1e-12)


@pytest.mark.parametrize(
    ("variances", "expected"),
    [
        ([0.0, 1.0], [1.0, 0.0]),
        ([np.inf, 1.0], [0.0, 1.0]),
        ([0.0, 0.0], [0.25, 0.75]),
        ([np.inf, np.inf], [0.25, 0.75]),
        ([1e300, 1e300], [0.25, 0.75]),
        ([1e-300, 1e300], [1.0, 0.0]),
    ],
)
def test_shares_at_the_ends_of_the_floats(variances, expected):
    shares = weights_at_rows([0.25, 0.75], [np.full((1, 2), variance) for variance in variances], NO_NOISE)
    assert [share.item() for share in shares] == pytest.approx(expected, abs=1e-12)


def test_a_member_that_passes_through_the_rows_of_a_fit_does_not_have_them_to_itself():
    """Radial units of a weight of 0.01 had the whole vote there: 90 % intervals held no other observation of them."""
    random = np.random.RandomState(0)
    rows = random.uniform(size=(300, 2))
    truth = np.sin(80 * rows[:, 0])
    model = GNRegressor(random_state=0).fit(rows, truth + 0.1 * random.standard_normal(300))
    low, high = model.predict_interval(rows).T
    again = truth + 0.1 * random.standard_normal(300)
    assert np.mean((low < again) & (again < high)) > 0.8


def test_members_count_by_row_where_all_know_how_sure_they_are(monkeypatch):
    assert not any(fitted(case)._votes_by_row for case in REGRESSIONS if case not in BY_ROW)
    more, several = {"n_estimators": 3, "hidden_layer_sizes": (3,)}, {"max_iter": 3, "random_state": 0}
    assert GNRegressor(**more, **several).fit(X, SIGNAL)._votes_by_row
    for other in ({"n_estimators": 1}, {"l2_regularization": 0}, {"solver": "cg", "l2_regularization": 1e-3}):
        assert not GNRegressor(**more | several | other).fit(X, SIGNAL)._votes_by_row
    assert not GNRegressor(**more, **several).partial_fit(X, SIGNAL)._votes_by_row
    module = torch.nn.Sequential(torch.nn.LazyLinear(3), torch.nn.Tanh(), torch.nn.LazyLinear(1))
    own = GNRegressor(network=module, n_estimators=3, **several).fit(X, SIGNAL)
    assert (own.weights_ > 0).sum() > 1 and not own._votes_by_row  # ONNX has no Jacobian of it.
    for limit in ("_MOST_ROWS", "_LARGEST_FACTOR"):
        with monkeypatch.context() as patch:
            patch.setattr(f"skgn.trials.{limit}", 10)
            assert not GNRegressor(**more, **several).fit(X, SIGNAL)._votes_by_row


def test_the_score_of_left_out_rows_is_that_of_means_by_row(monkeypatch):
    """The oracle makes the means of outputs and variances that are asked of the members one by one."""
    made = []

    def skill(samples, weights, T=1.0, noise=None):
        made.append((samples, weights, noise))
        return left_out_skill(samples, weights, T, noise)

    monkeypatch.setattr("skgn.trials.left_out_skill", skill)
    model = GNRegressor(**SMALL).fit(X, SIGNAL)
    samples, weights, noise = made[-1]
    assert model._votes_by_row and (weights > 0).sum() > 1
    f, Y, _ = (each.numpy() for each in samples.corrected_rows)
    votes = [w / (v.numpy() + s) for w, v, s in zip(weights, samples.variances, noise, strict=True)]
    mean = sum(vote * g for vote, g in zip(votes, f, strict=True)) / sum(votes)
    plain = np.tensordot(weights, f, 1)
    assert model.left_out_score_ == pytest.approx(r2_score(Y, mean), abs=1e-9)
    assert abs(r2_score(Y, plain) - r2_score(Y, mean)) > 1e-4
    # And so are the residuals of left-out rows: on the side of these means.
    np.testing.assert_array_equal(np.sign(model._residuals.values), np.sign(Y - mean))


def test_left_out_rows_are_those_of_means_by_row_where_the_noise_depends_on_the_input(monkeypatch):
    """In what the noise is learned from, and in the residuals that calibrate intervals."""
    learned, left_out_of = [], skgn.noise_fit._left_out_of

    def spy(ensemble, *given):
        learned.append((ensemble, left_out_of(ensemble, *given)))
        return learned[-1][1]

    monkeypatch.setattr("skgn.noise_fit._left_out_of", spy)
    model = GNRegressor(**SMALL, noise="input").fit(X, SIGNAL)
    assert model._votes_by_row and model.noise_ == "input"

    def miss(ensemble, noise):
        samples, weights = ensemble.left_out, ensemble.weights
        f, Y, _ = (each.numpy() for each in samples.corrected_rows)
        votes = [w / (v.numpy() + s) for w, v, s in zip(weights, samples.variances, noise, strict=True)]
        return Y - sum(vote * g for vote, g in zip(votes, f, strict=True)) / sum(votes)

    ensemble, found = learned[0]
    squares = miss(ensemble, [member.posterior.noise_variance for member in ensemble.members]) ** 2
    np.testing.assert_allclose(found.squares, squares, rtol=1e-8)
    assert not model._noise.weighs_rows  # So these are the members of the fit.
    residuals = miss(ensemble, [member.posterior.noise_in_mixture for member in ensemble.members])
    np.testing.assert_array_equal(np.sign(model._residuals.values), np.sign(residuals))


def test_quantiles_of_many_rows_are_those_of_each(monkeypatch):
    model = weighted("normal", WEIGHTS)
    whole = model.predict_quantiles(NEW, [0.1, 0.7])
    monkeypatch.setattr("skgn.predictive._ROWS", 7)
    np.testing.assert_allclose(model.predict_quantiles(NEW, [0.1, 0.7]), whole, rtol=1e-8)


def test_a_stored_model_that_lacks_a_variance_is_refused():
    with pytest.raises(ValueError, match=r"lacks, or has damaged.*Member\.posterior"):
        pickle.loads(pickle.dumps(spoiled_posterior("normal")))


def test_rounding_makes_no_probability_exceed_1():
    """Which scikit-learn's metrics refuse."""
    for n in range(1, 60):
        for weights in (equal_weights(n), np.random.default_rng(n).dirichlet(np.ones(n)), np.full(n, 1 / n + 1e-15)):
            assert mixture_mean(np.ones((n, 2)), weights).max() == 1
            assert mixture_log_probability(np.zeros((n, 2, 1)), weights).max() <= 0


def test_every_fit_has_weights_of_its_members():
    streamed, cut_short = GNRegressor(**SMALL).partial_fit(X, SIGNAL), GNRegressor(**SMALL, max_time=1e-9)
    for model in (*map(fitted, CASES), streamed, cut_short.fit(X, SIGNAL)):
        assert model.weights_.shape == (len(model.estimators_),)
        assert model.weights_.min() >= 0 and model.weights_.sum() == pytest.approx(1, abs=1e-14)


# --- Temperature and relevance


@pytest.mark.parametrize(("loss", "k"), [(SoftmaxLoss(), 3), (LogLoss(), 1), (LogLoss(), 2)])
def test_left_out_samples_are_judged_by_the_weighted_mean(loss, k):
    f, T = np.random.default_rng(1).normal(size=(3, 50, k)), 1.7
    multiclass = isinstance(loss, SoftmaxLoss)
    y = np.eye(k)[f.sum(axis=0).argmax(axis=1)] if multiclass else (f[0] + f[2] > 0).astype(float)
    sample_weight = np.random.default_rng(2).uniform(size=50)
    objective = SimpleNamespace(Y=torch.tensor(y), sample_weight=torch.tensor(sample_weight))

    def value(f, weights):
        left_out = [LeftOut(torch.tensor(g), None) for g in f]
        samples, votes = LeftOutSamples(objective, loss, left_out, [0.0] * len(f)).of_voters(np.array(weights))
        log_p, weight = samples.log_probabilities(T)
        return float(log_mixture(log_p, votes) @ weight)

    p = np.exp(log_softmax(f / T, axis=2)) if multiclass else expit(f / T)
    p = np.tensordot(WEIGHTS, p, 1)
    options = {"sample_weight": sample_weight, "normalize": False}
    columns = [(y.argmax(1), p)] if multiclass else zip(y.T, p.T, strict=True)
    assert value(f, WEIGHTS) == pytest.approx(-sum(log_loss(truth, of, **options) for truth, of in columns), rel=1e-12)
    unknown = np.stack([f[0], np.full_like(f[1], np.nan), f[2]])
    assert value(unknown, [0.4, 0, 0.6]) == value(f[[0, 2]], [0.4, 0.6])


@pytest.mark.parametrize("loss", [SquaredError(), LogLoss()])
@pytest.mark.parametrize("weights", [WEIGHTS, [0.0, 0.7, 0.3]])
def test_relevance_is_that_of_the_weighted_mean_output(loss, weights):
    regression = isinstance(loss, SquaredError)
    estimator = (GNRegressor if regression else GNClassifier)(**SMALL, standardize=False)
    model = estimator.fit(X, SIGNAL if regression else SIGNAL > 0)
    members = [
        member if weight else replace(member, weights=np.full_like(member.weights, np.nan), posterior=None)
        for member, weight in zip(model.estimators_, weights, strict=True)
    ]
    sample_weight = np.random.default_rng(3).uniform(size=len(X))
    ensemble = Ensemble(members, np.array(weights), loss, 1.0)
    found = feature_sensitivity(ensemble, {"raw": X}, {"raw": np.arange(3)}, sample_weight)
    counted = [(w, member) for w, member in zip(weights, members, strict=True) if w]

    def mean(rows):
        return sum(w * member_outputs(member, rows, torch.device("cpu"))[:, 0] for w, member in counted)

    rows, partners = exchanges(sample_weight)
    before = mean(X[rows])
    curvature = 1 / counted[0][1].posterior.noise_variance if regression else expit(before) * expit(-before)
    for j in range(3):
        exchanged = X[rows]
        exchanged[:, j] = X[partners, j]
        squares = (mean(exchanged) - before) ** 2
        assert found.squares[j] == pytest.approx(squares.mean(), rel=1e-10)
        assert found.evidence[j] == pytest.approx(sample_weight.sum() * (squares * curvature).mean() / 2, rel=1e-10)


# --- What else predicts


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weights", [WEIGHTS, [0.0, 0.25, 0.75]])
def test_torch_modules_have_the_weights(case, weights):
    """ONNX files are translated from these modules; tests/test_export.py has files with unequal weights."""
    model = spoiled(case, weights)
    std = case in REGRESSIONS
    with torch.no_grad():
        found = to_torch(model, return_std=std)(torch.tensor(NEW))
    expected = model.predict(NEW, return_std=True) if std else [model.predict_proba(NEW)]
    for a, b in zip(found if std else [found], expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=0, atol=1e-10 * abs(b).max())


@pytest.mark.parametrize("case", ["normal", "multiclass"])
def test_dask_estimators_have_the_weights(case):
    dask = pytest.importorskip("dask", reason='needs pip install "skgn[dask]"')
    pytest.importorskip("distributed", reason='needs pip install "skgn[dask]"')
    import dask.array as da

    from skgn.dask import DaskGNClassifier, DaskGNRegressor

    local = spoiled(case, [0.0, 0.25, 0.75])
    # What a fit on a cluster leaves.
    model = (DaskGNRegressor if case == "normal" else DaskGNClassifier)(**SMALL)
    vars(model).update(vars(local) | {"bytes_per_iteration_": 0})
    assert_all_equal(predictions(model.to_local()), predictions(local))
    rows = da.from_array(NEW, chunks=(25, 3))
    with dask.config.set(scheduler="synchronous"):
        found = [values.compute() for values in predictions(model, rows)]
    for a, b in zip(found, predictions(local), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    if case == "normal":
        model.weights_ = WEIGHTS
        with pytest.raises(ValueError, match="return_std=True needs weights determined"):
            model.predict(rows, return_std=True)


@pytest.mark.usefixtures("without_boosting")
def test_diagnose_asks_for_the_posteriors_that_count():
    y = CASES["normal"][1]
    expected = diagnose(alone("normal")[0], X, y, verbose=False)["calibration"]
    found = diagnose(spoiled("normal", [1.0, 0.0, 0.0]), X, y, verbose=False)["calibration"]
    assert found == expected and "coverage_90" in found.numbers


# --- Stored models


@pytest.mark.parametrize("case", ["normal", "multiclass"])
def test_weights_are_stored(case):
    import skops.io  # takes seconds

    model = weighted(case, WEIGHTS)
    for loaded in (
        pickle.loads(pickle.dumps(model)),
        skops.io.loads(skops.io.dumps(model), trusted=SKOPS_TRUSTED),
        copy.deepcopy(model),
    ):
        np.testing.assert_array_equal(loaded.weights_, WEIGHTS)
        assert_all_equal(predictions(loaded), predictions(model))


def test_a_model_stored_without_weights_is_refused():
    model = weighted("normal", WEIGHTS)
    del model.weights_
    with pytest.raises(ValueError, match=r"needs: weights_\. Load"):
        copy.copy(model)
    assert not hasattr(copy.copy(GNRegressor()), "weights_")
