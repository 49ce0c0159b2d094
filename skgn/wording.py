"""How messages write numbers with their nouns, lists and cells."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

__all__ = ["SHOWN", "abbreviated", "counted", "first_few"]

#: Largest number of rows or names in a line or a warning.
SHOWN = 5

#: Bits up to which an integer is written out; float64 has no larger ones.
_LONGEST_INTEGER = 1024


def abbreviated(cell: Any) -> str:
    """Write a cell in few characters."""
    if isinstance(cell, int) and cell.bit_length() > _LONGEST_INTEGER:
        return f"an integer of {cell.bit_length()} bits"
    return reprlib.repr(cell)


def counted(n: float, what: str) -> str:
    """Format a number with the noun that it counts."""
    shown = f"{round(n, 1) if n > 100 else n:.10g}"
    return f"{shown} {what}" if shown == "1" else f"{shown} {what}s"


def first_few(words: Sequence[str]) -> list[str]:
    """Keep the first few of a list, with dots for the others."""
    return [*words[:SHOWN], *["..."] * (len(words) > SHOWN)]
