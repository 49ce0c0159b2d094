"""Groups of weights that share a prior precision, and the kinds of priors that a candidate may have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .network import Network

__all__ = ["Groups", "PriorKind"]


@dataclass(frozen=True)
class PriorKind:
    """What a candidate's prior is, before a training makes one.

    ``groups`` of weights share a precision: {"feature", "layer", "shared"}, as :meth:`Groups.of` has them. Training
    estimates the precisions, unless ``l2`` is given: the precision of all weights in the mean objective. A ``unit``
    prior lets every precision go to 1, in units of standardised inputs and outputs.
    """

    groups: str
    l2: float | None = None
    unit: bool = False

    @classmethod
    def fixed(cls, l2: float) -> PriorKind:
        """Make the kind with one given precision for all weights."""
        return cls("shared", l2=l2)

    @property
    def has_evidence(self) -> bool:
        """Whether training estimates the prior or the noise by evidence."""
        return self.l2 is None

    @property
    def estimates_precisions(self) -> bool:
        """Whether precisions are estimated; that of a group of weights may then rise until they no longer count."""
        return self.has_evidence and not self.unit

    def __str__(self) -> str:
        if self.l2 is not None:
            return str(self.l2)
        return "unit" if self.unit else self.groups

    @property
    def words(self) -> str:
        return f"{self} prior" if self.l2 is None else f"l2 {self.l2:g}"


@dataclass(frozen=True)
class Groups:
    """Prior group of the weights of each (layer, input): numbers 0, 1, ..., one vector for each layer."""

    index: list[Tensor]

    @classmethod
    def of(cls, name: str, network: Network, device: torch.device, columns: np.ndarray | None = None) -> Groups:
        """Make the groups of a network by name.

        Parameters
        ----------
        name : {"feature", "layer", "shared"}
            "feature" has a group for the first-layer weights of each input feature. It also has groups for the biases
            of each hidden layer, the weights of each later layer, the linear path, and the readout's bias. "layer" is
            the same with all features in one group. "shared" has one group.
        network : Network
        device : torch.device
        columns : ndarray of bool, optional
            Which inputs of the first layer are read. All others are one more group, the last.
        """
        index, count = [], 0
        for layer, (_, into) in enumerate(network.shapes):
            if name == "shared":
                groups = np.zeros(into, dtype=np.int64)
            else:
                first, *others = network.input_blocks(layer)
                sizes = [1] * first if name == "feature" and layer == 0 else [first]
                sizes = [size for size in [*sizes, *others] if size > 0]
                groups = np.repeat(np.arange(len(sizes)), sizes) + count
                count += len(sizes)
            index.append(torch.from_numpy(groups))
        if columns is not None:
            index[0][:-1][~torch.from_numpy(columns)] = count
            # Features that are in no group of their own any more have left their numbers free.
            numbers = np.unique(torch.cat(index).numpy(), return_inverse=True)[1].ravel()
            index = list(torch.split(torch.from_numpy(numbers), [len(groups) for groups in index]))
        return cls([groups.to(device) for groups in index])

    def sum(self, per_input: list[Tensor]) -> Tensor:
        """Sum over the members of each group."""
        total = per_input[0].new_zeros(self.count)
        for index, values in zip(self.index, per_input, strict=True):
            total.index_add_(0, index, values)
        return total

    def spread(self, per_group: Tensor) -> list[Tensor]:
        """Give each member of a group the value of the group."""
        return [per_group[index] for index in self.index]

    @property
    def columns(self) -> Tensor | None:
        """Group of each column of the first layer's inputs; None if any share one."""
        columns = self.index[0][:-1]
        return columns if len(set(columns.tolist())) == len(columns) else None

    @cached_property
    def count(self) -> int:
        return 1 + max(int(index.max()) for index in self.index)
