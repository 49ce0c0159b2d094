"""The loop of one network: linearise, find a step, arrive at its weights, judge whether training ends there.

At each iterate the prior may re-estimate itself. The damping rule says how far to trust the linearisation. Training can
be stopped and resumed between iterations, so that an ensemble can compare its candidates on the way. What an iteration
does is left to a :class:`Stepper`: a full step, a pass over batches, or a pass over a block of a stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from .backend import denormals_flushed
from .damping import DampingRule, Iterate
from .history import figures, line
from .objective import Objective
from .settings import ITERATIONS, Settings
from .state import Linearisation, State, Step
from .status import Status
from .stopping import is_held_back, judged, to_go_back_to, validation_loss

__all__ = ["Stepper", "Training", "Watch"]


class Stepper(Protocol):
    """What an iteration does: from a state, with the linearisation at its weights, to a step."""

    @property
    def rule(self) -> DampingRule: ...

    def linearise(self, state: State) -> Linearisation:
        """Return the linearisation of a state; its parts are made when they are asked for."""
        ...

    def step(self, state: State, linearisation: Linearisation, pause: Callable[[], bool]) -> Step | Status:
        """Return a step, or the reason why there is none. A long step ends soon after ``pause()`` has become true."""
        ...

    def conclude(self, state: State, linearisation: Linearisation) -> Linearisation:
        """Return the linearisation that posterior and left-out predictions of a finished state rest on."""
        ...


class Watch:
    """Follow the course of a training; ``stopped`` may ask it to end.

    This class does nothing.
    """

    stopped = False

    def begin(self) -> None:
        """The training is about to run."""

    def begin_iteration(self, training: Training) -> None:
        """The training has arrived at its weights and looks for a step."""

    def end_iteration(self, training: Training | None) -> None:
        """The training has arrived at the weights of the step, if an iteration was open.

        None means that there was no step.
        """

    def count_anew(self) -> None:
        """The iterations that count begin with the next one."""

    def drop(self) -> None:
        """The training does not go on: it is dropped."""

    def end(self, training: Training) -> bool:
        """The training has ended. Return whether the other trainings have to end too."""
        return False


class Training:
    """The training of one network; :meth:`run` advances its ``state``, and :meth:`finish` ends it.

    Parameters
    ----------
    state : State
        Where training begins.
    stepper : Stepper
    settings : Settings
    validation : Objective, optional
        Validation data, with which training stops early.
    watch : Watch, optional
    judge : callable, default=judged
        Function of a state where training has arrived, of what the damping rule is told, and of the settings. It
        returns the state with the status that it has for them.
    seconds : float, default=0
        Time that earlier rows of the history have taken.
    """

    state: State
    #: The linearisation at the weights of the state.
    linearisation: Linearisation

    def __init__(
        self,
        state: State,
        stepper: Stepper,
        settings: Settings,
        validation: Objective | None = None,
        watch: Watch | None = None,
        judge: Callable[[State, Iterate, Settings], State] = judged,
        seconds: float = 0.0,
    ) -> None:
        self.settings, self.watch = settings, Watch() if watch is None else watch
        self.validation, self._judge, self._seconds = validation, judge, seconds
        self._initial_weights = state.at.w
        self.go_on(state, stepper)

    def go_on(self, state: State, stepper: Stepper) -> None:
        """Go on from another state, such as the present one on other rows, and with another stepper."""
        self._stepper = stepper
        self._move(state)

    def _move(self, state: State) -> None:
        """Take a state with other weights. The old linearisation goes before the parts of a new one are made."""
        self.state, self.linearisation = state, self._stepper.linearise(state)

    @property
    def last_linearisation(self) -> Linearisation:
        """The linearisation that left-out predictions rest on, if training ends at these weights."""
        if self.state.finished:
            return self.linearisation
        return self._stepper.conclude(self.state, self.linearisation)

    def forget(self) -> None:
        """Give back the memory of the linearisation; it is made again if it is asked for."""
        self._move(self.state)

    @denormals_flushed()
    def run(self, until: int, decrease: float = 0.0, pause: Callable[[], bool] | None = None) -> None:
        """Iterate until ``until`` iterations are done or training ends; the state's status tells which.

        The loop also ends after an iteration that lowers the objective by less than the fraction ``decrease``, or after
        which ``pause()`` is true. An interrupt leaves training at its last iterate.
        """
        pause = pause or _never
        began, before = time.perf_counter() - self._seconds, self.state
        try:
            while self.state.status is Status.RUNNING:
                if not self.state.arrived:
                    self._arrive(began)
                    self.watch.end_iteration(self)
                state = self.state
                if state.status is not Status.RUNNING or state.n_iter >= until or self.watch.stopped or pause():
                    break
                before = state
                self.watch.begin_iteration(self)
                step = self._stepper.step(state, self.linearisation, pause)
                if isinstance(step, Status):
                    self.state = replace(state, status=step, readout_first=False)
                    self.watch.end_iteration(None)
                    break
                self._move(state.after(step))
                if decrease > 0 and step.actual < decrease * state.value(state.at):
                    break
        except KeyboardInterrupt:
            self._move(before)
            raise
        finally:
            self._seconds = time.perf_counter() - began

    def _arrive(self, began: float) -> None:
        """Re-estimate the prior at the present weights, record, and judge whether to stop."""
        state = self.state
        # Evidence is that of weights near the most likely ones, and a step that is held back does not come near them.
        if state.n_iter > 0 and not is_held_back(state, self.settings):
            state = state.estimated(self.linearisation.direction)
            if state.objective.data_loss.renews_gradient:
                self.linearisation = self.linearisation.renewed(state)
        iterate = self.linearisation.iterate(state)
        damping = self._damping(state, iterate)
        seconds = time.perf_counter() - began
        row = figures(state, iterate, self._initial_weights, seconds)
        if self.settings.verbose >= ITERATIONS:
            self.settings.report(self.settings.name + line(state.n_iter, row), at=ITERATIONS)
        if self.validation is not None:
            row["validation_loss"] = validation_loss(state, self.validation)
        state = replace(state, damping=damping, history=(*state.history, row))
        state = self._judge(state, iterate, self.settings)
        self.state = replace(state, step=None, arrived=True)

    def _damping(self, state: State, iterate: Iterate) -> float:
        step, rule = state.step, self._stepper.rule
        if step is not None and step.damping is not None:
            return rule.accepted(step.damping, step.gain_ratio, iterate)
        return rule.initial(iterate) if step is not None or state.damping is None else state.damping

    @denormals_flushed()
    def finish(self, reason: Status) -> None:
        """End training, for ``reason`` if nothing else has ended it, at the best weights if these are worth it."""
        if not self.state.arrived:
            self._arrive(time.perf_counter() - self._seconds)
        state = self.state
        if state.status is Status.RUNNING:
            state = replace(state, status=Status.CALLBACK if self.watch.stopped else reason)
        best, state = to_go_back_to(state), replace(state, best=None, finished=True)
        if best is None:
            self.state = state
        else:
            self._move(replace(state, objective=best.objective, estimates=best.estimates, at=best.at))
        self.linearisation = self._stepper.conclude(self.state, self.linearisation)


def _never() -> bool:
    return False
