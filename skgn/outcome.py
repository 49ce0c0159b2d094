"""What a fit warns of: inputs far from 1, a penalty as alpha, too few observations, near copies, a poor end."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning

from .leave_one_out import MOST_OF_LABELS
from .status import Status
from .unfamiliar import outside
from .weighted_rows import has_fractions, kish, repeats
from .wording import counted

if TYPE_CHECKING:
    from .draws import Draw
    from .ensemble import Member
    from .inputs import Table
    from .losses import Loss
    from .rows import TrainingRows
    from .target import Target

__all__ = [
    "warn_of_failure",
    "warn_of_few_observations",
    "warn_of_inputs",
    "warn_of_large_networks",
    "warn_of_near_copies",
    "warn_of_penalty",
    "warn_of_short_block",
    "warn_of_single_precision",
    "warn_of_uneven_weights",
]

#: What to do where extreme targets hide what the other rows tell.
_WHEN_HIDDEN = (
    "A linear model of their ranks tells more. If such targets are errors, mend them, or set {}. If they are as "
    "they should be, fit the logarithm of y, or the like (TransformedTargetRegressor)."
)

#: Penalties of ``MLPRegressor`` are smaller than this; few output scales are.
_LARGEST_PENALTY = 0.1

#: Least noise, in standard deviations of the target, beside which sums in float32 are exact enough: the root of a
#: hundred times its rounding unit.
_SINGLE_NOISE = 3e-3

#: Least mean of sample weights; weights with a smaller mean were probably not meant as repetitions.
_SMALL_WEIGHT = 0.1

#: Weights are uneven if Kish's effective number of rows is less than this part of their sum.
_UNEVEN = 0.5

#: Of networks that take so many times as long as they may, a fit says so before it begins.
_TIMES_LARGE = 2

#: Sizes between which the largest value of an unscaled column may be.
_RAW_SIZES = 1e-2, 1e2


def warn_of_penalty(estimator: Any) -> None:
    """Warn of an alpha that looks like the L2 penalty of scikit-learn's networks, unless there is a penalty beside."""
    if isinstance(estimator.l2_regularization, str) and estimator.alpha < _LARGEST_PENALTY:
        warnings.warn(
            f"alpha={estimator.alpha:g} is a factor on the output of the network. The L2 penalty, which MLPRegressor "
            "and MLPClassifier call alpha, is l2_regularization here; its default, 'evidence', estimates the penalty. "
            "Leave alpha at 1, or set a float l2_regularization.",
            UserWarning,
            stacklevel=outside(),
        )


def warn_of_large_networks(estimator: Any, draw: Draw) -> None:
    """Warn of networks whose evidence takes far longer than it may, before they are trained."""
    # Where no solver has the evidence, the plan of the fit refuses it.
    if _TIMES_LARGE < draw.times < math.inf and estimator.max_time is None:
        warnings.warn(
            f"Networks of {draw.starts[0].network.n_weights} weights take {draw.times:.0f} times as long as they may "
            "where hidden_layer_sizes='auto' chooses them. This fit may take minutes. Take 'auto', which is seldom "
            "worse, or fewer units. max_time ends the fit sooner.",
            UserWarning,
            stacklevel=outside(),
        )


def warn_of_inputs(estimator: Any, table: Table, rows: TrainingRows) -> None:
    """Warn of inputs that tell nothing, and of unscaled ones far from 1, unless a module reads them."""
    if rows.inputs_are_equal():
        warnings.warn(
            "No column of X tells rows apart: each has one value, none that is known, or levels that come once. "
            "Predictions are constant.",
            UserWarning,
            stacklevel=outside(),
        )
    if "raw" not in table.scalings or estimator.network is not None:
        return
    largest = rows.largest_inputs()
    sizes = largest[largest > 0]  # columns of zeros do no harm
    if len(sizes) and (sizes.min() < _RAW_SIZES[0] or sizes.max() > _RAW_SIZES[1]):
        warnings.warn(
            "standardize=False takes X as it is, and the largest values of its columns are from "
            f"{sizes.min():.2g} to {sizes.max():.2g}. Starts and priors are made for inputs near 1: here the fit may "
            "be poor and its standard deviations wrong. Rescale the columns, or use standardize=True.",
            UserWarning,
            stacklevel=outside(),
        )


def warn_of_few_observations(estimator: Any, n_rows: int, total_weight: float) -> None:
    """Warn if weights seem normalised to a sum of 1: the evidence would see a single observation.

    Exposures of rates have any unit.
    """
    repeated = estimator._target.exposure is None
    if repeated and isinstance(estimator.l2_regularization, str) and total_weight < _SMALL_WEIGHT * n_rows:
        seen = counted(float(f"{total_weight:.3g}"), "observation")
        warnings.warn(
            f"sample_weight has a mean of {total_weight / n_rows:.2g} over {n_rows} rows. Weights are repetitions, so "
            f"the evidence sees {seen} and regularises accordingly. That is right where the rows of a group are to be "
            "one observation. Otherwise rescale them to a mean of 1, or set a float l2_regularization.",
            UserWarning,
            stacklevel=outside(),
        )


