import numpy as np
import pytest
from scipy.stats import norm, rankdata

from skgn.piecewise import PiecewiseEmbedding
from skgn.preprocessing import (
    SCALINGS,
    InputScaler,
    PeriodicEmbedding,
    RankScaler,
    StraightScaler,
    TargetScaler,
    TwoPathScaler,
)
from skgn.scalings import fit_scalers, transform_inputs
from skgn.weighted_rows import distinct, merge_rows, weighted_quantile, weighted_quantiles

rng = np.random.RandomState


def table(n=200, d=4, seed=0):
    """A mixed table: normal, heavy-tailed, few integers, indicator."""
    random = rng(seed)
    columns = [random.randn(n), random.standard_cauchy(n), random.randint(0, 5, n), random.rand(n) < 0.2]
    return np.column_stack(columns[:d]).astype(float)


def reference_scaled(X):
    """The documented scaling of rows without weights, in NumPy's quantiles."""
    low, centre, high = np.quantile(X, [0.25, 0.5, 0.75], axis=0, method="averaged_inverted_cdf")
    scale = (high - low) / 1.3489795003921634
    scale = np.where(scale > 0, scale, np.ptp(X, axis=0) / 2)
    z = (X - centre) / scale
    return z / np.sqrt(1 + (z / 3) ** 2)


# merge_rows


def test_merged_rows_are_the_weighted_set_of_rows():
    X = np.array([[1.0, 2.0], [0.0, 5.0], [1.0, 2.0], [-0.0, 5.0], [7.0, 7.0], [1.0, 2.0]])
    Y = np.array([[0.0], [1.0], [0.0], [1.0], [3.0], [9.0]])
    weight = np.array([1.0, 0.5, 2.0, 0.25, 0.0, 4.0])
    Xm, Ym, merged = merge_rows(X, Y, weight)
    rows = {(*x, *y): w for x, y, w in zip(Xm.tolist(), Ym.tolist(), merged.tolist(), strict=True)}
    assert rows == {(1.0, 2.0, 0.0): 3.0, (0.0, 5.0, 1.0): 0.75, (1.0, 2.0, 9.0): 4.0}
    assert Xm.flags.c_contiguous and Ym.flags.c_contiguous


