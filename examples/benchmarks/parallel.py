"""A grid search under joblib's backends: seconds, threads that run, and whether the scores are the same.

    python examples/benchmarks/parallel.py OUT [--repeats 3] [--rows 500 3000] [--ways WAY ...]

Writes OUT.csv and OUT.png. Six pairs of l2 and alpha in three folds, a network of 20 units, two members; scikit-learn's
first Friedman function with noise. Each of REPEATS rounds takes the ways in turn, two workers each: a search in turn
with one torch thread and with two; members, folds, or both in parallel; dask with two processes, and with two threads
in this one. Start-up (of workers, a cluster, and their imports) is timed on its own with a search on 50 rows. dask and
ray only where they are installed. Leave OMP_NUM_THREADS unset. Linux only.

Threads are counted in two ways. "torch threads" is the largest number that a fit found itself with. "running" is how
many threads, of this process and all that it has started, run or wait for a core, looked at every 50 ms, on average:
more than the cores there are is oversubscription.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import importlib.util
import multiprocessing
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import joblib
import matplotlib.pyplot as plt
import numpy as np
import torch
from joblib.externals.loky import get_reusable_executor
from sklearn.datasets import make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold

from skgn import GNRegressor
from skgn.damping import GainRatio

FIELDS = ["rows", "round", "way", "start_seconds", "seconds", "running", "torch_threads", "score_difference"]

GRID = {"l2_regularization": [1e-3, 1e-2], "alpha": [0.3, 1.0, 3.0]}


@dataclasses.dataclass(frozen=True)
class Observer(GainRatio):
    """The adaptive damping, noting the number of torch threads at each iterate."""

    seen: list[int] = dataclasses.field(default_factory=list)

    def accepted(self, damping: float, gain_ratio: float, at: Any) -> float:
        """Note, and do as always."""
        self.seen.append(torch.get_num_threads())
        return super().accepted(damping, gain_ratio, at)


def score(model: GNRegressor, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """R2, and the torch threads of the fit: a scorer is what brings figures back from another process."""
    return {"r2": r2_score(y, model.predict(X)), "threads": max(model.damping.seen)}


@dataclass(frozen=True)
class Way:
    """How a search runs: its context, its n_jobs, that of the members, and the torch threads outside."""

    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    search_jobs: int | None = None
    member_jobs: int | None = None
    torch_threads: int = 2


@contextlib.contextmanager
def loky() -> Iterator[None]:
    """Workers that end with the context."""
    with joblib.parallel_config("loky"):
        yield
    get_reusable_executor().shutdown(wait=True)


@contextlib.contextmanager
def dask(**shape: Any) -> Iterator[None]:
    """A cluster on this machine."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(dashboard_address="127.0.0.1:0", **shape)
    with cluster, Client(cluster), joblib.parallel_config("dask"):
        yield


@contextlib.contextmanager
def ray() -> Iterator[None]:
    """Ray on this machine."""
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with joblib.parallel_config("ray"):
        yield
    ray.shutdown()


def ways() -> dict[str, Way]:
    """What is compared; the first is what the others are compared with."""
    threading = lambda: joblib.parallel_config("threading")  # noqa: E731
    found = {
        "in turn": Way(torch_threads=1),
        "in turn, two torch threads": Way(),
        "members": Way(member_jobs=2),
        "threading": Way(threading, search_jobs=2),
        "threading, members too": Way(threading, search_jobs=2, member_jobs=2),
        "loky": Way(loky, search_jobs=2),
        "loky, members too": Way(loky, search_jobs=2, member_jobs=2),
    }
    if importlib.util.find_spec("distributed"):
        found["dask, processes"] = Way(lambda: dask(n_workers=2, threads_per_worker=1), search_jobs=2)
        found["dask, threads"] = Way(lambda: dask(n_workers=1, threads_per_worker=2, processes=False), search_jobs=2)
    if importlib.util.find_spec("ray"):
        found["ray"] = Way(ray, search_jobs=2)
    return found


def family(root: int) -> set[int]:
    """A process and all that descend from it."""
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parents[int(pid)] = int(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1])
    found, new = {root}, {root}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def count_running(root: int, orders: Connection) -> None:
    """In a process of its own: count from one order to the next, send the mean, and so on."""
    orders.send("ready")
    while orders.recv() == "begin":
        counts = []
        while not orders.poll(0.05):
            running = 0
            for pid in family(root) - {os.getpid()}:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    for thread in Path("/proc", str(pid), "task").iterdir():
                        running += (thread / "stat").read_text().rpartition(")")[2].split()[0] == "R"
            counts.append(running)
        orders.recv()
        orders.send(float(np.mean(counts)))


