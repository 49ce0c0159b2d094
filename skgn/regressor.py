"""GNRegressor: the scikit-learn face of the network for regression."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from . import losses, robust_losses
from .backend import linear_algebra_device, resolve_device
from .damping import DampingRule
from .ensemble import Ensemble, Member
from .estimator import BaseGN
from .losses import Loss
from .mixture import predictive_mean, predictive_variance
from .posterior import Posterior
from .targets import Target

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LOSSES", "GNRegressor"]

#: Losses by name.
LOSSES: dict[str, type[Loss]] = {loss.name: loss for loss in (*losses.REGRESSION, *robust_losses.REGRESSION)}

_BY_DISTRIBUTION = {loss.distribution: loss for loss in LOSSES.values()}


class GNRegressor(RegressorMixin, BaseGN):
    """Regression by a small neural network, trained by damped Gauss-Newton and regularised by its evidence.

    Parameters
    ----------
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Units of each hidden layer; ``()`` is a linear model. "auto" is (20,), or (16, 16) where there are 8
        observations for each of its weights; for periodic inputs (see ``standardize``) (10,), or (12, 12). Where (20,)
        has more than 1,000 weights it is (10, 10), and (5,) where that has more as well and most columns are indicators
        of categories.
    activation : str, default="tanh"
        "tanh", "logistic", "softplus", "silu", "gelu" or "identity"; "relu" works but is outside the theory, which
        asks for smooth functions.
    linear_path : bool, default=True
        Let the inputs feed the readout directly, beside the hidden layers, so that a linear model is within reach.
    network : torch.nn.Module, default=None
        A network of your own in the place of the built-in one, of which ``hidden_layer_sizes``, ``activation`` and
        ``linear_path`` then must be left alone: it maps rows of scaled columns (n, n_columns) to (n, n_outputs), each
        row on its own. It is copied, never changed, in evaluation mode; the Jacobian comes from :mod:`torch.func`, at
        a cost (docs/guide/network.md). The first member begins from its own weights, others from what
        ``reset_parameters`` of its parts draws.
    loss : {"squared_error", "student_t", "huber", "cauchy", "quantile", "poisson", "gamma"}, default="squared_error"
        "squared_error" is half the squared error: normal noise. "student_t" has the heavier tails of a Student-t
        distribution with 8 degrees of freedom, which forgives outliers in y, but predicts the centre of the noise,
        which for skewed noise is not the mean.

        "huber" is half the squared error up to 1.345 scales of the noise and linear beyond; "cauchy" has the tails of
        a Cauchy distribution, in which gross outliers are all but ignored; the scale of either is estimated robustly
        while training. "quantile" is the pinball loss of ``quantile``, its kink rounded off within half of its mean.

        "poisson", for counts (``y >= 0``), and "gamma", for positive y of constant relative noise (``y > 0``), are
        half the deviance of these distributions with a log link: the network's output is the logarithm of the mean of
        y, relative to the mean of all y (with ``standardize=False`` to 1), and predictions are means.
    quantile : float in (0, 1), default=0.5
        The quantile that ``loss="quantile"`` predicts: the part of the observations below it.
    alpha : float, default=1.0
        Output scaling factor of the network, ``f(x) = alpha * net(x)``; **not** the L2 penalty that
        :class:`~sklearn.neural_network.MLPRegressor` calls alpha (that is ``l2_regularization``). Large values keep
        training near its initial point, small ones let the hidden features move.
    init : {"random", "symmetric", "centered"}, default="random"
        "symmetric" pairs units whose outputs cancel (even widths only), "centered" subtracts the initial network;
        both make the output exactly 0 at the start.
    damping : "adaptive", float or damping rule, default="adaptive"
        Damping of the Gauss-Newton system: adapted to the gain ratio; constant, as in the Levenberg-Marquardt flow (0
        is pure Gauss-Newton, with the shortest step where the system is singular); or a rule of :mod:`skgn.damping`. A
        step that does not lower the objective is retried with more damping if adaptive, and shortened otherwise.
        "adaptive" also takes short cuts to the minimum of the objective where it is fixed (a float
        ``l2_regularization``, ``step_size=1``, no warm start): first of all and after every step the readout is solved
        for the hidden layers (variable projection), and where there are at least 16 samples a weight, and 1,000,
        training begins on a part of them. ``skgn.damping.GainRatio()`` is the same rule without short cuts.
    step_size : float in (0, 1], default=1.0
        Fraction of the Gauss-Newton step that is taken; small values follow the flow.
    l2_regularization : "evidence" or float >= 0, default="evidence"
        "evidence" estimates one precision for each prior group and the noise level while training, without
        a validation set. A float is the l2 of the objective ``mean loss + l2 / 2 * ||w||^2``, with all weights in w,
        biases included.
    prior_groups : {"auto", "feature", "layer", "shared", "unit"}, default="auto"
        Which weights share a precision when it is estimated: "feature" has one for the first-layer weights of each
        feature, or of each column of periodic inputs and of categories (automatic relevance determination), "layer" one
        for all of these, "shared" one for all weights; "unit" sets every precision to 1 instead. "auto" has members of
        both "feature" and "layer", or "layer" where nothing is compared.
    n_estimators : int or "auto", default="auto"
        Networks whose predictions are averaged, by ``weights_``. What is left open (scaling of the inputs with the
        hidden layers for it, prior, the noise level from which it starts and the steepness of its units) comes in all
        kinds, so that members complement each other. "auto" is 6 of six kinds, or 4 above 2,000 rows, above 1,000
        weights, and where nothing is compared (a float ``l2_regularization``, :meth:`partial_fit`). Up to 2,000 rows
        every network that starts is a member. Above, twice as many are compared on 2,000 rows after 16 iterations, by
        approximate leave-one-out, and the better half goes on. With 1, three short starts are compared in this way.
        Where most members fail, or the best leaves half of the variance, more are drawn from steeper units, and as many
        as were asked for are kept.
    solver : {"auto", "primal", "dual", "cg"}, default="auto"
        Factorise the system of weights (P x P) or that of samples times outputs (n k x n k), or solve by conjugate
        gradients: no factorisation and no more memory than some vectors of P, but also no posterior, so that
        ``l2_regularization`` must be a float. "auto" takes the cheaper factorisation that fits in memory, and "cg"
        where neither does.
    batch_size : int, "auto" or None, default=None
        Rows of a mini-batch; with None every iteration sees all rows. Each batch's damped system is solved exactly, in
        the dual where batch and outputs are fewer than weights (never with evidence, which has to know the Gram matrix;
        not exactly with ``solver="cg"``), and the step is tested on the next batch (see
        ``skgn.batches``); an iteration is then a pass over all rows. For long tables. "auto" is two rows a weight
        and column of the loss's curvature, 1,000 at least, and all rows where that makes fewer than four batches.
        :meth:`partial_fit` takes None for "auto".
    max_iter : int, default=100
        Largest number of iterations; 0 leaves the initial network.
    max_time : float, default=None
        Seconds after which training ends with the best weights so far: between two iterations, or batches; ``status_``
        is then "max_time". Members share the time; one that has hardly begun is left out. What follows the training
        comes on top, about two iterations a member: posterior and left-out samples.
    tol : float, default=1e-3
        With a float ``l2_regularization`` training has converged when actual and predicted decrease stay below tol
        relative to the objective for ``n_iter_no_change`` iterations, or when the gradient falls below tol^2 in
        relative terms. With evidence, when the log evidence has not risen by tol per sample for twice as many
        iterations; where it has fallen since, the weights of its peak are kept.
    early_stopping : bool, default=False
        Stop each member when its loss on a validation set has not fallen by ``tol``, in relative terms, for
        ``n_iter_no_change`` iterations, and go back to the weights where it was lowest. For a float
        ``l2_regularization`` above all: the evidence needs no validation set.
    validation_fraction : float, default=0.1
        Part of the rows that is kept for validation with ``early_stopping=True``, unless ``fit`` is given
        a validation set. Equal rows stay together.
    n_iter_no_change : int, default=5
        See ``tol`` and ``early_stopping``.
    standardize : bool, "robust", "rank" or "periodic", default=True
        Scale inputs: "robust" for hidden layers by median and interquartile range, squashed smoothly at 3 units, and
        for the linear path by mean and standard deviation, clipped at two ranges beyond the values seen; "rank" to the
        normal scores z of their ranks; "periodic" to these and, for features of three values or more, sin 2z and cos 2z
        beside them. True is "robust", with "periodic" for a part of the members where there are hidden layers of up to
        1,000 weights and no float ``l2_regularization``. Unless False, the target is standardised too: by its mean and
        standard deviation; with the losses "huber", "cauchy" and "quantile" by its median and interquartile range; with
        "gamma" it is divided by its mean. Counts ("poisson") stay as they are: their mean is an offset of the output.
    categorical_features : "from_dtype", array-like of int, bool or str, or None, default="from_dtype"
        The features that are categories: by position, as a mask, or by name in a data frame (pandas, polars, pyarrow).
        "from_dtype" takes the columns of a data frame that are categorical, enumerations or strings, and those of
        objects other than numbers; none of an array. Booleans are the numbers 0 and 1. A category of up to 10 levels,
        of which a missing cell is one, has an indicator for each (all 0 for a level not seen). One of more, or any
        where there would be more than 250 indicators, has a column for the mean target of its level, cross-fitted and
        smoothed (:class:`~sklearn.preprocessing.TargetEncoder`), for each of three or more classes; where y has several
        columns, and in :meth:`partial_fit`, one of more than 10 has indicators for its 9 most frequent levels and one
        for all others. Missing numbers become the median, with an indicator for features that had missing ones
        in training. Equal rows count once in all of this.
    warm_start : bool, default=False
        Start from the weights of the previous fit.
    device : str, default="auto"
        "auto" (CUDA where there is one and the problem is large enough to gain), "cpu", "cuda", "cuda:1", "mps".
    dtype : {"float64", "float32"}, default="float64"
        Precision of network outputs and Jacobian products in training; linear systems and predictions are float64.
    record_spectrum : bool, default=False
        Add the extreme eigenvalues of the smaller of Gram matrix and kernel to ``history_``.
    n_jobs : int, default=None
        Candidates trained at once, in threads of one torch thread each, under any backend of joblib.
    random_state : int, RandomState instance or None, default=None
        Draws the initial weights; an int makes fits reproducible.
    verbose : int or bool, default=0
        Print a line each iteration; of several networks it says which one it is about. For a progress bar see
        :meth:`set_callbacks`, with scikit-learn 1.9 or later.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        Weights of the best member by layer, (inputs, outputs) and (outputs,); with ``linear_path`` the inputs of the
        readout are the last hidden layer's units followed by those of the linear path: one for each feature (for each
        column of ``preprocessor_``, if there is one), of robust inputs (``estimators_[0].inputs``) the straight ones,
        or with periodic inputs all scores, then the sines, then the cosines. With ``network=`` its parameters, in
        order, and no intercepts.
    network_ : torch.nn.Module
        Only with ``network=``: a copy in float64 with the weights of the best member, which maps scaled inputs to its
        outputs over ``alpha``.
    estimators_ : list
        The trained members, the largest weight first: the first is called the best.
    weights_ : ndarray of shape (n_members,)
        Weight of each member in a prediction, summing to 1: those of the mixture that predicts left-out samples best,
        drawn towards equal ones. A member of weight 0 has failed, and takes no part. Where left-out samples cannot be
        predicted (``solver_`` "cg", undetermined weights, streams) all are equal.
    n_outputs_ : int
        Outputs of the network.
    n_iter_ : int
        Iterations of the best member, those after its peak included.
    loss_ : float
        Its weighted mean data loss, in units of the standardised target: half the squared error, or for other noise
        minus the log density over the noise precision, 0 at residual 0 (pinball losses: times their mean). With
        "poisson" and "gamma" half the mean deviance.
    loss_curve_ : list of float
        That loss after each iteration.
    history_ : dict of ndarray
        For the starting point and each iteration of the best member (on all samples, if training began on some with a
        float ``l2_regularization``): "objective", "loss", "gradient_norm", "riemannian_gradient_norm" (the output-space
        gradient projected onto the range of the Jacobian, in the norm of the mean over samples and of the loss
        curvature; a lower bound with ``solver_`` "cg"), "damping", "gain_ratio", "step_norm", "distance_from_init",
        "n_effective_parameters", "log_evidence", "noise_std", "time" (seconds); with early
        stopping "validation_loss".
    status_, status_message_ : str
        Why training stopped, in a word and in a sentence.
    solver_ : {"primal", "dual", "cg"}
        The solver used.
    damping_ : float
        The last damping.
    log_evidence_ : float or None
        Log evidence of the best member, in nats, in units of the standardised target; None for a float
        ``l2_regularization``.
    left_out_score_ : float
        What score the fit expects on new rows: the part of the best constant's mean loss that it takes away from
        training rows, each predicted without itself (R2 under a
        squared error). At most 1, below 0 where a constant is better; nan where it is not known: with a float
        ``l2_regularization`` and several members, with ``solver_`` "cg", in streams, and where members interpolate.
    n_effective_parameters_ : float
        Weights of the best member that the data determine, between 0 and their number; nan with ``solver_`` "cg".
    noise_distribution_ : str
        The distribution of the noise that the members were trained with: "normal", "student_t", "huber", "cauchy",
        "asymmetric_laplace" (``loss="quantile"``), "poisson" or "gamma".
    noise_std_ : float or ndarray of shape (n_outputs,)
        Standard deviation of the noise, in the units of y; nan with ``solver_`` "cg". With "huber" that of the
        observations that are no outliers; with "cauchy" and "quantile" that of normal noise of the same Fisher
        information about the prediction; with "gamma" over the mean (the coefficient of variation of y); with "poisson"
        nan.
    feature_relevance_, feature_importances_ : ndarray of shape (n_features,)
        Share of each feature in what the predictions react to (total Sobol indices by exchange of values between
        rows, in all columns of a category together); non-negative, summing to 1, 0 for a feature switched off: one that
        moves the predictions no more than chance lets a column of noise do, or less than 15 % of an equal share.
    preprocessor_ : Pipeline or None
        What X goes through before it is scaled; None where in training all features were numbers and none was missing.
        ``preprocessor_.get_feature_names_out()`` names its columns, and ``preprocessor_.set_output`` makes frames of
        them. Its first step reads a table into floats, its second is a :class:`~sklearn.compose.ColumnTransformer`.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X had them.

    See Also
    --------
    GNClassifier : The same for classification.
    sklearn.linear_model.ARDRegression : The linear model with the same kind of prior.

    References
    ----------
    .. [1] S. Cayci, "A Riemannian Optimization Perspective of the Gauss-Newton Method for Feedforward Neural
       Networks", arXiv:2412.14031.
    .. [2] D. J. C. MacKay, "A practical Bayesian framework for backpropagation networks", Neural Computation 4, 1992.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skgn import GNRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = GNRegressor(random_state=0).fit(X[:300], y[:300])
    >>> mean, std = model.predict(X[300:], return_std=True)
    >>> print(f"R2 {model.score(X[300:], y[300:]):.1f}; {mean.shape}, {std.shape}")
    R2 0.5; (142,), (142,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseGN._parameter_constraints,
        "loss": [StrOptions(set(LOSSES))],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    noise_distribution_: str
    noise_std_: float | np.ndarray
    _target_scaler: Target

    _needed = (*BaseGN._needed, "noise_distribution_", "_target_scaler", "_y_ndim")

    def __init__(
        self,
        hidden_layer_sizes: str | int | Sequence[int] = "auto",
        *,
        activation: str = "tanh",
        linear_path: bool = True,
        network: nn.Module | None = None,
        loss: str = "squared_error",
        quantile: float = 0.5,
        alpha: float = 1.0,
        init: str = "random",
        damping: str | float | DampingRule = "adaptive",
        step_size: float = 1.0,
        l2_regularization: str | float = "evidence",
        prior_groups: str = "auto",
        n_estimators: int | str = "auto",
        solver: str = "auto",
        batch_size: int | str | None = None,
        max_iter: int = 100,
        max_time: float | None = None,
        tol: float = 1e-3,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        standardize: bool | str = True,
        categorical_features: str | Sequence[Any] | None = "from_dtype",
        warm_start: bool = False,
        device: str = "auto",
        dtype: str = "float64",
        record_spectrum: bool = False,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int | bool = 0,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            linear_path=linear_path,
            network=network,
            alpha=alpha,
            init=init,
            damping=damping,
            step_size=step_size,
            l2_regularization=l2_regularization,
            prior_groups=prior_groups,
            n_estimators=n_estimators,
            solver=solver,
            batch_size=batch_size,
            max_iter=max_iter,
            max_time=max_time,
            tol=tol,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            standardize=standardize,
            categorical_features=categorical_features,
            warm_start=warm_start,
            device=device,
            dtype=dtype,
            record_spectrum=record_spectrum,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.loss = loss
        self.quantile = quantile

    def _target_check(self) -> dict[str, Any]:
        return {"y_numeric": True}

    def _validate_target(self, y: np.ndarray) -> np.ndarray:
        self._learn_target_shape(y)
        Y = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        LOSSES[self.loss].check_support(Y)
        return Y

    def _learn_target_shape(self, y: np.ndarray) -> None:
        self._y_ndim, self._n_targets = y.ndim, 1 if y.ndim == 1 else y.shape[1]

    def _encode_target(self, y: Any) -> np.ndarray:
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
        if y.ndim != self._y_ndim or (y.ndim == 2 and y.shape[1] != self._n_targets):
            raise ValueError(f"y has shape {y.shape}; it must have {self._n_targets} column(s) as in training.")
        Y: np.ndarray = y.reshape(len(y), -1)
        LOSSES[self.loss].check_support(Y)
        return Y

    def _weigh_classes(self, Y: np.ndarray, sample_weight: np.ndarray) -> np.ndarray:
        return sample_weight

    def _fit_target(self, Y: np.ndarray, sample_weight: np.ndarray) -> None:
        self._target_scaler = LOSSES[self.loss].fit_target(Y, sample_weight, bool(self.standardize))

    def _target_type(self, Y: np.ndarray) -> str | None:
        return "continuous" if Y.shape[1] == 1 else None

    def _training_loss(self) -> Loss:
        kind = LOSSES[self.loss]
        if kind.target_kind != self._target_scaler.kind:
            raise ValueError(
                f"loss={self.loss!r} has outputs of another kind than the loss that was trained before; begin with fit."
            )
        return kind.for_target(self._target_scaler, float(self.quantile))

    def likelihood(self) -> Loss:
        """The loss of the fit, whatever the parameter is now, at the noise level of the best member if it is known."""
        loss = _BY_DISTRIBUTION[self.noise_distribution_].for_target(self._target_scaler, float(self.quantile))
        posterior = self.estimators_[0].posterior
        if posterior is None or not loss.has_scale:
            return loss
        return loss.at_precision(torch.from_numpy(loss.variance_factor / posterior.noise_variance))

    def _transform_target(self, Y: np.ndarray) -> np.ndarray:
        return self._target_scaler.transform(Y)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train in one pass on a block of rows, going on from the blocks before, or from a fit.

        Damping, scalings, the remembered curvature and the estimated precisions are kept from block to block; all
        scalings and ``preprocessor_`` are those of the first block. Nothing is compared: what is "auto" is chosen as
        for a single network. ``max_iter``, ``max_time`` and ``tol`` have no part in it; an interrupted call leaves what
        there was before.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Best some thousand rows, in random order: it is parted into batches of ``batch_size`` rows ("auto" if
            None), at least two.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : object

        Raises
        ------
        ValueError, TypeError
            As :meth:`fit`; what was learned before is kept.
        """
        return self._partial_fit(X, y, sample_weight)

    def _store(self, ensemble: Ensemble) -> None:
        super()._store(ensemble)
        self.noise_distribution_ = ensemble.loss.distribution
        posterior = ensemble.members[0].posterior
        noise = np.full(self.n_outputs_, np.nan)
        if posterior is not None and ensemble.loss.has_scale:
            noise = np.sqrt(posterior.noise_variance)
        noise = self._target_scaler.rescale(noise)
        self.noise_std_ = float(noise[0]) if self._y_ndim == 1 else noise

    @overload
    def predict(self, X: Any, return_std: Literal[False] = False) -> np.ndarray: ...
    @overload
    def predict(self, X: Any, return_std: Literal[True]) -> tuple[np.ndarray, np.ndarray]: ...
    @overload
    def predict(self, X: Any, return_std: bool) -> np.ndarray | tuple[np.ndarray, np.ndarray]: ...
    def predict(self, X: Any, return_std: bool = False) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict the mean of the target and, if asked, the standard deviation of a new observation.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        return_std : bool, default=False
            The standard deviation contains the noise, the uncertainty of the weights (Laplace approximation) and the
            spread of the members. With ``loss="huber"`` it is that of an observation that is no outlier. With "poisson"
            and "gamma" the noise is that of these distributions around the predicted mean.

        Returns
        -------
        y_mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            In the units of y and the float type of X. The centre of the noise with the losses "student_t", "huber" and
            "cauchy", and the quantile with "quantile".
        y_std : ndarray of the same shape
            Only with ``return_std=True``.

        Raises
        ------
        ValueError
            If ``return_std=True`` and the loss is "cauchy" (whose noise has no variance) or "quantile" (which is no
            mean), or the fit left the weights undetermined (``l2_regularization=0`` and fewer
            informative samples than weights), or was without a factorisation of all rows (``solver_`` "cg", batches
            with ``solver_`` "dual").
        """
        scaled, dtype = self._scale_inputs(X)
        posteriors = self.posteriors() if return_std else []
        members, weights = self.voters()
        target, outputs = self._target_scaler, self._outputs(scaled)
        y_mean = self._finish(predictive_mean(target, outputs, weights), dtype)
        if not return_std:
            return y_mean
        device = linear_algebra_device(resolve_device(self.device))
        variances = [
            posterior.variance(member.network, member.weights, scaled[member.inputs], device)
            for member, posterior in zip(members, posteriors, strict=True)
        ]
        noise = [posterior.noise_variance for posterior in posteriors]
        std = np.sqrt(predictive_variance(target, outputs, variances, noise, weights))
        return y_mean, self._finish(target.rescale(std), dtype)

    def posteriors(self) -> list[Posterior]:
        """The posteriors of the members that count; a ValueError says why, if there is no standard deviation."""
        without_std = _BY_DISTRIBUTION[self.noise_distribution_].without_std
        if without_std:
            raise ValueError(f"return_std=True has no meaning here: {without_std}.")
        posteriors = []
        for member in self.voters()[0]:
            if member.posterior is None:
                raise ValueError(f"return_std=True needs {self._what_lacks(member)}.")
            posteriors.append(member.posterior)
        return posteriors

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = any(loss.support for name, loss in LOSSES.items() if name == self.loss)
        return tags

    def _what_lacks(self, member: Member) -> str:
        """What a member without a posterior lacks, and how to have it."""
        if member.solver == "cg":
            return (
                "a factorisation, for the posterior of the weights, and solver='cg' has none: refit with "
                "solver='primal' or 'dual' (solver='auto' took 'cg' if neither fits in memory)"
            )
        if self.batch_size is not None and member.solver == "dual":
            return (
                "the posterior of all rows, and batches solved in the dual never see their system: refit with "
                "solver='primal' or batch_size=None"
            )
        return (
            "weights determined by data and prior; this fit had "
            f"l2_regularization={self.l2_regularization!r}: refit with a positive one or 'evidence'"
        )

    def _finish(self, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
        values = values.astype(dtype, copy=False)
        return values[:, 0] if self._y_ndim == 1 else values
