"""The tasks of a fit, as scikit-learn's callbacks see them (``sklearn.callback``, from scikit-learn 1.9).

A fit has a task for each candidate; these run side by side. A candidate has a task for each iteration, one after the
other::

    fit > candidate > iteration     a search among more candidates than members: of a single network, or a long table
    fit > member > iteration        as many candidates as members

A candidate that is dropped before its training has ended has a last task, "dropped": a progress bar gives it a line.
A "warm-up-iteration" is an iteration that ``n_iter_`` does not count. It runs on a part of the rows, or in a search
before training in batches. Hooks are called one at a time, though candidates train in threads. What a hook can ask for
is made when it asks. A hook finds torch's modes as the caller of the fit has them. A fit without callbacks has no tasks
at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import sklearn
import torch
from sklearn.base import BaseEstimator

from .backend import denormals_flushed, flushes_denormals
from .candidates import Start
from .losses import Loss
from .network import unrecorded
from .state import Linearisation, State
from .training import Training, Watch

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Explain why there is no ``set_callbacks``."""

        @property
        def set_callbacks(self) -> Any:
            """Raise an AttributeError: callbacks need a later scikit-learn."""
            raise AttributeError(f"set_callbacks needs scikit-learn >= 1.9; this is {sklearn.__version__}.")

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is: there are no callbacks to tear down."""
        return method


__all__ = ["CallbackSupportMixin", "CandidateTask", "FitTasks", "begin_fit", "with_callbacks"]

#: Function that returns fitted attributes. A copy with them is as if fitted by a training that ended at the state.
_Attributes = Callable[[State, Linearisation, Start, Loss], dict[str, Any]]


class _Hooks:
    """Call hooks with the estimator and the data of its fit, one at a time."""

    def __init__(self, estimator: BaseEstimator, X: Any, y: Any, sample_weight: Any) -> None:
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._arguments = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._lock, self._closed = threading.Lock(), False
        self._inference, self._grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        self._flushed = flushes_denormals()

    def call(self, hook: Callable[..., Any], attributes: Callable[[], dict[str, Any]] | None) -> bool:
        with (
            self._lock,
            denormals_flushed(self._flushed),
            torch.inference_mode(self._inference),
            torch.set_grad_enabled(self._grad),
        ):
            return not self._closed and bool(hook(**self._arguments, reconstruction_attributes=attributes))

    def close(self) -> None:
        """Call no hook from now on: a thread may go on for a while after another one has failed."""
        with self._lock:
            self._closed = True


class _Task:
    """A task that calls each of its hooks once; it ends only if it has begun."""

    def __init__(self, hooks: _Hooks, context: Any) -> None:
        self._hooks, self._context = hooks, context
        self._began = self._ended = False

    @property
    def runs(self) -> bool:
        return self._began and not self._ended

    def begin(self, attributes: Callable[[], dict[str, Any]] | None = None) -> None:
        if not self._began:
            self._began = True
            self._hooks.call(self._context.call_on_fit_task_begin, attributes)

    def end(self, attributes: Callable[[], dict[str, Any]] | None = None) -> bool:
        """End the task; return whether a callback asks to stop the task above it."""
        if not self.runs:
            return False
        self._ended = True
        return self._hooks.call(self._context.call_on_fit_task_end, attributes)


class CandidateTask(Watch):
    """The task of one candidate, and the tasks of its iterations."""

    def __init__(
        self, hooks: _Hooks, context: Any, attributes: Callable[[State, Linearisation], dict[str, Any]], warms_up: bool
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
        self._iteration.begin(self._attributes_of(training))

    def end_iteration(self, training: Training | None) -> None:
        iteration, self._iteration = self._iteration, None
        if iteration is not None:
            stop = iteration.end(None if training is None else self._attributes_of(training))
            self.stopped = self.stopped or stop

    def count_anew(self) -> None:
        self._name = "iteration"

    def drop(self) -> None:
        self.end_iteration(None)
        if self._task.runs:
            # As long as it has no subtasks, a progress bar does not show a task.
            task = _Task(self._hooks, self._context.subcontext(task_name="dropped", max_subtasks=1))
            task.begin()
            task.end()

    def end(self, training: Training) -> bool:
        self.end_iteration(None)
        return self._task.end(self._attributes_of(training) if training.state.arrived else None)

    def _attributes_of(self, training: Training) -> Callable[[], dict[str, Any]]:
        return partial(self._attributes, training.state, training.linearisation)


class FitTasks:
    """The task of a fit, which contains the tasks of the candidates."""

    def __init__(self, hooks: _Hooks, context: Any, attributes: _Attributes) -> None:
        self._hooks, self._context, self._attributes = hooks, context, attributes
        self._task = _Task(hooks, context)
        self._task.begin()

    def candidate(
        self, name: str, number: int, max_iter: int, warms_up: bool, start: Start, loss: Loss
    ) -> CandidateTask:
        """Make the task of a training from ``start``, with up to ``max_iter`` iterations.

        The first iterations may warm up.
        """
        # One more, in case it is dropped.
        context = self._context.subcontext(task_name=name, task_id=number, max_subtasks=max_iter + 1)

        def attributes(state: State, linearisation: Linearisation) -> dict[str, Any]:
            with unrecorded([start.network]):
                return self._attributes(state, linearisation, start, loss)

        return CandidateTask(self._hooks, context, attributes, warms_up)

    def end(self) -> None:
        """End the task: the estimator is fitted."""
        self._task.end(dict)

    def close(self) -> None:
        """Call no hook from now on."""
        self._hooks.close()


def begin_fit(
    estimator: Any, X: Any, y: Any, sample_weight: Any, attributes: _Attributes, n_candidates: int
) -> FitTasks | None:
    """Begin the task of a fit; return None without callbacks.

    The calling method must be decorated by :func:`with_callbacks`. ``attributes`` returns fitted attributes. With
    these, a copy of the estimator is as if fitted by a training that ended at the state.
    """
    if not getattr(estimator, "_skl_callbacks", None):
        return None
    context = estimator._init_callback_context(max_subtasks=n_candidates, sequential_subtasks=False)
    return FitTasks(_Hooks(estimator, X, y, sample_weight), context, attributes)
