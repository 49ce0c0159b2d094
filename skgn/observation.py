"""Distributions of a new observation: noise around an output that is itself known up to a variance only.

An output is normal, with mean f and variance v. The noise has the squared scale s2, one number for each output or for
each row and output. All arguments broadcast. Each distribution is on the real line: of values as they are, of
logarithms of positive targets, or of log(1 + c) for counts c. A mixture of them is inverted there.

Noise and uncertainty of the output are integrated by quadrature where no closed form is known. Sums over noise and
output have the smoother integrand where the narrower of the two is the variable. Few nodes give probabilities to 5e-4,
and to 6e-3 where the noise has a squared scale of 2 to 10.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betainc, btdtria, gammainc, gammaincinv, gammaln, ndtr, polygamma
from scipy.stats import chi2, t

__all__ = [
    "CountObservation",
    "LogGammaObservation",
    "Moments",
    "NormalObservation",
    "Observation",
    "StudentTObservation",
]

#: Nodes and weights of the Gauss-Hermite rules for a normal variable. The first is for uncertain outputs. The second is
#: for noise whose variance is less than a part of that uncertainty.
_OUTPUT_RULE, _NOISE_RULE = (np.polynomial.hermite_e.hermegauss(n) for n in (16, 8))
_NARROWER = 0.5

#: Step of the trapezoidal rule for the logarithm of a chi-squared variable, in its deviations for many degrees of
#: freedom and absolute at the most, and the probability that the rule leaves out.
_STEP, _LARGEST_STEP, _LEFT_OUT = 0.8, 0.4, 1e-9

#: Poisson distributions with a larger mean are normal ones to six digits; generators do not draw from the largest.
_LARGE_MEAN = 1e12

#: Dispersions up to this are that of the Poisson distribution. Larger means of negative binomial counts are not drawn.
_POISSON, _LARGEST_MEAN = 1 + 1e-6, 1e300

#: Logarithms of means: below the least every count is 0, up to the largest the mean and its reciprocal are floats.
_LEAST_LOGARITHM, _LARGEST_LOGARITHM = -200.0, 700.0

#: Logarithms of gamma variables below which their distribution function is its leading term; exponentials underflow.
_LEADING_TERM = -700.0


class Moments(NamedTuple):
    """Where a distribution on the line is, and the square of how wide it is: arrays (n, k)."""

    location: np.ndarray
    spread2: np.ndarray


class Observation(ABC):
    """Distribution of the network's target of a new observation, on the real line."""

    #: Whether the targets are whole numbers.
    discrete = False

    #: Degrees of freedom of Student-t noise, infinity where it is normal; nan for noise of another shape.
    degrees_of_freedom = math.nan

    def on_line(self, Y: np.ndarray) -> np.ndarray:
        """Map targets of the network to the line."""
        return Y

    def off_line(self, z: np.ndarray) -> np.ndarray:
        """Map points of the line to the least target that is not below them."""
        return z

    def within(self, low: np.ndarray, high: np.ndarray, whole: bool = True) -> np.ndarray:
        """Map intervals on the line to the least and the greatest target in them, (2, ...).

        Of ``discrete`` targets ``whole`` says whether they are whole numbers indeed.
        """
        return np.stack([low, high])

    def moments(self, f: np.ndarray, v: np.ndarray, s2: np.ndarray) -> Moments:
        """Location and squared width on the line; of normal noise, mean and variance."""
        return Moments(f, v + s2)

    @abstractmethod
    def cdf(self, z: np.ndarray, f: np.ndarray, v: np.ndarray, s2: np.ndarray) -> np.ndarray:
        """Probability that the observation is at most z on the line."""

    @abstractmethod
    def sample(self, f: np.ndarray, s2: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Draw targets of the network for outputs that are known."""


class NormalObservation(Observation):
    """Normal noise: the sum of two normal variables."""

    degrees_of_freedom = math.inf

    def cdf(self, z: np.ndarray, f: np.ndarray, v: np.ndarray, s2: np.ndarray) -> np.ndarray:
        return ndtr((z - f) / np.sqrt(v + s2))

    def sample(self, f: np.ndarray, s2: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        return f + np.sqrt(s2) * rng.standard_normal(f.shape)


class StudentTObservation(Observation):
    """Student-t noise: normal noise whose variance is ``nu / x`` times s2, where x has a chi-squared distribution.

    Around an uncertain output it is the same mixture of wider normal distributions. The trapezoidal rule for log x has
    probabilities to 2e-7, and tails down to 1e-6 to a thousandth of themselves. Tails below 1e-9 are lost.

    Parameters
    ----------
    degrees_of_freedom : float
        nu; 1 is the Cauchy distribution.
    """

    def __init__(self, degrees_of_freedom: float) -> None:
        self.degrees_of_freedom = degrees_of_freedom

    @cached_property
    def _mixture(self) -> tuple[np.ndarray, np.ndarray]:
        """Factors on s2, and their probabilities."""
        nu = self.degrees_of_freedom
        x, step = chi2(nu), min(_LARGEST_STEP, _STEP * math.sqrt(2 / nu))
        log_x = np.arange(np.log(x.ppf(_LEFT_OUT)), np.log(x.isf(_LEFT_OUT)) + step, step)
        density = np.exp(x.logpdf(np.exp(log_x)) + log_x)
        return nu * np.exp(-log_x), density / density.sum()

    @property
    def variance_factor(self) -> float:
        """Variance of the noise over its squared scale; 1 where there is no variance."""
        nu = self.degrees_of_freedom
        return nu / (nu - 2) if nu > 2 else 1.0

    def standard(self) -> Any:
        """Return the distribution of the noise, of variance 1 if it has one."""
        return t(self.degrees_of_freedom, scale=self.variance_factor**-0.5)

    def moments(self, f: np.ndarray, v: np.ndarray, s2: np.ndarray) -> Moments:
        return Moments(f, v + s2 * self.variance_factor)

    def cdf(self, z: np.ndarray, f: np.ndarray, v: np.ndarray, s2: np.ndarray) -> np.ndarray:
        return sum(p * ndtr((z - f) / np.sqrt(v + s2 * factor)) for factor, p in zip(*self._mixture, strict=True))

    def sample(self, f: np.ndarray, s2: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        return f + np.sqrt(s2) * rng.standard_t(self.degrees_of_freedom, f.shape)


def _log_gamma_probability(y: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Probability that the logarithm of a gamma variable of shape a is at most y."""
    leading = np.exp(a * np.minimum(y, _LEADING_TERM) - gammaln(a + 1))
    return np.where(y < _LEADING_TERM, leading, gammainc(a, np.exp(y)))


def _log_gamma_quantile(p: float, a: np.ndarray) -> np.ndarray:
    """Inverse of :func:`_log_gamma_probability`."""
    leading = (np.log(p) + gammaln(a + 1)) / a
    return np.where(leading < _LEADING_TERM, leading, np.log(gammaincinv(a, p)))


def _log_gamma_cdf(x: np.ndarray, a: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Probability that log G + sqrt(v) T is at most x, for G of a gamma distribution of shape a, and normal T."""
    x, a, v = np.broadcast_arrays(x, a, v)
    out, deviation = np.zeros(x.shape), np.sqrt(v)
    noise = polygamma(1, a) < _NARROWER * v
    output = ~noise
    # Exponentials that overflow belong to probability 1; of gammas that underflow the other branch is taken.
    with np.errstate(over="ignore", divide="ignore"):
        for t, p in zip(*_OUTPUT_RULE, strict=True):
            out[output] += p * _log_gamma_probability(x[output] - deviation[output] * t, a[output])
        for t, p in zip(*_NOISE_RULE, strict=True):
            out[noise] += p * ndtr((x[noise] - _log_gamma_quantile(ndtr(t), a[noise])) / deviation[noise])
    return out / np.sqrt(2 * np.pi)


class LogGammaObservation(Observation):
    """The logarithm of a gamma variable of mean exp(f) and squared coefficient of variation s2."""

    def cdf(self, z: np.ndarray, f: np.ndarray, v: np.ndarray, s2: np.ndarray) -> np.ndarray:
        return _log_gamma_cdf(z - f - np.log(s2), 1 / s2, v)

    def sample(self, f: np.ndarray, s2: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        shape = np.broadcast_to(1 / s2, f.shape)
        # A gamma of shape a is one of shape a + 1 times U^(1 / a). Of small shapes its logarithm does not underflow.
        log_gamma = np.log(rng.standard_gamma(shape + 1)) + np.log1p(-rng.random_sample(f.shape)) / shape
        return f + log_gamma - np.log(shape)


def _negative_binomial_cdf(c: np.ndarray, x: np.ndarray, v: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Probability that negative binomial counts of dispersion phi > 1 are at most c, around logarithms x of means.

    The rules give three digits. Where the size is large, the distribution is normal to six.
    """
    c, x, v, phi = np.broadcast_arrays(c, x, v, phi)
    out, deviation = np.zeros(x.shape), np.sqrt(v)
    normal = phi * _LARGE_MEAN < c + 1
    noise = (phi / (c + 1) < _NARROWER * v) & ~normal
    output = ~noise & ~normal
    with np.errstate(over="ignore", divide="ignore"):
        for t, p in zip(*_OUTPUT_RULE, strict=True):
            size = np.exp(x[output] + deviation[output] * t) / (phi[output] - 1)
            out[output] += p * betainc(size, c[output] + 1, 1 / phi[output])
        for t, p in zip(*_NOISE_RULE, strict=True):
            # The mean up to which the count is above c with this probability.
            size = btdtria(ndtr(t), c[noise] + 1, 1 / phi[noise])
            out[noise] += p * ndtr((np.log(size * (phi[noise] - 1)) - x[noise]) / deviation[noise])
    out /= np.sqrt(2 * np.pi)
    out[normal] = ndtr(((np.log(c + 1) - x) / np.sqrt(v + phi / (c + 1)))[normal])
    return out


class CountObservation(Observation):
    """Counts of mean exp(f) and variance s2 exp(f), as log(1 + c): Poisson up to s2 = 1, negative binomial above.

    A Poisson count is at most c where a gamma variable of shape c + 1 is above the mean. Between the whole numbers
    this is the distribution function, too. The negative binomial distribution has the size mean / (s2 - 1).
    """

    discrete = True

    def on_line(self, Y: np.ndarray) -> np.ndarray:
        return np.log1p(Y)

    def off_line(self, z: np.ndarray) -> np.ndarray:
        # A root may be above a whole number by its rounding error.
        with np.errstate(over="ignore"):
            return np.maximum(np.ceil(np.expm1(z) * (1 - 1e-9) - 1e-9), 0.0) + 0.0

    def within(self, low: np.ndarray, high: np.ndarray, whole: bool = True) -> np.ndarray:
        with np.errstate(over="ignore"):
            if not whole:
                return np.maximum(np.expm1(np.stack([low, high])), 0.0)
            ends = self.off_line(low), np.floor(np.expm1(high) * (1 + 1e-9) + 1e-9)
        # Between two neighbours there is none: these are taken.
        return np.sort(np.maximum(np.stack(ends), 0.0), axis=0)

    def moments(self, f: np.ndarray, v: np.ndarray, s2: np.ndarray) -> Moments:
        mean = np.exp(np.clip(f, _LEAST_LOGARITHM, _LARGEST_LOGARITHM))
        # Derivative of log(1 + c) at the mean, which is at most 1 / mean.
        slope = 1 / (1 + mean)
        location = np.where(f > _LARGEST_LOGARITHM, f, np.log1p(mean))
        return Moments(location, np.maximum(s2, 1) * (slope * mean * slope) + v * (slope * mean) ** 2)

    def cdf(self, z: np.ndarray, f: np.ndarray, v: np.ndarray, s2: np.ndarray) -> np.ndarray:
        f, within = np.maximum(f, _LEAST_LOGARITHM), np.minimum(z, _LARGEST_LOGARITHM)
        wider = s2 > _POISSON
        p = 0.0 if np.all(wider) else 1 - _log_gamma_cdf(f, np.exp(within), v)
        if np.any(wider):
            phi = np.where(wider, s2, 2 * _POISSON)
            p = np.where(wider, _negative_binomial_cdf(np.expm1(within), f, v, phi), p)
        # The logarithm of a gamma variable of large shape is normal.
        return np.where(z > within, ndtr((z - f) / np.sqrt(v + np.maximum(s2, 1) * np.exp(-within))), p)

    def sample(self, f: np.ndarray, s2: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        with np.errstate(over="ignore"):
            mean = np.exp(f)
        wider = np.broadcast_to(s2 > _POISSON, mean.shape)
        if wider.any():
            excess = np.where(wider, s2 - 1, 1.0)
            gamma = rng.standard_gamma(np.minimum(mean, _LARGEST_MEAN) / excess) * excess
            mean = np.where(wider & np.isfinite(mean), gamma, mean)
        counts = rng.poisson(np.minimum(mean, _LARGE_MEAN)).astype(np.float64)
        return np.where(
            mean <= _LARGE_MEAN,
            counts,
            np.rint(mean * (1 + rng.standard_normal(mean.shape) / np.sqrt(np.maximum(mean, 1)))),
        )
