"""Columns of y that another column tells: a fit is that of the others, and predictions of all follow from it."""

import pickle
from functools import cache

import numpy as np
import pytest
import skops.io
import torch
from sklearn.metrics import r2_score

from skgn import GNRegressor, diagnose
from skgn.estimator import table_and_target
from skgn.export import to_torch
from skgn.persistence import SKOPS_TRUSTED

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"hidden_layer_sizes": (3,), "n_estimators": 2, "max_iter": 5, "random_state": 0}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
CELSIUS = np.sin(2 * X[:, 0]) + 0.2 * RNG.normal(size=90)
OTHER = X[:, 1] ** 2 + 0.3 * RNG.normal(size=90)
#: A constant, a temperature in two units and one downwards, and another column twice.
Y = np.column_stack([np.full(90, 3.1), CELSIUS, 32 + 1.8 * CELSIUS, 5 - CELSIUS, OTHER, OTHER])
SLOPE, OFFSET, KEPT = np.array([0, 1, 1.8, -1, 1, 1]), np.array([3.1, 0, 32, 5, 0, 0]), [1, 4]
SOURCE = [0, 0, 0, 0, 1, 1]
TRAIN, NEW = slice(0, 60), slice(60, None)


def told(values):
    """Values (..., 2) of the two columns that tell the others, as values of all columns."""
    return values[..., SOURCE] * SLOPE + OFFSET


@pytest.fixture(scope="module")
def pair():
    """Fits to all columns, and to those that tell the others."""
    return [GNRegressor(**SMALL).fit(X[TRAIN], targets[TRAIN]) for targets in (Y, Y[:, KEPT])]


def test_predictions_are_those_of_the_columns_that_tell_the_others(pair):
    model, fewer = pair
    (mean, std), (expected, deviation) = (each.predict(X[NEW], return_std=True) for each in pair)
    np.testing.assert_allclose(mean, told(expected), rtol=1e-12)
    np.testing.assert_allclose(std, deviation[:, SOURCE] * abs(SLOPE), rtol=1e-12)
    np.testing.assert_array_equal(mean[:, 0], 3.1)
    epistemic = fewer.epistemic_std(X[NEW])[:, SOURCE] * abs(SLOPE)
    np.testing.assert_allclose(model.epistemic_std(X[NEW]), epistemic, rtol=1e-12)
    covariance, of_fewer = (each.predict(X[NEW], return_cov=True)[1] for each in pair)
    np.testing.assert_allclose(covariance, of_fewer[..., SOURCE] * SLOPE**2, rtol=1e-12)
    np.testing.assert_allclose(model.noise_std_, fewer.noise_std_[SOURCE] * abs(SLOPE), rtol=1e-12)
    np.testing.assert_array_equal(model.feature_relevance_, fewer.feature_relevance_)
    assert model.n_outputs_ == 6


def test_quantiles_of_a_column_downwards_are_those_from_the_other_end(pair):
    model, fewer = pair
    levels = np.array([0.05, 0.3, 0.9])
    up, down = (told(fewer.predict_quantiles(X[NEW], each)) for each in (levels, 1 - levels))
    expected = np.where(SLOPE < 0, down, up)
    np.testing.assert_allclose(model.predict_quantiles(X[NEW], levels), expected, rtol=1e-9)
    ends = told(fewer.predict_interval(X[NEW], 0.8, calibrate=True))
    np.testing.assert_allclose(model.predict_interval(X[NEW], 0.8, calibrate=True), np.sort(ends, axis=1), rtol=1e-12)


def test_samples_of_all_columns_belong_together(pair):
    samples, expected = (np.moveaxis(each.sample_y(X[NEW], 3, random_state=1), 1, 2) for each in pair)
    np.testing.assert_allclose(samples, told(expected), rtol=1e-12)


