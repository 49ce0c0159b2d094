"""What comes from outside: signals, limits of memory, forks. Each in a process of its own, with a limit of time."""

import os
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pty = pytest.importorskip("pty")

#: Seconds after which a process that hangs is a failure.
LIMIT = 120


#: Forks itself for each file of code that is named, as imports take seconds. The fork runs the code instead of what
#: would follow, so that it ends as a process of its own does.
PARENT = """
import os, sys
import joblib, numpy, skgn.damping
from skgn import GNRegressor
for path in map(str.strip, sys.stdin):
    if pid := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        continue
    for number, name in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(path + name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    exec(compile(open(path).read(), path, "exec"), {"__name__": "__main__"})
    break
"""


@pytest.fixture(scope="module")
def parent():
    command = [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()
        process.wait(LIMIT)


@pytest.fixture
def run(parent, tmp_path):
    """Run code in a process of its own; return its exit status, and what it has printed and reported."""
    path = tmp_path / "code.py"

    def run(code):
        path.write_text(textwrap.dedent(code))
        parent.stdin.write(f"{path}\n")
        parent.stdin.flush()
        assert select.select([parent.stdout], [], [], LIMIT)[0], "the process hangs"
        return int(parent.stdout.readline()), *(Path(f"{path}{name}").read_text() for name in (".out", ".err"))

    return run


# --- Threads

#: Two members in threads with enough work that a process which ends is likely to find one of them within torch.
TWO_THREADS = """
    import dataclasses
    import numpy as np
    from skgn import GNRegressor
    from skgn.damping import GainRatio

    @dataclasses.dataclass(frozen=True)
    class Ending(GainRatio):
        seen: list = dataclasses.field(default_factory=list)

        def accepted(self, damping, gain_ratio, at):
            self.seen.append(at.iteration)
            if len(self.seen) == 4:
                end()
            return super().accepted(damping, gain_ratio, at)

    X = np.random.default_rng(0).normal(size=(3000, 20))
    y = np.sin(X[:, 0]) * X[:, 1]
    model = GNRegressor((40,), damping=Ending(), l2_regularization=1e-3, n_estimators=4, n_jobs=2, random_state=0)
"""


def test_a_process_ends_as_usual_after_an_error_in_a_thread(run):
    ended = run(
        TWO_THREADS
        + """
    def end():
        raise ZeroDivisionError("in a thread")
    model.set_params(batch_size=200)
    for method in (model.partial_fit, model.fit):
        model.set_params(damping=Ending())
        try:
            method(X, y)
        except ZeroDivisionError as error:
            print(error)
    """
    )
    assert ended == (0, 2 * "in a thread\n", "")


def test_a_process_ends_as_usual_after_an_error_in_a_thread_of_joblib(run):
    """Joblib leaves the other fit to itself, which would go on for hours."""
    ended = run(
        TWO_THREADS
        + """
    import joblib
    from sklearn.base import clone
    def end():
        raise ZeroDivisionError("in a thread")
    model.set_params(hidden_layer_sizes=(20,), n_estimators=1, n_jobs=1)
    endless = clone(model).set_params(damping="adaptive", max_iter=10**6, n_iter_no_change=10**6)
    fits = [joblib.delayed(each.fit)(X, y) for each in (endless, model)]
    try:
        joblib.Parallel(2, backend="threading")(fits)
    except ZeroDivisionError as error:
        print(error)
    """
    )
    assert ended == (0, "in a thread\n", "")


def test_a_second_ctrl_c_ends_the_process_as_usual(run):
    status, _, reported = run(
        TWO_THREADS
        + """
    import os, signal, time
    def end():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)
    model.fit(X, y)
    """
    )
    assert status == -signal.SIGINT and reported.endswith("\nKeyboardInterrupt\n"), reported


# --- Ctrl-C

#: The child makes the pseudo-terminal its own, so that Ctrl-C there is a signal to it.
ITS_TERMINAL = """
    import fcntl, termios
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
"""

#: A fit takes seconds.
SLOW_FITS = """
    import time
    import numpy as np
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from skgn import GNRegressor
    from skgn.damping import GainRatio

    class Slow(GainRatio):
        def accepted(self, damping, gain_ratio, at):
            if at.iteration == 2:
                print("a fit has begun", flush=True)
            time.sleep(0.1)
            return super().accepted(damping, gain_ratio, at)

    X, y = load_diabetes(return_X_y=True)
    model = GNRegressor(5, damping=Slow(), l2_regularization=1e-3, n_estimators=2, max_iter=50, tol=0, random_state=0)
"""


class Terminal:
    """A Python process in a pseudo-terminal: what it prints is read, and keys are pressed."""

    def __init__(self, *options):
        self.ours, theirs = pty.openpty()
        command = [sys.executable, *options, "-c", textwrap.dedent(ITS_TERMINAL + SLOW_FITS)]
        environment = os.environ | {"PYTHON_BASIC_REPL": "1"}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment
        )
        os.close(theirs)
        self.printed, self.end = "", time.monotonic() + LIMIT

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.wait(timeout=LIMIT)
        os.close(self.ours)

    def press(self, keys):
        os.write(self.ours, keys.encode())

    def read(self):
        """Wait for more to read; return whether there was any before the process ended."""
        left = self.end - time.monotonic()
        assert left > 0 and select.select([self.ours], [], [], left)[0], self.printed
        try:
            read = os.read(self.ours, 4096).decode()
        except OSError:  # all of the other end is closed
            return False
        self.printed += read
        return read != ""

    def wait_for(self, pattern):
        while not re.search(pattern, self.printed):
            assert self.read(), self.printed

    def ended_by(self):
        while self.read():
            pass
        return self.process.wait(timeout=LIMIT)


