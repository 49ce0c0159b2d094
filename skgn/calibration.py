"""Predictions held against what came true: what regression and classification share.

:mod:`skgn.residual_findings` makes the findings about a regression, and :mod:`skgn.probabilities` those about a
classification.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import poisson

from .baselines import BOOSTING, FEWEST_ROWS, compared_rows
from .classifier import GNClassifier
from .codes import jump_tests
from .directions import serves_evidence
from .estimator import table_and_target
from .mixture import voters
from .parameters import parameter_defaults
from .regressor import GNRegressor
from .report import SHOWN, Finding

__all__ = [
    "MATERIAL",
    "RARE",
    "ROBUST_LOSS",
    "STANDARD_ERRORS",
    "Comparison",
    "baseline_finding",
    "in_errors",
    "member_finding",
    "more_regularisation",
    "named_rows",
    "skill_finding",
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
_LEARNED = 0.1

#: Members disagree where averaging takes away more than this part of the loss of one alone.
_DISAGREE = 0.2

#: Numbers may be codes where jumps between them tell something, by so many standard errors: an advice, no decision.
_JUMP_ERRORS = 4.0

#: Advice where the rows are unlike those of training.
_ELSEWHERE = "compare the rows of X, y with the training rows: they may have a drift, another unit, or other groups"

#: Advice where targets far from all others outweigh them.
ROBUST_LOSS = 'loss="student_t", or the logarithm of y if the extremes are no errors (TransformedTargetRegressor)'

#: Parameters that leave most to the fit by default.
_FREE = (
    "l2_regularization",
    "hidden_layer_sizes",
    "n_estimators",
    "activation",
    "linear_path",
    "prior_groups",
    "standardize",
)

#: A skill counts from so many standard errors on; fewer rows than this cannot show one that is there.
_SKILL_ERRORS, _FEW_ROWS = 2.0, 100


def more_regularisation(model: GNRegressor | GNClassifier) -> str | None:
    """Advise where a float l2 is too small; None where the evidence has found the precisions."""
    l2 = model.estimators_[0].prior_kind.l2
    if l2 is None:
        return None
    solver = "" if serves_evidence(model.solver) else 'solver="auto" and '
    larger = f"a float above {l2:g}" if l2 > 0 else "a positive float"
    return f'{solver}l2_regularization="evidence", or {larger}'


def _linear(model: GNRegressor | GNClassifier) -> str:
    """Advise a linear model, with the evidence where a given float l2 may not suit it."""
    changes = ["hidden_layer_sizes=()"]
    if not isinstance(model.l2_regularization, str):
        changes += ['l2_regularization="evidence"'] + ([] if serves_evidence(model.solver) else ['solver="auto"'])
    return " and ".join(changes) + ", a linear model"


def _freed(model: GNRegressor | GNClassifier) -> str:
    """Advise to leave open what is restricted; empty where nothing is restricted."""
    defaults = parameter_defaults(type(model))
    given = [name for name in _FREE if not np.array_equal(getattr(model, name), defaults[name])]
    return " and ".join(f"{name}={defaults[name]!r}" for name in given).replace("'", '"')


def _more_flexible(model: GNRegressor | GNClassifier) -> str:
    """Advise where a fit does not find what there is: more freedom, and wider layers where nothing is restricted."""
    freed = _freed(model)
    if freed:
        return freed
    largest = max((member.network for member in model.estimators_), key=lambda network: network.n_weights)
    sizes = largest.hidden_layer_sizes
    return f"hidden_layer_sizes={tuple(2 * size for size in sizes)}, a wider network" if sizes else "a larger network="


@dataclass(frozen=True)
class Comparison(ABC):
    """A model and targets (n, k), for rows X of positive weights; ``rows`` is where these were.

    Features have ``names``.
    """

    model: Any
    X: Any
    y: np.ndarray
    weight: np.ndarray
    rows: np.ndarray
    names: list[str]

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
    def elsewhere(self) -> bool:
        """Whether these rows are unlike those of training; False where training rows are few.

        Predictions are worth less than left-out training rows promised, by more than the errors of both. But a fit
        that follows the noise also promises too much. So one of two more signs is needed: predictions are too sure, or
        a better simple model finds no more here than was promised.
        """
        trained = self.model.estimators_[0].total_weight
        if not (math.isfinite(self.promise) and trained >= _FEW_ROWS) or more_regularisation(self.model):
            return False
        ours, constant = self.losses
        lack, error = self.gain((1 - self.promise) * constant, ours)
        error *= math.sqrt(1 + self.total / trained)
        material = MATERIAL * float(self.mean(constant))
        if not lack > max(STANDARD_ERRORS * error, material):
            return False
        return self.too_sure or bool(self.better and self.promise >= self.score_at(self.simple[self.better]))

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
        return abs(gain) < _LEARNED * float(self.mean(self.losses[1]))

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
        least = _MATERIAL_GAIN * float(np.mean(constant))
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
        """What the predictions leave over of the targets, (n, k)."""

    @cached_property
    def codes(self) -> list[str]:
        """Features whose numbers may be codes, and were not taken for them: what is left over jumps between them."""
        table, _ = table_and_target(self.model)
        numbers = [j for j in range(len(self.names)) if j not in table.reader.categorical and j not in table.codes]
        tests = jump_tests(table.read(self.model, self.X)[:, numbers].astype(float), self.left)
        return [self.names[numbers[j]] for j in np.flatnonzero(tests.found(_JUMP_ERRORS))]

    @property
    def named_codes(self) -> str:
        """Names of some of these."""
        return ", ".join(self.codes[:SHOWN]) + (", ..." if len(self.codes) > SHOWN else "")

    @property
    def freer(self) -> str:
        """Advice where the fit does not find what there is."""
        if self.elsewhere:
            return _ELSEWHERE
        if self.codes:
            return f"{self.named_codes} as categories (categorical_features), if the numbers are codes"
        return _more_flexible(self.model)

    @property
    def narrow_advice(self) -> str:
        """Advice where the predictions are surer than they should be."""
        if self.elsewhere:
            return _ELSEWHERE
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


def skill_finding(data: Comparison, constant: str, numbers: dict[str, Any], text: str) -> Finding:
    """Make the finding on the skill: by how much predictions gain on the best constant."""
    gain, error = data.gain(*data.losses)
    if gain > _SKILL_ERRORS * error and data.elsewhere:
        text += f"; left-out training rows promised {data.promise:.2f}"
        return Finding("skill", "less than promised", numbers, text, _ELSEWHERE)
    if gain > _SKILL_ERRORS * error:
        return Finding("skill", f"better than the {constant}", numbers, text)
    if gain > 0 and data.effective < _FEW_ROWS:
        return Finding("skill", "unknown", numbers, text + "; too few rows to tell")
    if not data.model.standardize:
        # Before all else: priors start from a unit scale.
        advice = "standardize=True, as priors start from inputs of unit scale"
    else:
        regularised = more_regularisation(data.model)
        advice = regularised if regularised and not (data.found and data.flat) else _when_without_skill(data)
    return Finding("skill", f"no better than the {constant}", numbers, text, advice)


def _when_without_skill(data: Comparison) -> str:
    """Advise where predictions are worth nothing: by what the fit expected, and what simple models find."""
    expected = data.model.left_out_score_
    if expected < _LEARNED or (data.flat and data.found and not data.elsewhere):
        # The training rows taught it nothing, so that nothing is wrong with these.
        if data.heavy_tailed and not data.found and not _freed(data.model):
            return ROBUST_LOSS
        return data.freer + ("" if data.found else ", more rows, or other features")
    if data.found:
        return _ELSEWHERE
    if data.spoilers:
        return f"look at {named_rows(data.spoilers)}"
    return "check that the rows of X and y belong together, or find other features"


def baseline_finding(data: Comparison, score: str) -> Finding:
    """Compare the fit with simple models that learn from a part of the same rows; ``score`` names the measure."""
    if not data.simple:
        few = len(data.y) < FEWEST_ROWS
        why = "too few rows for others to learn from" if few else "nothing simple to compare with"
        return Finding("baselines", "unknown", {}, f"unknown: {why}")
    ours = data.losses[0][data.compared]
    numbers = {name: data.score_at(loss) for name, loss in {"model": ours, **data.simple}.items()}
    others = ", ".join(f"{name} {value:.2f}" for name, value in list(numbers.items())[1:])
    text = f"{score} {numbers['model']:.2f}; of others that learn from a part of these rows: {others}"
    if data.better:
        linear = data.better != BOOSTING
        bent = linear and data.model.estimators_[0].network.hidden_layer_sizes
        advice = _linear(data.model) if bent and not data.elsewhere else data.freer
        return Finding("baselines", f"worse than {data.better}", numbers, f"{text}: {data.better} is better", advice)
    if data.codes:
        text += f"; what the fit leaves over jumps between the numbers of {data.named_codes}"
        return Finding("baselines", "codes", numbers, text, data.freer)
    gains = [data.gain_at(ours, loss) for name, loss in data.simple.items() if name != BOOSTING]
    if not gains or any(gain > _SKILL_ERRORS * error for gain, error in gains):
        return Finding("baselines", "no worse", numbers, text)
    if numbers["model"] > _LEARNED and data.model.estimators_[0].network.hidden_layer_sizes:
        text += "; no better than linear: hidden_layer_sizes=() is simpler, other features may tell more"
    return Finding("baselines", "like linear", numbers, text)


def member_finding(data: Comparison, score: str) -> Finding:
    """Compare members alone with their mixture, whose loss is less by what they disagree about.

    That part of a member's loss is a matter of chance, and more members make it less (A. Krogh and J. Vedelsby, Neural
    network ensembles, cross validation, and active learning, NIPS 1994).
    """
    members, weights = voters(data.model.estimators_, data.model.weights_)
    if len(members) < 2 or not data.losses[1].any():
        why = "y is constant here" if len(members) > 1 else "one, and none to compare it with"
        return Finding("members", "unknown" if len(members) > 1 else "single", {"count": len(members)}, why)
    losses = data.mean(np.array(_alone(data, members)).T)
    together, constant = (float(data.mean(loss)) for loss in data.losses)
    alone = float(np.average(losses, weights=weights))
    share = max(0.0, 1 - together / alone) if alone > 0 else 0.0
    skills = 1 - losses / constant
    numbers = {"count": len(members), "best": float(skills.max()), "worst": float(skills.min()), "share": share}
    text = (
        f"{len(members)}, with {score} {numbers['worst']:.2f} to {numbers['best']:.2f} alone and "
        f"{1 - together / constant:.2f} together, which takes {share:.0%} of a member's loss away"
    )
    if share <= _DISAGREE:
        return Finding("members", "agree", numbers, text)
    advice = f"n_estimators={2 * len(members)}, as the members disagree"
    return Finding("members", "disagree", numbers, text + ": they disagree", advice)


def _alone(data: Comparison, members: list[Any]) -> list[np.ndarray]:
    """Losses (n,) of each member as a model of its own."""
    losses = []
    for member in members:
        model = object.__new__(type(data.model))  # A copy would check the state, as of a stored model.
        model.__dict__.update(vars(data.model), estimators_=[member], weights_=np.ones(1))
        losses.append(replace(data, model=model).losses[0])
    return losses


def in_errors(gain: float, error: float) -> str:
    """Write a gain as a multiple of its standard error."""
    return f"{gain / error:.1f}" if error > 0 else "no"


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
