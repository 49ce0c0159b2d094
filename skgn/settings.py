"""Settings that the trainings of a fit share: how long and how strictly to train, and what to print."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["CANDIDATES", "ITERATIONS", "Settings"]

#: Values of ``verbose``, from which lines about candidates and about iterations are printed.
CANDIDATES, ITERATIONS = 1, 2


@dataclass(frozen=True)
class Settings:
    """Settings that all members share.

    ``project_readout`` asks for variable projection. It solves the readout for the hidden layers after every step and,
    under a squared error, first of all. It needs an objective that stays the same; where the evidence re-estimates it,
    the first steps overfit. A classifier that begins with a readout fitted to random features moves these too little.
    The ``name`` of a training begins the lines about its iterations.
    """

    max_iter: int = 100
    tol: float = 1e-4
    n_iter_no_change: int = 10
    project_readout: bool = False
    verbose: int = 0
    name: str = ""

    def named(self, kind: str, number: int, count: int) -> Settings:
        """Make settings for one of several trainings; its lines name it."""
        return self if count == 1 else replace(self, name=f"{kind} {number + 1:2d}  ")

    def report(self, line: str, at: int = CANDIDATES) -> None:
        """Print a line if ``verbose`` is ``at`` or more."""
        if self.verbose >= at:
            # The line and its end in one call, because several threads print.
            print(f"{line}\n", end="")
