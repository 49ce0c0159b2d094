"""Predictions held against what came true: what regression and classification share."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.stats import norm, poisson

from .advice import ELSEWHERE, more_flexible, more_regularisation
from .baselines import BOOSTING, FEWEST_ROWS, compared_rows
from .codes import jump_tests
from .encoders import features_without_indicators
from .ensemble import Member
from .estimator import table_and_target
from .levels import level_means, told_by_pairs, told_by_slopes
from .mixture import equal_weights
from .wording import SHOWN, first_few

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "FEW_ROWS",
    "LEARNED",
    "MATERIAL",
    "RARE",
    "STANDARD_ERRORS",
    "Case",
    "Comparison",
    "Together",
    "named_rows",
    "too_many",
    "worst_rows",
]

#: An alarm needs this many standard errors, so that few rows do not cry wolf: one in 370 by chance.
STANDARD_ERRORS = 3.0

#: Or, where a count tells, a smaller probability than this under the model.
RARE = 1e-3

#: Coverage, confidence or skill off by less makes no practical difference, however many rows show it.
MATERIAL = 0.05

#: A gain of less than this part of a constant's loss makes no difference.
_MATERIAL_GAIN = 0.02

#: A fit whose left-out rows give up less than this part of a constant's loss has learned next to nothing.
LEARNED = 0.1

#: Numbers may be codes where jumps between them tell something, by so many standard errors: an advice, no decision.
_JUMP_ERRORS = 4.0

#: What two features tell together is lacking from this part of the squares of residuals on.
_LACKING_TOGETHER = 0.1

#: Fewer rows than this cannot show a skill that is there, nor make a promise.
FEW_ROWS = 100


@dataclass(frozen=True)
class Case:
    """A fitted model and the rows of positive weight: X as the model takes it, and ``rows``, their positions.

    Features have ``names``.
    """

    model: Any
    X: Any
    y: np.ndarray
    weight: np.ndarray
    rows: np.ndarray
    names: list[str]


class Together(NamedTuple):
    """A feature whose levels have no indicators, another one, and the ``share`` of squares that both tell together.

    ``many`` has those of the two whose levels have no indicators.
    """

    feature: str
    other: str
    share: float
    many: str


@dataclass(frozen=True)
class Comparison(Case, ABC):
    """A case whose targets (n, k) are compared with what the model predicts."""

    @classmethod
    def of(cls, case: Case) -> Self:
        y = case.y.reshape(len(case.y), -1)
        return cls(case.model, case.X, y, case.weight, case.rows, case.names)

    @property
    @abstractmethod
    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        """Losses (n,) of the model and of the best constant."""

    @abstractmethod
    def simple_losses(self, columns: np.ndarray) -> dict[str, np.ndarray]:
        """Losses (m,) of simple models at the compared rows, of which there are ``columns``; none if not comparable."""

    @cached_property
    def compared(self) -> np.ndarray:
        """Positions (m,) of the rows at which the model is compared with simple ones."""
        return compared_rows(len(self.y))

    @cached_property
    def simple(self) -> dict[str, np.ndarray]:
        """Losses (m,) of simple models at these rows, by their names."""
        return self.simple_losses(self.columns) if self.comparable else {}

    @property
    def comparable(self) -> bool:
        """Whether there is anything to learn, and rows enough to learn from."""
        return len(self.y) >= FEWEST_ROWS and bool(self.losses[1].any())

    @cached_property
    def columns(self) -> np.ndarray:
        """Columns of numbers (m, d) at the compared rows."""
        table, _ = table_and_target(self.model)
        return table.encode(table.read(self.model, self.X))[self.compared]

    @property
    def promise(self) -> float:
        """Part of a constant's loss that left-out training rows give up; nan where :attr:`losses` are others."""
        return float(self.model.left_out_score_)

    @property
    @abstractmethod
    def too_sure(self) -> bool:
        """Whether the predictions are surer than they should be."""

    @cached_property
    def falls_short(self) -> bool:
        """Whether predictions are worth less than left-out training rows promised, by more than the errors of both."""
        trained = self.model.estimators_[0].total_weight
        if not (math.isfinite(self.promise) and trained >= FEW_ROWS) or more_regularisation(self.model):
            return False
        ours, constant = self.losses
        lack, error = self.gain((1 - self.promise) * constant, ours)
        return lack > max(STANDARD_ERRORS * self._of_both * error, MATERIAL * float(self.mean(constant)))

    def with_members(self, members: list[Member]) -> Self:
        """Make the comparison of an ensemble of some of the members, which count alike."""
        model = object.__new__(type(self.model))  # A copy would check the state, as of a stored model.
        model.__dict__.update(vars(self.model), estimators_=members, weights_=equal_weights(len(members)))
        return replace(self, model=model)

    @property
    def _of_both(self) -> float:
        """Factor of a standard error on these rows, for that of a difference to the training rows."""
        return math.sqrt(1 + self.total / self.model.estimators_[0].total_weight)

    @cached_property
    def elsewhere(self) -> bool:
        """Whether these rows are unlike those of training; False where training rows are few.

        Predictions are worth less than promised. But a fit that follows the noise also promises too much. So one of two
        more signs is needed: predictions are too sure, or a better simple model finds no more here than was promised,
        by more than chance.
        """
        if not self.falls_short:
            return False
        if self.too_sure or not self.better:
            return self.too_sure
        promised = (1 - self.promise) * self.losses[1]
        more, error = self.gain_at(self.simple[self.better], promised[self.compared])
        return more <= STANDARD_ERRORS * self._of_both * error

    @property
    def heavy_tailed(self) -> bool:
        """Whether the noise in training has tails in which a squared error drowns."""
        return False

    @property
    def spoilers(self) -> list[int]:
        """Rows that alone may spoil the score of predictions that suit all other rows."""
        return []

    @property
    def flat(self) -> bool:
        """Whether the predictions are worth about as much as a constant."""
        gain, _ = self.gain(*self.losses)
        return abs(gain) < LEARNED * float(self.mean(self.losses[1]))

    @property
    def underfit(self) -> bool:
        """Whether the fit leaves over what another one finds."""
        return self.better == BOOSTING and not self.elsewhere

    def score_at(self, loss: np.ndarray) -> float:
        """Part of a constant's loss that losses (m,) at the compared rows take away."""
        weight, constant = self.weight[self.compared], self.losses[1][self.compared]
        return 1 - float(np.average(loss, weights=weight) / np.average(constant, weights=weight))

    def gain_at(self, better: np.ndarray, worse: np.ndarray) -> tuple[float, float]:
        """Gain as :meth:`gain`, of losses (m,) at the compared rows."""
        return _gain(better, worse, self.weight[self.compared], self.factors[self.compared])

    @cached_property
    def found(self) -> bool:
        """Whether a simple model finds something in these rows."""
        constant = self.losses[1][self.compared]
        gains = [self.gain_at(loss, constant) for loss in self.simple.values()]
        return any(gain > STANDARD_ERRORS * error for gain, error in gains)

    @cached_property
    def better(self) -> str:
        """Name of the simple model that is better than this one by more than chance; empty if there is none."""
        ours, constant = (loss[self.compared] for loss in self.losses)
        least = _MATERIAL_GAIN * float(np.average(constant, weights=self.weight[self.compared]))
        gains = {name: self.gain_at(loss, ours) for name, loss in self.simple.items()}
        found = {name: gain for name, (gain, error) in gains.items() if gain > max(STANDARD_ERRORS * error, least)}
        return max(found, key=lambda name: found[name], default="")

    @property
    def total(self) -> float:
        return float(self.weight.sum())

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Weighted mean over the rows."""
        return np.average(values, axis=0, weights=self.weight)

    def gain(self, better: np.ndarray, worse: np.ndarray) -> tuple[float, float]:
        """Return by how much the better losses (n,) are lower than the worse ones: mean and its standard error."""
        return _gain(better, worse, self.weight, self.factors)

    @cached_property
    def factors(self) -> np.ndarray:
        """Factors (n,) in the weights of rows that are no repetitions, such as class weights."""
        return np.ones(len(self.y))

    @property
    def effective(self) -> float:
        """Kish's effective sample size: the number of rows of equal weight that would tell as much."""
        return self.total / float(self.mean(self.factors))

    @property
    @abstractmethod
    def left(self) -> np.ndarray:
        """What the predictions leave over of the targets (n, k), whatever class weights there are."""

    @cached_property
    def codes(self) -> list[str]:
        """Features whose numbers may be codes, and were not taken for them: what is left over jumps between them."""
        table, _ = table_and_target(self.model)
        numbers = [j for j in range(len(self.names)) if j not in table.reader.categorical and j not in table.codes]
        tests = jump_tests(table.read(self.model, self.X).astype(float), self.left, among=numbers)
        return [self.names[j] for j in np.flatnonzero(tests.found(_JUMP_ERRORS))]

    @property
    def named_codes(self) -> str:
        """Names of some of these."""
        return ", ".join(first_few(self.codes))

    @cached_property
    def together(self) -> Together | None:
        """What is left over by levels and another feature together; None if nothing is found.

        A mean target for each level tells nothing of slopes that depend on the level, nor of pairs of levels.
        """
        table, _ = table_and_target(self.model)
        many = [] if table.encoder is None else features_without_indicators(table.encoder)
        if not many or not self.comparable:
            return None
        at = self.compared
        weight = (self.weight / self.factors)[at]
        read = table.read(self.model, self.X)[at].astype(float)
        levels = {j: np.unique(read[:, j], return_inverse=True)[1] for j in many}
        columns, features = table.scaled_features(self.columns)
        tests = []
        for r, (j, level) in itertools.product(self.left[at].T, levels.items()):
            about = r - level_means(level, r, weight)
            for other, z in zip(features.tolist(), columns.T, strict=True):
                if other != j:
                    tests.append((*told_by_slopes(level, z, about, weight), j, other))
            for other, others in levels.items():
                if other > j:
                    pair = level * len(read) + others
                    cell = np.unique(pair, return_inverse=True)[1]
                    left = about - level_means(others, about, weight)
                    tests.append((*told_by_pairs(cell, np.ones(len(cell)), left, weight), j, other))
        rare = norm.isf(RARE / max(len(tests), 1))
        lost, constant = (float(self.mean(loss)) for loss in self.losses)
        least = max(_LACKING_TOGETHER, _MATERIAL_GAIN * constant / max(lost, np.finfo(float).tiny))
        found = [test for test in tests if test[1] > rare and test[0] > least]
        if not found:
            return None
        share, _, j, other = max(found)
        both = " and ".join(self.names[i] for i in (j, other) if i in levels)
        return Together(self.names[j], self.names[other], share, both)

    @property
    def freer(self) -> str:
        """Advice where the fit does not find what there is."""
        if self.elsewhere:
            return ELSEWHERE
        if self.codes:
            return f"{self.named_codes} as categories (categorical_features), if the numbers are codes"
        if self.together:
            return f"an indicator for each level of {self.together.many} (OneHotEncoder before the estimator)"
        return more_flexible(self.model)

    @property
    def narrow_advice(self) -> str:
        """Advice where the predictions are surer than they should be."""
        if self.elsewhere:
            return ELSEWHERE
        regularised = more_regularisation(self.model)
        if self.underfit and (self.flat or not regularised):
            return self.freer
        return regularised or "compare the rows of X, y with the training rows (overfitting or drift), refit on both"


def _gain(better: np.ndarray, worse: np.ndarray, weight: np.ndarray, factors: np.ndarray) -> tuple[float, float]:
    difference = worse - better
    mean = float(np.average(difference, weights=weight))
    # A row may count for more than 1 in the mean, but is one observation.
    variance = float(np.average(factors * np.square(difference - mean), weights=weight))
    return mean, math.sqrt(variance / max(float(weight.sum()) - 1, 1))


def too_many(count: float, expected: float) -> bool:
    """Whether so many rare events hardly come by chance, by the Poisson law."""
    return bool(poisson.sf(math.ceil(count) - 1, expected) < RARE)


def worst_rows(data: Comparison, size: np.ndarray, counted: np.ndarray) -> list[int]:
    """Return where the rows of the largest sizes among those that are counted were, the largest first."""
    order = np.argsort(-size, kind="stable")[:SHOWN]
    return data.rows[order[counted[order]]].tolist()


def named_rows(rows: list[int]) -> str:
    """Write the numbers of rows as a text."""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))}"
