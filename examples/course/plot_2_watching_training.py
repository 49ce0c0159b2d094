"""
Watching a training
===================

What an iteration does, how to see that it works, which of the two knobs of the method to turn and when, and a report
that reads all of the numbers for you.
"""

import warnings

import numpy as np
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.preprocessing import scale

from skgn import GNRegressor, diagnose
from skgn.displays import ConvergenceDisplay, GridDisplay, SpectrumDisplay
from skgn.spectrum import SpectrumMonitor

# %%
# Gauss-Newton in one step
# ------------------------
# Gradient descent asks in which direction the loss falls, and takes a small step. Gauss-Newton replaces the *network*
# by its tangent at the present weights, which is a linear model, and solves that least-squares problem at once:
#
# .. code-block:: text
#
#     (G + damping I) step = -gradient        G = J'J / n,  J: derivatives of the outputs by the weights
#
# For a network that is linear the tangent is the network itself, and one step is the whole training. Without hidden
# layers, regularisation and damping it arrives at the solution of ``numpy.linalg.lstsq``.

X_linear, y_linear = load_diabetes(return_X_y=True)
y_linear = scale(y_linear)  # as the network sees it
linear = GNRegressor((), l2_regularization=0.0, damping=0.0, n_estimators=1, standardize=False).fit(X_linear, y_linear)
A = np.column_stack([X_linear, np.ones(len(X_linear))])
solution = np.linalg.lstsq(A, y_linear, rcond=None)[0]
difference = np.abs(np.append(linear.coefs_[0][:, 0], linear.intercepts_[0]) - solution).max()
print(f"{linear.n_iter_} iteration(s), status {linear.status_!r}, largest difference of a weight {difference:.0e}")

# %%
# With hidden layers
# ------------------
# Now the tangent is good only near the weights that it was taken at. **Damping** holds the step back to where it can
# be trusted, and each step is tested before it counts: the **gain ratio** is the decrease that came about over the one
# that the tangent promised. Near 1, the next step may have less damping; where it is small it gets more.
#
# The data are a standard test problem: y depends on five features, with products, squares and noise of standard
# deviation 1. For the moment a plain network: one member, a fixed penalty, so that the objective is one and the same
# function all along.