def search(way: Way, X: np.ndarray, y: np.ndarray) -> GridSearchCV:
    """Run one search."""
    model = GNRegressor(
        20,
        damping=Observer(),
        n_estimators=2,
        solver="primal",
        device="cpu",
        max_iter=30,
        n_jobs=way.member_jobs,
        random_state=0,
    )
    folds = KFold(3, shuffle=True, random_state=0)
    return GridSearchCV(model, GRID, scoring=score, refit=False, cv=folds, n_jobs=way.search_jobs).fit(X, y)


def measure(way: Way, X: np.ndarray, y: np.ndarray, counter: Connection) -> tuple[float, float, GridSearchCV]:
    """Seconds, running threads, and the search."""
    counter.send("begin")
    start = time.perf_counter()
    found = search(way, X, y)
    seconds = time.perf_counter() - start
    counter.send("end")
    return seconds, counter.recv(), found


def of_folds(found: GridSearchCV, name: str) -> np.ndarray:
    """What ``score`` told of each candidate in each fold."""
    return np.array([found.cv_results_[f"split{fold}_test_{name}"] for fold in range(3)])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Median seconds over those in turn, and running threads, with the range over the rounds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6, 4), sharey=True, layout="constrained", width_ratios=(3, 2))
    sizes, names = ([*dict.fromkeys(row[field] for row in rows)] for field in ("rows", "way"))
    seconds, running = defaultdict(list), defaultdict(list)
    for row in rows:
        seconds[row["rows"], row["way"]].append(row["seconds"])
        running[row["rows"], row["way"]].append(row["running"])
    for number, size in enumerate(sizes):
        at = np.arange(len(names)) + (number - (len(sizes) - 1) / 2) * 0.38
        ratio = [np.array(seconds[size, name]) / np.median(seconds[size, names[0]]) for name in names]
        for ax, values in ((left, ratio), (right, [running[size, name] for name in names])):
            low, middle, high = np.array([(min(v), np.median(v), max(v)) for v in values]).T
            error = [middle - low, high - middle]
            ax.barh(at, middle, 0.36, xerr=error, label=f"{size:,} rows", color=f"C{number}",
                    error_kw={"linewidth": 1, "ecolor": "0.3"})  # fmt: skip
    left.axvline(1, color="0.3", linewidth=0.8, linestyle="--")
    left.set(xlabel="seconds over those in turn", yticks=range(len(names)), yticklabels=names)
    left.invert_yaxis()
    right.axvline(2, color="0.3", linewidth=0.8, linestyle="--")
    right.set(xlabel="running threads")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=len(sizes), frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run the rounds, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="path of the results, without a suffix")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[500, 3000])
    parser.add_argument("--ways", nargs="+", choices=ways(), default=list(ways()))
    arguments = parser.parse_args()
    data = {n: make_friedman1(n, noise=1.0, random_state=0) for n in arguments.rows}
    rows: list[dict[str, Any]] = []
    expected: dict[int, np.ndarray] = {}
    here, there = multiprocessing.Pipe()
    multiprocessing.get_context("spawn").Process(target=count_running, args=(os.getpid(), there), daemon=True).start()
    here.recv()
    with arguments.out.with_suffix(".csv").open("w", newline="") as file, warnings.catch_warnings():
        # Also in the workers, to which scikit-learn hands these filters.
        warnings.simplefilter("ignore", ConvergenceWarning)
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for number in range(arguments.repeats):
            for name in arguments.ways:
                way = ways()[name]
                torch.set_num_threads(way.torch_threads)
                start = time.perf_counter()
                with way.context():
                    search(way, *make_friedman1(50, random_state=0))
                    start_seconds = time.perf_counter() - start
                    for n, (X, y) in data.items():
                        seconds, running, found = measure(way, X, y, here)
                        threads = int(of_folds(found, "threads").max())
                        scores = of_folds(found, "r2")
                        difference = float(np.abs(scores - expected.setdefault(n, scores)).max())
                        values = [n, number, name, start_seconds, seconds, running, threads, difference]
                        rows.append(dict(zip(FIELDS, values, strict=True)))
                        writer.writerow(rows[-1])
                        file.flush()
                        print(f"{n:6d} rows  {name:27s} start {start_seconds:5.1f} s  search {seconds:6.2f} s  running "
                              f"{running:4.1f}  torch threads {threads}  scores differ by {difference:.0e}",
                              flush=True)  # fmt: skip
    here.send("stop")
    draw(rows, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
