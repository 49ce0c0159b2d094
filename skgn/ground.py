"""What models of labels beside the networks stand on, and what they tell of rows that they have learned from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .feedforward import FeedForward
from .scaler import Made, Scaler

__all__ = ["ENOUGH", "MOST_ROWS", "N_PARTS", "Ground", "Told", "parts_of"]

#: They tell nothing more where networks have such a D2 of left-out labels. What is taken off their score for what they
#: estimate is then more than they lose, and these models have nothing to take off.
ENOUGH = 0.98

#: Models learn from so many rows at the most: others of a fit are later ones to them.
MOST_ROWS = 10_000

#: Parts in which rows of a fit are told by models of the others.
N_PARTS = 5


class Ground(NamedTuple):
    """What such models are made of: the scaling ``base``, and a network that reads it.

    Hidden layers of this network read the columns that the models do. Networks that read what these tell are like it
    but for their layers. With one of them, so many ``n_more`` members are kept than before.
    """

    base: Scaler
    network: FeedForward
    n_more: int

    def columns(self, scaled: np.ndarray) -> np.ndarray:
        """Return the columns that the models read."""
        return scaled[:, self.network.hidden_inputs]


class Told(NamedTuple):
    """A scaling that is made of a model, and its columns (n, k) of the rows of the fit.

    These have been told without their own labels.
    """

    scaler: Made
    columns: np.ndarray

    @classmethod
    def of(cls, scaler: Made, own: np.ndarray, columns: np.ndarray) -> Told:
        """Put columns of later rows beside those of the rows that a model has learned from, their ``own`` (m, k).

        ``columns`` (n, d) are those of the scaling that the model reads, of all rows.
        """
        later = columns[len(own) :]
        return cls(scaler, np.vstack([own, scaler.embed(later)]) if len(later) else own)


def parts_of(X: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Part rows (n, d): the numbers of the others and of each part. None where hardly any rows differ.

    Equal rows are in one part. With other labels they would tell what the label of a row is not.
    """
    from sklearn.model_selection import GroupKFold

    distinct, inputs = np.unique(X, axis=0, return_inverse=True)
    if len(distinct) < N_PARTS:
        return None
    return list(GroupKFold(N_PARTS).split(X, groups=inputs.reshape(-1)))
