"""Which columns of the inputs are of use: for the target, for what a fit has left over, or in the fit itself.

The evidence switches a column off for good, and it does so early. A column whose effect has no slope, such as a
parabola, may go before any unit has bent. And of many columns of noise some stay. So each column is tested by itself,
with a cubic in it as the model. The test is an F test of the negative gradients of the loss at given outputs (a score
test). At outputs of 0 the gradients are the targets. At predictions of left-out samples they are what these leave over.

Neither tells of a column that counts only together with another one. So the product of each two columns is tested as
well, against what left-out samples leave over.

References
----------
H. White, A heteroskedasticity-consistent covariance matrix estimator and a direct test for heteroskedasticity,
Econometrica 48 (1980).

C. R. Rao, Large sample tests of statistical hypotheses concerning several parameters, Proc. Camb. Phil. Soc. 44 (1948).
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import chi2, f
from torch import Tensor

from .backend import chunks
from .leave_one_out import LeftOut
from .objective import Objective
from .state import State
from .weighted_rows import standardised

__all__ = ["ColumnTests", "column_tests", "products_of_two", "significance", "useful_columns"]

#: A column is of use where chance explains its test at most so often, of all columns and outputs together.
_SIGNIFICANT = 1e-3

#: Of more columns no products are tested: their number is that of the squares of the columns.
_MOST_MULTIPLIED = 300

#: Of more columns no products are made to be tested like columns.
_MOST_TESTED = 30

#: Degree of the polynomial in one column.
_DEGREE = 3

#: Eigenvalues of a covariance below this part of the largest are 0: an indicator has one power.
_SMALLEST_EIGENVALUE = 1e-8

#: A column whose powers have no covariance above this tells nothing.
_SMALLEST_COVARIANCE = 1e-150

#: A variance below this part of the mean square is the rounding of a constant.
_ROUNDING = 1e-14


def useful_columns(state: State, left_out: LeftOut, objective: Objective | None = None) -> np.ndarray:
    """Tell for each input of the first layer whether it is of use; what a fit has in use is.

    The objective is that of the state, or another one for a network that reads other columns.
    """
    objective = objective or state.objective
    columns = objective.network.shapes[0][1] - 1
    use: np.ndarray = (
        np.minimum(significance(objective, columns), significance(objective, columns, left_out)) < _SIGNIFICANT
    )
    in_use = state.prior.columns_in_use(state.estimates)
    if in_use is not None:
        use |= in_use
    return use | (significance_in_products(objective, columns, left_out) < _SIGNIFICANT)


def significance(objective: Objective, columns: int, left_out: LeftOut | None = None) -> np.ndarray:
    """Test the first columns: p values (columns,), times the number of tests (Bonferroni).

    Parameters
    ----------
    objective : Objective
    columns : int
    left_out : LeftOut, optional
        Outputs at which the gradients are taken; 0 by default. Samples without an output do not count.
    """
    given = () if left_out is None else (left_out,)
    sums = objective.sum(partial(_sums_of_gradients, columns=columns), *given)
    return _tests(sums, columns, objective.network.n_outputs).p


class ColumnTests(NamedTuple):
    """Of each column (d,) the p value, times the number of tests (Bonferroni), and the ``share`` of variance explained.

    Of several values a sample, both are those of the value that the column explains best.
    """

    p: np.ndarray
    share: np.ndarray


def products_of_two(Z: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Products (n, p) of each two of the columns Z (n, d), standardised, and which two these are (2, p).

    Of more than 30 columns there are none, as products would be many.
    """
    pairs = np.array(np.triu_indices(Z.shape[1], 1)) if Z.shape[1] <= _MOST_TESTED else np.empty((2, 0), dtype=int)
    Z = standardised(Z, weight)
    return Z[:, pairs[0]] * Z[:, pairs[1]], pairs


def column_tests(Z: np.ndarray, values: np.ndarray, weight: np.ndarray) -> ColumnTests:
    """Test what the columns Z (n, d) tell of values (n, k).

    Columns are of any size, and the ``weight`` (n,) of a row is its number of repetitions.
    """
    parts = [torch.from_numpy(np.ascontiguousarray(part)) for part in (standardised(Z, weight), values, weight)]
    d, k = Z.shape[1], values.shape[1]
    blocks = chunks(len(Z), 8 * 2 * _DEGREE * d * (1 + k), torch.device("cpu"))
    return _tests(torch.stack([_sums(*(part[rows] for part in parts)) for rows in blocks]).sum(0), d, k)


