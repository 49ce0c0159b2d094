"""What is asked of a scaling of the inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BASE", "Blended", "Derived", "Made", "Scaler", "Widened", "widened"]

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


@dataclass
class Blended(Made):
    """Columns that are each made of many of those of another scaling, ``base``; they belong to no feature.

    They stay with the base that they were made of: of other columns they would be something else. There are no columns
    for the linear path alone.
    """

    base: Scaler

    @property
    def source(self) -> Scaler:
        return self.base

    def of(self, source: Scaler) -> Self:
        return self

    @property
    def n_straight(self) -> int:
        return 0

    @property
    def features(self) -> None:
        return None


def widened(V: Any, n_straight: int, more: Any, xp: Any = np) -> Any:
    """Put ``more`` columns beside V, for both paths; ``xp`` is the namespace of arrays or of tensors."""
    hidden = V.shape[1] - n_straight
    parts = [V[:, :hidden], more, V[:, hidden:], more] if n_straight else [V, more]
    return xp.concatenate(parts, axis=1)


@dataclass
class Widened(Made):
    """Columns of another scaling, ``base``, and beside them more, each of which is made of one of its ``columns``.

    Hidden layers and the linear path read the same ones.
    """

    base: Scaler
    columns: np.ndarray

    @property
    def source(self) -> Scaler:
        return self.base

    def of(self, source: Scaler) -> Self:
        return replace(self, base=source)

    @property
    def n_straight(self) -> int:
        """Columns for the linear path alone: those of the other scaling, and what is beside them."""
        return self.base.n_straight + len(self.columns) if self.base.n_straight else 0

    @property
    def features(self) -> np.ndarray:
        """Features of the columns."""
        features = self.base.features
        assert features is not None
        index = np.arange(len(features))
        hidden, straight = np.split(index, [len(index) - self.base.n_straight])
        of_linear_path = [straight, self.columns] if len(straight) else []
        return features[np.concatenate([hidden, self.columns, *of_linear_path])]

    @abstractmethod
    def more(self, z: np.ndarray) -> np.ndarray:
        """Return what is beside given columns of the other scaling."""

    def embed(self, z: np.ndarray) -> np.ndarray:
        """Return the columns that are made of given columns of the other scaling."""
        return np.ascontiguousarray(widened(z, self.base.n_straight, self.more(z)))
