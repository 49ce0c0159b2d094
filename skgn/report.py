"""Results of an examination of a fit: lines in words, each with the numbers that it follows from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .wording import counted

__all__ = ["Finding", "Report", "filled"]

_WIDTH, _TOPIC_WIDTH = 100, 14


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    Parameters
    ----------
    topic : str
        Subject of the line, which is its key in the report.
    verdict : str
        The answer in a few words.
    numbers : dict
        Numbers that the verdict follows from, by name.
    text : str
        The line as it is printed.
    advice : str or None
        Change to try; None if nothing asks for a change.
    """

    topic: str
    verdict: str
    numbers: Mapping[str, Any]
    text: str
    advice: str | None = None


@dataclass(frozen=True)
class Report:
    """Findings of :func:`skgn.diagnose`; ``str(report)`` is the text that it prints.

    Parameters
    ----------
    name : str
        Name of the estimator's class.
    fit : tuple of Finding
        Findings about the fit itself.
    data : tuple of Finding
        Findings about the predictions for X and y.
    n_rows : int
        Number of rows of X with a positive weight.
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
        """All advice, the most basic first; empty if nothing asks for a change."""
        all_of_it = dict.fromkeys(finding.advice for finding in self if finding.advice is not None)
        # Longer advice that begins with a shorter one says both.
        return [one for one in all_of_it if not any(other.startswith(f"{one},") for other in all_of_it)]

    def __repr__(self) -> str:
        asking = [finding.topic for finding in self if finding.advice is not None]
        return f"<Report on {self.name}: {', '.join(asking) + ' to look at' if asking else 'all fine'}>"

    def __str__(self) -> str:
        lines = [f"{self.name}, from the fit:", *map(_line, self.fit)]
        lines += [f"from the {counted(self.n_rows, 'row')} of X, y:", *map(_line, self.data)]
        steps = "; ".join(self.advice) or "nothing, no number above asks for a change"
        lines.append(textwrap.fill(f"Try next: {steps}.", _WIDTH, subsequent_indent="  ", break_long_words=False))
        return "\n".join(lines)


def _line(finding: Finding) -> str:
    return filled(("! " if finding.advice else "  ") + finding.topic.ljust(_TOPIC_WIDTH), finding.text)


def filled(head: str, text: str) -> str:
    """Return the text in lines beside its head."""
    return textwrap.fill(text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