def _tests(of_samples: Tensor, columns: int, k: int) -> ColumnTests:
    """Tests of the columns, from the sums of :func:`_sums` for k values a sample."""
    sums, powers = of_samples.cpu().numpy(), 2 * _DEGREE
    # Without any sample, nothing tells of anything.
    S, sums = sums[0], sums[1:] / (sums[0] or 1.0)
    m, sums = sums[: powers * columns].reshape(powers, columns), sums[powers * columns :]
    mean, square, cross = sums[:k], sums[k : 2 * k], sums[2 * k :].reshape(_DEGREE, columns, k)
    # Values whose squares are no floats tell nothing. Products of the others are taken in units that are powers of 2.
    known = np.isfinite(square)
    mean, square, cross = (np.where(known, part, 0.0) for part in (mean, square, cross))
    unit = np.ldexp(1.0, np.frexp(square)[1] // 2)
    mean, square, cross = mean / unit, square / unit / unit, cross / unit
    p = np.arange(_DEGREE)
    covariance = (m[p[:, None] + p + 1] - m[p[:, None]] * m[p]).transpose(2, 0, 1)
    # Of inputs that are not scaled the inverse would be beyond the floats.
    covariance[np.abs(covariance).max((1, 2)) < _SMALLEST_COVARIANCE] = 0
    slopes = (cross - m[:_DEGREE, :, None] * mean).transpose(1, 0, 2)
    inverse = np.linalg.pinv(covariance, rcond=_SMALLEST_EIGENVALUE, hermitian=True)
    rank = np.linalg.matrix_rank(inverse, hermitian=True)[:, None]
    explained = (slopes * (inverse @ slopes)).sum(1)
    spread, least = square - mean**2, np.maximum(_ROUNDING * square, np.finfo(float).tiny)
    left = np.maximum(spread - explained, least)
    freedom = np.maximum(S - 1 - rank, 1)
    statistic = explained / np.maximum(rank, 1) / (left / freedom)
    tells = (rank > 0) & (spread > least)
    tests: np.ndarray = np.where(tells, f.sf(statistic, np.maximum(rank, 1), freedom), 1.0)
    return ColumnTests(tests.min(1) * tests.size, (explained / (explained + left)).max(1))


def significance_in_products(objective: Objective, columns: int, left_out: LeftOut) -> np.ndarray:
    """Test the products of two of the first columns: the least p value of each (columns,), times the number of tests.

    The variance of a covariance with the gradients is that of the squared gradients where they are (White 1980). So
    gradients that are only larger in some places than in others tell of no product.
    """
    if not 1 < columns <= _MOST_MULTIPLIED:
        return np.ones(columns)
    k, pairs = objective.network.n_outputs, math.comb(columns, 2)
    sums = objective.sum(partial(_sums_of_products, columns=columns), left_out).cpu().numpy()
    sums, (total, values, squares) = sums[: -1 - 2 * k], np.split(sums[-1 - 2 * k :], [1, 1 + k])
    mean, sums = sums[: columns**2] / (total or 1.0), sums[columns**2 :].reshape(3, k, columns**2)
    # Inputs that are not scaled may have products beyond the floats, which tell nothing.
    with np.errstate(over="ignore", invalid="ignore"):
        covariance = sums[0] - mean * values[:, None]
        variance = sums[2] - 2 * mean * sums[1] + mean**2 * squares[:, None]
        tells = (variance > _ROUNDING * sums[2]) & np.isfinite(covariance**2) & np.isfinite(variance)
        statistic = np.divide(covariance**2, variance, out=np.zeros_like(variance), where=tells).max(0)
    # A column times itself is a matter of its own test.
    statistic = statistic.reshape(columns, columns) * ~np.eye(columns, dtype=bool)
    tests: np.ndarray = chi2.sf(statistic.max(0), 1) * pairs * k
    return tests


def _sums_of_gradients(objective: Objective, left_out: LeftOut | None = None, *, columns: int) -> Tensor:
    """Sums for the negative gradients at given outputs, and the first columns of the inputs."""
    return _sums(*_gradients(objective, columns, left_out))


def _sums_of_products(objective: Objective, left_out: LeftOut, *, columns: int) -> Tensor:
    """Sums for the negative gradients at given outputs, and the products of two of the first columns."""
    parts = _gradients(objective, columns, left_out)
    blocks = chunks(len(parts[0]), 8 * 4 * columns, parts[0].device)
    return torch.stack([_products(*(part[rows] for part in parts)) for rows in blocks]).sum(0)


def _products(Z: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """Sum over samples products of two columns: alone, with values, with their squares, and squared with these.

    Sums of 1, values, and their squares follow.
    """
    weighted, squares = weight[:, None] * values, weight[:, None] * values.square()
    Z2 = Z.square()
    parts = [(factor[:, None] * Z).T @ Z for factor in (weight, *weighted.T, *squares.T)]
    parts += [(factor[:, None] * Z2).T @ Z2 for factor in squares.T]
    return torch.cat([*(part.flatten() for part in parts), weight.sum()[None], weighted.sum(0), squares.sum(0)])


def _gradients(objective: Objective, columns: int, left_out: LeftOut | None) -> tuple[Tensor, Tensor, Tensor]:
    """The first columns of the inputs, negative gradients at given outputs, and weights of samples that have these."""
    Y = objective.Y
    outputs = torch.zeros_like(Y) if left_out is None else left_out.outputs.to(Y)
    gradient = -objective.data_loss.gradient(outputs, Y).double()
    known = gradient.isfinite().all(1)
    return objective.U[known, :columns].double(), gradient[known], objective.sample_weight.double()[known]


def _sums(Z: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """Sum over samples: 1, powers of the columns, values, their squares, and their products with the powers."""
    powers = torch.stack([Z**degree for degree in range(1, 2 * _DEGREE + 1)])
    parts = [
        weight.sum()[None],
        torch.einsum("n,pnd->pd", weight, powers).flatten(),
        weight @ values,
        weight @ values.square(),
        torch.einsum("n,pnd,nk->pdk", weight, powers[:_DEGREE], values).flatten(),
    ]
    return torch.cat(parts)
