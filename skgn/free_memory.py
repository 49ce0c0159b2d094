"""How much memory a process may still take: of a device, of the machine, of its container, and by its own limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

try:
    import resource
except ImportError:  # not on Windows, where a process has no such limits
    resource = None  # type: ignore[assignment]

__all__ = ["available_memory"]

#: Folder and files of a control group, by its version: the limit, what is used, and the name of what can be given back
#: of it in ``memory.stat``.
_VERSION_1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = ("", "memory.max", "memory.current", "inactive_file")

#: Where there is no limit, version 1 has the largest number that it can write, in whole pages.
_NO_LIMIT = 2.0**62

#: Limits of a process, and the field of ``/proc/self/statm`` with the pages that count for each.
_PROCESS_LIMITS = {"RLIMIT_AS": 0, "RLIMIT_DATA": 5}


def available_memory(device: torch.device, root: Path = Path("/")) -> float:
    """Bytes that can still be allocated on ``device``; infinite if the platform does not tell.

    On a CPU the strictest limit counts: that of the machine, of the control groups (as containers and batch systems
    set them), or of the process (``ulimit -v``). ``root`` is where the files of the system are.
    """
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return max(0.0, min(_of_machine(root), *_of_control_groups(root), *_of_process(root), float("inf")))


def _of_machine(root: Path) -> float:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float("inf")


def _of_control_groups(root: Path) -> Iterator[float]:
    """What is left of the limits of the process's control groups, and of all groups that contain these."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folder, *names = _VERSION_2
        elif "memory" in controllers.split(","):
            folder, *names = _VERSION_1
        else:
            continue
        top = root / "sys/fs/cgroup" / folder
        group = top / path.lstrip("/")
        # A container may see its own group as the top, under a path that it does not see.
        for place in (group, *group.parents):
            if place.is_relative_to(top):
                yield from _of_group(place, *names)


def _of_group(place: Path, limit: str, used: str, given_back: str) -> Iterator[float]:
    most = float(next(_lines(place / limit), "max").replace("max", "inf"))
    # The system adds up what is used when it is read, which takes longer than all the rest.
    now = next(_lines(place / used), "") if most < _NO_LIMIT else ""
    if now:
        cached = [line.split()[1] for line in _lines(place / "memory.stat") if line.split()[0] == given_back]
        yield most - float(now) + sum(map(float, cached))


def _of_process(root: Path) -> Iterator[float]:
    if resource is None:
        return
    pages = next(_lines(root / "proc/self/statm"), "").split()
    for name, field in _PROCESS_LIMITS.items():
        if not hasattr(resource, name):
            continue
        most = resource.getrlimit(getattr(resource, name))[0]
        if most != resource.RLIM_INFINITY:
            yield most - (int(pages[field]) * resource.getpagesize() if pages else 0.0)


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file of the system, none if it is not there or not to be read."""
    try:
        text = path.read_text()
    except OSError:
        return
    yield from text.splitlines()
