"""GNRegressor: the scikit-learn face of the network for regression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.metrics import d2_pinball_score
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .backend import written
from .candidates import Start
from .damping import DampingRule
from .directions import serves_evidence
from .draws import Draw
from .ensemble import Ensemble
from .estimator import BaseGN
from .limits import Limits
from .mixing import log_density_ratio
from .noise import NOISE, InputNoise, Noisy
from .noise_fit import with_input_noise
from .parameters import one_of, parameter_defaults
from .predictions import Predictions
from .problem import Problem
from .redundant_targets import RedundantTarget, without_redundant
from .rows import Raw, RawRows
from .shared_noise import apart
from .targets import LOSSES, RegressionTarget, may_combine
from .workers import members_at_once

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["GNRegressor"]


class GNRegressor(Predictions):
    """Regression by a small neural network, trained by damped Gauss-Newton and regularised by its evidence.

    Parameters
    ----------
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Number of units of each hidden layer; ``()`` is a linear model. "auto" chooses (20,), or (16, 16) where there
        are 8 observations for each weight of that network. On periodic inputs (see ``standardize``) it chooses (10,),
        or (12, 12) by the same rule. If (20,) has more than 1,000 weights, it chooses (10, 10). If (10, 10) has more as
        well and three of four columns are indicators of categories, it chooses (5,). On up to 2,000 rows, where
        samples determine nearly all of these weights, two more members may have (20, 20).
    activation : str, default="auto"
        "tanh", "logistic", "softplus", "silu", "gelu", "identity" or "relu". "relu" works but is outside the theory,
        which asks for smooth functions. "auto" is "tanh", but of a fit on up to 200 distinct rows one member in three
        has "gelu". This needs ``prior_groups="auto"``, the evidence, and a loss with a noise level. If
        ``hidden_layer_sizes`` is "auto" as well, such a member has (20,).
    linear_path : bool, default=True
        Connect the inputs directly to the readout, beside the hidden layers, so that the network can represent any
        linear model.
    network : torch.nn.Module, default=None
        A network of your own in the place of the built-in one. ``hidden_layer_sizes``, ``activation`` and
        ``linear_path`` must then keep their defaults. The module maps rows of scaled columns (n, n_columns) to outputs
        (n, n_outputs), each row on its own. The fit copies the module, never changes it, and uses it in evaluation
        mode. :mod:`torch.func` computes the Jacobian, which takes more time than for the built-in network
        (docs/guide/network.md). The first member starts from the module's own weights, and in a regression so may a
        second. Other members start from weights that ``reset_parameters`` of its parts draws.
    loss : {"squared_error", "poisson", "gamma", "student_t", "huber", "cauchy", "quantile"}, default="squared_error"
        "squared_error" is half the squared error and assumes normal noise. "student_t" assumes the heavier tails of a
        Student-t distribution with 8 degrees of freedom, which forgives outliers in y. It predicts the centre of the
        noise, which is not the mean if the noise is skewed.

        "huber" is half the squared error up to 1.345 scales of the noise, and linear beyond. "cauchy" assumes the tails
        of a Cauchy distribution and all but ignores gross outliers. Training estimates the scale of the noise robustly
        for both. With both, mean targets of levels are those of y clipped at 3 scales from its median. "quantile" is
        the pinball loss of ``quantile``, with its kink rounded off within half of the mean of that loss.

        "poisson" is for counts (``y >= 0``), "gamma" for positive y with constant relative noise (``y > 0``). Both are
        half the deviance of the distribution, with a log link. The network's output is the logarithm of the mean of y,
        relative to the mean of all y. Predictions are means. Counts may scatter more than Poisson counts do: training
        estimates a dispersion for each column of y, by which the variance exceeds the mean (``noise_std_``). Rates are
        counts over exposures, with these as ``sample_weight``, in any unit. Each is one observation.

        Every loss scales the target: by its mean and standard deviation, but "huber", "cauchy" and "quantile" by its
        median and interquartile range. "student_t" does so too, where far targets make the deviation a hundred times as
        large as the range tells. "gamma" divides the target by its mean. Counts ("poisson") stay as they are: their
        mean is an offset of the output.
    noise : {"auto", "constant", "input"}, default="auto"
        Whether the noise has the same standard deviation everywhere ("constant") or depends on the input ("input").
        "input" trains two more small networks on the squared residuals of training rows that are each predicted without
        themselves. They multiply the variance of the noise by a factor that depends on the input. Where it varies much,
        means follow the quiet rows: the networks are trained on with the precision of each row
        (docs/guide/uncertainty.md). "auto" is "input" where a score test finds a column, a product of two, or
        predictions that move the squared residuals. The factor also has to predict left-out samples better than a
        constant does, by two standard errors. Otherwise "auto" is "constant".

        "input" needs ``loss="squared_error"`` or ``"student_t"``, ``l2_regularization="evidence"`` and a ``solver``
        that factorises. "auto" is "constant" without these, in :meth:`partial_fit`, and where ``max_time``, Ctrl-C or a
        callback cut the training short.
    quantile : float in (0, 1) or array-like of shape (n_quantiles,), default=0.5
        The quantile that ``loss="quantile"`` predicts; other losses refuse the parameter. This part of the observations
        lies below the prediction. Several quantiles, in increasing order, are predicted by one fit, side by side. They
        are sorted, so that they never cross.
    alpha : float, default=1.0
        Factor on the output of the network, ``f(x) = alpha * net(x)``. It is **not** the L2 penalty that scikit-learn's
        ``MLPRegressor`` and ``MLPClassifier`` call alpha; that penalty is ``l2_regularization``. A large alpha keeps
        training near its initial point; a small alpha lets the hidden features move. It lies between 1e-20 and 1e20.
    init : {"random", "symmetric", "centered"}, default="random"
        "random" draws the weights. "symmetric" pairs units whose outputs cancel (even widths only). "centered"
        subtracts the initial network. "symmetric" and "centered" make the output exactly 0 at the start. The prior of
        the weights holds them near 0, and with "centered" near their start, where the output is 0.
    damping : "adaptive", float or damping rule, default="adaptive"
        Damping of the Gauss-Newton system. "adaptive" adapts the damping to the gain ratio. A float keeps it constant,
        as in the Levenberg-Marquardt flow. 0 is pure Gauss-Newton; where the system is singular, it takes the shortest
        step. A rule is an object of :mod:`skgn.damping`, or one of your own with the same methods. Its ``step_size`` is
        the part of the Gauss-Newton step that is taken: 1, or less to follow the continuous flow. A step that does not
        lower the objective is retried with more damping if the damping adapts, and is shortened otherwise.

        "adaptive" also takes two short cuts to the minimum where the objective is fixed: with a float
        ``l2_regularization`` and no warm start. First, the fit solves the readout for the hidden
        layers (variable projection) at the start and after every step. Second, training begins on a part of the samples
        where there are at least 16 for each weight, and at least 1,000. In mini-batches it starts with more damping and
        lowers it more slowly. ``skgn.damping.GainRatio()`` is the same rule without any of this.
    l2_regularization : "evidence" or float >= 0, default="evidence"
        "evidence" estimates one precision for each prior group and the noise level while training, without a validation
        set. A float is the l2 of the objective ``mean loss + l2 / 2 * ||w||^2``, where w holds all weights, biases
        included. With ``init="centered"`` it holds their distances from the initial weights.
    prior_groups : {"auto", "feature", "layer", "shared"}, default="auto"
        Which weights share an estimated precision. "feature" gives the first-layer weights of each feature a precision
        of their own (automatic relevance determination). Periodic inputs and categories then have a precision for each
        of their columns. "layer" gives all first-layer weights one precision, "shared" all weights of the network.
        "auto" trains members of both "feature" and "layer", and of "layer" only where nothing is compared (a float
        ``l2_regularization``, :meth:`partial_fit`).
    n_estimators : int or "auto", default="auto"
        Number of networks whose predictions are averaged with ``weights_``. What the parameters leave open comes in all
        kinds, so that members complement each other. That is the scaling of the inputs with its hidden layers, the
        prior, the noise level at the start, and the steepness of the units. "auto" is 6. It is 4 above 2,000 rows,
        above 1,000 weights, and where nothing is compared (a float ``l2_regularization``, :meth:`partial_fit`).

        Up to 2,000 rows these are the most. Two networks are trained at a time, each to the end, or all at once with
        "poisson". No more are trained where all others promise to lower the loss of left-out samples by less than 2 %,
        as where networks agree. Above 2,000 rows twice as many networks start. They train for 16 iterations on 2,000
        rows; approximate leave-one-out then compares them, and the better half goes on. With 1, three short starts are
        compared in the same way.

        More networks may be trained, of which the best are kept. Where at most half of the columns are of use, some
        read these columns alone in their hidden layers. With no more rows than columns, one of them also does so on its
        linear path. A column is of use if it tells something of the target, or of what a network has left over. If half
        of the members fail, or the best leaves half of the variance on up to 2,000 rows, others have steeper units. On
        up to 2,000 rows, or 10,000 of a regression, one is linear in radial units. Each unit is large near one row of
        the fit. This needs hidden layers, activation, prior and scaling that are left to the fit, and ``linear_path``.
    solver : {"auto", "primal", "dual", "cg"}, default="auto"
        "primal" factorises the system of the weights (P x P), "dual" the system of samples times outputs (n k x n k).
        "cg" solves the system by conjugate gradients, without a factorisation. It needs no more memory than some
        vectors of P. It gives no posterior, so that ``l2_regularization`` must be a float. "auto" takes the cheaper
        factorisation that fits in memory, and "cg" if neither fits.
    batch_size : int, "auto" or None, default=None
        Number of rows in a mini-batch, for long tables. An iteration is then a pass over all rows. With None every
        iteration uses all rows at once. The damped system of each batch is solved exactly, except with ``solver="cg"``,
        and the step is tested on the next batch (see ``skgn.batches``). The dual solver is used where a batch has fewer
        rows times outputs than weights. With evidence it is never used, because the evidence needs the Gram matrix.
        "auto" is two rows for each weight and column of the loss's curvature, and at least 1,000. If that makes no
        more than four batches, "auto" means all rows. :meth:`partial_fit` takes None for "auto".
    max_iter : int, default=100
        Largest number of iterations; 0 keeps the initial network.
    max_time : float > 0 or None, default=None
        Seconds for the whole fit. None sets no limit. Training ends between two iterations or batches with the best
        weights so far, and ``status_`` is then "max_time". Before each step, its time is estimated from the steps
        before. Members share the time; a member that has hardly begun is left out. With little time a fit takes fewer
        candidates, rows and members from the outset, and the warning says how many. Rows are drawn before they are
        scaled, where that would take too long. Without time for a single step, the prediction is a constant, but a warm
        start keeps the fit before.
    tol : float, default=1e-3
        Training stops after ``n_iter_no_change`` iterations without progress of more than ``tol``, relative to the
        scale of what gets better. With a float ``l2_regularization`` the objective gets better, relative to its value.
        With early stopping it is the validation loss, relative to its lowest value, or to a nat of a log density. With
        evidence it is the log evidence, relative to a nat a sample and target. Without a noise level that is at most
        20 sqrt(n) nats for n samples. Once the noise is at most ``tol`` standard deviations of the target, no progress
        counts. If the evidence has fallen since its peak, by more than 0.03 nats a sample, the fit keeps the weights of
        the peak.
    early_stopping : bool, default=False
        Stop each member when its loss on a validation set makes no more progress (see ``tol``). The member then goes
        back to the weights where that loss was lowest. This is useful with a float ``l2_regularization`` above all: the
        evidence needs no validation set.
    validation_fraction : float, default=0.1
        Part of the rows that ``early_stopping=True`` keeps for validation, unless ``fit`` is given a validation set.
        Equal rows stay together.
    n_iter_no_change : int, default=7
        Number of iterations without progress before training stops; see ``tol`` and ``early_stopping``.
    standardize : bool, "robust", "rank", "periodic" or "piecewise", default=True
        How the inputs are scaled. "robust" scales the inputs of the hidden layers by median and interquartile range,
        and squashes them smoothly at 3 units. It scales the inputs of the linear path by mean and standard deviation,
        and clips them at two ranges beyond the values seen. "rank" replaces the values by the normal scores z of their
        ranks. "periodic" takes these scores and adds sin 2z and cos 2z for features of three values or more.
        "piecewise" cuts the scores of a feature into up to eight pieces, and has a column for each that rises there
        alone. True is "robust". A part of the members then has "periodic", where hidden layers have up to 1,000 weights
        and ``l2_regularization`` is no float. Where left-out residuals still depend on a feature, more members read up
        to 24 pieces of it beside the robust columns (docs/evidence.md). Where trees tell what they do not, they read
        the steps of these. With False the inputs stay as they are, and a fit warns where they are far from 1.
    categorical_features : "from_dtype", array-like of int, bool or str, or None, default="from_dtype"
        The features that are categories: by position, as a mask, or by name in a data frame (pandas, polars, pyarrow).
        "from_dtype" takes the columns of a data frame that hold categories, enumerations, strings, or objects other
        than numbers. It takes none of an array. Booleans are the numbers 0 and 1.

        A category of up to 10 levels has an indicator for each level; all are 0 for a level not seen in training. A
        missing cell is a level too. A category of more levels has a column for the mean target of its level, adjusted
        for the other columns by a mixed model. It is cross-fitted for levels of fewer than ten rows. Several columns of
        y, and three or more classes, have a column each. If there would be more than 250 indicators, categories have
        mean targets where this takes fewer columns. In :meth:`partial_fit` no category has mean targets. A category of
        more than 10 levels then has indicators for its 9 most frequent levels and one for all others.

        Numbers may be codes, as of shops, or of what is measured once for each shop. Where the target jumps between the
        numbers of a feature, as cross-validation tells, it has mean targets too, beside the column of its numbers.

        Where the slope along another column differs between levels or codes, as cross-validation tells, they have
        columns for their slopes too. Two features with mean targets may have columns for effects of their pairs of
        levels. Neither codes nor slopes nor pairs are looked for with None, a float ``l2_regularization``,
        ``standardize=False``, ``network`` or ``warm_start=True``.

        Missing numbers become the median. A feature that had missing numbers in training has an indicator of them. A
        row of weight 3 counts as three rows in medians and mean targets.
    warm_start : bool, default=False
        Start from the weights of the previous fit.
    device : str, default="auto"
        "auto", "cpu", "cuda", "cuda:1" or "mps". "auto" takes CUDA where it is available and the problem is large
        enough to gain.
    dtype : {"float64", "float32"}, default="float64"
        Precision of network outputs and Jacobian products in training. Predictions are always float64. The posterior is
        made of such products: a fit warns where hardly any noise is left, beside which "float32" has too few digits.
        Where precisions are estimated and the noise is large, systems of 250 rows and more are float32 in any case.
    n_jobs : int, default=None
        Number of candidates that train at once, under any backend of joblib, each in a thread of its own with one torch
        thread. None is the number that a ``joblib.parallel_config`` around the fit names, or that of torch's threads
        (``torch.get_num_threads()``). It is 1 for small fits, for systems beyond the memory budget, with callbacks and
        in threads of a pool. 1 trains candidates in turn; -1 is all cores.
    random_state : int, RandomState instance or None, default=None
        Source of the initial weights; an int makes fits reproducible.
    verbose : int or bool, default=0
        1 prints a line for each candidate: what it is, its iterations, D2 of the samples left out and seconds, and why
        it is kept or dropped. A line for the whole fit follows. 2 prints a line for each iteration as well. For a
        progress bar see :meth:`set_callbacks`, with scikit-learn 1.9 or later.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        Weights of the best member by layer, (inputs, outputs) and (outputs,). With ``linear_path`` the readout's inputs
        are the units of the last hidden layer, followed by the inputs of the linear path. The linear path has an input
        for each feature, or for each column of ``preprocessor_`` if there is one. For robust inputs
        (``estimators_[0].scaling``) these are the straight columns, and for finer ones and steps these and the pieces.
        For radial units, which have no hidden layer, they are combinations of the units, then the straight columns.
        One more, for what the units lack, counts in standard deviations alone.
        For periodic inputs they are all scores, then all sines, then all cosines, and for piecewise inputs the pieces
        of each feature, in order. With ``network=`` the list has the module's parameters, in order, and there are no
        intercepts.
    network_ : torch.nn.Module
        Only with ``network=``: a copy of the module in float64 with the weights of the best member. It maps scaled
        inputs to the member's outputs divided by ``alpha``.
    estimators_ : list
        The trained members, the largest weight first. The first member is called the best. Each has ``network``,
        ``scaling``, ``prior_kind``, ``solver``, ``n_iter``, ``status``, ``history``, ``log_evidence`` and
        ``n_effective_parameters``.
    weights_ : ndarray of shape (n_members,)
        Weight of each member in a prediction; the weights sum to 1. They are the weights of the mixture that predicts
        left-out samples best, drawn towards equal weights. A member of weight 0 has failed and takes no part. All
        weights are equal where left-out samples cannot be predicted (``solver_`` "cg", undetermined weights, streams).
        A stream after a fit keeps those of the fit.
        With ``loss="squared_error"`` and up to 10,000 rows members count at each row by their weight over the variance
        that they predict there. A member that is less sure counts less (docs/guide/uncertainty.md).
    n_outputs_ : int
        Number of predicted values: columns of y, times quantiles where there are several. A network has no outputs for
        constant columns of y, nor for columns that are linear in a single other one. Where columns share noise, its
        outputs are combinations of them (docs/guide/estimators.md).
    n_iter_ : int
        Number of iterations of the best member, with the iterations after its peak. Where it was trained on with the
        precisions of the rows (``noise_`` is "input"), these count alone, here and in ``history_``.
    loss_ : float
        Weighted mean data loss of the best member, in units of the standardised target. A squared error counts half.
        For other noise the loss is minus the log density over the noise precision, shifted to 0 at residual 0. A
        pinball loss is multiplied by its mean. "poisson" and "gamma" have half the mean deviance.
    loss_curve_ : list of float
        Data loss of the best member after each iteration.
    history_ : dict of ndarray
        Values at the starting point and after each iteration of the best member. If training began on a part of the
        samples (with a float ``l2_regularization``), the history begins where all samples take part. The keys are
        "objective", "loss", "gradient_norm", "damping", "gain_ratio", "step_norm", "distance_from_init",
        "n_effective_parameters", "log_evidence", "noise_std", "time" (seconds), and "validation_loss" with early
        stopping. Where the noise level decides how residuals count, the validation loss is minus the mean log density
        at the present level. That is so for noise of heavy tails, for quantiles, and under the evidence for several
        outputs. The callback :class:`~skgn.spectrum.SpectrumMonitor` adds "min_eigenvalue", "max_eigenvalue" and
        "riemannian_gradient_norm".
    status_, status_message_ : str
        The reason why training stopped, in a word and in a sentence. It is that of the best member, unless
        ``max_time``, an interrupt or a callback has ended the training of other members.
    solver_ : {"primal", "dual", "cg"}
        The solver that was used.
    damping_ : float
        The last damping.
    log_evidence_ : float or None
        Log evidence of the best member in nats, in units of the standardised target. It is None for a float
        ``l2_regularization``.
    left_out_score_ : float
        The score that the fit expects on new rows. Each training row is predicted without itself. So it promises too
        much for rows of new groups and of a later time (docs/guide/groups.md). The score is the part of the best
        constant's mean loss that these predictions take away (R2 under a squared error). Of several outputs it is the
        mean of their scores. It is at most 1, and below 0 where a constant predicts better. It is nan with a float
        ``l2_regularization``, with ``solver_`` "cg", in streams, where members interpolate, where y does not vary, and
        in a regression by one network without hidden layers.
    n_effective_parameters_ : float
        Number of weights of the best member that the data determine; nan with ``solver_`` "cg".
    noise_distribution_ : str
        Distribution of the noise that the members were trained with: "normal", "student_t", "huber", "cauchy",
        "asymmetric_laplace" (``loss="quantile"``), "poisson" or "gamma". Counts of a dispersion above 1 are "poisson"
        as well, and negative binomial in quantiles, intervals and samples.
    noise_ : {"constant", "input"}
        Whether the noise depends on the input.
    noise_degrees_of_freedom_ : float
        Degrees of freedom of the Student-t noise in quantiles, intervals and samples, at the same standard deviation.
        With ``loss="squared_error"`` they are estimated from the residuals of left-out training rows: 2.05 to 202. They
        are inf, and the noise is normal, where no such residuals are known (``left_out_score_`` is nan), or all are
        rounding errors. They are 8 with "student_t", 1 with "cauchy", inf with "huber" and nan with other losses.
    noise_std_ : float or ndarray
        Standard deviation of the noise, in the units of y; an array if y has several columns or the fit several
        quantiles. It is nan with ``solver_`` "cg". Where the noise depends on the input, it is the
        level that the factor multiplies. With "huber" it describes the observations that are no outliers. With "cauchy"
        and "quantile" it belongs to normal noise that has the same Fisher information about the prediction. With
        "gamma" it is divided by the mean (the coefficient of variation of y). With "poisson" it is divided by the root
        of the mean. That is the root of the dispersion: 1 for Poisson counts, and above where they scatter more.
    feature_relevance_, feature_importances_ : ndarray of shape (n_features,)
        Share of each feature in what the predictions react to; the shares are non-negative and sum to 1. They are total
        Sobol indices by exchange of values between rows, in all columns of a category together. Rows count by their
        weights. Of classes they are those of the outputs before these become probabilities. A feature of share 0 is
        switched off. It moves the predictions no more than chance lets a column of noise do, or less than 15 % of an
        equal share. Of more than 500 features, the 500 that move predictions the most are measured as closely as ever,
        and the others roughly.
    preprocessor_ : Pipeline or None
        The transformers that X goes through before it is scaled. It is None where in training all features were
        numbers, none was missing, and none were codes. ``preprocessor_.get_feature_names_out()`` names its columns, and
        ``preprocessor_.set_output`` turns its output into data frames. The first step reads a table into floats; the
        second step is a :class:`~sklearn.compose.ColumnTransformer`.
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
        "loss": [one_of(*LOSSES)],
        "noise": [one_of(*NOISE)],
        "quantile": [Interval(Real, 0, 1, closed="neither"), "array-like"],
    }

    noise_std_: float | np.ndarray

    _target: RegressionTarget

    def __init__(
        self,
        hidden_layer_sizes: str | int | Sequence[int] | np.ndarray = "auto",
        *,
        activation: str = "auto",
        linear_path: bool = True,
        network: nn.Module | None = None,
        loss: str = "squared_error",
        noise: str = "auto",
        quantile: float | Sequence[float] | np.ndarray = 0.5,
        alpha: float = 1.0,
        init: str = "random",
        damping: str | float | DampingRule = "adaptive",
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
        n_iter_no_change: int = 7,
        standardize: bool | str = True,
        categorical_features: str | Sequence[Any] | np.ndarray | None = "from_dtype",
        warm_start: bool = False,
        device: str = "auto",
        dtype: str = "float64",
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
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.loss = loss
        self.noise = noise
        self.quantile = quantile

    def _new_target(self, raw: RawRows) -> RegressionTarget:
        target = RegressionTarget.of(raw.y, self.loss, self._levels)
        if self.warm_start and hasattr(self, "estimators_"):
            return self._target.going_on(target, raw.y)
        return without_redundant(target, raw.y) if isinstance(raw, Raw) and self._chooses_outputs else target

    @property
    def _chooses_outputs(self) -> bool:
        """Whether outputs may be other than the columns of y; networks that are given, or go on, have one for each."""
        free = isinstance(self.l2_regularization, str) and self.network is None and not self.warm_start
        return free and may_combine(self.loss)

    def _train(self, problem: Problem, draw: Draw, X: Any, y: Any, sample_weight: Any) -> bool:
        if self._chooses_outputs and problem.n_outputs > 1:
            problem, mixing = apart(problem, draw, members_at_once(self.n_jobs))
            self._target = self._target if mixing is None else self._target.mixed(mixing)
        return super()._train(problem, draw, X, y, sample_weight)

    def _next_target(self, raw: RawRows, classes: Any) -> RegressionTarget:
        if not hasattr(self, "estimators_"):
            return RegressionTarget.of(raw.y, self.loss, self._levels)
        if isinstance(self._target, RedundantTarget):
            self._target.check_block(raw.y)
        return self._target.under(self.loss, self._levels)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        levels = np.atleast_1d(self._levels)
        if (
            np.ndim(self.quantile) > 1
            or not len(levels)
            or not ((levels > 0) & (levels < 1)).all()
            or (np.diff(levels) <= 0).any()
        ):
            raise ValueError(
                f"quantile must hold increasing numbers above 0 and below 1, got {written(self.quantile)}."
            )
        given = self._levels != parameter_defaults(GNRegressor)["quantile"]
        if given and not LOSSES[self.loss].predicts_quantiles:
            raise ValueError(
                f"quantile={written(self.quantile)} has no meaning for loss='{self.loss}': set loss='quantile', or "
                "leave quantile out, as predict_quantiles gives quantiles after a fit with any other loss."
            )
        if self.noise != "input":
            return
        needed = {
            f"loss={written(self.loss)}": LOSSES[self.loss].may_depend_on_input,
            f"l2_regularization={written(self.l2_regularization)}": isinstance(self.l2_regularization, str),
            f"solver={written(self.solver)}": serves_evidence(self.solver),
        }
        refused = [name for name, serves in needed.items() if not serves]
        if refused:
            raise ValueError(
                f"noise='input' does not go with {refused[0]}: it needs loss='squared_error' or 'student_t', "
                "l2_regularization='evidence' and a solver that factorises. Use noise='auto' or 'constant'."
            )

    @property
    def _levels(self) -> float | tuple[float, ...]:
        """The parameter ``quantile`` as a number or a tuple of numbers."""
        if isinstance(self.quantile, Real):
            return float(self.quantile)
        return tuple(np.asarray(self.quantile, dtype=np.float64).ravel().tolist())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train in one pass on a block of rows, going on from the blocks before, or from a fit.

        Damping, scalings, the remembered curvature and the estimated precisions are kept from block to block. Where the
        rows have outgrown the scalings of the first block, columns and target are scaled anew, and the weights are re-
        expressed (docs/guide/batches.md). The levels and indicators of ``preprocessor_`` are those of the first block.
        Nothing is compared: layers, scaling and prior are those of a single network. ``n_estimators="auto"`` is 4.
        ``max_iter``, ``max_time`` and ``tol`` have no part in it; an interrupted call leaves what there was before.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in random order. The block is parted into batches of ``batch_size`` rows ("auto" if None), at least
            two. Each batch is a step. Blocks of some thousand rows suit long streams; of a short one let smaller blocks
            make some dozens of steps.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : object

        Raises
        ------
        ValueError, TypeError
            As :meth:`fit`; what was learned before is kept.

        Warns
        -----
        UnfamiliarDataWarning
            If no cell of a category has a level of the first block. If rows have outgrown the scalings and the weights
            cannot follow: those of ``network``, and after a fit, of which no rows are kept. If columns or y are
            less than a thousandth of those before: they are learned in the earlier units, as nearly 0.
        UserWarning
            If weights have a mean below 0.1, as those that sum to 1: they are repetitions.
        """
        return self._partial_fit(X, y, sample_weight)

    def _take_block(self, X: Any, y: Any, sample_weight: Any, classes: Any) -> None:
        if self.noise == "input":
            raise ValueError(
                "partial_fit does not support noise='input': it sees each row once, and none without itself. Use "
                "noise='auto' or 'constant'."
            )
        super()._take_block(X, y, sample_weight, classes)

    def _with_noise(self, problem: Problem, starts: list[Start], ensemble: Ensemble, limits: Limits) -> Noisy:
        estimated = isinstance(self.l2_regularization, str)
        if self.noise == "constant" or not (estimated and LOSSES[self.loss].may_depend_on_input):
            return Noisy(ensemble, None)
        return with_input_noise(problem, starts, ensemble, limits, asked=self.noise == "input")

    @property
    def _unfulfilled(self) -> str:
        if self.noise != "input" or self._noise is not None:
            return ""
        return (
            "noise='input' could not be learned: either there was no time left, or the members cannot predict training "
            "rows without themselves. The noise is constant."
        )

    def _store(self, ensemble: Ensemble, noise: InputNoise | None = None) -> None:
        super()._store(ensemble, noise)
        self._noise, self._votes_by_row = noise, ensemble.votes_by_row
        self._degrees_of_freedom = ensemble.tails.degrees_of_freedom
        best = ensemble.members[0]
        self.noise_std_ = self._target.noise_std(best.posterior)
        if self.log_evidence_ is not None:
            self.log_evidence_ += best.total_weight * log_density_ratio(self._target.scaler.mixing)
        if isinstance(self._target, RedundantTarget):
            self.n_outputs_ = self._target.n_columns
            self.left_out_score_ = self._target.mean_score(ensemble.skill)

    @property
    def noise_(self) -> str:
        """Whether the noise depends on the input."""
        check_is_fitted(self)
        return "constant" if self._noise is None else "input"

    @property
    def noise_degrees_of_freedom_(self) -> float:
        """Degrees of freedom of the noise in quantiles, intervals and samples."""
        check_is_fitted(self)
        observation = self._target.training_loss().observation()
        of_loss = math.nan if observation is None else observation.degrees_of_freedom
        return min(of_loss, self._degrees_of_freedom)

    @property
    def noise_distribution_(self) -> str:
        """Name of the distribution of the noise."""
        check_is_fitted(self)
        return self._target.loss_class.distribution

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination of the prediction, the mean over the outputs.

        Of several quantiles in one fit it is the mean over them of D2, the part of the pinball loss of a constant that
        they take away.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
            At most 1.
        """
        check_is_fitted(self)
        if self._target.levels is None:
            return super().score(X, y, sample_weight)
        predicted = self.predict(X)
        scores = [
            d2_pinball_score(y, predicted[:, i], sample_weight=sample_weight, alpha=level)
            for i, level in enumerate(self._target.levels)
        ]
        return float(np.mean(scores))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = any(loss.support for name, loss in LOSSES.items() if name == self.loss)
        return tags
