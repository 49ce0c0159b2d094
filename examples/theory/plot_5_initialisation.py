"""
Random, symmetric and centred initialisation
============================================

**The statement.** The theory starts at a network whose output is 0. There are two ways to have that:
``init="symmetric"`` pairs every hidden unit with a twin whose readout weight is the opposite; ``init="centered"``
subtracts the outputs at the start, alpha (net(x; w) - net(x; w0)). ``init="random"``, the default of every library,
starts anywhere.

**The experiment.** Wine: the colour intensity from three other measurements, four tanh units, alpha 30, three seeds for
each, on the Gauss-Newton flow and on the Levenberg-Marquardt flow with damping 0.1.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale

from skgn import GNRegressor
from skgn.dynamics import gauss_newton_flow, levenberg_marquardt_flow

X = scale(load_wine().data)
X, y = X[:, [0, 6, 10]], X[:, 9]  # alcohol, flavanoids, hue; colour intensity
inits, seeds, t_end = ("random", "symmetric", "centered"), range(3), 6.0


def network(init, seed, damping=0.0):
    """The same but for its start."""
    return GNRegressor((4,), alpha=30.0, init=init, damping=damping, standardize=False, random_state=seed)


# The excess over the lowest loss is not shown, so that this loss need not be searched for.
options = {"t_eval": np.linspace(0, t_end, 21), "max_evaluations": 200, "best_loss": 0.0, "rtol": 1e-4}
undamped = {init: [gauss_newton_flow(network(init, seed), X, y, t_end, **options) for seed in seeds] for init in inits}
damped = {
    init: [levenberg_marquardt_flow(network(init, seed, 0.1), X, y, t_end, **options) for seed in seeds]
    for init in inits
}

# %%
# At the start: the size of the outputs, the loss (0.5 is that of output 0), and whether the Gram matrix is singular,
# its smallest eigenvalue a rounding error. Then how many of the flows came to their end without damping, and with a
# damping of 0.1; medians of the distance and of the loss there.


def median(runs, figure):
    """Of a figure of each run."""
    return float(np.median([figure(run) for run in runs]))


summary = {}
for init in inits:
    runs = undamped[init]
    summary[init] = {
        "output": median(runs, lambda run: np.abs(run.outputs[0]).max()),
        "start": median(runs, lambda run: run.loss[0]),
        "singular": sum(run.min_eigenvalue[0] < 1e-12 * run.max_eigenvalue[0] for run in runs),
        "undamped": sum(run.status == "end" for run in runs),
        "damped": sum(run.status == "end" for run in damped[init]),
        "distance": median(damped[init], lambda run: run.distance_from_init[-1]),
        "end": median(damped[init], lambda run: run.loss[-1]),
    }
print("init        output     loss   singular   ended undamped   damped   distance     loss")
for init, row in summary.items():
    print(
        "{:10s} {output:7.2f}   {start:6.2f}     {singular} of 3           {undamped} of 3   "
        "{damped} of 3   {distance:8.2f}   {end:6.3f}".format(init, **row)
    )

# %%
colours = {"random": "#D55E00", "symmetric": "#009E73", "centered": "#0072B2"}
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for (init, runs), colour, style in zip(
    damped.items(), ("#D55E00", "#009E73", "#0072B2"), ("-", "--", "-."), strict=True
):
    for k, run in enumerate(runs):
        ax.semilogy(run.times, run.loss, style, color=colour, label=None if k else init)
ax.set(xlabel="time t", ylabel="loss")
ax.legend(title="init")
plt.show()

# %%
# **As the paper says?** Centred is the only one whose Gram matrix is regular at a start from output 0, and the only one
# that the undamped flow can follow, if not from every seed. Of a symmetric start half of the directions are missing:
# twins see the same gradient. Where they part, eigenvalues leave 0, and the inverse that the flow needs is as large as
# they are small. So a symmetric start takes some damping. A random start with a large alpha is far from everything:
# outputs of the size of alpha have to be undone first, and the weights go farthest.
#
# With some damping all three arrive. For predictions, with ``alpha=1``, it makes little difference, and random is the
# default; for a large alpha take "centered".
