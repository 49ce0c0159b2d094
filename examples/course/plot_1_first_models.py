"""
First models
============

A regression and a classification on small tables, each beside a baseline. What you see at the end of this page: how
good the predictions are, how sure they are of themselves, and whether they are right to be.

You need to know ``fit``, ``predict`` and ``train_test_split``, no more. What happens inside ``fit`` is the subject of
the next page.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgn import GNClassifier, GNRegressor
from skgn.displays import RelevanceDisplay, UncertaintyDisplay

# %%
# A regression
# ------------
# 442 patients, ten measurements of each, and how far their diabetes has progressed a year later. A quarter of them is
# put aside: nothing below may look at it before the model is finished.

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
print(f"{len(X_train)} patients to train on, {len(X_test)} to test with; y is {y.mean():.0f} +- {y.std():.0f}")

# %%
# A model is worth its baseline
# -----------------------------
# ``GNRegressor`` is a small neural network. It scales its inputs and its target itself, and chooses its layers and its
# regularisation: there is nothing to tune and nothing to put in front. The baseline beside it is ridge regression,
# which is hard to beat on these data.

network = GNRegressor(random_state=0).fit(X_train, y_train)
ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13))).fit(X_train, y_train)

for name, model in {"mean of y": None, "ridge": ridge, "network": network}.items():
    predicted = np.full(len(y_test), y_train.mean()) if model is None else model.predict(X_test)
    print(f"{name:<10} root mean squared error {root_mean_squared_error(y_test, predicted):5.1f}")
print(f"R2 of the network: {network.score(X_test, y_test):.2f}")

# %%
# The two are close. That is a result, too: most of what these ten measurements say about the disease is linear, and the
# network found a nearly linear function by itself. ``n_effective_parameters_`` is the number of weights that the data
# have determined; the others were held near zero.

n_weights = sum(part.size for part in network.coefs_ + network.intercepts_)
print(f"{network.n_effective_parameters_:.0f} of {n_weights} weights are determined by {len(X_train)} patients")

# %%
# How sure is it?
# ---------------
# Ask for a standard deviation with every prediction. It is that of a *new observation*: the scatter of y that no
# measurement here explains, plus what the network does not know.

mean, std = network.predict(X_test, return_std=True)
for i in range(4):
    print(f"predicted {mean[i]:3.0f} +- {std[i]:2.0f}, came true: {y_test.iloc[i]:3.0f}")
print(f"of which scatter: {network.noise_std_:.0f}")

# %%
# Is it right to be that sure? 90 % intervals should hold 90 % of the patients who were put aside. Above: each of them
# against the prediction, with the interval; and for intervals of every size how many of the patients they hold. Below:
# how many 90 % intervals hold of the patients with narrow and with wide ones; and in which part of the predicted
# distributions the patients are. In the grey bands are the deviations that chance makes with so few.

low, high = network.predict_interval(X_test, coverage=0.9).T
inside = (low <= y_test) & (y_test <= high)
print(f"90 % intervals hold {inside.mean():.0%} of {len(y_test)} patients")
display = UncertaintyDisplay.from_estimator(network, X_test, y_test)

# %%
# What does it look at?
# ---------------------
# ``feature_relevance_`` is the share of each measurement in what the predictions react to. 0 is "switched off": it
# moved the predictions no more than a column of random numbers would. Correlated measurements share, so a low bar does
# not say that a measurement has nothing to do with the disease.

display = RelevanceDisplay.from_estimator(network)
best = network.feature_names_in_[network.feature_relevance_.argmax()]
print(f"most relevant: {best}; switched off: {', '.join(X.columns[network.feature_relevance_ == 0]) or 'none'}")

# %%
# A classification
# ----------------
# 178 wines of three growers, thirteen chemical measurements. Half of them to train on. ``GNClassifier`` has the same
# parameters; the baseline is logistic regression.

W, grower = load_wine(return_X_y=True)
W_train, W_test, g_train, g_test = train_test_split(W, grower, test_size=0.5, stratify=grower, random_state=0)
classifier = GNClassifier(random_state=0).fit(W_train, g_train)
logistic = make_pipeline(StandardScaler(), LogisticRegression()).fit(W_train, g_train)

for name, model in {"logistic": logistic, "network": classifier}.items():
    p = model.predict_proba(W_test)
    print(f"{name:<9} accuracy {model.score(W_test, g_test):.3f}, log loss {log_loss(g_test, p):.3f}")
frequencies = np.bincount(g_train) / len(g_train)
guess = log_loss(g_test, np.tile(frequencies, (len(g_test), 1)))
print(f"guessing by frequency: log loss {guess:.3f}")

# %%
# Reading a log loss
# ------------------
# Accuracy only asks who came first. **Log loss** asks how much probability was given to what came true: it is the mean
# of ``-log p``, so ``exp(-log loss)`` is a typical such probability. Who is wrong with "99.9 %" pays 7 for that row, as
# much as for 65 rows at 90 % that were right.

for name, model in {"logistic": logistic, "network": classifier}.items():
    print(f"{name:<9} gave the true grower typically {np.exp(-log_loss(g_test, model.predict_proba(W_test))):.0%}")

# %%
# The probabilities tell which wines to taste again: those where the best grower has little.

p = classifier.predict_proba(W_test)
least_sure = np.argsort(p.max(axis=1))[:5]
for i in least_sure:
    print(f"wine {i:2d}: {np.round(p[i], 2)}, predicted {p[i].argmax()}, was {g_test[i]}")
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
right = classifier.predict(W_test) == g_test
ax.hist([p.max(axis=1)[right], p.max(axis=1)[~right]], bins=np.linspace(0.3, 1, 15), stacked=True)
ax.legend([f"right ({right.sum()})", f"wrong ({(~right).sum()})"])
_ = ax.set(xlabel="probability of the predicted grower", ylabel="wines", title="How sure, and how often right")

# %%
# Exercises
# ---------
# **1.** Put five columns of random numbers beside the ten measurements. Does the network fall for them?
#
# *Answer.* It does not. Their relevance is 0 or nearly so, and the test error hardly moves: each feature has a prior of
# its own, which the evidence tightens until the feature earns its weights.

rng = np.random.default_rng(0)
noise = {f"random {j}": rng.standard_normal(len(X)) for j in range(5)}
Xn_train, Xn_test = (part.assign(**{k: v[part.index] for k, v in noise.items()}) for part in (X_train, X_test))
noisy = GNRegressor(random_state=0).fit(Xn_train, y_train)
random_share = noisy.feature_relevance_[-5:].sum()
print(f"share of the random columns {random_share:.3f}, R2 {noisy.score(Xn_test, y_test):.2f}")

# %%
# **2.** What does the model say of a patient with a body mass index of 80, who is far outside of the data?
#
# *Answer.* That it is less sure than of nearly anybody in the test set, but not by as much as one would wish: page 3
# has an example where it is too little.

stranger = X_test.iloc[[0]].assign(bmi=80.0)
_, far = network.predict(stranger, return_std=True)
print(f"standard deviation {far[0]:.0f}; in the test set {std.min():.0f} to {std.max():.0f}")

# %%
# **3.** How much of the accuracy on the wines is owed to hidden layers? Train a linear model by the same method:
# ``hidden_layer_sizes=()``.
#
# *Answer.* Little: the growers are nearly linearly separable. Where a linear model does as well, prefer it.

linear = GNClassifier((), random_state=0).fit(W_train, g_train)
loss = log_loss(g_test, linear.predict_proba(W_test))
print(f"linear: accuracy {linear.score(W_test, g_test):.3f}, log loss {loss:.3f}")
