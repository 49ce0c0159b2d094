"""What an examination of a fit finds: lines in words, each with the numbers that it follows from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["SHOWN", "Finding", "Report", "counted"]

#: How many rows or names a line shows.
SHOWN = 5

_WIDTH, _TOPIC_WIDTH = 100, 14


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    Parameters
    ----------
    topic : str
        What it is about, the key in the report.
    verdict : str
        The answer in a few words.
    numbers : dict
        What the verdict follows from, by name.
    text : str
        The line as it is printed.
    advice : str or None
        What to try; None where nothing asks for a change.
    """

    topic: str
    verdict: str
    numbers: Mapping[str, Any]
    text: str
    advice: str | None = None


@dataclass(frozen=True)
class Report:
    """What :func:`skgn.diagnose` found; ``str(report)`` is what it prints.

    Parameters
    ----------
    name : str
        Class of the estimator.
    fit : tuple of Finding
        Findings about the fit itself.
    data : tuple of Finding
        Findings about its predictions for X, y.
    n_rows : int
        Rows of X with a positive weight.
    """

    name: str
    fit: tuple[Finding, ...]
    data: tuple[Finding, ...]
    n_rows: int

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.fit + self.data)

    def __getitem__(self, topic: str) -> Finding:
        found = {finding.topic: finding for finding in self}
        if topic not in found:
            raise KeyError(f"{topic!r} is not in this report; {list(found)} are.")
        return found[topic]

    @property
    def advice(self) -> list[str]:
        """What to try next, the most basic first; empty where all is fine."""
        return list(dict.fromkeys(finding.advice for finding in self if finding.advice is not None))

    def __repr__(self) -> str:
        asking = [finding.topic for finding in self if finding.advice is not None]
        return f"<Report on {self.name}: {', '.join(asking) + ' to look at' if asking else 'all fine'}>"

    def __str__(self) -> str:
        lines = [f"{self.name}, from the fit:", *map(_line, self.fit)]
        lines += [f"from the {counted(self.n_rows, 'row')} of X, y:", *map(_line, self.data)]
        steps = "; ".join(self.advice) or "nothing, no number above asks for a change"
        lines.append(textwrap.fill(f"Try next: {steps}.", _WIDTH, subsequent_indent="  ", break_long_words=False))
        return "\n".join(lines)


def counted(n: float, what: str) -> str:
    """A number and what it counts."""
    shown = f"{n:.10g}"
    return f"{shown} {what}" if shown == "1" else f"{shown} {what}s"


def _line(finding: Finding) -> str:
    head = ("! " if finding.advice else "  ") + finding.topic.ljust(_TOPIC_WIDTH)
    return textwrap.fill(finding.text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
