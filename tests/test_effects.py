"""Effects of levels: a mixed model whose widths the evidence estimates."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import BayesianRidge
from sklearn.preprocessing import OneHotEncoder

from skgn import GNRegressor
from skgn.effects import Levels, Pairs, effects_alone, in_deviations, level_effects
from skgn.encoders import encode_training_rows
from skgn.level_codes import LevelCodes

NONE = np.zeros((600, 0))


def crossed(n=600, n_levels=(40, 25), slope=0.0, noise=0.3, seed=0):
    """Levels of categories with effects, a column with a line, and the target."""
    rng = np.random.default_rng(seed)
    levels = [rng.integers(0, count, n) for count in n_levels]
    effects = [rng.normal(size=count) for count in n_levels]
    x = rng.normal(size=(n, 1))
    y = sum(e[level] for e, level in zip(effects, levels, strict=True)) + slope * x[:, 0] + noise * rng.normal(size=n)
    return levels, effects, x, y


def indicators(level):
    return OneHotEncoder(sparse_output=False).fit_transform(level[:, None])


def test_one_category_is_a_bayesian_ridge_of_its_indicators():
    (level,), _, _, y = crossed(n_levels=(40,), noise=1.0)
    (effects,) = level_effects([level], [40], NONE, y[:, None]).of_levels
    flat = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
    ridge = BayesianRidge(fit_intercept=False, tol=1e-10, max_iter=1000, **flat).fit(indicators(level), y - y.mean())
    np.testing.assert_allclose(effects[:, 0], ridge.coef_, atol=1e-3)
    # It is not the mean of the rows of a level: few rows are drawn towards the mean of all.
    assert np.abs(effects[:, 0]).mean() < 0.98 * np.abs(pd.Series(y - y.mean()).groupby(level).mean()).mean()


def test_of_two_categories_each_is_a_ridge_of_what_the_other_leaves():
    """Oracle: the normal equations, in which one precision belongs to all levels of a category."""
    levels, _, _, y = crossed()
    effects = level_effects(levels, [40, 25], NONE, y[:, None]).of_levels
    left = y - y.mean() - sum(e[level, 0] for e, level in zip(effects, levels, strict=True))
    for level, effect in zip(levels, effects, strict=True):
        precisions = np.bincount(level, left) / effect[:, 0]
        large = np.abs(effect[:, 0]) > 0.3
        np.testing.assert_allclose(precisions[large], np.median(precisions[large]), rtol=0.2)


@pytest.mark.parametrize("n_levels", [(150,), (40, 25), (60, 50, 40)], ids=str)
def test_effects_are_those_of_the_relation_beside_a_line(n_levels):
    levels, true, x, y = crossed(n_levels=n_levels, slope=3.0)
    found = level_effects(levels, n_levels, x, y[:, None]).of_levels
    without = level_effects(levels, n_levels, NONE, y[:, None]).of_levels

    def error(effects):
        return np.mean([np.square(e[:, 0] - t + t.mean()).mean() for e, t in zip(effects, true, strict=True)])

    assert error(found) < 0.06
    assert error(without) > 4 * error(found)


def test_noise_has_no_effects():
    levels, *_ = crossed()
    noise = np.random.default_rng(1).normal(size=(600, 1))
    for level, effects in zip(levels, level_effects(levels, [40, 25], NONE, noise).of_levels, strict=True):
        assert np.square(effects).mean() < 0.1 * np.square(pd.Series(noise[:, 0]).groupby(level).mean()).mean()


def test_levels_without_rows_and_constant_targets_have_none():
    levels, _, x, y = crossed()
    effects = level_effects(levels, [40, 30], x, y[:, None]).of_levels
    assert not effects[1][25:].any() and effects[1][:25].all()
    constant = level_effects(levels, [40, 25], x, np.full((600, 1), 7.0)).of_levels
    assert not any(each.any() for each in constant)


def test_columns_may_be_of_any_unit_and_rank():
    levels, _, x, y = crossed(slope=2.0)
    expected = level_effects(levels, [40, 25], x, y[:, None]).of_levels
    columns = np.column_stack([1e-300 * x[:, 0], 1e300 * x[:, 0], np.full(600, 0.1)])
    for one, other in zip(level_effects(levels, [40, 25], columns, y[:, None]).of_levels, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=0.01)


def test_slopes_of_levels_are_a_bayesian_ridge_of_indicators_times_the_column():
    (level,), _, x, y = crossed(n_levels=(40,), noise=1.0)
    slopes = np.random.default_rng(3).normal(size=40)
    column, target = in_deviations(x)[:, 0], slopes[level] * x[:, 0] + y
    flat = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
    ridge = BayesianRidge(fit_intercept=False, tol=1e-10, max_iter=1000, **flat)
    ridge.fit(indicators(level) * column[:, None], target)
    np.testing.assert_allclose(effects_alone(Levels.of(level, 40, column), target), ridge.coef_, atol=1e-3)
    # Beside effects of the levels and a line, they are those of the relation.
    effects = level_effects([level], [40], x, target[:, None], [Levels.of(level, 40, column)])
    (found,) = effects.of_interactions
    assert np.corrcoef(found[:, 0], slopes)[0, 1] > 0.95
    noise = target - target.mean() - effects.fitted[:, 0]
    assert noise.std() == pytest.approx(1.0, abs=0.1)


def test_each_target_has_its_effects():
    levels, _, x, y = crossed()
    Y = np.column_stack([y, x[:, 0] * y])
    together = level_effects(levels, [40, 25], x, Y).of_levels
    for k in range(2):
        for one, other in zip(level_effects(levels, [40, 25], x, Y[:, [k]]).of_levels, together, strict=True):
            np.testing.assert_array_equal(one[:, 0], other[:, k])


def test_many_columns_have_no_lines():
    levels, _, _, y = crossed()
    many = np.random.default_rng(2).normal(size=(600, 301))
    for one, other in zip(
        level_effects(levels, [40, 25], many, y[:, None]).of_levels,
        level_effects(levels, [40, 25], NONE, y[:, None]).of_levels,
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_fit_knows_levels_of_few_rows_beside_all_else():
    """The mean target of a level had the noise of all else: R2 was 0.62, and CatBoost's is 0.49."""
    levels, _, x, y = crossed(n=2000, n_levels=(200, 200, 200), slope=1.0)
    clean = crossed(n=2000, n_levels=(200, 200, 200), slope=1.0, noise=0.0)[3]
    X = pd.DataFrame(
        {f"c{j}": [f"level {number}" for number in level] for j, level in enumerate(levels)} | {"x": x[:, 0]}
    )
    model = GNRegressor(n_estimators=2, random_state=0).fit(X[:1000], y[:1000])
    assert model.score(X[1000:], clean[1000:]) > 0.9
    assert model.left_out_score_ == pytest.approx(model.score(X[1000:], y[1000:]), abs=0.06)


