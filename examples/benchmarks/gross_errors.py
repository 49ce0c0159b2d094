"""What gross errors in the targets do to the losses that bound their force or not, and whether a fit says so.

    python examples/benchmarks/gross_errors.py [--seeds 10] [--losses "squared_error;student_t;cauchy"]

Each of SEEDS tables has four normal features, 150 rows if the seed is even and 400 if it is odd. The target is
x0 + sin(2 x1) with normal noise of 0.1. A share of the targets gets errors of SIZE noise levels: normal ones with this
standard deviation in the first two of four seeds, uniform ones between half of it and one and a half in the others.

One line for each share, size and loss: the median and the lowest R2 of a default fit on 500 clean rows without noise,
in how many tables R2 is below 0.5, and in how many of these the fit says nothing. It speaks by a warning at ``fit``.
Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import itertools
import warnings

import numpy as np

from skgn import GNRegressor

SHARES, SIZES = (0.005, 0.03, 0.08, 0.13, 0.2), (10, 50, 500)

#: Standard deviation of the noise.
NOISE = 0.1

#: A fit below this R2 is of little use.
POOR = 0.5

N_NEW = 500


def spoiled(y: np.ndarray, share: float, size: float, one_sided: bool, rng: np.random.Generator) -> np.ndarray:
    """Add errors of so many noise levels to a share of the targets (n,)."""
    bad = rng.choice(len(y), max(1, round(share * len(y))), replace=False)
    y = y.copy()
    y[bad] += size * NOISE * (rng.uniform(0.5, 1.5, len(bad)) if one_sided else rng.normal(size=len(bad)))
    return y


def judged(loss: str, share: float, size: float, seed: int) -> tuple[float, bool]:
    """R2 of a fit on clean rows, and whether it has warned."""
    rng = np.random.default_rng(seed)
    n = 400 if seed % 2 else 150
    X = rng.normal(size=(n + N_NEW, 4))
    expected = X[:, 0] + np.sin(2 * X[:, 1])
    y = spoiled(expected[:n] + NOISE * rng.normal(size=n), share, size, seed % 4 >= 2, rng)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = GNRegressor(loss=loss, random_state=0).fit(X[:n], y)
    return model.score(X[n:], expected[n:]), bool(caught)


def main() -> None:
    """Print one line for each share of errors, their size and the loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--losses", default="squared_error;student_t;cauchy")
    arguments = parser.parse_args()
    print("share   size  loss           median R2  lowest R2  poor  silent")
    for share, size, loss in itertools.product(SHARES, SIZES, arguments.losses.split(";")):
        results = [judged(loss, share, size, seed) for seed in range(arguments.seeds)]
        scores, warned = map(np.array, zip(*results, strict=True))
        poor = scores < POOR
        numbers = f"{np.median(scores):9.2f}  {scores.min():9.2f}  {poor.sum():4d}  {(poor & ~warned).sum():6d}"
        print(f"{share:5.3f}  {size:5d}  {loss:13s}  {numbers}", flush=True)


if __name__ == "__main__":
    main()
