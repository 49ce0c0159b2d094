"""What the residuals of a regression tell, as values: how large they are, what they depend on, and which are far out.

Residuals are standardised by their predicted standard deviations and held against the distribution of the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.stats import chi2, norm

from .advice import POSITIVE_LOSS, against_outliers, freed
from .baselines import BOOSTING, regressions
from .comparison import MATERIAL, RARE, STANDARD_ERRORS, Case, Comparison, too_many, worst_rows
from .estimator import fitted_likelihood, table_and_target
from .judging import Judge
from .losses import Loss
from .mixture import voters
from .observation import StudentTObservation
from .predictions import observed_probabilities
from .screening import ColumnTests, column_tests, products_of_two
from .status import Status
from .targets import RegressionTarget
from .weighted_rows import magnitude, standardised, weighted_quantile

__all__ = ["OUTLIER", "RegressionComparison"]

#: Residuals are typically this many times the predicted standard deviations before these are called too small.
_TOO_NARROW = 1.25

#: Fewer rows do not tell what residuals, or their sizes, depend on: any curve goes through a few points.
_FEWEST_TESTED, _FEWEST_FOR_PRODUCTS = 12, 100

#: Estimates of the noise end at about this part of the scale of y in training, where its size says nothing.
_LEAST_NOISE = 2e-6

#: A residual is called an outlier beyond so many standard deviations: normal noise has one in 16,000 there.
OUTLIER = 4.0

#: Residuals are typically this part of the noise or less where outliers in the training data have inflated it.
_INFLATED = 0.8

#: Where a column tells more of the residuals than this part of their variance, the fit lacks something.
_POOR_FIT = 0.1

#: With tails of fewer degrees of freedom, a mean is worth less than the centre of the noise from 0.8 of the rows.
_HEAVY_TAILS = 5.0

#: What residuals may depend on, beside a feature.
_PREDICTION = "the prediction"

#: Residuals may also depend on what this is called: a direction in which standardised columns have at most such a part
#: of the largest variance. A direction of less than the last part is a rounding error.
_DIFFERENCE, _SMALL, _ROUNDING = "the difference of columns that are nearly one", 1e-2, 1e-10

#: More columns than these take too long.
_MOST_COLUMNS = 300

#: Advice where such directions tell.
_COMPONENTS = "principal components of equal size (StandardScaler and PCA(whiten=True) before the estimator)"


#: Standard error of the median of absolute normal values, relative to that median, times sqrt(n).
_MEDIAN_ERROR = 1.17


class _Far(NamedTuple):
    """Residuals far out: sizes of rows (n,), how many outliers are ``found`` and ``expected``, and if they are many.

    ``alone`` (n,) is whether a row is so far out that it hardly comes by chance, even as the only one.
    """

    size: np.ndarray
    found: float
    expected: float
    many: bool
    alone: np.ndarray


@dataclass(frozen=True)
class RegressionComparison(Comparison):
    """Predictions of a regressor; arrays are (n, k)."""

    #: What :attr:`tested` has of the residuals, in a word.
    told: ClassVar[str] = "mean"

    @property
    def _target(self) -> RegressionTarget:
        _, target = table_and_target(self.model)
        assert isinstance(target, RegressionTarget)
        return target

    @property
    def n_columns(self) -> int:
        """Number of the columns of y in training."""
        return self._target.n_columns

    @cached_property
    def _posteriors_known(self) -> bool:
        return all(member.posterior is not None for member in voters(self.model.estimators_, self.model.weights_)[0])

    @cached_property
    def _prediction(self) -> tuple[np.ndarray, np.ndarray | None]:
        known = self._posteriors_known and not self.likelihood.without_std
        mean, std = self.model.predict(self.X, return_std=True) if known else (self.model.predict(self.X), None)
        shape = self.y.shape
        return np.reshape(mean, shape).astype(float), None if std is None else np.reshape(std, shape).astype(float)

    @cached_property
    def residual(self) -> np.ndarray:
        return self.y - self._prediction[0]

    @property
    def left(self) -> np.ndarray:
        return self.residual / self.unit

    @property
    def levels(self) -> np.ndarray:
        """Quantiles (k,) of the outputs that a constant predicts best, where that is no mean."""
        return np.full(self.y.shape[1], 0.5)

    @property
    def noise_std(self) -> np.ndarray:
        """Standard deviations (k,) of the noise in training."""
        return np.ravel(self.model.noise_std_)

    @property
    def std(self) -> np.ndarray | None:
        """Standard deviations, None where the fit left no posterior."""
        return self._prediction[1]

    @cached_property
    def typical(self) -> np.ndarray:
        """Size of the residuals (k,), robustly: the standard deviation of normal ones with the same median."""
        return weighted_quantile(np.abs(self.residual), self.weight, 0.5) / norm.ppf(0.75)

    @cached_property
    def z(self) -> np.ndarray:
        """Standardised residuals; without standard deviations in units of their typical size."""
        return self.residual / np.maximum(self.typical if self.std is None else self.std, np.finfo(float).tiny)

    @cached_property
    def depth(self) -> np.ndarray | None:
        """How far out observations are in their distributions (n, k), in deviations of ``predicted``; None if unknown.

        Of values whose noise has a variance these are the standardised residuals. Of counts, positive targets and
        Cauchy noise they are normal scores of the predicted probability of an observation no larger.
        """
        if self.judge.squares:
            return None if self.std is None else self.z
        if not self._posteriors_known or self.likelihood.observation() is None:
            return None
        probability = observed_probabilities(self.model, self.X, self.y[:, 0] if self.y.shape[1] == 1 else self.y)
        limits = np.finfo(float).tiny, 1 - np.finfo(float).epsneg
        return np.asarray(norm.ppf(np.clip(probability.reshape(self.y.shape), *limits)))

    @property
    def deviations(self) -> str:
        """The unit of ``far``, in words."""
        if self.depth is None:
            return "typical residuals"
        return "std" if self.depth is self.z else "normal scores"

    @cached_property
    def rms(self) -> np.ndarray:
        """Root mean square of the residuals (k,)."""
        return self.unit * np.sqrt(self.mean(np.square(self.residual / self.unit)))

    @cached_property
    def unit(self) -> np.ndarray:
        """Powers of 2 (k,), in units of which no square of y or of a residual overflows, and which round nothing."""
        largest = np.maximum(np.abs(self.y), np.abs(self.residual)).max(axis=0)
        return np.exp2(np.frexp(magnitude(largest))[1].clip(max=1023))

    @cached_property
    def constant(self) -> bool:
        """Whether all rows have the same y."""
        return not self.varies.any()

    @cached_property
    def varies(self) -> np.ndarray:
        """Whether each output (k,) has two values; a single row may have any."""
        return np.asarray(np.ptp(self.y, axis=0) > 0) | (len(self.y) == 1)

    @cached_property
    def noisy(self) -> np.ndarray:
        """Whether each output (k,) varies, and its noise is above where estimates end, or unknown."""
        target = self._target
        scale = np.ravel(target.deviations_of_y(target.scaler.rescale(np.ones((1, target.n_outputs)))))
        return self.varies & ~(self.noise_std <= _LEAST_NOISE * scale)

    @cached_property
    def likelihood(self) -> Loss:
        loss: Loss = fitted_likelihood(self.model)
        return loss

    @cached_property
    def noise(self) -> Any:
        """The distribution of the noise, of variance 1."""
        return self.likelihood.standard_noise()

    @cached_property
    def predicted(self) -> Any:
        """The distribution that predicted intervals are of, of variance 1: of normal noise it may have tails."""
        nu = self.model.noise_degrees_of_freedom_
        tails = self.likelihood.distribution == "normal" and math.isfinite(nu)
        return StudentTObservation(nu).standard() if tails else self.noise

    @cached_property
    def spread(self) -> float:
        """Typical size of the standardised residuals in units of that of the noise; of the output where it is most."""
        return float(weighted_quantile(np.abs(self.z), self.weight, 0.5).max() / self.noise.ppf(0.75))

    @cached_property
    def judge(self) -> Judge:
        """The loss by which predictions are judged."""
        return Judge(self.likelihood, self.y, self.weight, self.unit, self.levels, self.noise_std)

    @cached_property
    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        return self.judge.losses(self.residual), self.judge.losses_of_constant

    def simple_losses(self, columns: np.ndarray) -> dict[str, np.ndarray]:
        scale = np.sqrt(self.mean(np.square(self.judge.about_mean)))
        scale, rows = np.where(scale > 0, scale, 1), self.compared
        Y = (self.judge.about_mean / scale)[rows]
        losses = {}
        for name, predicted in self._simple_models(columns, Y, self.weight[rows]).items():
            residual = self.judge.at_least((Y - predicted) * scale * self.unit, rows)
            losses[name] = self.judge.losses(residual, rows)
        return losses

    def _simple_models(self, columns: np.ndarray, Y: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        """Predictions (m, k) of simple models, by their names."""
        return regressions(columns, Y, weight)

    @property
    def tested(self) -> np.ndarray:
        """Values (n, k), in any units, that have a mean of 0 everywhere unless the fit lacks something."""
        return self.z

    @cached_property
    def tests(self) -> tuple[list[str], ColumnTests, ColumnTests]:
        """What residuals are tested against, by name, and the tests of the residuals and of their sizes."""
        names, columns = _tested_columns(self, self._prediction[0])
        z = self.tested[:, self.noisy]
        residual, size = (column_tests(columns, values, self.weight) for values in (z, np.abs(z)))
        return names, residual, size

    @cached_property
    def far(self) -> _Far:
        """Which residuals are far out."""
        far = np.abs(self.z if self.depth is None else self.depth)
        size = far.max(axis=1)
        count = float(self.weight @ (far > OUTLIER).sum(axis=1))
        expected = self.total * far.shape[1] * 2 * float(self.noise.sf(OUTLIER))
        # So large a residual is expected less than once in a thousand such data sets.
        alone = self.total * far.shape[1] * 2 * self.noise.sf(size) < RARE
        return _Far(size, count, expected, too_many(count, expected), alone)

    @property
    def spoilers(self) -> list[int]:
        return [] if self.too_sure else worst_rows(self, self.far.size, self.far.alone)

    @property
    def testable(self) -> bool:
        """Whether there are residuals, and rows enough to tell what these depend on."""
        return len(self.y) >= _FEWEST_TESTED and bool(self.noisy.any())

    @cached_property
    def most_telling(self) -> int | None:
        """Position among the tests of what tells most of the residuals; None if nothing is found."""
        if not self.testable:
            return None
        _, residual, _ = self.tests
        found = (residual.p < RARE) & (residual.share > _POOR_FIT)
        return int(np.argmax(np.where(found, residual.share, 0))) if found.any() else None

    @property
    def lacking(self) -> str:
        """What the residuals depend on: a feature, or the prediction; empty if nothing is found.

        Then it is the fit that lacks something, whatever the residuals look like.
        """
        return "" if self.most_telling is None else self.tests[0][self.most_telling]

    @cached_property
    def overshooting(self) -> bool:
        """Whether the residuals depend on the prediction as it is too far from the mean: they fall where it rises."""
        prediction = self._prediction[0] / self.unit
        slope = self.mean((prediction - self.mean(prediction)) * self.left)
        return self.lacking == _PREDICTION and float(slope.min()) < 0

    @cached_property
    def left_over(self) -> float:
        """Part of the residuals' variance that boosting finds in rows that it has not seen; 0 if it may be chance."""
        if not self.comparable or not self.noisy.any():
            return 0.0
        Y = standardised(self.left[self.compared], self.weight[self.compared])
        found = regressions(self.columns, Y, self.weight[self.compared])
        if BOOSTING not in found:
            return 0.0
        gain, error = self.gain_at(np.square(Y - found[BOOSTING])[:, 0], np.square(Y)[:, 0])
        return gain if gain > max(STANDARD_ERRORS * error, _POOR_FIT) else 0.0

    @property
    def unbent(self) -> bool:
        """Whether the fit lacks what the residuals tell."""
        return bool(self.codes or self.together or self.lacking or self.left_over) and not self.overshooting

    @property
    def underfit(self) -> bool:
        return (self.unbent and not self.elsewhere) or super().underfit

    @cached_property
    def varying(self) -> str:
        """What the size of the residuals depends on: a feature, two, or the prediction; empty if nothing is found.

        Where the residuals themselves depend on a feature, it is the fit that lacks something, not the noise.
        """
        if self.std is None or not self.testable or self.underfit or self.elsewhere:
            return ""
        return _moving_sizes(self)

    @cached_property
    def inflated(self) -> bool:
        """Whether outliers in training may have made normal noise larger than residuals are here.

        Residuals so small must not come by chance: squares of normal residuals have a chi-squared distribution.
        """
        if self.model.loss != "squared_error" or not Status(self.model.estimators_[0].status).converged:
            # Other losses forgive outliers. Before training has ended, the noise is larger than it will be.
            return False
        # By their median and by their squares: residuals of a poor fit are small in the median alone.
        largest = np.maximum(self.typical, self.rms)
        by_chance = chi2.cdf(self.total * np.square(largest / self.noise_std), self.total) * len(largest)
        inflated = self.noisy & (self.typical > 0) & (largest < _INFLATED * self.noise_std) & (by_chance < RARE)
        return bool(inflated.any())

    @cached_property
    def negative(self) -> float:
        """Part of the predictions that are negative where no y is; 0 where they are few, or the fit is restricted."""
        if self.likelihood.target_kind != "values" or not self.y.min() > 0 or self.elsewhere or freed(self.model):
            return 0.0
        share = float(self.mean(self._prediction[0] < 0).max())
        return share if share > MATERIAL else 0.0

    @property
    def freer(self) -> str:
        if self.negative and not self.codes:
            return POSITIVE_LOSS
        if self.lacking == _DIFFERENCE and not self.codes:
            return _COMPONENTS
        return against_outliers(self.model) if self.inflated and not self.codes else super().freer

    @property
    def heavy_tailed(self) -> bool:
        return bool(self.likelihood.robust_alternatives) and self.model.noise_degrees_of_freedom_ < _HEAVY_TAILS

    @property
    def promise(self) -> float:
        if not (self.model.loss == "squared_error" or self.likelihood.predicts_quantiles):
            return math.nan
        # A constant is predicted, and counts 1 among the scores of the outputs; nothing else is known of any of them.
        return 1 - (1 - super().promise) * len(self.varies) / max(self.varies.sum(), 1)

    @property
    def too_sure(self) -> bool:
        """Whether the residuals are typically larger than their standard deviations.

        Both their median and their squares have to say so: the median alone is also large if noise has no middle.
        """
        error = _MEDIAN_ERROR * self.spread / math.sqrt(self.total)
        squares = math.sqrt(float(self.mean(np.square(self.z)).max()))
        return self.std is not None and min(self.spread, squares) > max(_TOO_NARROW, 1 + STANDARD_ERRORS * error)


