"""
Taking it to production
=======================

A model that predicts from five sensors of a machine is to run for a year. This page validates it honestly, watches it
with the standard deviations that it gives, stores it, trains it anew, and says where the method ends.
"""

import copy
import tempfile
import warnings
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNRegressor, diagnose

# %%
# The data
# --------
# scikit-learn's ``make_friedman1`` plays the machine: five sensors between 0 and 1, a nonlinear relation, noise of
# standard deviation 1. 300 rows were recorded for training, 200 later ones as a reference: the model will not be
# trained on these, they show how it does when all is well.

X, y = make_friedman1(1000, n_features=5, noise=1.0, random_state=0)
X_train, y_train = X[:300], y[:300]
X_reference, y_reference = X[300:500], y[300:500]

# %%
# Validation
# ----------
# Cross-validation asks the question that production will ask: how good on rows that were not there? All that learns
# must be inside of what is validated, scalers too; ``GNRegressor`` has its own inside. A score of your own is a
# function: here, how many rows the 90 % intervals hold. (If rows come in groups, such as repeated measurements of one
# part, use ``GroupKFold``; if they come in time, ``TimeSeriesSplit``. No model notices a copy of a test row in its
# training data.)


def coverage(model, X, y):
    """Return the fraction of the rows that 90 % intervals hold."""
    mean, std = model.predict(X, return_std=True)
    return np.mean(np.abs(y - mean) <= norm.ppf(0.95) * std)


network = GNRegressor((10,), prior_groups="feature", standardize="robust", random_state=0)
folds = KFold(5, shuffle=True, random_state=0)
candidates = {"mean": DummyRegressor(), "ridge": make_pipeline(StandardScaler(), Ridge()), "network": network}
for name, candidate in candidates.items():
    scoring = {"r2": "r2"} | ({"coverage": coverage} if name == "network" else {})
    result = cross_validate(candidate, X_train, y_train, cv=folds, scoring=scoring)
    r2 = result["test_r2"]
    print(f"{name:<8} R2 {r2.mean():5.2f} +- {r2.std():.2f} over the folds", end="")
    print(f", 90 % intervals hold {result['test_coverage'].mean():.0%}" if name == "network" else "")

# %%
# Then train on all training rows, and let ``diagnose`` hold the model against the reference.

network.fit(X_train, y_train)
report = diagnose(network, X_reference, y_reference)

# %%
# Saving and loading
# ------------------
# A fitted model is NumPy arrays and plain values; joblib stores it, and a machine without a GPU loads what was trained
# on one. Predictions are the same to the last bit. Two rules: load only files that you trust, as a pickle can run code,
# and keep the versions of skgn, scikit-learn and NumPy beside the file.

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "network.joblib"
    joblib.dump(network, path)
    loaded = joblib.load(path)
    print(f"{path.stat().st_size / 1024:.0f} kB")
same = np.array_equal(network.predict(X_reference), loaded.predict(X_reference))
print(f"predictions of the stored model are the same: {same}")

# %%
# Two signs of drift
# ------------------
# A machine drifts in two ways, and each has its sign:
#
# - **The inputs move** to where there were no training rows. The predicted standard deviations grow. This shows before
#   any y is known.
# - **The relation changes**: the same inputs now mean something else. Standard deviations cannot know. But residuals,
#   divided by them, are no longer of size 1. This needs y, even if only of some rows.
#
# An alarm is a limit on a batch's mean. The limits come from the reference: many random batches of it, and the value
# that only one in a thousand exceeds; but a tenth above the mean at least, since less is of no consequence.

BATCH = 50


def signs(model, X, y):
    """Return standard deviations and squared standardised residuals, one a row."""
    mean, std = model.predict(X, return_std=True)
    return {"std": std, "error": np.square((y - mean) / std)}


rng = np.random.default_rng(0)
reference = signs(loaded, X_reference, y_reference)
batches = rng.integers(len(X_reference), size=(5000, BATCH))
limits = {}
for sign, values in reference.items():
    limits[sign] = max(np.quantile(values[batches].mean(axis=1), 0.999), 1.1 * values.mean())
    print(f"{sign:<6} {values.mean():.2f} in the reference, alarm above {limits[sign]:.2f}")

# %%
# Now 24 batches arrive. The first eight are as ever. In the next eight, two sensors read up to 0.5 too high, more with
# each batch. In the last eight the sensors are right, but a worn part adds to y, again more with each batch.

X_new = rng.random((24, BATCH, 5))
wear = np.zeros(24)
wear[16:] = np.linspace(0.25, 2.0, 8)
seen = X_new.copy()
seen[8:16, :, :2] += np.linspace(0.0625, 0.5, 8)[:, None, None]


def machine(X):
    """Return the relation that make_friedman1 documents, without noise."""
    return 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]


alarms = {sign: [] for sign in limits}
means = {sign: [] for sign in limits}
for true, shown, offset in zip(X_new, seen, wear, strict=True):
    y_new = machine(true) + offset + rng.standard_normal(BATCH)
    for sign, values in signs(loaded, shown, y_new).items():
        means[sign].append(values.mean())
        alarms[sign].append(bool(values.mean() > limits[sign]))

for sign, raised in alarms.items():
    clean, moved, worn = raised[:8], raised[8:16], raised[16:]
    print(f"{sign:<6} alarms: {sum(clean)} of 8 clean, {sum(moved)} of 8 sensor drift, {sum(worn)} of 8 wear")

# %%
# The picture a control room would show. Sensor drift raises both signs, wear only the error: that tells one from the
# other.