def warn_of_uneven_weights(estimator: Any, target: Target, weight: np.ndarray) -> None:
    """Warn if weights (n,) with fractions, that the evidence takes as they are, tell much less than their sum says.

    Weights of counts may be exposures.
    """
    total = float(weight.sum())
    taken = target.training_loss().target_kind != "counts" and isinstance(estimator.l2_regularization, str)
    if not taken or not has_fractions(weight) or repeats(len(weight), total):
        return
    effective = kish(weight)
    if effective < _UNEVEN * total:
        rare = ", or set class_weight where rare classes are to count for more" * is_classifier(estimator)
        warnings.warn(
            f"sample_weight has a sum of {total:.3g}, and as weights of a mean it is worth {effective:.3g} equal rows. "
            "Weights are repetitions: intervals are too narrow and left_out_score_ promises too much, unless a weight "
            f"is the inverse of a row's variance. Otherwise multiply them by {effective / total:.2g}{rare}.",
            UserWarning,
            stacklevel=outside(),
        )


def warn_of_near_copies(estimator: Any, rows: TrainingRows) -> bool:
    """Warn if most rows are near copies of others, or were made between these; return whether they are.

    A given l2 rests on no left-out samples.
    """
    copies = rows.near_copies(estimator._target) if isinstance(estimator.l2_regularization, str) else None
    if copies is None:
        return False
    whose = "Most rows" if copies.label is None else f"Most rows of class {estimator.classes_[copies.label]!s}"
    promise = "A fit takes them for observations: left_out_score_ promises too much, and predictions may follow noise."
    if copies.between:
        text = (
            f"{whose} lie on a line between two others, as SMOTE makes them. {promise} Fit to the rows without these. "
            "Where a rare class is to count for more, set class_weight."
        )
    else:
        text = (
            f"{whose} are near copies of others with the same target, as of augmentation or rounding. {promise} Fit "
            "without the copies"
        )
        text += "." if is_classifier(estimator) else ", or give all copies of a row a sample_weight of 1 together."
    warnings.warn(text, UserWarning, stacklevel=outside())
    return True


def warn_of_short_block(members: Sequence[Member], total_weight: float) -> None:
    """Warn of a first block after a fit of these members, if its observations are too few to stand for the fit's."""
    needed = max(min(len(member.weights), member.total_weight) for member in members) / 2
    if total_weight < needed:
        warnings.warn(
            f"A stream does not know which weights the {members[0].total_weight:g} observations of the fit determine: "
            f"the {total_weight:g} of its first block have to tell. Predictions and standard deviations may become "
            f"much worse. Begin with {math.ceil(needed)} observations or more, or fit to all rows.",
            UserWarning,
            stacklevel=outside(),
        )


def warn_of_single_precision(estimator: Any) -> None:
    """Warn if the noise of a fit in float32 is so small that sums of its products have too few digits beside it."""
    known = [member.posterior for member in estimator.estimators_ if member.posterior is not None]
    least = math.sqrt(min((posterior.noise_variance.min() for posterior in known), default=math.inf))
    if estimator.dtype == "float32" and least < _SINGLE_NOISE:
        warnings.warn(
            f"The noise is {least:.2g} of the target's standard deviation, and dtype='float32' has too few digits "
            "beside it: standard deviations and samples are not to be trusted. Fit with dtype='float64'.",
            UserWarning,
            stacklevel=outside(),
        )


def warn_of_failure(estimator: Any, loss: Loss) -> None:
    """Warn, on behalf of ``fit``, if it has not converged or has failed; ``loss`` is that of the fit."""
    if estimator.status_ == Status.NO_SKILL:
        score = f"Their D2, left_out_score_, is {estimator.left_out_score_:.2g}; see diagnose."
        if estimator.estimators_[0].status == Status.MAX_ITER:
            score += f" The limit max_iter={estimator.max_iter} was reached."
        warnings.warn(f"{estimator.status_message_} {score}", UserWarning, stacklevel=outside())
    elif estimator.status_ == Status.EXTREMES:
        hidden = _WHEN_HIDDEN.format(loss.robust_losses.replace('"', "'"))
        warnings.warn(f"{estimator.status_message_} {hidden}", UserWarning, stacklevel=outside())
    elif not Status(estimator.status_).converged and estimator.status_ != Status.CALLBACK:
        limits = f"max_iter={estimator.max_iter}, max_time={estimator.max_time}, tol={estimator.tol:g}"
        warnings.warn(f"{estimator.status_message_} ({limits})", ConvergenceWarning, stacklevel=outside())
    if is_classifier(estimator) and _may_know_by_heart(estimator):
        best = estimator.estimators_[0]
        warnings.warn(
            f"The best network has {best.n_effective_parameters:.0f} effective parameters for {best.total_weight:g} "
            "labels: it may know them by heart, and nothing tells what it predicts of other rows. Score it on new "
            "rows, and compare hidden_layer_sizes=(), fewer columns, or n_estimators='auto'.",
            UserWarning,
            stacklevel=outside(),
        )
    if estimator._unfulfilled:
        warnings.warn(estimator._unfulfilled, UserWarning, stacklevel=outside())


def _may_know_by_heart(estimator: Any) -> bool:
    """Whether the evidence could not tell what is predicted of labels left out, and the best network may know all."""
    best = estimator.estimators_[0]
    if not isinstance(estimator.l2_regularization, str) or not math.isnan(estimator.left_out_score_):
        return False
    return bool(best.n_effective_parameters > MOST_OF_LABELS * best.total_weight)