@pytest.mark.parametrize("seed", range(3))
def test_weights_repetition_and_order_give_bitwise_equal_rows(seed):
    random = rng(seed)
    X, Y = random.randn(60, 3), random.randn(60, 2)
    count = random.randint(0, 4, 60)
    expected = merge_rows(X, Y, count.astype(float))
    assert len(expected[0]) == (count > 0).sum()
    repeated = np.repeat(np.arange(60), count)
    shuffled = random.permutation(repeated)
    for index in (repeated, shuffled):
        for a, b in zip(merge_rows(X[index], Y[index], np.ones(len(index))), expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_order_does_not_matter_for_weights_whose_sum_rounds():
    X, Y = np.zeros((6, 1)), np.zeros((6, 1))
    weight = np.array([0.1, 0.2, 0.3, 1e-17, 1.0, 0.7])
    sums = {float(merge_rows(X, Y, weight[rng(seed).permutation(6)])[2][0]) for seed in range(50)}
    assert len(sums) == 1


@pytest.mark.parametrize("values", [np.arange(10.0), np.linspace(-1, 1, 10), 10.0 ** np.arange(-5, 5)])
def test_different_rows_are_never_merged(values):
    X = np.stack(np.meshgrid(values, values, values, values), -1).reshape(-1, 4)
    Xm, _, weight = merge_rows(X, np.zeros((len(X), 1)), np.ones(len(X)))
    assert len(Xm) == len(X) and (weight == 1).all()
    np.testing.assert_array_equal(np.unique(Xm, axis=0), np.unique(X, axis=0))


def test_merge_leaves_its_input_alone_and_takes_any_layout():
    X = np.asfortranarray(rng(0).randn(40, 3))[::-1].astype(np.float32)
    Y, weight = np.zeros((40, 1), dtype=np.float32), np.ones(40, dtype=np.int64)
    X.flags.writeable = False
    Xm, Ym, merged = merge_rows(X, Y, weight)
    assert (Xm.dtype, Ym.dtype, merged.dtype) == (np.float64, np.float64, np.float64)
    np.testing.assert_array_equal(np.unique(Xm, axis=0), np.unique(X, axis=0))


# weighted_quantile


@pytest.mark.parametrize("q", [0.0, 0.25, 0.5, 0.75, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_weighted_quantile_is_the_quantile_of_repeated_rows(q, seed):
    X = table(37, seed=seed)
    count = rng(seed).randint(1, 5, len(X))
    expected = np.quantile(np.repeat(X, count, axis=0), q, axis=0, method="averaged_inverted_cdf")
    np.testing.assert_allclose(weighted_quantile(X, count.astype(float), q), expected, rtol=1e-14, atol=1e-300)


def test_weighted_quantile_ignores_the_scale_of_the_weights():
    X, weight = table(50), rng(1).rand(50) + 0.1
    np.testing.assert_array_equal(weighted_quantile(X, weight, 0.25), weighted_quantile(X, weight * 2.0**20, 0.25))


@pytest.mark.parametrize("weight", ["ones", "thirds", "random"])
def test_quantiles_are_the_values_in_their_places_bit_for_bit(weight):
    X = table(301)
    weights = {"ones": np.ones(301), "thirds": np.full(301, 1 / 3), "random": rng(1).rand(301) + 0.1}[weight]
    levels = 0.0, 0.1, 0.25, 1 / 3, 0.5, 0.75, 1.0
    order = np.argsort(X, axis=0, kind="stable")
    values, sums = np.take_along_axis(X, order, axis=0), np.cumsum(weights[order], axis=0)
    slack = len(X) * np.finfo(float).eps * sums[-1]
    for q, found in zip(levels, weighted_quantiles(X, weights, levels), strict=True):
        low, high = (sums < q * sums[-1] - slack).sum(0), np.minimum((sums <= q * sums[-1] + slack).sum(0), 300)
        expected = [(values[a, j] / 2 + values[b, j] / 2) for j, (a, b) in enumerate(zip(low, high, strict=True))]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("weight", [1.0, 1 / 3])
def test_distinct_values_have_the_sums_of_their_weights(weight):
    values, mass = distinct(table(200)[:, 2], np.full(200, weight))
    np.testing.assert_array_equal(values, np.arange(5.0))
    np.testing.assert_array_equal(
        mass, [np.cumsum(np.full(n, weight))[-1] for n in np.bincount(table(200)[:, 2].astype(int))]
    )


# InputScaler


def test_inputs_are_scaled_as_documented():
    X = table()
    Z = InputScaler.fit(X, np.ones(len(X))).transform(X)
    np.testing.assert_allclose(Z, reference_scaled(X), rtol=1e-10, atol=1e-12)


def test_weights_equal_repetition_in_the_input_scaler():
    X, count = table(80), rng(3).randint(0, 4, 80)
    # The estimators drop rows of weight 0 first; so do the statistics here.
    kept = count > 0
    scaled = InputScaler.fit(X[kept], count[kept].astype(float)).transform(X)
    repeated = np.repeat(X, count, axis=0)
    np.testing.assert_allclose(scaled, InputScaler.fit(repeated, np.ones(len(repeated))).transform(X), rtol=1e-13)


def test_scaling_is_monotone_and_bounded():
    x = np.sort(rng(0).standard_cauchy(300)) ** 3
    scaler = InputScaler.fit(x[:, None], np.ones(300))
    new = np.concatenate([[-1e308, -1e200], x, [1e200, 1e308]])
    z = scaler.transform(new[:, None])[:, 0]
    assert np.isfinite(z).all() and (np.diff(z) >= 0).all()
    assert (np.abs(z) <= 3).all()
    # Tails do not squeeze the bulk: half of the rows keep the interquartile range of a normal, but for the clip.
    low, high = np.quantile(z[2:-2], [0.25, 0.75], method="averaged_inverted_cdf")
    assert 1.1 < high - low < 1.35


@pytest.mark.parametrize("factor", [1e300, 1e-300, 1e150, 1e-150, -1e300])
def test_scale_of_a_column_does_no_harm(factor):
    X = table()
    expected = InputScaler.fit(X, np.ones(len(X))).transform(X)
    X_ = X / np.abs(X).max(axis=0) * factor
    scaled = InputScaler.fit(X_, np.ones(len(X))).transform(X_)
    np.testing.assert_allclose(scaled, np.sign(factor) * expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.0, 1e300, 1e-300, 5e-324, -1e308])
def test_constant_columns_map_to_zero_whatever_comes_later(constant):
    X = np.column_stack([np.full(20, constant), np.arange(20.0)])
    scaler = InputScaler.fit(X, rng(0).rand(20) + 0.1)
    new = np.array([[constant, 1.0], [1e308, 1.0], [-1e308, 1.0], [0.0, 1.0], [5e-324, 1.0]])
    assert (scaler.transform(X)[:, 0] == 0).all()
    assert (scaler.transform(new)[:, 0] == 0).all()


def test_one_row_is_scaled_to_zero():
    X = np.array([[1.0, -3e200, 0.0]])
    np.testing.assert_array_equal(InputScaler.fit(X, np.ones(1)).transform(X), np.zeros((1, 3)))


@pytest.mark.parametrize("tiny", [1e-310, 1e-300, 1e-20])
def test_columns_with_one_value_far_above_the_rest_stay_finite(tiny):
    X = np.append(np.arange(9) * tiny, 1.0)[:, None]
    z = InputScaler.fit(X, np.ones(10)).transform(X)[:, 0]
    assert np.isfinite(z).all() and (np.diff(z) >= 0).all()
    assert z[-1] > z[0]


def test_indicator_columns_keep_both_values_apart():
    # Rarer than the quartiles see: the interquartile range is 0.
    X = (np.arange(100) < 7).astype(float)[:, None]
    z = InputScaler.fit(X, np.ones(100)).transform(X)[:, 0]
    np.testing.assert_allclose(np.unique(z), [0, 2 / np.sqrt(1 + 4 / 9)])


def test_transform_returns_a_new_contiguous_float64_array():
    X = np.asfortranarray(table()).astype(np.float32)[::-1]
    before = X.copy()
    Z = InputScaler.fit(X.astype(float), np.ones(len(X))).transform(X)
    assert Z.dtype == np.float64 and Z.flags.c_contiguous and Z.flags.writeable
    np.testing.assert_array_equal(X, before)


# StraightScaler, TwoPathScaler


def reference_straight(X, new):
    """The documented scaling of rows without weights, where no column is constant."""
    low, high = X.min(axis=0), X.max(axis=0)
    return (np.clip(new, low - 2 * (high - low), high + 2 * (high - low)) - X.mean(axis=0)) / X.std(axis=0)


@pytest.mark.parametrize("kind", [StraightScaler, TwoPathScaler])
def test_inputs_go_straight_as_documented(kind):
    X, new = table(), np.concatenate([table(seed=1), 10 * table(seed=2)])
    expected = reference_straight(X, new)
    if kind is TwoPathScaler:
        expected = np.hstack([InputScaler.fit(X, np.ones(len(X))).transform(new), expected])
    scaler = kind.fit(X, np.ones(len(X)))
    Z = scaler.transform(new)
    np.testing.assert_allclose(Z, expected, rtol=1e-10, atol=1e-12)
    assert Z.dtype == np.float64 and Z.flags.c_contiguous
    assert scaler.n_straight == (4 if kind is TwoPathScaler else 0)
    np.testing.assert_array_equal(scaler.features, np.tile(np.arange(4), Z.shape[1] // 4))


def test_weights_equal_repetition_in_straight_inputs():
    X, new = table(80), 5 * table(80, seed=4)
    count = rng(3).randint(0, 4, 80)
    repeated = np.repeat(X, count, axis=0)
    weighted, again = (merge_rows(Z, Z, w) for Z, w in ((X, count.astype(float)), (repeated, np.ones(count.sum()))))
    scaled, expected = (StraightScaler.fit(Z, weight).transform(new) for Z, _, weight in (weighted, again))
    np.testing.assert_array_equal(scaled, expected)
    np.testing.assert_allclose(scaled, reference_straight(repeated, new), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("factor", [1.7e308, 1e300, 1e-300, 1e150, -1e300])
def test_straight_columns_of_any_magnitude(factor):
    X = table()
    expected = reference_straight(X, X)
    X_ = X / np.abs(X).max(axis=0) * factor
    scaler = StraightScaler.fit(X_, np.ones(len(X_)))
    np.testing.assert_allclose(scaler.transform(X_), np.sign(factor) * expected, rtol=1e-7, atol=1e-9)
    far = scaler.transform(np.array([[1.7e308] * 4, [-1.7e308] * 4, [5e-324] * 4]))
    assert np.isfinite(far).all() and (np.abs(far) < 100).all()


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.0, 1e300, 1e-300, 5e-324, -1e308])
def test_straight_constant_columns_map_to_zero_whatever_comes_later(constant):
    X = np.column_stack([np.full(20, constant), np.arange(20.0)])
    scaler = StraightScaler.fit(X, rng(0).rand(20) + 0.1)
    new = np.array([[constant, 1.0], [1e308, 1.0], [-1e308, 1.0], [0.0, 1.0], [5e-324, 1.0]])
    assert (scaler.transform(X)[:, 0] == 0).all()
    assert (scaler.transform(new)[:, 0] == 0).all()


@pytest.mark.parametrize(
    "column",
    [
        [0.0, 5e-324],
        [-5e-324, 0.0, 5e-324, 1e-323],
        [0.0, 5e-324, 1.0],
        [-1.7e308, 0.0, 5e-324, 1.7e308],
        [1.0, 1.0 + 2**-52, 1.0 + 2**-51],
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_straight_columns_of_hardly_any_spread_stay_finite(column, dtype):
    with np.errstate(over="ignore", under="ignore"):
        X = np.clip(np.array(column), -3e38, 3e38).astype(dtype)[:, None] if dtype == np.float32 else np.c_[column]
    z = StraightScaler.fit(X, np.ones(len(X))).transform(X)[:, 0]
    assert np.isfinite(z).all() and (np.diff(z) >= 0).all() and (np.abs(z) <= np.sqrt(len(X))).all()
    assert (z[0] < z[-1]) == (X[0] < X[-1])


def test_a_line_goes_on_for_two_ranges_and_no_further():
    X = np.linspace(-3, 3, 13)[:, None]
    scaler = StraightScaler.fit(X, np.ones(13))
    z = scaler.transform(np.array([[-1e308], [-15.0], [-14.9], [0.0], [14.9], [15.0], [15.1], [np.inf]]))[:, 0]
    unit = X.std()
    np.testing.assert_allclose(z, np.array([-15, -15, -14.9, 0, 14.9, 15, 15, 15]) / unit, rtol=1e-12, atol=1e-12)


# RankScaler


def normal_scores(X):
    """The documented scores of rows without weights: SciPy's average ranks, the tails cut, standardised."""
    share = (rankdata(X, axis=0) - 0.5) / len(X)
    z = norm.ppf(np.clip(share, 1e-3, 1 - 1e-3))
    return (z - z.mean(axis=0)) / np.where(np.ptp(X, axis=0) > 0, z.std(axis=0), 1)


@pytest.mark.parametrize("n", [2, 7, 200, 900])
def test_ranks_become_normal_scores(n):
    """Ties, as in the columns of integers and indicators, share the score of their mean rank."""
    X = table(n)
    Z = RankScaler.fit(X, np.ones(n)).transform(X)
    np.testing.assert_allclose(Z, normal_scores(X), rtol=1e-10, atol=1e-12)


def test_ranks_do_not_depend_on_the_units_of_a_column():
    X = np.clip(table(), -100, 100)
    Z = RankScaler.fit(X, np.ones(len(X))).transform(X)
    for change in (np.arcsinh, np.exp2, lambda x: 3 - x, lambda x: x**3):
        changed = change(X)
        expected = -Z if change(2.0) < change(1.0) else Z
        got = RankScaler.fit(changed, np.ones(len(X))).transform(changed)
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_weights_equal_repetition_in_the_rank_scaler():
    X, count = table(80), rng(3).randint(1, 4, 80)
    repeated, new = np.repeat(X, count, axis=0), table(50, seed=9)
    weighted = RankScaler.fit(X, count.astype(float))
    unweighted = RankScaler.fit(repeated, np.ones(len(repeated)))
    for rows in (X, new):
        np.testing.assert_array_equal(weighted.transform(rows), unweighted.transform(rows))


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.0, 1e300, 1e-300, 5e-324, -1e308])
def test_ranks_of_constant_columns_are_zero_whatever_comes_later(constant):
    X = np.column_stack([np.full(20, constant), np.arange(20.0)])
    scaler = RankScaler.fit(X, rng(0).rand(20) + 0.1)
    new = np.array([[constant, 1.0], [1e308, 1.0], [-1e308, 1.0], [0.0, 1.0], [5e-324, 1.0]])
    assert (scaler.transform(X)[:, 0] == 0).all()
    assert (scaler.transform(new)[:, 0] == 0).all()


@pytest.mark.parametrize("n", [2, 30, 5000])
def test_ranks_are_monotone_continuous_and_bounded(n):
    x = np.sort(rng(0).standard_cauchy(n)) ** 3
    scaler = RankScaler.fit(x[:, None], np.ones(n))
    width = x[-1] - x[0]
    grid = np.linspace(x[0] - width, x[-1] + width, 20_001)
    new = np.unique(np.concatenate([[-1e308, -1e200], x, grid, x - 1e-9 * width, x + 1e-9 * width, [1e200, 1e308]]))
    z = scaler.transform(new[:, None])[:, 0]
    assert np.isfinite(z).all() and (np.diff(z) >= -1e-14).all()
    lowest, highest = scaler.transform(x[[0, -1], None])[:, 0]
    # 3 units beyond the scores seen at most, and no jump on the way there.
    assert lowest - 3 - 1e-12 <= z.min() < lowest - 2 and highest + 2 < z.max() <= highest + 3 + 1e-12
    edges = scaler.transform(np.array([x[0] - 1e-9 * width, x[-1] + 1e-9 * width])[:, None])[:, 0]
    np.testing.assert_allclose(edges, [lowest, highest], atol=1e-7)


def test_ranks_of_more_values_than_knots_are_interpolated():
    x = rng(0).standard_normal(20_000)[:, None]
    scaler = RankScaler.fit(x, np.ones(len(x)))
    assert len(scaler.values[0]) == 1000
    # A knot for every 20 ranks: within a few of these, in units of the density's inverse.
    inner = np.abs(x) < 2
    np.testing.assert_allclose(scaler.transform(x)[inner], normal_scores(x)[inner], atol=0.02)


@pytest.mark.parametrize("factor", [1.7e308, 1e300, 1e-300, 1e150, -1e300])
def test_ranks_of_a_column_of_any_magnitude(factor):
    X = table()
    expected = RankScaler.fit(X, np.ones(len(X))).transform(X)
    X_ = X / np.abs(X).max(axis=0) * factor
    scaler = RankScaler.fit(X_, np.ones(len(X)))
    np.testing.assert_allclose(scaler.transform(X_), np.sign(factor) * expected, rtol=1e-7, atol=1e-9)
    assert np.isfinite(scaler.transform(np.array([[1.7e308] * 4, [-1.7e308] * 4]))).all()


@pytest.mark.parametrize(
    "column",
    [
        [0.0, 5e-324],
        [-5e-324, 0.0, 5e-324, 1e-323],
        [0.0, 5e-324, 1.0],
        [-1.7e308, 0.0, 5e-324, 1.7e308],
        [1.0, 1.0 + 2**-52, 1.0 + 2**-51],
    ],
)
def test_ranks_of_values_whose_gaps_have_no_reciprocal(column):
    X = np.array(column)[:, None]
    scaler = RankScaler.fit(X, np.ones(len(X)))
    z = scaler.transform(X)[:, 0]
    assert np.isfinite(z).all() and (np.diff(z) >= 0).all() and z[0] < z[-1]
    assert np.isfinite(scaler.transform(np.array([[-1.7e308], [-1.0], [1e-310], [0.5], [1.7e308]]))).all()


# PeriodicEmbedding


def test_features_of_three_values_or_more_get_a_sine_and_a_cosine():
    x = rng(0).standard_normal(60)
    X = np.column_stack([x, x > 0, np.full(60, 7.0), np.arange(60) % 3])
    embedding = PeriodicEmbedding.fit(X, np.ones(60))
    Z = embedding.transform(X)
    np.testing.assert_array_equal(embedding.features, [0, 1, 2, 3, 0, 3, 0, 3])
    z = normal_scores(X)
    expected = np.column_stack([z, np.sin(2 * z[:, [0, 3]]), np.cos(2 * z[:, [0, 3]])])
    np.testing.assert_allclose(Z, expected, rtol=1e-10, atol=1e-12)
    assert Z.dtype == np.float64 and Z.flags.c_contiguous


def test_weights_equal_repetition_in_the_periodic_embedding():
    X, count = table(80), rng(3).randint(1, 4, 80)
    repeated, new = np.repeat(X, count, axis=0), table(50, seed=9)
    weighted, unweighted = (
        PeriodicEmbedding.fit(X, count.astype(float)),
        PeriodicEmbedding.fit(repeated, np.ones(len(repeated))),
    )
    np.testing.assert_array_equal(weighted.features, unweighted.features)
    for rows in (X, new):
        np.testing.assert_array_equal(weighted.transform(rows), unweighted.transform(rows))


@pytest.mark.parametrize("value", [1e308, -1e308, 1e-320])
def test_periodic_columns_stay_finite_whatever_comes_later(value):
    X = table()
    Z = PeriodicEmbedding.fit(X, np.ones(len(X))).transform(np.full((2, X.shape[1]), value))
    assert np.isfinite(Z).all()


# TargetScaler


def test_targets_have_weighted_mean_zero_and_deviation_one():
    Y, count = table(60)[:, :2] * [3.0, 1e5] + 11, rng(5).randint(1, 4, 60)
    scaler = TargetScaler.fit(Y, count.astype(float))
    repeated = scaler.transform(np.repeat(Y, count, axis=0))
    np.testing.assert_allclose(repeated.mean(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(repeated.std(axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(Y)), Y, rtol=1e-12)


@pytest.mark.parametrize("factor", [1e300, 1e-300, -1e-300])
def test_targets_of_any_magnitude_are_standardised(factor):
    Y = rng(0).randn(50, 1)
    Y_ = Y / np.abs(Y).max() * factor
    scaler = TargetScaler.fit(Y_, np.ones(50))
    Z = scaler.transform(Y_)
    np.testing.assert_allclose(Z, np.sign(factor) * (Y - Y.mean()) / Y.std(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scaler.inverse_transform(Z), Y_, rtol=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, -3e7, 1e300, 1e-300])
@pytest.mark.parametrize("n", [1, 7, 100_000])
def test_constant_targets_are_only_centred(constant, n):
    Y = np.full((n, 1), constant)
    scaler = TargetScaler.fit(Y, rng(0).rand(n) + 0.1)
    assert scaler.scale == [1.0]
    np.testing.assert_allclose(scaler.inverse_transform(np.zeros((1, 1))), [[constant]], rtol=1e-13)


def test_small_variation_around_a_large_mean_is_not_constant():
    Y = 1e6 + 1e-3 * rng(0).randn(100, 1)
    Z = TargetScaler.fit(Y, np.ones(100)).transform(Y)
    np.testing.assert_allclose(Z.std(), 1, rtol=1e-5)


def test_identity_changes_nothing():
    Y = rng(0).randn(10, 3)
    scaler = TargetScaler.identity(3)
    np.testing.assert_array_equal(scaler.transform(Y), Y)
    np.testing.assert_array_equal(scaler.inverse_transform(Y), Y)


# All scalings together


@pytest.mark.parametrize("names", [SCALINGS, ("periodic",), ("robust", "rank"), ("robust", "periodic")])
def test_scalings_together_are_those_one_by_one(names):
    rng = np.random.default_rng(0)
    X, new, weight = rng.lognormal(size=(50, 3)), rng.lognormal(size=(5000, 3)), rng.uniform(0.5, 3, size=50)
    scaled = transform_inputs(fit_scalers(names, X, weight), new)
    assert tuple(scaled) == tuple(names)
    kinds = {"robust": TwoPathScaler, "rank": RankScaler, "periodic": PeriodicEmbedding}
    for name in names:
        # The arithmetic of a block may round differently from that of all rows at once.
        pieces = PiecewiseEmbedding.of_ranks(RankScaler.fit(X, weight))
        expected = (pieces if name == "piecewise" else kinds[name].fit(X, weight)).transform(new)
        np.testing.assert_allclose(scaled[name], expected, rtol=1e-13, atol=1e-14)
        assert scaled[name].flags.c_contiguous and scaled[name].dtype == np.float64


def test_shared_ranks_are_computed_once(monkeypatch):
    X = np.random.default_rng(0).normal(size=(50, 3))
    scalers = fit_scalers(SCALINGS, X, np.ones(50))
    calls, transform = [], RankScaler.transform
    monkeypatch.setattr(RankScaler, "transform", lambda self, X: calls.append(len(X)) or transform(self, X))
    transform_inputs(scalers, X)
    assert calls == [50]
