"""Why a training has ended: a word, the sentence that says it, and whether it counts as converged."""

from __future__ import annotations

from enum import Enum

__all__ = ["Status"]


class Status(str, Enum):
    """Status of a training; its value is the plain word that estimators and stored models hold."""

    RUNNING = "running", False, "Training has not ended."
    GRADIENT = (
        "gradient",
        True,
        "Converged: the gradient promises no decrease above the rounding error of the objective.",
    )
    DECREASE = (
        "decrease",
        True,
        "Converged: predicted and actual decrease stayed within tol for n_iter_no_change iterations.",
    )
    EVIDENCE = "evidence", True, "Converged: the log evidence has not risen for n_iter_no_change iterations."
    EXACT = "exact", True, "Converged: the noise is at most tol standard deviations of the target."
    PRECISION = "precision", True, "Converged: the predicted decrease is below the rounding error of the objective."
    STREAM = "stream", True, "Trained in one pass on each block of rows given so far."
    VALIDATION = (
        "validation",
        True,
        "Stopped early: the validation loss did not improve for n_iter_no_change iterations.",
    )
    CALLBACK = "callback", False, "Stopped early: a callback asked for it."
    MAX_ITER = "max_iter", False, "Stopped short of the tolerance: max_iter iterations were used up."
    MAX_TIME = "max_time", False, "Stopped short: max_time allowed for no more."
    INTERRUPTED = "interrupted", False, "Stopped short of the tolerance: interrupted by the user."
    NO_SKILL = "no_skill", False, "Failed: samples left out of training are predicted worse than by a constant."
    EXTREMES = "extremes", False, "Failed: extreme targets hide what the other rows tell."
    NO_DESCENT = "no_descent", False, "Stopped short of the tolerance: no damping or step length lowers the objective."

    #: Whether training has come as far as was asked for, and the reason in a sentence.
    converged: bool
    sentence: str

    def __new__(cls, word: str, converged: bool = False, sentence: str = "") -> Status:
        status = str.__new__(cls, word)
        status._value_ = word
        status.converged, status.sentence = converged, sentence
        return status
