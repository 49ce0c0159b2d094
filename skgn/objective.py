"""The training objective F(w) = (1/S) sum_i s_i l(f_i, y_i) + 1/2 sum_p a_p (w - m)_p^2 of one network on one data set.

The mean m of the prior is 0. With ``init="centered"`` it is the initial weights, where the outputs are 0.
Weights and everything of their size are float64; network outputs and Jacobians are in the dtype of the data.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .backend import sum_float64
from .jacobian import Jacobian
from .jacobian_cost import keeps_linearisation, row_chunks
from .losses import Loss
from .network import Network, Tape

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Evaluation", "Objective", "Squares"]

#: Number of rounding units by which two evaluations of the same objective may differ.
_ROUNDING_UNITS = 8

#: All rows.
_ALL = slice(None)


class Evaluation(NamedTuple):
    """An evaluation at weights (P,): outputs (n, k) of the network, the weighted mean data loss, and the tapes.

    The tapes are kept only if they are small. Where rows are on other machines there are no outputs. Squares (k,) are
    those that the noise level is estimated from, if they came with the loss.
    """

    w: Tensor
    outputs: Tensor
    loss: float
    tapes: list[Tape]
    squares: Tensor | None = None


class Squares(NamedTuple):
    """Sum (k,) of squares from which a noise level is estimated, and the weight of its samples."""

    total: Tensor
    weight: float

    def plus(self, total: Tensor, weight: float) -> Squares:
        """Return the sum with squares of more samples."""
        return Squares(self.total + total, self.weight + weight)


class Objective:
    """Weighted mean loss of a network on data; no method changes it.

    Parameters
    ----------
    network : Network
    loss : Loss
    X : Tensor of shape (n, d)
        Inputs. Their device and dtype are those of the computation.
    Y : Tensor of shape (n, k)
        Targets.
    sample_weight : Tensor of shape (n,)
        Positive weights s_i.
    root_precision : Tensor of shape (n, k) or None
        Inverse size of the noise of each target, beside that of others. The loss takes outputs and targets times these.
        None stands for ones.
    """

    #: Squares of samples that are no longer there.
    _earlier: Squares | None = None

    #: Mean (P,) of the prior of the weights; None if it is 0.
    _prior_mean: Tensor | None = None

    def __init__(
        self,
        network: Network,
        loss: Loss,
        X: Tensor,
        Y: Tensor,
        sample_weight: Tensor,
        root_precision: Tensor | None = None,
    ) -> None:
        self.network, self.data_loss, self.root_precision = network, loss, root_precision
        self.n_columns = loss.columns(network.n_outputs)
        self._take(network.with_bias(X), Y, sample_weight)
        self.item_size, self._eps = self.U.element_size(), float(torch.finfo(self.U.dtype).eps)
        self._offset: Tensor | None = None
        #: Mean loss of outputs 0 under the first noise level.
        self.loss_at_zero = self._mean_loss(torch.zeros_like(Y))

    def _take(self, U: Tensor, Y: Tensor, sample_weight: Tensor) -> None:
        """Take the samples, whose inputs have a bias."""
        self.U, self.Y, self.sample_weight = U, Y, sample_weight
        self.n_samples, self.total_weight = len(Y), float(sum_float64(sample_weight))
        self._root_weight = sample_weight.sqrt()
        self._rows = row_chunks(self.network, self.n_columns, U)
        self._keep = keeps_linearisation(self.network, len(U), self.n_columns, U.element_size())

    def for_member(self, anchor: Tensor | None = None, centred: bool = True) -> Objective:
        """Make the objective of one member on the same data.

        Outputs at the weights ``anchor`` are subtracted. If ``centred``, these weights are the mean of the prior.
        """
        member = copy.copy(self)
        member._offset = None if anchor is None else self._forward(anchor)[0]
        member._prior_mean = anchor if centred else None
        return member

    def deviation(self, w: Tensor) -> Tensor:
        """Weights less the mean of their prior, (P,)."""
        return w if self._prior_mean is None else w - self._prior_mean

    def _readout_mean(self, n_weights: int) -> Tensor | None:
        """Mean of the prior of the readout, the last weights."""
        return None if self._prior_mean is None else self._prior_mean[-n_weights:]

    def part(self, index: Tensor) -> Objective:
        """Make the objective of some of the samples: the mean over them."""
        part = copy.copy(self)
        part._take(self.U[index], self.Y[index], self.sample_weight[index])
        part.root_precision = None if self.root_precision is None else self.root_precision[index]
        part._offset = None if self._offset is None else self._offset[index]
        return part

    def rounding_error(self, value: float) -> float:
        """Difference up to which two values of the objective are equal.

        It is a few units of ``value`` and, near 0, of the squared targets.
        """
        units = _ROUNDING_UNITS * self._eps
        return units * abs(value) + units**2 * self.loss_at_zero

    def _forward(self, w: Tensor) -> tuple[Tensor, list[Tape]]:
        w = w.to(self.U)
        outputs, tapes = [], []
        for rows in self._rows:
            f, tape = self.network.forward(self.U[rows], w)
            outputs.append(f)
            if self._keep:
                tapes.append(tape)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs), tapes

    def evaluate(self, w: Tensor) -> Evaluation:
        """Compute outputs and loss at w. The loss may be inf or nan; the caller rejects it."""
        f, tapes = self._forward(w)
        if self._offset is not None:
            f = f - self._offset
        return Evaluation(w, f, self._mean_loss(f), tapes)

    def with_loss(self, loss: Loss) -> Self:
        """Make the objective of the same network on the same data, under another data loss."""
        other = copy.copy(self)
        other.data_loss = loss
        return other

    def reweigh(self, at: Evaluation) -> Evaluation:
        """Compute the loss of outputs that were evaluated under another data loss."""
        return at._replace(loss=self._mean_loss(at.outputs))

    def in_units_of_noise(self, values: Tensor, rows: slice | Tensor = _ALL) -> Tensor:
        """Outputs or targets of some rows, (..., n, k), as the loss takes them."""
        return values if self.root_precision is None else values * self.root_precision[rows].to(values)

    def losses(self, f: Tensor) -> Tensor:
        """Losses (n,) of outputs (n, k)."""
        return self.data_loss.value(self.in_units_of_noise(f), self.in_units_of_noise(self.Y))

    def loss_gradient(self, f: Tensor, loss: Loss | None = None) -> Tensor:
        """Gradient (n, k) of the losses in the outputs (n, k); of another ``loss`` if one is given."""
        loss = self.data_loss if loss is None else loss
        return self.in_units_of_noise(loss.gradient(self.in_units_of_noise(f), self.in_units_of_noise(self.Y)))

    def loss_root(self, f: Tensor, rows: slice = _ALL, loss: Loss | None = None) -> Tensor:
        """Root (n, k, c) of the curvature of the losses in the outputs (n, k) of some rows."""
        loss = self.data_loss if loss is None else loss
        R = loss.curvature_root(self.in_units_of_noise(f, rows), self.in_units_of_noise(self.Y[rows], rows))
        return R if self.root_precision is None else R * self.root_precision[rows, :, None]

    def _mean_loss(self, f: Tensor) -> float:
        losses = self.losses(f) * self.sample_weight
        return float(sum_float64(losses)) / self.total_weight

    def weighted_squares(self, at: Evaluation) -> Tensor:
        """Sum over the samples the squared residuals from which a noise model estimates its precisions, (k,)."""
        f, Y = self.in_units_of_noise(at.outputs), self.in_units_of_noise(self.Y)
        squares = self.data_loss.weighted_squares(f, Y).to(at.w)
        return squares.T @ self.data_loss.squares_weight(self.sample_weight).to(at.w)

    def squares(self, at: Evaluation) -> Squares:
        """Return the squares of all samples that tell the noise level, including samples of :meth:`beside`."""
        total, weight = self.weighted_squares(at), self.total_weight
        return Squares(total, weight) if self._earlier is None else self._earlier.plus(total, weight)

    def beside(self, earlier: Squares) -> Self:
        """Make the objective whose noise level also rests on earlier samples."""
        other = copy.copy(self)
        other._earlier = earlier
        return other

    def apply(self, function: Callable[..., Any], *args: Any) -> Any:
        """Compute ``function(objective, *args)``, one value a sample. If distributed, it stays on the workers."""
        return function(self, *args)

    def sum(self, function: Callable[..., Tensor], *args: Any) -> Tensor:
        """Compute ``function(objective, *args)``, a sum over samples; ``args`` may hold a result of :meth:`apply`."""
        return function(self, *args)

    def gather(self, function: Callable[..., Any], *args: Any) -> Any:
        """Compute ``function(objective, *args)``, one value a sample, in this process. If distributed, it is None."""
        return function(self, *args)

    def change(self, before: Evaluation, after: Evaluation) -> tuple[float, float]:
        """Estimate the change of the mean data loss between two evaluations; return its standard error too."""
        S, difference = self.total_weight, self.losses(after.outputs) - self.losses(before.outputs)
        mean = float(sum_float64(difference * self.sample_weight)) / S
        variance = float(sum_float64((difference - mean).square() * self.sample_weight)) / S
        return mean, math.sqrt(variance / S)

    def along(self, at: Evaluation, step: Tensor) -> tuple[float, float]:
        """Slope of the mean data loss along a step, and its Gauss-Newton curvature step' G step."""
        jacobian = self.jacobian(at)
        tangent = jacobian.network_jvp(step.to(self.U))
        g = self.loss_gradient(at.outputs) * self.sample_weight[:, None]
        root = jacobian.root(slice(0, len(self.U)))
        curvature = sum_float64(torch.einsum("nk,nkc->nc", tangent, root).square())
        return float(sum_float64(g * tangent)) / self.total_weight, float(curvature) / self.total_weight

    def readout(self, at: Evaluation) -> tuple[Objective, Evaluation]:
        """Make the objective of the readout alone.

        It is a linear model of the last hidden layer's outputs and of the linear path.
        """
        w = at.w.to(self.U)
        tapes = at.tapes or (self.network.forward(self.U[rows], w)[1] for rows in self._rows)
        readout = self.network.readout
        assert readout is not None
        linear = copy.copy(self)
        linear.network, linear.U = readout, torch.cat([tape.inputs[-1] for tape in tapes])
        linear._rows = row_chunks(linear.network, linear.n_columns, linear.U)
        w = at.w[-linear.network.n_weights :]
        linear._prior_mean = self._readout_mean(len(w))
        return linear, Evaluation(w, at.outputs, at.loss, [Tape([linear.U[rows]], []) for rows in linear._rows])

    def gradient(self, at: Evaluation, jacobian: Jacobian | None = None) -> Tensor:
        """Gradient of the mean data loss, shape (P,). A Jacobian at the same weights saves a forward pass."""
        g = self.loss_gradient(at.outputs) * self.sample_weight[:, None]
        jacobian = self.jacobian(at) if jacobian is None else jacobian
        return jacobian.network_vjp(g).to(at.w) / self.total_weight

    def jacobian(self, at: Evaluation, system_dtype: torch.dtype | None = None) -> Jacobian:
        """Make the Jacobian at w with the roots of the loss curvature and of the sample weights."""

        def root(rows: slice) -> Tensor:
            return self.loss_root(at.outputs[rows], rows) * self._root_weight[rows, None, None]

        def curvature(rows: slice, tangent: Tensor) -> Tensor:
            f, Y, tangent = (self.in_units_of_noise(v, rows) for v in (at.outputs[rows], self.Y[rows], tangent))
            curved = self.in_units_of_noise(self.data_loss.curvature_product(f, Y, tangent), rows)
            return curved * self._root_weight[rows, None].square()

        def squares(rows: slice, tangents: Tensor) -> Tensor:
            f, Y = (self.in_units_of_noise(v, rows) for v in (at.outputs[rows], self.Y[rows]))
            if self.root_precision is not None:
                tangents = tangents * self.root_precision[rows, :, None]
            return self.data_loss.curvature_squares(f, Y, tangents) * self._root_weight[rows, None].square()

        w, c = at.w.to(self.U), self.n_columns
        return Jacobian(self.network, w, self.U, root, c, at.tapes, system_dtype, curvature, squares)

    def output_jacobian(self, at: Evaluation) -> Jacobian:
        """Make the Jacobian of the outputs themselves, without roots."""
        return Jacobian.of_outputs(self.network, at.w.to(self.U), self.U)