X, y = make_friedman1(400, n_features=5, noise=1.0, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
plain = {"hidden_layer_sizes": (10,), "l2_regularization": 1e-3, "n_estimators": 1, "max_iter": 50, "random_state": 0}

models = {}
with warnings.catch_warnings():
    # One of them is slow, and is meant to be: it will not be done after 50 iterations.
    warnings.simplefilter("ignore", ConvergenceWarning)
    for damping in ("adaptive", 1e-2, 1.0):
        model = GNRegressor(**plain, damping=damping).fit(X_train, y_train)
        models[f"damping={damping}"] = model
        print(f"damping={damping!s:<9} {model.n_iter_:3d} iterations, objective {model.history_['objective'][-1]:.4f}")

# %%
# ``history_`` holds what happened, a number for each iteration. Look for three things:
#
# - the **objective** falls and then is flat: done. Still falling at the end: cut short.
# - the **gradient norm** falls to 0 where the weights are at a minimum. Its scale depends on the network, so its fall
#   counts, not its value.
# - the **gain ratio**: often near 0 means that the tangent is a bad guide. Always 1 with a damping that stays the same,
#   as for ``damping=1.0``, means that the steps are too timid.

display = ConvergenceDisplay.from_estimator(models)

# %%
# How much is damped
# ------------------
# Damping is added to the eigenvalues of G. Directions whose eigenvalue is far above it move as in an undamped step,
# those far below hardly at all. The callback ``SpectrumMonitor`` records the extremes (scikit-learn 1.9 or later). The
# smallest eigenvalue ends at rounding error: there are directions in which the weights do not matter to these data.
# Damping and penalty are what makes the system solvable there.

recorded = GNRegressor(**plain).set_callbacks(SpectrumMonitor()).fit(X_train, y_train)
display = SpectrumDisplay.from_estimator(recorded)
low, high = (recorded.history_[f"{end}_eigenvalue"][-1] for end in ("min", "max"))
print(f"eigenvalues at the end: {low:.1e} to {high:.1e}, damping {recorded.damping_:.1e}")

# %%
# The other knob: alpha
# ---------------------
# ``alpha`` multiplies the output of the network. (The penalty, which scikit-learn's networks call alpha, is
# ``l2_regularization`` here.) With a large alpha small changes of the weights are enough to fit the data, so they stay
# near where they were drawn; with a small one they have to travel, and the penalty on them weighs more. Both knobs are
# ordinary parameters:

search = GridSearchCV(
    GNRegressor(**{**plain, "max_iter": 20}),
    {"damping": [1e-3, 1e-1, 10.0, "adaptive"], "alpha": [0.1, 0.5, 2.0, 10.0]},
    cv=3,
)
with warnings.catch_warnings():
    # The grid has corners that do not get far in 20 iterations; that is what it is to show.
    warnings.simplefilter("ignore", ConvergenceWarning)
    search.fit(X_train, y_train)
print(f"best: {search.best_params_}, R2 {search.best_score_:.3f}")
display = GridDisplay.from_search(search, x="alpha", y="damping")

# %%
# Read the picture by rows. A constant damping that is right for one alpha is wrong for another: the eigenvalues grow
# with alpha squared, and 10 is far too much for a small one. The row "adaptive" is within a few hundredths of the best
# constant of every column, without a choice. So leave ``damping`` alone unless you study the method. By default the
# penalty is estimated as well, which makes a search over alpha unnecessary:

default = GNRegressor((10,), n_estimators=2, prior_groups="feature", standardize="robust", random_state=0)
default.fit(X_train, y_train)
print(f"on the test rows: estimated penalty R2 {default.score(X_test, y_test):.3f}, ", end="")
print(f"best of the grid {search.score(X_test, y_test):.3f}")

# %%
# A report in words
# -----------------
# ``diagnose`` looks at a fit and at its predictions for rows that it has not seen. Every line shows the number that it
# follows from; the last one says what to try next.

good = diagnose(default, X_test, y_test)

# %%
# And a fit that is wrong in more than one way: many units, next to no penalty. An exclamation mark is a line that asks
# for something.

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    overfitted = GNRegressor((40,), l2_regularization=1e-7, n_estimators=1, random_state=0).fit(X_train, y_train)
bad = diagnose(overfitted, X_test, y_test)

# %%
# Read it from the top. The weights outnumber the observations and use all of them up; the noise is therefore estimated
# at next to nothing; so the predictions are off by far more of "their" standard deviations than they should. It is one
# cause with many symptoms, and the advice goes to the cause. The report is an object, too:

print([finding.topic for finding in bad if finding.advice])
print({key: round(value, 2) for key, value in bad["calibration"].numbers.items()})

# %%
# Exercises
# ---------
# **1.** Cut a training short with ``max_iter=3``. What does the report say? Follow its advice.
#
# *Answer.* The first line is marked, the others describe a network that is not finished. ``warm_start=True`` goes on
# from the weights that are there.

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    short = GNRegressor((10,), n_estimators=1, max_iter=3, random_state=0).fit(X_train, y_train)
cut = diagnose(short, X_test, y_test, verbose=False)
print(cut["convergence"].text)
print("advice:", cut["convergence"].advice)
short.set_params(warm_start=True, max_iter=100).fit(X_train, y_train)
print(diagnose(short, X_test, y_test, verbose=False)["convergence"].text)

# %%
# **2.** Every twentieth training target is 20 too high. Which line of the report notices, on clean test rows, and what
# helps?
#
# *Answer.* The noise: its level had to explain the outliers, and residuals of clean rows are half as large. Predictions
# suffer, too. The advice is ``loss="student_t"``, which expects outliers: the predictions recover. Its noise is still
# that of training targets with outliers, and wider than clean rows need.

dirty = y_train.copy()
dirty[::20] += 20.0
for loss in ("squared_error", "student_t"):
    robust = GNRegressor((10,), loss=loss, n_estimators=1, random_state=0).fit(X_train, dirty)
    noise = diagnose(robust, X_test, y_test, verbose=False)["noise"]
    print(f"{loss}: R2 {robust.score(X_test, y_test):.2f}; {noise.text}; advice: {noise.advice}")

# %%
# **3.** How far do the weights travel for alpha 0.1, 1 and 10?
#
# *Answer.* The larger alpha, the shorter the way. That is what "lazy" means.

for alpha in (0.1, 1.0, 10.0):
    lazy = GNRegressor(**plain, alpha=alpha).fit(X_train, y_train)
    print(f"alpha={alpha:<5} distance {lazy.history_['distance_from_init'][-1]:5.1f}")