CTRL_C = "\x03"


def test_one_ctrl_c_ends_a_search(run):
    """The signal comes from the process itself, as new ones take seconds; the other test presses the keys."""
    status, printed, reported = run(
        SLOW_FITS
        + """
    import os, signal

    class Interrupting(Slow):
        def accepted(self, damping, gain_ratio, at):
            if at.iteration == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return super().accepted(damping, gain_ratio, at)

    model.set_params(damping=Interrupting())
    GridSearchCV(model, {"alpha": [0.5, 1.0]}, cv=2, n_jobs=1).fit(X, y)
    """
    )
    assert status == -signal.SIGINT and printed == "a fit has begun\n"
    assert "KeyboardInterrupt: The fit was interrupted" in reported


def test_ctrl_c_at_the_prompt_ends_a_cross_validation_and_keeps_the_best_weights_of_a_fit():
    with Terminal("-i", "-q") as terminal:
        terminal.wait_for(">>> ")
        terminal.press("cross_val_score(model, X, y, cv=3)\n")
        terminal.wait_for("a fit has begun")
        terminal.press(CTRL_C)
        terminal.wait_for("KeyboardInterrupt: The fit was interrupted.*\\s+>>> ")
        assert terminal.printed.count("a fit has begun") == 1
        terminal.printed = ""
        terminal.press("model.fit(X, y)\n")
        terminal.wait_for("a fit has begun")
        terminal.press(CTRL_C)
        terminal.wait_for("KeyboardInterrupt: .* the estimator has the best weights so far")
        terminal.press("print(f'{model.status_}, R2 {model.score(X, y):.1f}')\n")
        terminal.wait_for(r"interrupted, R2 0\.[5-9]")
        terminal.press("exit()\n")
        assert terminal.ended_by() == 0


# --- Memory


def test_a_fit_beyond_a_limit_of_its_process_is_refused_before_any_work(run):
    """Of its address space, or of its data."""
    pytest.importorskip("resource")
    status, printed, reported = run(
        """
    import resource
    import numpy as np
    from skgn import GNRegressor
    from skgn.free_memory import available_memory
    import torch

    def used(column):
        with open("/proc/self/statm") as file:
            return int(file.read().split()[column]) * resource.getpagesize()

    X = np.random.default_rng(0).normal(size=(20000, 40))
    model = GNRegressor((200,), l2_regularization=1e-3, n_estimators=1, solver="primal", max_iter=1)
    for limit, column in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        before = resource.getrlimit(limit)
        resource.setrlimit(limit, (used(column) + 2**29, before[1]))
        assert 2**28 < available_memory(torch.device("cpu")) <= 2**29
        try:
            model.fit(X, X[:, 0])
        except ValueError as error:
            print(error)
        resource.setrlimit(limit, before)
    """
    )
    refusals = printed.splitlines()
    assert status == 0, reported
    assert ["GB" in line and "available" in line for line in refusals] == [True, True], (printed, reported)


# --- Processes

FITS = """
import warnings
import numpy as np

warnings.simplefilter("ignore")
X = np.random.default_rng(0).normal(size=(3000, 10))

def predictions(model):
    return model.fit(X, X[:, 0] * X[:, 1]).predict(X[:5]).tolist()
"""


def test_a_fork_after_a_fit_with_several_threads_fits_too(run, tmp_path):
    """A fork has none of these threads, and torch alone waits for them. New processes: test_joblib_backends.py."""
    (tmp_path / "fits.py").write_text(FITS)
    status, printed, reported = run(
        f"""
    import multiprocessing, sys
    import numpy as np
    import torch
    from skgn import GNRegressor
    sys.path.insert(0, {str(tmp_path)!r})
    from fits import predictions
    torch.set_num_threads(2)
    model = GNRegressor(20, n_estimators=1, l2_regularization=1e-3, solver="primal", max_iter=2, random_state=0)
    here = predictions(model)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        # Other numbers of threads round sums otherwise.
        np.testing.assert_allclose(pool.apply_async(predictions, [model]).get({LIMIT // 2}), here, rtol=1e-3)
    print("the fork predicts the same")
    """
    )
    assert status == 0 and printed == "the fork predicts the same\n", reported
