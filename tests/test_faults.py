"""What comes from outside: signals, limits of memory, forks. Each in a process of its own, with a limit of time."""

import subprocess
import sys
import textwrap

import pytest

#: Seconds after which a process that hangs is a failure.
LIMIT = 120


def run(code, *arguments, **options):
    """Run code in a process of its own; return it with what it has printed."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False, **options)


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
            if len(self.seen) == 6:
                end()
            return super().accepted(damping, gain_ratio, at)

    X = np.random.default_rng(0).normal(size=(3000, 20))
    y = np.sin(X[:, 0]) * X[:, 1]
    model = GNRegressor((60,), damping=Ending(), l2_regularization=1e-3, n_estimators=4, n_jobs=2, random_state=0)
"""


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_process_ends_as_usual_after_an_error_in_a_thread(method):
    ended = run(
        TWO_THREADS
        + """
    def end():
        raise ZeroDivisionError("in a thread")
    model.set_params(batch_size=200)
    try:
        model.METHOD(X, y)
    except ZeroDivisionError as error:
        print(error)
    """.replace("METHOD", method)
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "in a thread\n", "")
