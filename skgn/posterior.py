"""The Laplace posterior of one network's weights, from the Gauss-Newton matrix at the end of training.

    cov(w) = (G + diag(a))^-1 / (beta S),        var f(x) = J(x) cov(w) J(x)'

The variance is evaluated in the space in which the training system was solved. The primal has the Cholesky factor L of
G + diag(a) (P x P). The dual has the factor of S I + K (n c x n c), where K = J M^-1 J' and M = diag(a). It
takes Woodbury's identity. Everything here is float64, in chunks, and NumPy when it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .backend import chunks, torch_threads
from .dual import woodbury_blocks
from .jacobian import Factors, Jacobian
from .losses import geometric_mean
from .network import Network
from .state import Linearisation, State

__all__ = ["Posterior", "laplace", "output_variance"]


def output_variance(
    outputs: Factors,
    solve: Callable[[Tensor], Tensor],
    scale: float | Tensor,
    training: Factors | None = None,
    precision: Sequence[Tensor] = (),
) -> Tensor:
    """Variance of the outputs, (n, k), noise not included.

    ``solve`` gives L^-1 B for the posterior's factor L. ``training`` data and ``precision`` are for that of the dual.
    """
    if training is None:
        variance = solve(outputs.dense().T).square().sum(0).view(outputs.D[0].shape[:2])
    else:
        variance = woodbury_blocks(solve, training, outputs, precision).diagonal(dim1=1, dim2=2)
    return variance.clamp(min=0) / scale


@dataclass(frozen=True)
class Posterior:
    """Covariance of the weights in factored form.

    ``factor`` is the lower Cholesky factor of the system of the primal or dual; ``inputs`` (n, d + 1) and ``roots``
    (n, k, c) are those of the training data for the dual, else None. ``noise_variance`` (k,) is in units of the
    network's outputs.
    """

    factor: np.ndarray
    precision: list[np.ndarray]
    scale: float
    noise_variance: np.ndarray
    inputs: np.ndarray | None = None
    roots: np.ndarray | None = None

    def variance(self, network: Network, weights: np.ndarray, X: np.ndarray, device: torch.device) -> np.ndarray:
        """Variance of the outputs at scaled inputs X (n, d), noise not included: shape (n, k)."""
        k, P = network.n_outputs, network.n_weights
        with torch_threads(float(len(X)) * k * len(self.factor) ** 2), torch.no_grad():
            # torch.tensor copies: a memory-mapped model is read-only, and warned of if shared.
            w, L = (torch.tensor(v, device=device) for v in (weights, self.factor))
            solve = partial(torch.linalg.solve_triangular, L, upper=False)
            precision = [torch.tensor(a, device=device) for a in self.precision]
            training = self.training_factors(network, w)
            out = np.empty((len(X), k))
            for rows in chunks(len(X), 8 * 3 * k * (P if training is None else len(L)), device):
                U = network.with_bias(torch.tensor(X[rows], device=device))
                outputs = Jacobian.of_outputs(network, w, U).factors()
                out[rows] = output_variance(outputs, solve, self.scale, training, precision).cpu().numpy()
        return out

    def training_factors(self, network: Network, w: Tensor) -> Factors | None:
        """Make the factors of the training data at weights w, for the dual; None for the primal."""
        if self.inputs is None or self.roots is None:
            return None
        U, R = torch.tensor(self.inputs, device=w.device), torch.tensor(self.roots, device=w.device)
        return Jacobian(network, w, U, lambda rows: R[rows], R.shape[2]).factors()


def laplace(state: State, linearisation: Linearisation) -> Posterior | None:
    """The posterior at the end of training; None for log losses and where data and prior leave weights undetermined.

    Counts have no noise beside the variance of their distribution: ``noise_variance`` is 0.
    """
    objective, estimates = state.objective, state.estimates
    loss, scale = objective.data_loss, estimates.squared_scale
    if loss.unit_scale and estimates.n_effective_parameters is not None:
        scale = state.at.w.new_ones(objective.network.n_outputs)
    if scale is None:
        return None
    factor = linearisation.direction.posterior_factor(estimates.precision)
    if factor is None:
        return None
    of_rows = linearisation.direction.posterior_of_rows
    return Posterior(
        factor=factor.cpu().numpy(),
        precision=[a.cpu().numpy().copy() for a in estimates.precision],
        scale=estimates.total_weight / float(geometric_mean(scale)),
        noise_variance=(loss.variance_factor * scale).cpu().numpy().copy(),
        inputs=objective.U.double().cpu().numpy() if of_rows else None,
        roots=linearisation.jacobian.root(slice(0, len(objective.U))).double().cpu().numpy() if of_rows else None,
    )
