"""Settings that the trainings of a fit share: how long and how strictly to train, and what to report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Settings that all members share.

    ``project_readout`` asks for variable projection. It solves the readout for the hidden layers after every step and,
    under a squared error, first of all. It needs an objective that stays the same; where the evidence re-estimates it,
    the first steps overfit. A classifier that begins with a readout fitted to random features moves these too little.
    """

    max_iter: int = 100
    tol: float = 1e-4
    n_iter_no_change: int = 10
    project_readout: bool = False
    report: Callable[[str], None] | None = None

    def named(self, kind: str, number: int, count: int) -> Settings:
        """Make settings for one of several trainings; its lines name it."""
        report = self.report
        if report is None or count == 1:
            return self
        return replace(self, report=lambda line: report(f"{kind} {number + 1}/{count}  {line}"))