def test_scores_are_means_over_all_columns(pair):
    model, fewer = pair
    assert model.score(X[NEW], Y[NEW]) == pytest.approx(r2_score(Y[NEW], model.predict(X[NEW])))
    # Of columns of the scores c and o, the mean is (c + o) / 2, and with one of them twice (2 c + o) / 3.
    both, more = fewer.left_out_score_, GNRegressor(**SMALL).fit(X[TRAIN], Y[TRAIN][:, [1, 2, 4]]).left_out_score_
    c, o = 3 * more - 2 * both, 4 * both - 3 * more
    assert model.left_out_score_ == pytest.approx((1 + 3 * c + 2 * o) / 6)


@cache
def of_celsius(loss):
    """A fit of one column, which is not to be changed."""
    return GNRegressor(loss=loss, **SMALL).fit(X[TRAIN], CELSIUS[TRAIN])


@pytest.mark.parametrize("loss", ["squared_error", "student_t", "huber", "cauchy"])
@pytest.mark.parametrize(
    "redundant",
    [
        lambda y: y,
        lambda y: 1 - y,
        lambda y: 32 + 1.8 * y,
        lambda y: y.astype(np.float32),
        lambda y: y.round(4),
        lambda y: 0 * y + 3.1,
    ],
    ids=["copy", "complement", "unit", "float32", "rounded", "constant"],
)
def test_one_more_column_that_is_told_changes_no_other(redundant, loss):
    alone = of_celsius(loss)
    both = GNRegressor(loss=loss, **SMALL).fit(X[TRAIN], np.column_stack([CELSIUS, redundant(CELSIUS)])[TRAIN])
    np.testing.assert_array_equal(both.predict(X[NEW])[:, 0], alone.predict(X[NEW]))
    np.testing.assert_allclose(both.predict(X[NEW])[:, 1], redundant(alone.predict(X[NEW])), atol=1e-4)


