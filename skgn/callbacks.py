"""The tasks of a fit, as scikit-learn's callbacks are told of them (``sklearn.callback``, from scikit-learn 1.9).

A fit has a task for each candidate, side by side, and this one for each of its iterations, one after the other::

    fit > candidate > iteration     a search among more candidates than members: of a single network, or a long table
    fit > member > iteration        as many candidates as members

"warm-up-iteration" is an iteration before those that ``n_iter_`` counts: on a part of the rows, or of a search before
training in batches. Hooks are called one at a time, though candidates train in threads. What a hook can ask for is made
when it asks: a fit without callbacks has no tasks at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import sklearn
from sklearn.base import BaseEstimator

from .candidates import Start
from .losses import Loss
from .training import Training, Watch

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Says why there is no ``set_callbacks``."""

        @property
        def set_callbacks(self) -> Any:
            """Needs a later scikit-learn."""
            raise AttributeError(f"set_callbacks needs scikit-learn >= 1.9; this is {sklearn.__version__}.")

    def with_callbacks(method: Any) -> Any:
        """Leave the method as it is: there are no callbacks to tear down."""
        return method


__all__ = ["CallbackSupportMixin", "CandidateTask", "FitTasks", "begin_fit", "with_callbacks"]

#: The attributes that make a copy of the estimator one that was fitted by a training as it stands.
_Attributes = Callable[[Training, Start, Loss], dict[str, Any]]


class _Hooks:
    """Calls hooks with the estimator and the data of its fit, one at a time."""

    def __init__(self, estimator: BaseEstimator, X: Any, y: Any, sample_weight: Any) -> None:
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._arguments = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._lock, self._closed = threading.Lock(), False

    def call(self, hook: Callable[..., Any], attributes: Callable[[], dict[str, Any]] | None) -> bool:
        with self._lock:
            return not self._closed and bool(hook(**self._arguments, reconstruction_attributes=attributes))

    def close(self) -> None:
        """Call none from now on: a thread may go on for a while after another one has failed."""
        with self._lock:
            self._closed = True


class _Task:
    """A task whose hooks are called once each, that of its end only after that of its beginning."""

    def __init__(self, hooks: _Hooks, context: Any) -> None:
        self._hooks, self._context = hooks, context
        self._began = self._ended = False

    def begin(self, attributes: Callable[[], dict[str, Any]] | None = None) -> None:
        if not self._began:
            self._began = True
            self._hooks.call(self._context.call_on_fit_task_begin, attributes)

    def end(self, attributes: Callable[[], dict[str, Any]] | None = None) -> bool:
        """Whether a callback asks to stop what this task is one of."""
        if self._ended or not self._began:
            return False
        self._ended = True
        return self._hooks.call(self._context.call_on_fit_task_end, attributes)


class CandidateTask(Watch):
    """The task of one candidate and those of its iterations."""

    def __init__(
        self, hooks: _Hooks, context: Any, attributes: Callable[[Training], dict[str, Any]], warms_up: bool
    ) -> None:
        self._hooks, self._context, self._attributes = hooks, context, attributes
        self._task = _Task(hooks, context)
        self._iteration: _Task | None = None
        self._name = "warm-up-iteration" if warms_up else "iteration"

    def begin(self) -> None:
        self._task.begin()

    def begin_iteration(self, training: Training) -> None:
        self.end_iteration(None)
        self._iteration = _Task(self._hooks, self._context.subcontext(task_name=self._name))
        self._iteration.begin(partial(self._attributes, training))

    def end_iteration(self, training: Training | None) -> None:
        iteration, self._iteration = self._iteration, None
        if iteration is not None:
            stop = iteration.end(None if training is None else partial(self._attributes, training))
            self.stopped = self.stopped or stop

    def count_anew(self) -> None:
        self._name = "iteration"

    def end(self, training: Training) -> bool:
        self.end_iteration(None)
        return self._task.end(partial(self._attributes, training) if training.arrived else None)


class FitTasks:
    """The task of a fit, which those of the candidates are part of."""

    def __init__(self, hooks: _Hooks, context: Any, attributes: _Attributes) -> None:
        self._hooks, self._context, self._attributes = hooks, context, attributes
        self._task = _Task(hooks, context)
        self._task.begin()

    def candidate(
        self, name: str, number: int, max_iter: int, warms_up: bool, start: Start, loss: Loss
    ) -> CandidateTask:
        """The task of a training from ``start``, of up to ``max_iter`` iterations, the first of which may warm up."""
        context = self._context.subcontext(task_name=name, task_id=number, max_subtasks=max_iter)

        def attributes(training: Training) -> dict[str, Any]:
            return self._attributes(training, start, loss)

        return CandidateTask(self._hooks, context, attributes, warms_up)

    def end(self) -> None:
        """The estimator is fitted."""
        self._task.end(dict)

    def close(self) -> None:
        """Call no hook from now on."""
        self._hooks.close()


def begin_fit(
    estimator: Any, X: Any, y: Any, sample_weight: Any, attributes: _Attributes, n_candidates: int
) -> FitTasks | None:
    """Begin the task of a fit, in a method that is decorated by :func:`with_callbacks`; None without callbacks.

    ``attributes`` gives those that make a copy of the estimator one that was fitted by a training as it stands.
    """
    if not getattr(estimator, "_skl_callbacks", None):
        return None
    context = estimator._init_callback_context(max_subtasks=n_candidates, sequential_subtasks=False)
    return FitTasks(_Hooks(estimator, X, y, sample_weight), context, attributes)
