"""Predictive bands and irrelevant features.

Left: disease progression by body mass index, of scikit-learn's diabetes data, with the band that 90 % of new patients
should fall into. Right: the same data with ten columns of pure noise beside their ten features. All ten are switched
off.

    python examples/uncertainty.py [PICTURE.png]
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

from skgn import GNRegressor


def main() -> None:
    """Fit both models and draw them side by side."""
    data = load_diabetes(scaled=False)
    X, y = data.data, data.target
    figure, (band, bars) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")

    bmi = X[:, [2]]
    model = GNRegressor(random_state=0).fit(bmi, y)
    grid = np.linspace(bmi.min() - 4, bmi.max() + 4, 200)[:, None]
    mean, std = model.predict(grid, return_std=True)
    band.plot(bmi, y, ".", color="0.6", label="patients")
    band.plot(grid, mean, color="tab:blue", label="mean")
    band.fill_between(
        grid[:, 0], mean - 1.645 * std, mean + 1.645 * std, color="tab:blue", alpha=0.2, label="90 % interval"
    )
    band.set(xlabel="body mass index (kg/m²)", ylabel="disease progression after one year", title="Predictive band")
    band.legend(loc="upper left")

    noise = np.random.RandomState(0).standard_normal((len(y), 10))
    relevance = GNRegressor(random_state=0).fit(np.hstack([X, noise]), y).feature_relevance_
    names = [*data.feature_names, *(f"noise {i}" for i in range(10))]
    colours = ["tab:blue"] * X.shape[1] + ["tab:orange"] * 10
    bars.barh(names, relevance, color=colours)
    bars.invert_yaxis()
    bars.set(xlabel="feature_relevance_ (shares, sum 1)", title="Ten features, ten columns of pure noise")
    print("relevance of the noise columns together:", round(float(relevance[X.shape[1] :].sum()), 4))

    if len(sys.argv) > 1:
        figure.savefig(sys.argv[1], dpi=120)
    else:
        plt.show()


if __name__ == "__main__":
    main()
