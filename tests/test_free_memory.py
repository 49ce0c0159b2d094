"""What memory is left, by files of a machine. Limits of a process are in `test_faults.py`."""

import pytest
import torch

from skgn.free_memory import available_memory

CPU, GIGABYTE = torch.device("cpu"), 2**30

MACHINE = {"proc/meminfo": "MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\n"}  # 16 GB are left


def group(folder, limit, used, cached, version=2):
    """Files of a control group."""
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    top = "sys/fs/cgroup/" + ("memory/" if version == 1 else "") + folder
    stat = f"anon 5\n{names[2]} {cached}\n"
    return {f"{top}/{names[0]}": f"{limit}\n", f"{top}/{names[1]}": f"{used}\n", f"{top}/memory.stat": stat}


CASES = {
    "machine": ({}, 16),
    "version 2": ({"proc/self/cgroup": "0::/a/b\n", **group("a/b", 4 * GIGABYTE, 2 * GIGABYTE, GIGABYTE)}, 3),
    "a group around it": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            **group("a/b", "max", 2 * GIGABYTE, 0),
            **group("a", 2 * GIGABYTE, GIGABYTE, 0),
        },
        1,
    ),
    "a container": ({"proc/self/cgroup": "0::/\n", **group("", 6 * GIGABYTE, 2 * GIGABYTE, 0)}, 4),
    "a path outside the container": (
        {
            "proc/self/cgroup": "12:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/system\n",
            **group("", 6 * GIGABYTE, GIGABYTE, 0, version=1),
        },
        5,
    ),
    "version 1": (
        {"proc/self/cgroup": "4:memory:/job\n", **group("job", 3 * GIGABYTE, 2 * GIGABYTE, 0, version=1)},
        1,
    ),
    "no limit in version 1": (
        {"proc/self/cgroup": "4:memory:/\n", **group("", 9223372036854771712, GIGABYTE, 0, version=1)},
        16,
    ),
    "more used than allowed": ({"proc/self/cgroup": "0::/a\n", **group("a", GIGABYTE, 2 * GIGABYTE, 0)}, 0),
    "a limit alone": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "5\n"}, 16),
}


@pytest.mark.parametrize("case", CASES)
def test_the_strictest_limit_of_machine_and_control_groups_counts(case, tmp_path):
    files, expected = CASES[case]
    for name, text in (MACHINE | files).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert available_memory(CPU, tmp_path) == expected * GIGABYTE


def test_what_is_available_is_that_of_a_computer():
    assert 2**24 < available_memory(CPU) < 2**50
