"""Candidates that are drawn once the first ones have been trained: for what these lack, or in the place of failed ones.

Each of :data:`FURTHER` looks at the candidates that are left, and draws more where there is a reason to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .candidates import Start, half_rectified
from .discriminant import DISCRIMINANT, discriminant_of, seconds_to_tell
from .draws import (
    Draw,
    crossed,
    deeper_starts,
    discriminant_start,
    forest_start,
    linear_start,
    narrowed_count,
    narrowed_starts,
    radial_start,
    redrawn_count,
    starts_reading,
    steepest_starts,
)
from .forest import FEWEST_ROWS, FOREST, N_TREES, grow, seconds_to_grow
from .ground import ENOUGH, Ground
from .left_over import left_over
from .mixture import mixture_mean
from .piecewise import FINER
from .plan import Plan
from .problem import Problem
from .progress import (
    deepened,
    narrowed,
    of_all_columns,
    of_discriminant,
    of_forest,
    of_radial_units,
    of_waves,
    redrawn,
    refined,
    stepped,
)
from .radial import RADIAL, Radial, equal_metrics, paths_of, told_metrics
from .redrawing import Like, unlike_rectified, where_failed, where_nothing_is_found, where_weights_are_few
from .relevance import feature_slopes
from .scaler import BASE
from .screening import useful_columns
from .skill import loss_of_constant
from .stacking import is_exact, left_out_losses
from .steps import STEPS, seconds_to_cut, step_scaler, steps_of
from .trials import Trained
from .waves import WAVES, wave_scaler

__all__ = ["FURTHER", "More"]


#: Steps, and a model of labels beside the networks, may take this part of the time of a fit. Normal distributions may
#: take so many seconds.
_PART_FOR_MODELS, _MOST_SECONDS = 0.1, 5.0


class More(NamedTuple):
    """Starts of more candidates, the ``first`` number of these, lines about them, and the problem that they read.

    So many ``n_more`` members are kept than before.
    """

    starts: Sequence[Start]
    first: int
    lines: Sequence[str]
    problem: Problem
    n_more: int = 0


def narrow(problem: Problem, draw: Draw, plan: Plan, trained: Trained) -> More | None:
    """Draw more candidates, which read the columns of use alone, where few are of use.

    The best candidate of each scaling tells which columns these are. The short starts of a single network have not come
    so far, and a single one that goes on has no others beside it.
    """
    if (draw.n_members == 1 and (plan.searches or draw.go_on)) or not narrowed_count(draw.starts, draw.n_rows):
        return None
    if any(start.columns is not None for start in draw.starts):
        # Networks that go on read what was of use before.
        return None
    columns: dict[str, np.ndarray] = {}
    for best in sorted(trained.candidates, key=lambda candidate: candidate.rank):
        if best.start.scaling not in columns and best.left_out is not None:
            objective = problem.on_columns(best.start, best.state)
            columns[best.start.scaling] = useful_columns(best.state, best.left_out, objective)
    # Networks of many columns take far longer than the first ones, which read leading directions of all.
    starts = [start for start in narrowed_starts(draw.starts, columns, draw.n_rows) if problem.affords(start)]
    names = dict.fromkeys(start.scaling for start in starts)
    lines = [narrowed(name, columns[name], sum(start.scaling == name for start in starts)) for name in names]
    return More(starts, draw.numbers.narrowed, lines, problem)


def straighten(problem: Problem, draw: Draw, plan: Plan, trained: Trained) -> More | None:
    """Draw a linear network of all columns, where the others read the leading directions of these."""
    like = next((start for start in draw.starts if problem.leaves_out_inputs(start)), None)
    if like is None or draw.go_on:
        return None
    start = linear_start(draw.starts, like)
    if problem.leaves_out_inputs(start):
        return None
    return More([start], draw.numbers.linear, [of_all_columns()], problem)


def redraw(problem: Problem, draw: Draw, plan: Plan, trained: Trained) -> More | None:
    """Draw more candidates, from steeper units, in the place of those that have failed or do not count."""
    count = redrawn_count(draw.starts, draw.n_members)
    like = _like(problem, draw, plan, trained) if count else None
    if like is None:
        return None
    drawn = steepest_starts(like.starts, count, crossed(draw.starts))
    return More(drawn, draw.numbers.redrawn, [redrawn(like.failed, count)], problem)


def _like(problem: Problem, draw: Draw, plan: Plan, trained: Trained) -> Like | None:
    """Starts that more candidates are drawn like; None if there is no reason to draw any."""
    samples, members = trained.samples, trained.starts
    if problem.loss.has_scale:
        losses, objective, loss = left_out_losses(samples), samples.objective, samples.loss
        # At the level of clean noise, outliers are most of Huber's loss, whatever is found: there the first level, at
        # which they are less of it, is that of the constant.
        of_constant = loss_of_constant(objective, loss) if loss.most_likely_up_to > 0 else objective.loss_at_zero
        converged = trained.states[int(losses.argmin())].status.converged
        return where_failed(draw.starts, members, losses, of_constant, converged, plan.rows)
    like = where_nothing_is_found(draw.starts, len(members), trained.score)
    if like is None and half_rectified(draw.starts):
        like = unlike_rectified(draw.starts, members, trained.weights, plan.rows)
    return like


def surround(problem: Problem, draw: Draw, plan: Plan, trained: Trained) -> More | None:
    """Draw a network of radial units. Features count alike, or by what they do in the mixture of the others."""
    # Columns are scaled for the candidates that read them: of the draw there may be none.
    if draw.surroundings is None or BASE not in problem.scaled:
        return None
    base, network, features, n_more = draw.surroundings
    columns, weight, labels = problem.scaled[BASE], problem.sample_weight, problem.loss.has_temperature
    samples, votes = trained.samples, trained.weights
    slopes = feature_slopes(trained.predictors, votes, problem.scaled, features, weight, BASE, base.n_straight)
    learned = float(votes @ samples.allowances) * samples.objective.total_weight
    of_columns = slopes[features[BASE]]
    paths = paths_of(len(of_columns), base.n_straight)
    if labels:
        paths = paths[:1]  # straight columns tell less of them (docs/decisions.md)
    metrics = [*equal_metrics(paths), *told_metrics(of_columns, paths, base.n_straight, learned, len(columns))]
    radial = Radial.of(base, columns, metrics, problem.Y, weight, labels)
    if radial is None:
        return None
    start = radial_start(draw.starts, network, radial)
    lines = [of_radial_units(len(radial.units.centres))]
    return More([start], draw.numbers.radial, lines, problem.with_more({RADIAL: radial.units}), n_more)


def wave(problem: Problem, draw: Draw, plan: Plan, trained: Trained) -> More | None:
    """Draw more candidates, which read waves along the features that left-out residuals repeat along."""
    refinable = draw.refinable
    if refinable is None or BASE not in problem.scaled:
        return None
    exact = is_exact(trained.samples, problem.settings.tol)
    lacking = None if exact else left_over(trained.samples, trained.weights)
    scaler = None if lacking is None else wave_scaler(refinable.scaler, problem.scaled[BASE], lacking)
    if scaler is None:
        return None
    starts = starts_reading(WAVES, draw.starts, refinable, scaler, plan.rows)
    lines = [of_waves(len(scaler.columns) // 2, len(starts))]
    return More(starts, draw.numbers.waves, lines, problem.with_more({WAVES: scaler}))


def refine(problem: Problem, draw: Draw, plan: Plan, trained: Trained) -> More | None:
    """Draw more candidates, which read pieces of the features that left-out residuals still depend on."""
    refinable = draw.refinable
    if refinable is None or BASE not in problem.scaled:
        return None
    lacking = left_over(trained.samples, trained.weights)
    scaler = None if lacking is None else refinable.refined(problem.scaled[BASE], lacking)
    if scaler is None:
        return None
    starts = starts_reading(FINER, draw.starts, refinable, scaler, plan.rows)
    lines = [refined(len(np.unique(scaler.columns)), len(starts))]
    return More(starts, draw.numbers.finer, lines, problem.with_more({FINER: scaler}))


def step(problem: Problem, draw: Draw, plan: Plan, trained: Trained) -> More | None:
    """Draw more candidates, which read the steps of a forest, where it predicts left-out rows better."""
    refinable = draw.refinable
    # Ends of trees are means, which are neither quantiles nor of logarithms.
    means = problem.loss.target_kind != "logarithms" and not problem.loss.predicts_quantiles
    if refinable is None or BASE not in problem.scaled or not means:
        return None
    labels, n_read = problem.loss.has_temperature, refinable.network.hidden_inputs.stop
    if seconds_to_cut(problem.n_samples, n_read, labels) > _PART_FOR_MODELS * problem.max_time:
        return None
    if trained.counted is None:
        return None
    members, votes = trained.counted
    values = [members.loss.inverse_link(each.outputs) for each in members.outputs if each is not None]
    mixture = mixture_mean(values, votes).cpu().numpy()
    columns, Y, weight = (part[: len(mixture)] for part in (problem.scaled[BASE], problem.Y, problem.sample_weight))
    steps = steps_of(columns[:, :n_read], Y, weight, mixture, labels)
    if not steps:
        return None
    scaler = step_scaler(refinable.scaler, steps, columns, weight)
    starts = starts_reading(STEPS, draw.starts, refinable, scaler)
    lines = [stepped(len(steps), len(starts))]
    return More(starts, draw.numbers.steps, lines, problem.with_more({STEPS: scaler}))


def deepen(problem: Problem, draw: Draw, plan: Plan, trained: Trained) -> More | None:
    """Draw networks of two hidden layers, where those of one have too few weights for what the rows tell."""
    refinable = draw.refinable
    if refinable is None or not (refinable.has_free_layers and problem.loss.has_scale and BASE in problem.scaled):
        return None
    if is_exact(trained.samples, problem.settings.tol):
        return None
    like = where_weights_are_few(trained.starts, trained.weights, trained.states, plan.rows)
    if like is None:
        return None
    starts = deeper_starts(draw.starts, refinable, like)
    return More(starts, draw.numbers.deeper, [deepened(len(starts))], problem)


def discriminate(problem: Problem, draw: Draw, plan: Plan, trained: Trained) -> More | None:
    """Draw a network that reads log odds of normally distributed classes, where they tell left-out labels better."""
    ground = _ground_for_more(problem, draw)
    if ground is None:
        return None
    seconds = seconds_to_tell(problem.n_samples, ground.network.hidden_inputs.stop, ground.network.n_outputs)
    if trained.score > ENOUGH or seconds > min(_MOST_SECONDS, _PART_FOR_MODELS * problem.max_time):
        return None
    told = discriminant_of(ground, problem.scaled[BASE], problem.Y, problem.sample_weight, trained.score)
    if told is None:
        return None
    start = discriminant_start(draw.starts, ground, told.scaler)
    more = problem.with_more({DISCRIMINANT: told.scaler}, {DISCRIMINANT: told.columns})
    return More([start], draw.numbers.discriminant, [of_discriminant()], more, ground.n_more)


def plant(problem: Problem, draw: Draw, plan: Plan, trained: Trained) -> More | None:
    """Draw a network that reads what a forest says of labels, where the others do not tell nearly all of them."""
    ground = _ground_for_more(problem, draw)
    if ground is None or problem.n_samples < FEWEST_ROWS:
        return None
    seconds = seconds_to_grow(problem.n_samples, ground.network.hidden_inputs.stop)
    if seconds > _PART_FOR_MODELS * problem.max_time or trained.score > ENOUGH:
        return None
    seed = np.random.RandomState([start.seed for start in draw.starts]).randint(np.iinfo(np.int32).max)
    told = grow(ground, problem.scaled[BASE], problem.Y, problem.sample_weight, seed)
    if told is None:
        return None
    start = forest_start(draw.starts, ground, told.scaler)
    more = problem.with_more({FOREST: told.scaler}, {FOREST: told.columns})
    return More([start], draw.numbers.forest, [of_forest(N_TREES)], more, ground.n_more)


def _ground_for_more(problem: Problem, draw: Draw) -> Ground | None:
    """What models of labels stand on. Columns are scaled for the candidates that read them, which may be none."""
    return draw.ground if BASE in problem.scaled else None


_Drawing = Callable[[Problem, Draw, Plan, Trained], More | None]

#: What draws more, in turn.
FURTHER: Sequence[_Drawing] = (narrow, redraw, surround, wave, refine, step, deepen, straighten, discriminate, plant)
