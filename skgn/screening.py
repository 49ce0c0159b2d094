"""Which columns of the inputs are of use: for the target, for what a fit has left over, or in the fit itself.

The evidence switches a column off for good, and it does so early. A column whose effect has no slope, such as a
parabola, may go before any unit has bent. And of many columns of noise some stay. So each column is tested by itself,
with a cubic in it as the model. The test is an F test of the negative gradients of the loss at given outputs (a score
test). At outputs of 0 the gradients are the targets. At predictions of left-out samples they are what these leave over.

References
----------
C. R. Rao, Large sample tests of statistical hypotheses concerning several parameters, Proc. Camb. Phil. Soc. 44 (1948).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from scipy.stats import f
from torch import Tensor

from .leave_one_out import LeftOut
from .objective import Objective
from .state import State

__all__ = ["significance", "useful_columns"]

#: A column is of use where chance explains its test at most so often, of all columns and outputs together.
_SIGNIFICANT = 1e-3

#: Degree of the polynomial in one column.
_DEGREE = 3

#: Eigenvalues of a covariance below this part of the largest are 0: an indicator has one power.
_SMALLEST_EIGENVALUE = 1e-8

#: A variance below this part of the mean square is the rounding of a constant.
_ROUNDING = 1e-14


def useful_columns(state: State, left_out: LeftOut) -> np.ndarray:
    """Tell for each input of the first layer whether it is of use; what a fit has in use is."""
    objective = state.objective
    columns = objective.network.shapes[0][1] - 1
    use: np.ndarray = (
        np.minimum(significance(objective, columns), significance(objective, columns, left_out)) < _SIGNIFICANT
    )
    in_use = state.prior.columns_in_use(state.estimates)
    if in_use is not None:
        use |= in_use
    return use


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
    sums = objective.sum(partial(_sums, columns=columns), *given).cpu().numpy()
    S, sums = sums[0], sums[1:] / sums[0]
    k, powers = objective.network.n_outputs, 2 * _DEGREE
    m, sums = sums[: powers * columns].reshape(powers, columns), sums[powers * columns :]
    mean, square, cross = sums[:k], sums[k : 2 * k], sums[2 * k :].reshape(_DEGREE, columns, k)
    p = np.arange(_DEGREE)
    covariance = (m[p[:, None] + p + 1] - m[p[:, None]] * m[p]).transpose(2, 0, 1)
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
    return tests.min(1) * tests.size


def _sums(objective: Objective, left_out: LeftOut | None = None, *, columns: int) -> Tensor:
    """Sum over samples: 1, powers of the columns, gradients, their squares, and their products with the powers."""
    Y = objective.Y
    outputs = torch.zeros_like(Y) if left_out is None else left_out.outputs.to(Y)
    gradient = -objective.data_loss.gradient(outputs, Y).double()
    known = gradient.isfinite().all(1)
    weight, gradient = objective.sample_weight.double()[known], gradient[known]
    Z = objective.U[known, :columns].double()
    powers = torch.stack([Z**degree for degree in range(1, 2 * _DEGREE + 1)])
    parts = [
        weight.sum()[None],
        torch.einsum("n,pnd->pd", weight, powers).flatten(),
        weight @ gradient,
        weight @ gradient.square(),
        torch.einsum("n,pnd,nk->pdk", weight, powers[:_DEGREE], gradient).flatten(),
    ]
    return torch.cat(parts)
