"""Six intervals for the same skewed data, whose noise grows with their mean.

Each panel has the intervals that 90 % of new observations should fall into, and how many do: in all, and in the third
of x where the noise is smallest and that where it is largest.

    python examples/intervals.py [PICTURE.png]
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import numpy as np

from skgn import GNRegressor


def draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw positive observations with a coefficient of variation of 0.35."""
    x = rng.uniform(-2, 2, (n, 1))
    return x, np.exp(0.8 * x[:, 0] + 0.5 * np.sin(3 * x[:, 0])) * rng.gamma(8, 1 / 8, n)


def main() -> None:
    """Fit four models and draw their intervals, of the first two twice."""
    rng = np.random.default_rng(0)
    (x, y), (new, truth) = draw(600, rng), draw(6000, rng)
    constant = GNRegressor(noise="constant", random_state=0).fit(x, y)
    varying = GNRegressor(random_state=0).fit(x, y)
    quantiles = GNRegressor(loss="quantile", quantile=[0.05, 0.5, 0.95], max_iter=200, random_state=0).fit(x, y)
    gamma = GNRegressor(loss="gamma", random_state=0).fit(x, y)
    kinds = {
        "constant normal noise": (constant, {}),
        "constant, calibrated": (constant, {"calibrate": True}),
        "normal noise at x": (varying, {}),
        "at x, calibrated": (varying, {"calibrate": True}),
        "quantiles in one fit": (quantiles, {}),
        "gamma distribution": (gamma, {}),
    }
    grid, thirds = np.linspace(-2, 2, 300)[:, None], np.quantile(new, [1 / 3, 2 / 3])
    figure, axes = plt.subplots(3, 2, figsize=(10, 10), sharex=True, sharey=True, layout="constrained")
    for ax, (title, (model, options)) in zip(axes.flat, kinds.items(), strict=True):
        low, high = model.predict_interval(new, 0.9, **options).T
        inside = (low <= truth) & (truth <= high)
        place = np.digitize(new[:, 0], thirds)
        shares = [inside.mean(), inside[place == 0].mean(), inside[place == 2].mean()]
        note = "{:.0%} inside; {:.0%} on the left, {:.0%} on the right".format(*shares)
        print(f"{title}: {note}")
        ax.plot(x, y, ".", color="0.6", markersize=3)
        ax.fill_between(grid[:, 0], *model.predict_interval(grid, 0.9, **options).T, color="tab:blue", alpha=0.3)
        ax.set(title=f"{title}\n{note}")
    if len(sys.argv) > 1:
        figure.savefig(sys.argv[1], dpi=120)
    else:
        plt.show()


if __name__ == "__main__":
    main()
