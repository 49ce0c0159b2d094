"""The Laplace posterior of one network's weights, from the Gauss-Newton matrix at the end of training.

    cov(w) = (G + diag(a))^-1 / (beta S),        var f(x) = J(x) cov(w) J(x)'

Under a given prior G does not weigh the outputs by their noise. Then beta is that of the output whose variance is
asked for. This is exact for outputs without weights in common.

The variance is evaluated in the space in which the training system was solved. The primal has the Cholesky factor L of
G + diag(a) (P x P). The dual has the factor of S I + K (n c x n c), where K = J M^-1 J' and M = diag(a). It
takes Woodbury's identity, which subtracts from the variances of the prior. Where rounding errors of these are all that
is left, there is a warning. Everything here is float64, in chunks, and NumPy when it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .backend import chunks
from .dual import warn_of_rounding, woodbury_blocks
from .jacobian import Factors, Jacobian
from .jacobian_cost import takes_factored
from .linear_algebra import rounding_unit
from .losses import geometric_mean
from .network import Network
from .state import Linearisation, State
from .threads import torch_threads

__all__ = ["Posterior", "laplace", "output_covariance", "output_variance", "outputs_of_draws"]

#: Part of the variance of an observation that may be rounding error without a warning. Measured errors are about one
#: rounding unit of the prior's variance, for 40 to 400 rows and inputs of 1 to 1e6.
_LOST = 1e-3


def output_variance(
    outputs: Factors,
    solve: Callable[[Tensor], Tensor],
    scale: float | Tensor,
    training: Factors | None = None,
    precision: Sequence[Tensor] = (),
    basis: Sequence[Tensor | None] | None = None,
) -> Tensor:
    """Variance of the outputs, (n, k), noise not included. The ``scale`` beta S may be one for each output (k,).

    ``solve`` gives L^-1 B for the posterior's factor L. ``training`` data and ``precision`` are for that of the dual,
    ``basis`` and ``precision`` for a factor in a basis of the inputs. Outside of it the variance is that of the prior.
    """
    if training is not None:
        variance = woodbury_blocks(solve, training, outputs, precision).diagonal(dim1=1, dim2=2)
        return variance.clamp(min=0) / scale
    inside = outputs if basis is None else outputs.in_basis(basis)
    variance = solve(inside.dense().T).square().sum(0).view(outputs.D[0].shape[:2])
    if basis is not None:
        outside, inverse = outputs.outside(basis), _inverse_outside(basis, precision)
        variance = variance + outside.kernel_blocks(inverse).diagonal(dim1=1, dim2=2)
    return variance.clamp(min=0) / scale


def output_covariance(
    outputs: Factors,
    solve: Callable[[Tensor], Tensor],
    scale: float,
    training: Factors | None = None,
    precision: Sequence[Tensor] = (),
    basis: Sequence[Tensor | None] | None = None,
) -> Tensor:
    """Covariance of one output at all samples, (n, n), of which :func:`output_variance` is the diagonal."""
    if training is None:
        half = solve((outputs if basis is None else outputs.in_basis(basis)).dense().T)
        covariance = half.mT @ half
        if basis is not None:
            outside = outputs.outside(basis)
            covariance += outside.cross_kernel(outside, _inverse_outside(basis, precision))
        return covariance.div_(scale)
    inverse = [1 / a for a in precision]
    half = solve(training.cross_kernel(outputs, inverse))
    covariance = outputs.cross_kernel(outputs, inverse).addmm_(half.mT, half, alpha=-1)
    # What is left of a difference may be its rounding error.
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    largest = torch.outer(deviation, deviation)
    torch.minimum(covariance, largest, out=covariance)
    return torch.maximum(covariance, largest.neg_(), out=covariance).div_(scale)


def _inverse_outside(basis: Sequence[Tensor | None], precision: Sequence[Tensor]) -> list[Tensor]:
    """Variances of the weights in the units of the scale, outside of the bases of the layers that have one."""
    return [1 / a for a, T in zip(precision, basis, strict=True) if T is not None]


@dataclass(frozen=True)
class Posterior:
    """Covariance of the weights in factored form.

    ``factor`` is the lower Cholesky factor of the system of the primal or dual; ``inputs`` (n, d + 1) and ``roots``
    (n, k, c) are those of the training data for the dual, else None. The ``scale`` beta S is one number, or one for
    each output where their noises do not weigh the system. ``noise_variance`` (k,) is in units of the network's
    outputs. In predictions it counts with the factor ``noise_share``. This is less than 1 where the spread of other
    members stands beside it, and more where left-out samples ask for wider predictions. The factor of the primal may be
    that of weights in a ``basis`` of the inputs, as :attr:`Network.basis <skgn.network.Network.basis>` has it.
    """

    factor: np.ndarray
    precision: list[np.ndarray]
    scale: float | np.ndarray
    noise_variance: np.ndarray
    noise_share: np.ndarray | float
    inputs: np.ndarray | None = None
    roots: np.ndarray | None = None
    basis: list[np.ndarray | None] | None = None

    @property
    def noise_in_mixture(self) -> np.ndarray:
        """Variance (k,) of the noise around the outputs, where the spread of the members counts beside it."""
        return self.noise_variance * self.noise_share

    def times(self, factor: float) -> Posterior:
        """Return the posterior of so many times the variance in predictions: of weights and noise."""
        return replace(self, scale=self.scale / factor, noise_share=self.noise_share * factor)

    def variance(self, network: Network, weights: np.ndarray, X: np.ndarray, device: torch.device) -> np.ndarray:
        """Variance of the outputs at scaled inputs X (n, d), noise not included: shape (n, k)."""
        k, P = network.n_outputs, network.n_weights
        with torch_threads(float(len(X)) * k * len(self.factor) ** 2), torch.no_grad():
            w, L, precision = self._tensors(weights, device)
            solve = partial(torch.linalg.solve_triangular, L, upper=False)
            training, basis = self.training_factors(network, w), self.basis_on(device)
            out, n_lost = np.empty((len(X), k)), 0
            scale, inverse = self._scale_on(device), None
            # Without J, several outputs take one product with the inverse. Where rounding errors are all that is left
            # of the variance of a row, the factor has its digits.
            if k > 1 and training is None and basis is None and takes_factored(network, len(X), k):
                inverse = torch.cholesky_inverse(L)
            for rows in chunks(len(X), 8 * 3 * k * (P if training is None else len(L)), device):
                jacobian = _jacobian_at(X[rows], network, w)
                outputs = jacobian.factors()
                if inverse is not None:
                    blocks = jacobian.diagonal_blocks(inverse)
                    variance = torch.cat([block.diagonal(dim1=1, dim2=2) for block in blocks]).clamp(min=0) / scale
                if inverse is None or self._n_lost(outputs, precision, variance):
                    variance = output_variance(outputs, solve, scale, training, precision, basis)
                n_lost += 0 if training is None else self._n_lost(outputs, precision, variance)
                out[rows] = variance.cpu().numpy()
        warn_of_rounding(n_lost)
        return out

    def covariance(self, network: Network, weights: np.ndarray, X: np.ndarray, device: torch.device) -> np.ndarray:
        """Covariance of each output at all scaled inputs X (n, d), noise not included: shape (k, n, n)."""
        n, k = len(X), network.n_outputs
        with torch_threads(float(n) * k * len(self.factor) ** 2), torch.no_grad():
            w, L, precision = self._tensors(weights, device)
            solve = partial(torch.linalg.solve_triangular, L, upper=False)
            outputs, training = _jacobian_at(X, network, w).factors(), self.training_factors(network, w)
            scales, basis, covariance = np.broadcast_to(self.scale, k), self.basis_on(device), np.empty((k, n, n))
            for j, scale in enumerate(scales):
                of_output = Factors([d[:, j : j + 1] for d in outputs.D], outputs.U)
                joint = output_covariance(of_output, solve, float(scale), training, precision, basis)
                covariance[j] = joint.cpu().numpy()
            if training is not None:
                variances = torch.tensor(covariance.diagonal(axis1=1, axis2=2).T.copy(), device=device)
                warn_of_rounding(self._n_lost(outputs, precision, variances))
            return covariance

    def draw(
        self, network: Network, weights: np.ndarray, total_weight: float, n_draws: int, rng: np.random.RandomState
    ) -> np.ndarray:
        """Draw weights less their mean, (P, n_draws), for training samples of that total weight S.

        Where outputs have scales of their own, the draws are at the geometric mean of these; see
        :meth:`outputs_of_draws`.

        In the primal they are L^-T e. The dual draws u from the prior, with variances 1 / a, and corrects by what it
        misses of a draw of the data: ``u + M^-1 J' (S I + K)^-1 (sqrt(S) e - J u)`` (Matheron's rule).
        """
        with torch_threads(float(n_draws) * len(self.factor) ** 2), torch.no_grad():
            w, L, precision = self._tensors(weights, torch.device("cpu"))
            normal = torch.from_numpy(rng.standard_normal((len(L), n_draws)))
            jacobian = self._training_jacobian(network, w)
            if jacobian is None:
                deviations = self._out_of_basis(torch.linalg.solve_triangular(L.mT, normal, upper=True), network, rng)
            else:
                inverse = 1 / network.expand(precision)[:, None]
                prior = inverse.sqrt() * torch.from_numpy(rng.standard_normal((len(w), n_draws)))
                rows = chunks(len(jacobian.U), 8 * 3 * jacobian.c * len(w), w.device)
                products = torch.cat([jacobian.at(part).factors().dense() @ prior for part in rows])
                missed = torch.cholesky_solve(total_weight**0.5 * normal - products, L).view(-1, jacobian.c, n_draws)
                back = [jacobian.at(part).factors().dense().T @ missed[part].flatten(0, 1) for part in rows]
                deviations = prior + inverse * torch.stack(back).sum(0)
            return (deviations / self._mean_scale**0.5).numpy()

    def outputs_of_draws(self, network: Network, weights: np.ndarray, draws: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Outputs of a linearised network less its own, (n, k, n_draws), for :meth:`draw` from this posterior."""
        outputs = outputs_of_draws(network, weights, draws, X)
        if isinstance(self.scale, np.ndarray):
            outputs *= np.sqrt(self._mean_scale / self.scale)[:, None]
        return outputs

    @property
    def _mean_scale(self) -> float:
        return float(np.exp(np.log(self.scale).mean())) if isinstance(self.scale, np.ndarray) else self.scale

    def _scale_on(self, device: torch.device) -> float | Tensor:
        return torch.tensor(self.scale, device=device) if isinstance(self.scale, np.ndarray) else self.scale

    def _out_of_basis(self, deviations: Tensor, network: Network, rng: np.random.RandomState) -> Tensor:
        """Make deviations of the network's weights of those in the basis, and of draws from the prior outside of it."""
        basis = self.basis_on(deviations.device)
        if basis is None:
            return deviations
        n_draws, parts = deviations.shape[1], []
        for (out, into), T, a in zip(network.shapes, basis, self.precision, strict=True):
            size = out * (into if T is None else T.shape[1])
            part, deviations = deviations[:size], deviations[size:]
            if T is not None:
                normal = torch.from_numpy(rng.standard_normal((out, into, n_draws)))
                prior = normal / torch.tensor(a, device="cpu").sqrt()[:, None]
                part = T @ part.view(out, -1, n_draws) + prior - T @ (T.T @ prior)
            parts.append(part.reshape(out * into, n_draws))
        return torch.cat(parts)

    def basis_on(self, device: torch.device) -> list[Tensor | None] | None:
        """Basis as tensors, None if there is none."""
        basis = self.basis
        return None if basis is None else [None if T is None else torch.tensor(T, device=device) for T in basis]

    def _n_lost(self, outputs: Factors, precision: Sequence[Tensor], variance: Tensor) -> int:
        """Count the rows at which the dual's variances (n, k) are rounding errors, and the noise does not hide it."""
        prior = outputs.kernel_blocks([1 / a for a in precision]).diagonal(dim1=1, dim2=2)
        prior = prior / self._scale_on(prior.device)
        total = variance + torch.tensor(self.noise_variance, device=variance.device)
        return int((rounding_unit(prior) * prior > _LOST * total).any(dim=1).sum())

    def _tensors(self, weights: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Weights, factor and precision; copies, as a memory-mapped model is read-only, and warned of if shared."""
        w, L, *precision = (torch.tensor(v, device=device) for v in (weights, self.factor, *self.precision))
        return w, L, precision

    def training_factors(self, network: Network, w: Tensor) -> Factors | None:
        """Make the factors of the training data at weights w, for the dual; None for the primal."""
        jacobian = self._training_jacobian(network, w)
        return None if jacobian is None else jacobian.factors()

    def _training_jacobian(self, network: Network, w: Tensor) -> Jacobian | None:
        if self.inputs is None or self.roots is None:
            return None
        U, R = torch.tensor(self.inputs, device=w.device), torch.tensor(self.roots, device=w.device)
        return Jacobian(network, w, U, lambda rows: R[rows], R.shape[2])


def _jacobian_at(X: np.ndarray, network: Network, w: Tensor) -> Jacobian:
    """Jacobian of the outputs at scaled inputs (n, d)."""
    return Jacobian.of_outputs(network, w, network.with_bias(torch.tensor(X, device=w.device)))


def outputs_of_draws(network: Network, weights: np.ndarray, draws: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Outputs of a linearised network less its own, (n, k, n_draws), for draws (P, n_draws) of weights less these."""
    k, P = network.n_outputs, network.n_weights
    cpu = torch.device("cpu")
    w, D = torch.tensor(weights, device=cpu), torch.from_numpy(draws)
    out = np.empty((len(X), k, D.shape[1]))
    with torch_threads(float(out.size) * P), torch.no_grad():
        for rows in chunks(len(X), 8 * 3 * k * P, cpu):
            out[rows] = (_jacobian_at(X[rows], network, w).factors().dense() @ D).view(-1, k, D.shape[1]).numpy()
    return out


def laplace(state: State, linearisation: Linearisation, noise_share: np.ndarray | float) -> Posterior | None:
    """The posterior at the end of training; None for log losses and where data and prior leave weights undetermined.

    The ``noise_variance`` of counts is their dispersion. The ``noise_share`` is stored with it.
    """
    objective, estimates, loss = state.objective, state.estimates, state.objective.data_loss
    scale = estimates.squared_scale
    if scale is None:
        return None
    factor = linearisation.direction.posterior_factor(estimates.precision)
    if factor is None:
        return None
    # Outputs count alike in a system of a loss without precisions.
    alike = loss.estimates_scale and loss.precision is None and len(scale) > 1
    of_rows, network, inputs = linearisation.direction.posterior_of_rows, objective.network, None
    if of_rows:
        U = objective.U.double().cpu().numpy()
        inputs = U if network.original is network else np.c_[network.read_back(U[:, :-1]), U[:, -1]]
    return Posterior(
        factor=factor.cpu().numpy(),
        precision=network.precision_of_original([a.cpu().numpy().copy() for a in estimates.precision]),
        scale=estimates.total_weight / (scale.cpu().numpy() if alike else float(geometric_mean(scale))),
        noise_variance=loss.variance_factor * scale.cpu().numpy(),
        noise_share=noise_share,
        inputs=inputs,
        roots=linearisation.jacobian.root(slice(0, len(objective.U))).double().cpu().numpy() if of_rows else None,
        basis=None if of_rows else network.basis,
    )
