"""Training in continuous time: SciPy integrates the flows that a network's weights follow.

    gradient flow               dw/dt = -grad F(w)
    Gauss-Newton flow           dw/dt = -G(w)^+ grad F(w)
    Levenberg-Marquardt flow    dw/dt = -(G(w) + damping I)^-1 grad F(w)

With a float ``l2_regularization``, F contains l2/2 ||w||^2, and G + l2 I replaces G. With ``init="centered"`` the norm
is that of w less the initial weights. `GNRegressor` and `GNClassifier` train by Euler's method for the last two flows.
The ``step_size`` of the damping rule is the step length. In the space of network outputs the Gauss-Newton flow follows
the gradient of the loss, projected onto what the network can reach. It is a Riemannian gradient flow, whose rate does
not depend on the conditioning of G.

The flows follow the theory: they use all rows and do not re-estimate precisions. They are meant for small networks
whose every move is to be looked at.

References
----------
S. Cayci, A Riemannian Optimization Perspective of the Gauss-Newton Method for Feedforward Neural Networks,
arXiv:2412.14031.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.stats import linregress

from .damping import Constant, DampingRule, Iterate, as_rule
from .estimator import BaseGN, network_on
from .jacobian_cost import gram_flops
from .threads import torch_threads
from .velocity import Budget, Point, Velocity

__all__ = ["Rate", "Trajectory", "gauss_newton_flow", "gradient_flow", "levenberg_marquardt_flow"]

#: Number of moments of a trajectory without ``t_eval``.
_MOMENTS = 101

#: Options of solve_ivp that a flow uses itself, or does not use; and of SciPy's methods, by name, those that there are.
_NOT_PASSED_ON = ("args", "dense_output", "events", "vectorized")
_PASSED_ON = ("atol", "first_step", "jac", "jac_sparsity", "lband", "max_step", "min_step", "rtol", "uband")

#: Errors per step: the last digits of an excess loss are seen, at twice the evaluations of SciPy's defaults.
_TOLERANCES = {"rtol": 1e-6, "atol": 1e-9}

#: A rate is fitted to values above this part of the largest; below, errors of integration may show.
_FLOOR = 1e-4


class Rate(NamedTuple):
    """Exponential rate of a decay, and its error: the quantity falls like exp(-rate t).

    ``error`` is the larger of two numbers: the standard error of the fitted slope, and half the difference between the
    rates of the two halves. It is large if the decay is not exponential.
    """

    rate: float
    error: float


@dataclass(frozen=True)
class Trajectory:
    """Course of a flow: arrays whose first axis is time.

    Attributes
    ----------
    times : ndarray of shape (m,)
        A step of Gauss-Newton training takes the time ``step_size`` of its damping rule.
    outputs : ndarray of shape (m, n, k)
        Network outputs on the rows of positive weight, in their order. For a regressor they are in units of the
        standardised target; for a classifier they are logits.
    loss : ndarray of shape (m,)
        Weighted mean data loss; for a regressor half the squared error.
    excess_loss : ndarray of shape (m,)
        The objective minus ``best_loss``. The objective is the loss, plus the penalty if there is an l2.
    best_loss : float
        The lowest objective that damped Gauss-Newton reaches from the end of the trajectory, to the last digit. If
        there is one minimum, it is the best in class. The caller may give another value.
    gradient_norm, riemannian_gradient_norm : ndarray of shape (m,)
        Norms of two gradients. The first is the gradient with respect to the weights. The second is the gradient in
        output space, projected onto the range of the Jacobian, in the metric of the loss: sqrt(g' G^+ g).
    min_eigenvalue, max_eigenvalue : ndarray of shape (m,)
        Extreme eigenvalues of the smaller of the Gram matrix G (P x P) and the tangent kernel (n k x n k). For classes
        the kernel is n (k - 1) x n (k - 1). G has zeros because logits are known up to a constant; these are left out.
    distance_from_init : ndarray of shape (m,)
        Euclidean distance of the weights from the weights at t = 0.
    damping : ndarray of shape (m,)
        The damping of the flow; 0 for the Gauss-Newton flow, nan for gradient flow.
    weights : ndarray of shape (m, P) or None
        The weights if ``keep_weights=True``, else None.
    n_evaluations : int
        Number of velocities computed, for the step control and for the solver's Jacobians. It is the cost of the flow.
    status : {"end", "max_evaluations", "failed"}
    message : str
        Reason why the integration ended. It reached ``t_end``, or it reached ``max_evaluations`` because the flow is
        too stiff for the method. Otherwise the message is SciPy's reason why it could not go on.
    """

    times: np.ndarray = field(repr=False)
    outputs: np.ndarray = field(repr=False)
    loss: np.ndarray = field(repr=False)
    excess_loss: np.ndarray = field(repr=False)
    best_loss: float
    gradient_norm: np.ndarray = field(repr=False)
    riemannian_gradient_norm: np.ndarray = field(repr=False)
    min_eigenvalue: np.ndarray = field(repr=False)
    max_eigenvalue: np.ndarray = field(repr=False)
    distance_from_init: np.ndarray = field(repr=False)
    damping: np.ndarray = field(repr=False)
    weights: np.ndarray | None = field(repr=False)
    n_evaluations: int
    status: str
    message: str

    def rate(self, quantity: str = "excess_loss", start: float = 0.0, stop: float = math.inf) -> Rate:
        """Exponential rate at which a quantity falls, by least squares on its logarithm.

        The rate of ``"excess_loss"`` is taken from its root. That is the distance from the best outputs, which falls
        with the Riemannian gradient norm. Near the start the undamped Gauss-Newton flow of a squared error has rate 1
        in both, whatever the conditioning. The flow of a log loss has rate 1 in the end if the best outputs are finite,
        and 1/2 for separable classes.

        Parameters
        ----------
        quantity : str, default="excess_loss"
            An attribute of shape (m,): "riemannian_gradient_norm", "gradient_norm", "loss", ...
        start, stop : float
            Only moments between these two count; late moments give the asymptotic rate. Values below 1e-4 of the
            largest one never count, because errors of integration may show there.

        Returns
        -------
        rate : Rate
            ``(rate, error)``.

        Raises
        ------
        ValueError
            If there is no such quantity, or fewer than four moments are left to fit.
        """
        values = getattr(self, quantity, None)
        if not isinstance(values, np.ndarray) or values.shape != self.times.shape or quantity == "times":
            series = {name: v for name, v in vars(self).items() if isinstance(v, np.ndarray) and v.ndim == 1}
            known = [name for name in series if name != "times"]
            raise ValueError(f"quantity must be one of {known}, got {quantity!r}.")
        if quantity == "excess_loss":
            values = np.sqrt(np.maximum(values, 0.0))
        largest = np.max(values[np.isfinite(values)], initial=0.0)
        kept = (self.times >= start) & (self.times <= stop) & (values > _FLOOR * largest)
        t, logarithm = self.times[kept], np.log(values[kept])
        if len(t) < 4:
            raise ValueError(
                f"A rate needs four moments between start={start:g} and stop={stop:g} with {quantity} above {_FLOOR:g} "
                f"of its largest value, {largest:.3g}; of {len(self.times)} moments up to "
                f"t={np.max(self.times, initial=0.0):g}, {len(t)} are so. {self.message}"
            )
        fit, half = linregress(t, logarithm), len(t) // 2
        early, late = linregress(t[:half], logarithm[:half]), linregress(t[half:], logarithm[half:])
        error = max(float(fit.stderr), abs(float(late.slope - early.slope)) / 2)
        return Rate(-float(fit.slope), error)


def gauss_newton_flow(estimator: BaseGN, X: Any, y: Any, t_end: float, **options: Any) -> Trajectory:
    """Integrate the flow dw/dt = -G^+ grad F of a network, undamped whatever the estimator's ``damping``.

    Where G is singular (more weights than observations, ``init="symmetric"``), the velocity is the shortest solution.

    Parameters
    ----------
    estimator : GNRegressor or GNClassifier
        If it is fitted, the flow starts from the weights of the best member. Otherwise the flow starts where a single
        network (``n_estimators=1``) would start. The network, ``alpha``, ``init``, scaling, loss, a float
        ``l2_regularization`` and ``random_state`` are those of the estimator. The estimator does not change. "evidence"
        counts as no regularisation.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    t_end : float
        Time to integrate to. Near its start, the flow of a squared error comes closer by a factor e in time 1.
    **options
        ``sample_weight`` (n_samples,); ``keep_weights`` (default False); ``best_loss``, a float for the lowest
        objective, which is searched for otherwise; ``max_evaluations`` (default 5,000) of the velocity, after which the
        flow is given up. Also the options of :func:`scipy.integrate.solve_ivp`: ``t_eval`` (default: 101 moments),
        ``method`` (default "RK45"), ``rtol`` (1e-6), ``atol`` (1e-9), ``max_step``, ... Not allowed are "args",
        "dense_output", "events" and "vectorized".

    Returns
    -------
    trajectory : Trajectory

    Raises
    ------
    ValueError, TypeError
        If a parameter or the data are not as described, before any work.

    Notes
    -----
    A flow that becomes too stiff to integrate ends early; see ``status`` and ``message`` of the trajectory.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor
    >>> from skgn.dynamics import gauss_newton_flow
    >>> X, y = load_diabetes(return_X_y=True)
    >>> network = GNRegressor((3,), alpha=100.0, init="centered", random_state=18)
    >>> flow = gauss_newton_flow(network, X[:, [1, 2, 3, 8]], y, t_end=5.0)
    >>> print(f"{flow.rate().rate:.2f}")
    1.00
    """
    return _flow(estimator, X, y, t_end, Constant(0.0), **options)


def levenberg_marquardt_flow(estimator: BaseGN, X: Any, y: Any, t_end: float, **options: Any) -> Trajectory:
    """Integrate the flow dw/dt = -(G + damping I)^-1 grad F of a network, with the estimator's ``damping``.

    Parameters
    ----------
    estimator : GNRegressor or GNClassifier
        As for :func:`gauss_newton_flow`. Its ``damping`` must be a float or a schedule of :mod:`skgn.damping`. A
        schedule reads the time in the place of the iteration.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    t_end : float
        Time to integrate to. Without an l2, an output mode of eigenvalue e falls at the rate e / (e + damping).
    **options
        As for :func:`gauss_newton_flow`.

    Returns
    -------
    trajectory : Trajectory

    Raises
    ------
    ValueError, TypeError
        If a parameter or the data are not as described, before any work. ``damping="adaptive"`` is such an error: it
        adapts to steps, and a flow has none.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor
    >>> from skgn.damping import ProportionalToLoss
    >>> from skgn.dynamics import levenberg_marquardt_flow
    >>> X, y = load_diabetes(return_X_y=True)
    >>> network = GNRegressor((3,), damping=ProportionalToLoss(0.1), random_state=0)
    >>> flow = levenberg_marquardt_flow(network, X[:, :4], y, t_end=5.0)
    >>> bool(flow.loss[-1] < flow.loss[0])
    True
    """
    _check_estimator(estimator)
    rule = as_rule(estimator.damping)
    if _adapts(rule):
        raise ValueError(
            f"damping={estimator.damping!r} adapts to steps, and a flow has none: give the estimator a float or a "
            "schedule of skgn.damping."
        )
    return _flow(estimator, X, y, t_end, rule, **options)


def _adapts(rule: DampingRule) -> bool:
    """Whether a rule learns from single steps: asked anywhere, it answers a failed step by more damping."""
    return rule.rejected(1.0, Iterate(0.0, 1.0, 1.0, 1.0, 1.0, lambda: 1.0)) is not None


def gradient_flow(estimator: BaseGN, X: Any, y: Any, t_end: float, **options: Any) -> Trajectory:
    """Integrate the flow dw/dt = -grad F of a network: gradient descent in the limit of small steps.

    Parameters
    ----------
    estimator : GNRegressor or GNClassifier
        As for :func:`gauss_newton_flow`.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    t_end : float
        Time to integrate to. An output mode of eigenvalue e of G falls at the rate e.
    **options
        As for :func:`gauss_newton_flow`. ``method`` is "BDF" by default, because the flow is as stiff as G is
        ill-conditioned. Implicit methods take -(G + l2 I) for the Jacobian of the velocity.

    Returns
    -------
    trajectory : Trajectory

    Raises
    ------
    ValueError, TypeError
        If a parameter or the data are not as described, before any work.
    """
    return _flow(estimator, X, y, t_end, None, **{"method": "BDF"} | options)


def _check_estimator(estimator: object) -> None:
    if not isinstance(estimator, BaseGN):
        raise TypeError(f"estimator must be a GNRegressor or GNClassifier, got {type(estimator).__name__}.")


def _flow(
    estimator: BaseGN,
    X: Any,
    y: Any,
    t_end: float,
    rule: DampingRule | None,
    *,
    sample_weight: Any = None,
    keep_weights: bool = False,
    best_loss: float | None = None,
    max_evaluations: int = 5_000,
    method: Any = "RK45",
    t_eval: Any = None,
    **options: Any,
) -> Trajectory:
    """Integrate the flow damped by ``rule``, or the gradient flow if there is no rule."""
    _check_estimator(estimator)
    _check_options(t_end, best_loss, max_evaluations, method, options)
    moments = _moments(t_end, t_eval)
    objective, w0 = network_on(estimator, X, y, sample_weight)
    l2 = 0.0 if isinstance(estimator.l2_regularization, str) else float(estimator.l2_regularization)
    flops = gram_flops(objective.network, objective.n_samples, objective.n_columns)
    with torch_threads(flops), torch.no_grad():
        velocity = Velocity(objective, w0, l2, rule, estimator.solver)
        if rule is None and method in ("BDF", "Radau", "LSODA"):
            options.setdefault("jac", velocity.jacobian)
        budget, options = Budget(velocity, max_evaluations), {**_TOLERANCES, **options}
        start = w0.numpy().copy()
        solution = solve_ivp(velocity, (0.0, float(t_end)), start, method, moments, events=budget, **options)
        # A list where no moment of t_eval was reached.
        states = np.asarray(solution.y).reshape(len(w0), -1).T.copy()
        ws = [torch.from_numpy(w) for w in states]
        points = [velocity.look(t, w) for t, w in zip(solution.t, ws, strict=True)]
        objectives = np.array([point.objective for point in points])
        if best_loss is None:
            last = ws[-1] if ws else w0
            best_loss = min(velocity.lowest(last), float(np.nanmin(objectives, initial=math.inf)))
    status = {0: "end", 1: "max_evaluations"}.get(solution.status, "failed")
    message = solution.message
    if status == "max_evaluations":
        message = (
            f"Given up at t={budget.end:.3g} of {t_end:g} after {velocity.n_evaluations} evaluations: too stiff for "
            f"method={method!r}, or too few for max_evaluations={max_evaluations}."
        )
    arrays = {name: np.array([getattr(point, name) for point in points]) for name in Point._fields[1:]}
    return Trajectory(
        times=np.asarray(solution.t),
        excess_loss=objectives - best_loss,
        best_loss=float(best_loss),
        distance_from_init=np.array([float((w - w0).norm()) for w in ws]),
        weights=states if keep_weights else None,
        n_evaluations=velocity.n_evaluations,
        status=status,
        message=message,
        **arrays,
    )


def _check_options(
    t_end: float, best_loss: float | None, max_evaluations: int, method: Any, options: Mapping[str, Any]
) -> None:
    if not (isinstance(t_end, Real) and math.isfinite(t_end) and t_end > 0):
        raise ValueError(f"t_end must be a positive finite time, got {t_end!r}.")
    if not (isinstance(max_evaluations, Integral) and max_evaluations >= 1):
        raise ValueError(f"max_evaluations must be an integer of at least 1, got {max_evaluations!r}.")
    if best_loss is not None and not (isinstance(best_loss, Real) and math.isfinite(best_loss)):
        raise ValueError(f"best_loss must be a finite number or None, got {best_loss!r}.")
    refused = [name for name in _NOT_PASSED_ON if name in options]
    if refused:
        raise TypeError(f"Flows do not take the option(s) {refused} of scipy.integrate.solve_ivp.")
    unknown = sorted(options.keys() - set(_PASSED_ON)) if isinstance(method, str) else []
    if unknown:
        raise TypeError(f"Flows and scipy.integrate.solve_ivp have no option(s) {unknown}.")


def _moments(t_end: float, t_eval: Any) -> np.ndarray:
    """Return the moments of a trajectory: those asked for, or else an even grid."""
    if t_eval is None:
        return np.linspace(0, t_end, _MOMENTS)
    moments = np.asarray(t_eval, dtype=float)
    increasing = moments.ndim == 1 and len(moments) > 0 and bool((np.diff(moments) > 0).all())
    if not (increasing and 0 <= moments[0] and moments[-1] <= t_end):
        raise ValueError(f"t_eval must be increasing moments between 0 and t_end={t_end:g}.")
    return moments