def test_codes_without_effects_do_not_tell_the_part_that_a_row_is_in():
    """The mean of the other parts is the higher, the lower that of the own one is. R2 was -0.6 for 0.9 in one fit."""
    told = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X, y = rng.integers(0, 25, (100, 1)).astype(float), rng.normal(size=100)
        encoder = ColumnTransformer([("target", LevelCodes(), [0])])
        code = encode_training_rows(encoder, X, y[:, None], np.ones(100))[:, 0]
        told.append(np.corrcoef(code, y)[0, 1] if np.ptp(code) > 0 else 0.0)
    # It was -0.15 with the mean of the other parts.
    assert np.mean(told) > -0.12


def test_products_of_a_whole_table_are_its_singular_vectors():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(9, 3)) * [3, 1.5, 0.5] @ rng.normal(size=(3, 6))
    first, second = np.divmod(np.arange(54), 6)
    u, s, v = np.linalg.svd(table)
    for count in (0, 1, 2):
        found = Pairs.of(first, second, (9, 6), count).products(table.ravel()).reshape(9, 6)
        # Products are drawn towards 0, as levels are: by what is left over.
        np.testing.assert_allclose(found, (u[:, :count] * s[:count]) @ v[:count], atol=0.15 * s[count])


def test_products_tell_of_pairs_without_rows():
    rng = np.random.default_rng(0)
    u, v, (first, second) = rng.normal(size=30), rng.normal(size=20), rng.integers([[30], [20]], size=(2, 400))
    r = u[first] * v[second] + 0.1 * rng.normal(size=400)
    found = Pairs.of(first, second, (30, 20), 1).effects(r).reshape(30, 20)
    seen = np.zeros((30, 20), dtype=bool)
    seen[first, second] = True
    assert (~seen).sum() > 250
    assert np.abs(found - np.outer(u, v))[~seen].mean() < 0.1
    alone = Pairs.of(first, second, (30, 20), 0).effects(r)
    assert not alone[~seen.ravel()].any()


@pytest.mark.parametrize("r", [np.zeros(60), np.full(60, 1e-300), np.arange(60) * 1e150], ids=["zeros", "tiny", "huge"])
def test_products_of_any_size_are_finite(r):
    first, second = np.divmod(np.arange(60), 6)
    assert np.isfinite(Pairs.of(first, second, (10, 6), 2).effects(r - r.mean())).all()


def test_products_stand_beside_effects_of_levels():
    rng = np.random.default_rng(0)
    u, v, (first, second) = (
        rng.normal(size=(30, 2)),
        rng.normal(size=(20, 2)),
        rng.integers([[30], [20]], size=(2, 900)),
    )
    y = u[first, 0] + v[second, 0] + u[first, 1] * v[second, 1] + 0.1 * rng.normal(size=900)
    pairs = Pairs.of(first, second, (30, 20), 1)
    effects = level_effects([first, second], [30, 20], np.zeros((900, 0)), y[:, None], [pairs])
    (table,) = effects.of_interactions
    whole = effects.of_levels[0] + effects.of_levels[1].T + table.reshape(30, 20) + y.mean()
    truth = u[:, :1] + v[:, 0] + np.outer(u[:, 1], v[:, 1])
    assert np.abs(whole - truth).mean() < 0.1
    assert np.sqrt(np.square(effects.fitted[:, 0] + y.mean() - y).mean()) < 0.12