figure, axes = plt.subplots(2, 1, figsize=(7, 5), sharex=True, layout="constrained")
labels = {"std": "mean standard deviation", "error": "mean squared\nstandardised residual"}
for ax, sign in zip(axes, limits, strict=True):
    values, raised = np.array(means[sign]), np.array(alarms[sign])
    ax.plot(values, "o-", color="tab:blue")
    ax.plot(np.flatnonzero(raised), values[raised], "s", color="tab:red", markersize=8, label="alarm")
    ax.axhline(limits[sign], color="tab:red", linestyle="--", linewidth=1)
    for edge in (7.5, 15.5):
        ax.axvline(edge, color="0.7", linewidth=1)
    ax.set(ylabel=labels[sign], yscale="log" if sign == "error" else "linear")
    ax.legend(loc="upper left")
axes[0].set_title("all is well  |  two sensors read too high  |  a worn part adds to y")
_ = axes[1].set_xlabel("batch of 50 rows")

# %%
# Training anew
# -------------
# The worn part stays in the machine: from now on this is the relation. 300 rows of it have been collected. Three ways
# to use them:
#
# - ``fit`` from nothing on the new rows: the safest, since it searches among candidates again.
# - ``warm_start=True`` goes on from the present weights: as a rule fewer iterations, for relations that have moved a
#   little.
# - ``partial_fit`` is one pass over a block, for rows that keep coming. It takes some blocks until the noise level, and
#   with it the standard deviations, have settled: an error below 1 says that they are still too large.

X_now, y_now = X[500:800], y[500:800] + wear[-1]
X_later, y_later = X[800:], y[800:] + wear[-1]

anew = clone(network).fit(X_now, y_now)
warm = copy.deepcopy(loaded).set_params(warm_start=True).fit(X_now, y_now)
stream = copy.deepcopy(loaded).partial_fit(X_now, y_now)
for name, model in {"as it was": loaded, "fit": anew, "warm_start": warm, "partial_fit": stream}.items():
    error = signs(model, X_later, y_later)["error"].mean()
    r2 = model.score(X_later, y_later)
    print(f"{name:<12} {model.n_iter_:3d} iterations; later rows: R2 {r2:.3f}, error {error:.2f}")

# %%
# ``max_time`` bounds a training in seconds: it then ends with the best weights so far, warns, and says so in
# ``status_``. What has come of it depends on the machine, so look at the score.

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", ConvergenceWarning)
    hurried = GNRegressor((10,), tol=0.0, max_iter=100_000, max_time=0.3, random_state=0).fit(X_train, y_train)
print(f"{hurried.status_!r} after {hurried.n_iter_} iterations, {len(caught)} warning(s)")
print(f"R2 {hurried.score(X_reference, y_reference):.2f}")

# %%
# Limits, plainly
# ---------------
# - **Size.** Thousands of rows are the method's home. From some hundred thousand on, gradient boosting is faster and
#   often as good. Time grows with the cube of the number of weights: many classes times many columns is slow.
# - **Steps and categories.** A smooth network smooths over jumps, and sees a category as columns of 0 and 1.
# - **Extrapolation.** Hidden layers read inputs that are squashed a few spreads from the median. Beyond the data the
#   prediction becomes a line, after two ranges more a constant, and the standard deviation grows less than it should:
#   see exercise 2. An alarm on the inputs themselves costs little.
# - **The standard deviation** supposes that rows are independent and that noise is as large everywhere. It covers the
#   noise and the weights, not a wrong choice of features.
# - **Causes.** Relevance is what predictions react to, not what would happen if you turned the knob.

# %%
# Exercises
# ---------
# **1.** The error alarm missed the first worn batches. Is there a sharper one for an offset? Try the mean of the
# standardised residuals themselves, with the limit that normal ones exceed once in a thousand, on a wear of half the
# noise, for batches of 10, 50 and 200 rows.
#
# *Answer.* Squares see every kind of change, and each of them late. The mean sees an offset alone, but from 200 rows on
# nearly always, where the squares still miss most. How large a batch must be is a question of what is to be noticed.

for size in (10, 50, 200):
    squares = np.quantile(reference["error"][rng.integers(200, size=(5000, size))].mean(axis=1), 0.999)
    offset = norm.isf(0.0005) * np.sqrt(reference["error"].mean() / size)
    found = {"squares": 0, "mean": 0}
    for _ in range(40):
        inputs = rng.random((size, 5))
        mean, std = loaded.predict(inputs, return_std=True)
        z = (machine(inputs) + 0.5 + rng.standard_normal(size) - mean) / std
        found["squares"] += np.square(z).mean() > squares
        found["mean"] += abs(z.mean()) > offset
    print(
        f"batches of {size:3d}, noticed of 40: {', '.join(f'{count} by the {rule}' for rule, count in found.items())}"
    )

# %%
# **2.** The fourth sensor acts linearly on y. Let it read 1 too high. What do the two signs say?
#
# *Answer.* The error cries out, the standard deviation hardly grows. Along a linear path the model believes that it
# knows how things go on. A large standard deviation can be trusted, a small one far from the data cannot; hence the
# range of each input in the training data belongs among the alarms.

off = X[800:850] + np.array([0, 0, 0, 1, 0])
for sign, values in signs(loaded, off, y[800:850]).items():
    print(f"{sign:<6} {values.mean():5.2f}, in the reference {reference[sign].mean():.2f}")
outside = ((off < X_train.min(axis=0)) | (off > X_train.max(axis=0))).mean(axis=0)
print("outside of the range of the training data, by sensor:", outside.round(2))

# %%
# **3.** What does ``diagnose`` say of the model as it was, on the worn machine?
#
# *Answer.* That residuals are larger than predicted, and to compare these rows with the training rows: drift.

drifted = diagnose(loaded, X_later, y_later, verbose=False)
print(drifted["noise"].text)
print("advice:", drifted.advice)