def test_noise_that_a_copy_has_as_well_is_no_relation():
    """Two outputs that agree had been taken for two observations without noise, which were then interpolated."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (1100, 5))
    share = 1 / (1 + np.exp(-np.sin(3 * x[:, 0]) - x[:, 1] * x[:, 2] - 0.2 * rng.normal(size=1100)))
    shares = np.column_stack([share, 1 - share])
    model = GNRegressor(20, n_estimators=1, random_state=0).fit(x[:100], shares[:100])
    low, high = np.moveaxis(model.predict_interval(x[100:], 0.9), 1, 0)
    assert np.mean((low <= shares[100:]) & (shares[100:] <= high)) == pytest.approx(0.9, abs=0.05)
    np.testing.assert_allclose(model.predict(x[100:]).sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("keep", ["pickle", "skops", "torch"])
def test_stored_and_exported_models_predict_all_columns(pair, keep):
    model, _ = pair
    expected = model.predict(X[NEW], return_std=True)
    if keep == "torch":
        found = [each.detach().numpy() for each in to_torch(model, return_std=True)(torch.from_numpy(X[NEW]))]
    else:
        pickled = keep == "pickle"
        same = pickle.loads(pickle.dumps(model)) if pickled else skops.io.loads(skops.io.dumps(model), SKOPS_TRUSTED)
        found = same.predict(X[NEW], return_std=True)
    for values, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-9, atol=1e-12)


def test_a_stream_after_a_fit_keeps_what_is_told():
    model = GNRegressor(**SMALL).fit(X[TRAIN], Y[TRAIN])
    model.partial_fit(X[NEW], Y[NEW])
    np.testing.assert_allclose(model.predict(X), told(model.predict(X)[:, KEPT]), rtol=1e-12)
    changed = Y[NEW].copy()
    changed[3, 0] = 4
    with pytest.raises(ValueError, match=r"Column 0 of y was a constant or a copy"):
        model.partial_fit(X[NEW], changed)


@pytest.mark.filterwarnings("ignore:Failed")
def test_a_warm_start_goes_on_with_the_outputs_of_a_fit_without_it(pair):
    model = pickle.loads(pickle.dumps(pair[0])).set_params(warm_start=True)
    again = pickle.loads(pickle.dumps(model)).fit(X[TRAIN], Y[TRAIN])
    assert again.intercepts_[-1].shape == model.intercepts_[-1].shape
    assert again.history_["loss"][0] == pytest.approx(model.loss_, rel=0.1)
    changed, weight = Y[TRAIN].copy(), np.ones(60)
    changed[0, 0] = 9
    before = model.predict(X[NEW])
    with pytest.raises(ValueError, match=r"Column 0 of y was a constant .* with warm_start=False"):
        model.fit(X[TRAIN], changed)
    np.testing.assert_array_equal(model.predict(X[NEW]), before)
    with pytest.raises(ValueError, match="warm_start=True needs the network"):
        model.fit(X[TRAIN], Y[TRAIN, :4])
    weight[0] = 0
    assert model.fit(X[TRAIN], changed, weight).intercepts_[-1].shape == again.intercepts_[-1].shape


def test_the_same_targets_again_are_told_as_before_where_values_near_0_are_rounded():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    celsius = np.round(5 * X[:, 0] + rng.normal(size=100), 3)
    part = np.clip(0.4 * X[:, 0] + 0.5, 0, 1)
    for Y in (np.c_[celsius, np.round(celsius / 0.3048, 3)], np.c_[part, 100 * (1 - part)]):
        model = GNRegressor((3,), n_estimators=1, max_iter=3, random_state=0).fit(X, Y)
        assert model._target.kept == (0,)
        model.set_params(warm_start=True).fit(X, Y).partial_fit(X, Y)
        with pytest.raises(ValueError, match="Column 1 of y was a constant or a copy of another column in fit"):
            model.partial_fit(X, Y[::-1] * [1, -1])


def test_rows_of_weight_0_tell_nothing_of_the_columns():
    weight, changed = np.ones(60), Y[TRAIN].copy()
    weight[50:], changed[50:, 0] = 0, 9
    model = GNRegressor(**SMALL).fit(X[TRAIN], changed, weight)
    np.testing.assert_array_equal(model.predict(X[NEW])[:, 0], 3.1)


@pytest.mark.parametrize(
    ("parameters", "targets"),
    [
        ({"l2_regularization": 1e-3}, Y),
        ({"warm_start": True}, Y),
        ({"loss": "quantile"}, Y),
        ({}, Y[:, KEPT]),
        ({}, np.ones((90, 2))),
        ({}, np.column_stack([CELSIUS, CELSIUS + 1e-3 * OTHER])),
    ],
    ids=["float l2", "warm start", "quantiles", "none", "constants alone", "not quite"],
)
@pytest.mark.filterwarnings("ignore:Failed")
def test_other_fits_have_an_output_for_each_column(parameters, targets):
    model = GNRegressor(**SMALL | parameters).fit(X[TRAIN], targets[TRAIN])
    assert model.intercepts_[-1].shape == (targets.shape[1],)


def test_diagnose_looks_at_the_columns_that_vary(pair):
    report = diagnose(pair[0], X[NEW], Y[NEW], verbose=False)
    # The first never varies, and has nothing to explain.
    r2 = r2_score(Y[NEW, 1:], pair[0].predict(X[NEW])[:, 1:])
    assert report["skill"].numbers["r2"] == pytest.approx(r2)
    assert "(output 0)" not in report["calibration"].text


def test_a_stored_target_that_lacks_columns_is_damaged(pair):
    state = pair[0].__getstate__()
    _, target = table_and_target(pair[0])
    broken = pickle.loads(pickle.dumps(target))
    object.__setattr__(broken, "source", target.source[:-1])
    with pytest.raises(ValueError, match="_target"):
        GNRegressor().__setstate__(state | {"_target": broken})


def test_covariances_of_columns_in_units_far_apart():
    """The factor between them has no square among the floats."""
    model = GNRegressor(**SMALL).fit(X[TRAIN], CELSIUS[TRAIN, None] * [1e-120, 1e120])
    std, covariance = (model.predict(X[NEW], **given)[1] for given in ({"return_std": True}, {"return_cov": True}))
    np.testing.assert_allclose(np.sqrt(covariance.diagonal().T), std, rtol=1e-9)
