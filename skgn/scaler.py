"""What is asked of a scaling of the inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BASE", "Derived", "Made", "Scaler"]

#: Name of the scaling of whose columns others are made in a fit.
BASE = "robust"


@runtime_checkable
class Scaler(Protocol):
    """A scaling of the inputs. For each of its columns, ``features`` names the feature that it comes from.

    They are None where columns come from several features. The last ``n_straight`` of the columns are for the linear
    path alone.
    """

    @property
    def n_straight(self) -> int: ...

    @property
    def features(self) -> np.ndarray | None: ...

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the columns of (n, d) inputs: new, C-contiguous and float64."""
        ...


class Derived(ABC):
    """A scaling that makes its columns of those of another one, its ``source``."""

    @property
    @abstractmethod
    def source(self) -> Scaler: ...

    @abstractmethod
    def of(self, source: Scaler) -> Self:
        """Return the same scaling of another source, which has as many columns."""

    @abstractmethod
    def embed(self, z: np.ndarray) -> np.ndarray:
        """Return the columns of those of the source: new, C-contiguous and float64."""

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the columns of (n, d) inputs: new, C-contiguous and float64."""
        return self.embed(self.source.transform(X))


class Made(Derived):
    """A scaling that is made in a fit, of the columns of :data:`BASE`."""

    @property
    @abstractmethod
    def n_straight(self) -> int: ...

    @property
    @abstractmethod
    def features(self) -> np.ndarray | None: ...
