"""Learn how the noise depends on the inputs: from how far left-out samples are from what is predicted of them.

A fit with constant noise predicts each sample without it. Its squared residual over the predicted variance is z^2, or
where the mean of all is below 1, relative to that mean. Where the noise depends on the inputs, the mean of z^2 at x is
a function exp(g(x)). The variance at x is exp(g(x)) times that of constant noise. Half the gamma deviance of z^2
with a log link,

    (z^2 exp(-g) + g) / 2 + constant,

is minus the log likelihood of normal residuals in g, the logarithm of the variance. Its Fisher information about g is
1/2. So g is an ordinary fit of :class:`~skgn.losses.GammaLoss`, with precisions by the evidence. Its skill on left-out
samples is what it adds to the likelihood of these.

Then the members are trained on with the precisions exp(-g) of the rows, as in generalised least squares. Where quiet
rows are to be followed, the evidence would take noise of loud rows for a relation. What these members leave of left-out
samples tells g again. Means and scales are trained in turn, as a joint fit moves both by outliers of either.

References
----------
M. Davidian and R. J. Carroll, Variance function estimation, JASA 82 (1987).
T. S. Breusch and A. R. Pagan, A simple test for heteroscedasticity and random coefficient variation, Econometrica 47
(1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from .backend import linear_algebra_device
from .candidates import Kind, Level, Start
from .conformal import left_out_residuals
from .damping import as_rule
from .draws import Draw, draw_starts
from .ensemble import Ensemble, Member
from .feedforward import FeedForward
from .left_out_samples import LeftOutSamples
from .limits import Limits
from .losses import GammaLoss, Loss
from .mixture import UNSTRETCHED, Mixture, Stretch, mixture_mean, predictive_variance, voters
from .noise import InputNoise, Noisy, log_factor, member_logarithms
from .preprocessing import TargetScaler
from .prior_groups import PriorKind
from .problem import Problem
from .progress import weighing
from .screening import column_tests, products_of_two
from .search import train_members
from .settings import Settings
from .stacking import is_exact
from .status import Status
from .weighted_rows import mean_and_error, moments, weighted_quantile

__all__ = ["with_input_noise"]

#: Units of the members' hidden layer, and their priors (docs/decisions.md).
_UNITS, _PRIORS = 5, (PriorKind("layer"), PriorKind("feature"))

#: Training begins at the precision of the logarithm of squared normal residuals, by their Fisher information.
_LEVEL = Level(0.5)

#: Unless it is asked for, noise depends on the inputs under two conditions. Chance explains a test of some column,
#: cubic in it, at most so often. And the skill on left-out samples is above so many standard errors.
_SIGNIFICANT, _STANDARD_ERRORS = 0.01, 2.0

#: Squared residuals below and above these parts of their mean tell nothing more: logarithms have no end.
_SMALLEST, _LARGEST = 1e-6, 1e12

#: The factor and its inverse stay floats, whatever inputs that are not scaled give.
_LARGEST_LOG = 700.0

#: Seeds of the members that are trained on, below this.
_SEEDS = np.iinfo(np.int32).max

#: Members are trained on where rows that count alike tell so many times less than rows that count by their noise, or
#: less than that (docs/decisions.md).
_EFFICIENCY = 2.0

#: Squared errors of left-out samples, which are mostly those of loud rows, may grow by this part, or by chance.
_LARGER = 0.1

#: Factors of new rows stay between these quantiles of those of the training rows.
_BOUNDS = 0.02, 0.98


def with_input_noise(
    problem: Problem, starts: Sequence[Start], ensemble: Ensemble, limits: Limits, asked: bool
) -> Noisy:
    """Fit how the noise depends on the inputs to what an ensemble predicts of left-out samples.

    Where it does, the members that count are trained on with the precisions of the rows that follow. Then the noise is
    fitted to what these predict. Both stay where left-out samples are denser.

    Parameters
    ----------
    problem : Problem
        That of the ensemble, with the time that is left.
    starts : sequence of Start
        Those of the ensemble: of these are the inputs of the noise's network, and its random numbers.
    ensemble : Ensemble
    limits : Limits
        Of the whole fit.
    asked : bool
        Whether the noise is to depend on the inputs in any case; otherwise only where that predicts left-out samples
        better, and where the ensemble was not cut short.

    Returns
    -------
    noisy : Noisy
        Without noise where it is constant, where left-out samples cannot be predicted, and where there is no time.
    """
    known = _left_out_of(ensemble)
    exact = ensemble.left_out is not None and is_exact(ensemble.left_out, problem.settings.tol)
    if known is None or problem.max_time <= 0 or (not asked and (exact or _cut_short(ensemble))):
        return Noisy(ensemble, None)
    noise = _fit(problem, starts, known, known.relative, limits, asked)
    if noise is None:
        return Noisy(ensemble, None)
    found = Noisy(ensemble, noise)
    # Fewer iterations than are needed were asked for: no more of them.
    if not _cut_short(ensemble) and any(member.status != Status.MAX_ITER for member in ensemble.members):
        found = _trained_on(problem, starts, found, limits) or found
    return found._replace(ensemble=_beside(found, problem))


def _trained_on(problem: Problem, starts: Sequence[Start], before: Noisy, limits: Limits) -> Noisy | None:
    """Train the members that count with the precisions of a noise, and then the noise; None where that is no better.

    Where rows count alike, the variance of a coefficient is larger, on the whole, by the mean factor times the mean of
    its inverse. Where that is little, nothing is gained.
    """
    ensemble, noise = before
    assert noise is not None
    factor = noise.factor(problem.scaled, linear_algebra_device(problem.device)).clip(1 / _LARGEST, _LARGEST)
    level, precision = (moments(values, problem.sample_weight)[0] for values in (factor, 1 / factor))
    if (level * precision).max() < _EFFICIENCY:
        return None
    root = np.sqrt(level / factor)
    again = _with_precisions(problem, starts, ensemble, root, limits)
    earlier, known = _left_out_of(ensemble), None if again is None else _left_out_of(again, Stretch(noise=1 / root))
    if again is None or earlier is None or known is None or known.is_farther_off(earlier):
        return None
    # Residuals in these widths tell what the noise is beside what it was taken for.
    squares = known.relative / np.square(root[: len(known.rows)][known.rows])
    noise = _fit(problem, starts, known, squares, limits, asked=True)
    after = None if noise is None else Noisy(again, replace(noise, weighs_rows=True))
    return after if after is not None and _density(after, problem) > _density(before, problem) else None


def _with_precisions(
    problem: Problem, starts: Sequence[Start], ensemble: Ensemble, root: np.ndarray, limits: Limits
) -> Ensemble | None:
    """Train the members that count on, with root precisions (n, k) of the targets; None where they were cut short."""
    counted = voters([*zip(ensemble.members, ensemble.starts, strict=True)], ensemble.weights)[0]
    seeds = np.random.RandomState([start.seed for start in starts]).randint(_SEEDS, size=len(counted))
    # What the same samples have chosen, they have chosen still.
    own = [
        replace(
            member.start(int(seed)),
            columns=began.columns,
            alone=began.alone,
            scaler=began.scaler,
            log_choices=began.log_choices,
        )
        for (member, began), seed in zip(counted, seeds, strict=True)
    ]
    weighed = replace(problem.with_more(ensemble.scalings), root_precision=root)
    weighed.settings.report(weighing(len(own)))
    again = train_members(weighed, Draw(own, len(own), len(own), go_on=True), limits)
    if _cut_short(again):
        return None
    # The evidence is that of targets in their own units.
    of_units = float(problem.sample_weight @ np.log(root).sum(axis=1))
    members = [
        member if member.log_evidence is None else replace(member, log_evidence=member.log_evidence + of_units)
        for member in again.members
    ]
    return again._replace(members=members)


def _fit(
    problem: Problem,
    starts: Sequence[Start],
    known: _LeftOut,
    squares: np.ndarray,
    limits: Limits,
    asked: bool,
) -> InputNoise | None:
    """Fit a factor to squares (m, k) of left-out samples; None where it does not help, or was cut short."""
    # The first of the scalings, as its networks have the fewest weights.
    name, columns = next(iter(problem.scaled.items()))
    of_squares = replace(
        problem,
        loss=GammaLoss(),
        scaled={name: np.ascontiguousarray(columns[: len(known.rows)][known.rows])},
        Y=np.log(np.clip(squares, _SMALLEST, _LARGEST)),
        sample_weight=known.weight,
        validation=None,
        rule=as_rule("adaptive"),
        solver="auto",
        batch_size=None,
        settings=Settings(tol=1e-3, n_iter_no_change=7),
    )
    own = _starts(of_squares, starts)
    read = of_squares.scaled[name][:, : own[0].network.shapes[0][1] - 1]
    if not (asked or _depend(squares, read, known)):
        return None
    fitted = train_members(of_squares, Draw(own, len(own), len(own)), limits)
    if _cut_short(fitted):
        return None
    noise = _within_bounds(fitted, of_squares)
    return noise if asked or _predicts_better(noise, fitted, squares, known.weight, problem.loss) else None


def _depend(squares: np.ndarray, read: np.ndarray, known: _LeftOut) -> bool:
    """Whether squares (m, k) depend on a column, or on predictions or products of two columns: the score test.

    Gradients of the loss at g = 0 are 1 - z^2.
    """
    beside = np.hstack([known.means, products_of_two(read, known.weight)[0]])
    return any(column_tests(V, squares, known.weight).p.min() <= _SIGNIFICANT for V in (read, beside))


def _cut_short(ensemble: Ensemble) -> bool:
    """Whether an ensemble is not what it would be with more time."""
    stopped = any(member.status == Status.CALLBACK for member in ensemble.members)
    return stopped or ensemble.cut_by is not None or not ensemble.is_trained or bool(ensemble.shortened)


class _LeftOut(NamedTuple):
    """What an ensemble predicts of left-out samples: means, squared residuals and their predicted variances (m, k).

    The ``weight`` (m,) is that of the samples; ``rows`` (n,) tells which of the rows they are.
    """

    rows: np.ndarray
    means: np.ndarray
    squares: np.ndarray
    variances: np.ndarray
    weight: np.ndarray

    def is_farther_off(self, other: _LeftOut) -> bool:
        """Whether the squared errors, of all targets together, are larger than those of another ensemble."""
        both = self.rows & other.rows
        own, others = (each.squares[both[each.rows]].sum(axis=1) for each in (self, other))
        weight = self.weight[both[self.rows]]
        mean, error = mean_and_error(own - others, weight)
        return bool(mean > _LARGER * (weight @ others) / weight.sum() and mean > _STANDARD_ERRORS * error)

    @property
    def relative(self) -> np.ndarray:
        """Squared residuals (m, k) over their predicted variances, with a mean of at least 1."""
        relative = self.squares / self.variances
        # Of flexible networks, left-out residuals are a little too small: on the whole, no variance is to fall.
        return np.asarray(relative / np.minimum(self.weight @ relative / self.weight.sum(), 1))


def _left_out_of(ensemble: Ensemble, stretch: Stretch = UNSTRETCHED) -> _LeftOut | None:
    """None where left-out samples are not predicted, or without any error. The stretch (n, k) is that of all rows."""
    counted = _of_voters(ensemble)
    if counted is None:
        return None
    samples, members, weights = counted
    posteriors = [member.posterior for member in members if member.posterior is not None]
    if len(posteriors) < len(members):
        return None
    f, Y, weight = samples.corrected_rows
    rows = samples.predicted
    at = Stretch(*(None if factor is None else f.new_tensor(factor) for factor in stretch)).at(rows)
    noise = [f.new_tensor(posterior.noise_variance) for posterior in posteriors]
    mixture = Mixture(list(f), samples.variances, noise, weights).voting(ensemble.votes_by_row).stretched(at)
    variances = predictive_variance(TargetScaler.identity(Y.shape[1]), mixture)
    means = mixture_mean(mixture.outputs, mixture.weights)
    squares = (means - Y).square()
    if not bool((squares > 0).any(0).all()):
        return None
    found = (values.double() for values in (means, squares, variances, weight))
    return _LeftOut(*(values.cpu().numpy() for values in (rows, *found)))


class _Counted(NamedTuple):
    """What the members that count predict of left-out samples, and their weights."""

    samples: LeftOutSamples
    members: Sequence[Member]
    weights: np.ndarray


def _of_voters(ensemble: Ensemble) -> _Counted | None:
    """None if any member that counts cannot predict left-out samples."""
    counted = None if ensemble.left_out is None else ensemble.left_out.of_voters(ensemble.weights)
    if counted is None:
        return None
    samples, weights = counted
    return _Counted(samples, voters(ensemble.members, ensemble.weights)[0], weights)


def _density(found: Noisy, problem: Problem) -> float:
    """Mean log density of left-out samples; minus infinity where it is not known."""
    ensemble, noise = found
    known = None if noise is None else _left_out_of(ensemble, _stretch_at(noise, problem))
    if known is None:
        return -math.inf
    residual, scale = torch.from_numpy(known.squares).sqrt(), torch.from_numpy(known.variances)
    density = problem.loss.log_density(residual, scale / float(problem.loss.variance_factor)).numpy()
    return float(known.weight @ density / known.weight.sum())


def _stretch_at(noise: InputNoise, problem: Problem) -> Stretch:
    """Factors on distances at all rows of a problem."""
    return noise.stretch(problem.scaled, linear_algebra_device(problem.device))


def _beside(found: Noisy, problem: Problem) -> Ensemble:
    """Make the same ensemble with its left-out residuals in the widths that its noise predicts."""
    ensemble, noise = found
    known = _of_voters(ensemble)
    if noise is None or known is None or ensemble.residuals is None:
        return ensemble
    rows = known.samples.predicted.cpu().numpy()
    stretch = _stretch_at(noise, problem).at(rows)
    posteriors, of_scale = [member.posterior for member in known.members], ensemble.loss.variance_factor
    scales = [None if posterior is None else posterior.noise_in_mixture / of_scale for posterior in posteriors]
    residuals, tails = left_out_residuals(known.samples, scales, known.weights, stretch, ensemble.votes_by_row)
    return ensemble._replace(residuals=residuals, tails=tails)


def _starts(problem: Problem, starts: Sequence[Start]) -> list[Start]:
    """Draw the members: of a small network that reads the scaling of the problem."""
    (name,) = problem.scaled
    network = next(start.network for start in starts if start.scaling == name)
    if isinstance(network, FeedForward):
        # No more weights than the members have.
        hidden = tuple(min(_UNITS, width) for width in network.hidden_layer_sizes[:1])
        network = replace(network, hidden_layer_sizes=hidden, linear_path=True, alpha=1.0, init="random")
    else:
        network = FeedForward(problem.scaled[name].shape[1], problem.n_outputs, (_UNITS,))
    kinds = [Kind((name, network), _LEVEL, prior) for prior in _PRIORS]
    return draw_starts(kinds, len(kinds), False, np.random.RandomState([start.seed for start in starts]))


def _predicts_better(noise: InputNoise, fitted: Ensemble, squares: np.ndarray, weight: np.ndarray, loss: Loss) -> bool:
    """Whether left-out samples are denser under the factor than without it, by so many standard errors."""
    own = _of_voters(fitted)
    if own is None:
        return False
    predicted_rows = own.samples.predicted.cpu().numpy()
    outputs = list(own.samples.rows[0].double().cpu().numpy())
    factor = torch.from_numpy(np.exp(log_factor(outputs, own.weights, noise.low, noise.high)))
    residual, weight = torch.from_numpy(squares[predicted_rows]).sqrt(), weight[predicted_rows]
    densities = [
        loss.log_density(residual, scale / float(loss.variance_factor)) for scale in (factor, torch.ones_like(factor))
    ]
    if not weight.any():
        return False
    mean, error = mean_and_error((densities[0] - densities[1]).numpy(), weight)
    return bool(mean - own.weights @ own.samples.allowances > _STANDARD_ERRORS * error)


def _within_bounds(fitted: Ensemble, problem: Problem) -> InputNoise:
    """The members that count, as predictions need them, with the bounds of their factor."""
    members, weights = voters(fitted.members, fitted.weights)
    without_posterior = [replace(member, posterior=None, history={}) for member in members]
    outputs = member_logarithms(without_posterior, problem.scaled, linear_algebra_device(problem.device))
    of_rows = log_factor(outputs, weights, -_LARGEST_LOG, _LARGEST_LOG)
    low, high = (weighted_quantile(of_rows, problem.sample_weight, q) for q in _BOUNDS)
    return InputNoise(without_posterior, weights, low, high)