def _moving_sizes(data: RegressionComparison) -> str:
    """What moves the sizes of residuals: one of the tested columns, or two features together; empty if nothing does."""
    names, _, size = data.tests
    if size.p.min() < RARE:
        return names[int(np.argmin(size.p))]
    names, scaled, _ = _feature_columns(data)
    products, pairs = products_of_two(scaled, data.weight)
    if not products.size or len(data.y) < _FEWEST_FOR_PRODUCTS:
        return ""
    p = column_tests(products, np.abs(data.z[:, data.noisy]), data.weight).p
    return " and ".join(names[j] for j in pairs[:, int(np.argmin(p))]) + " together" if p.min() < RARE else ""


def _feature_columns(case: Case) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of the features of columns, these columns scaled, and encoded columns."""
    table, _ = table_and_target(case.model)
    encoded = table.encode(table.read(case.model, case.X))
    scaled, features = table.scaled_features(encoded)
    return [case.names[j] for j in features], scaled, encoded


def _tested_columns(case: Case, prediction: np.ndarray) -> tuple[list[str], np.ndarray]:
    """What residuals may depend on: names and columns of scaled features, of the prediction, and of differences."""
    names, scaled, encoded = _feature_columns(case)
    small = _small_components(encoded, case.weight)
    beside = [_PREDICTION] * prediction.shape[1] + [_DIFFERENCE] * small.shape[1]
    return names + beside, np.column_stack([scaled, prediction, small])


def _small_components(columns: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Principal components (n, r) of standardised columns (n, d) that differ the least among the rows."""
    if columns.shape[1] > _MOST_COLUMNS:
        return np.empty((len(columns), 0))
    Z = standardised(columns, weight)
    Z = Z[:, Z.any(axis=0)]
    variance, directions = np.linalg.eigh((Z * weight[:, None]).T @ Z)
    largest = variance.max(initial=0.0)
    return np.asarray(Z @ directions[:, (variance <= _SMALL * largest) & (variance > _ROUNDING * largest)])
