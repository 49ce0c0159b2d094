"""GNClassifier: the scikit-learn face of the network for classification."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .backend import in_dtype
from .damping import DampingRule
from .ensemble import Ensemble, stacked_outputs
from .estimator import BaseGN
from .mixture import equal_weights, mutual_information
from .noise import InputNoise
from .parameters import one_of
from .rows import RawRows
from .scaled_rows import ScaledRows, outputs_of_voters, predicted_in_parts
from .targets import ClassificationTarget

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["GNClassifier"]


class GNClassifier(ClassifierMixin, BaseGN):
    """Classification by a small neural network, trained by damped Gauss-Newton and regularised by its evidence.

    Parameters
    ----------
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Number of units of each hidden layer; ``()`` is a linear model. "auto" chooses (20,), or (16, 16) where there
        are 8 observations for each weight of that network. On periodic inputs (see ``standardize``) it chooses (10,),
        or (12, 12) by the same rule. If (20,) has more than 1,000 weights, it chooses (10, 10). If (10, 10) has more as
        well and three of four columns are indicators of categories, it chooses (5,).
    activation : str, default="auto"
        "tanh", "logistic", "softplus", "silu", "gelu", "identity" or "relu". "relu" works but is outside the theory,
        which asks for smooth functions. "auto" is "tanh", but some members have "relu": every third of two classes on
        up to 2,000 rows, else every other one, and none of several labels. The precision of all their weights is 1.
        From 400 rows on, the second of these reads "piecewise" inputs (see ``standardize``), as the one of two classes
        on up to 2,000 rows does. This needs ``prior_groups="auto"`` and the evidence. If ``hidden_layer_sizes`` is
        "auto" as well, such a member has (20,).
    linear_path : bool, default=True
        Connect the inputs directly to the readout, beside the hidden layers, so that the network can represent any
        linear model.
    network : torch.nn.Module, default=None
        A network of your own in the place of the built-in one. ``hidden_layer_sizes``, ``activation`` and
        ``linear_path`` must then keep their defaults. The module maps rows of scaled columns (n, n_columns) to logits
        (n, n_outputs), each row on its own. Two classes need one logit; otherwise each class or label needs one. The
        fit copies the module, never changes it, and uses it in evaluation mode. :mod:`torch.func` computes the
        Jacobian, which takes more time than for the built-in network (docs/guide/network.md). The first member starts
        from the module's own weights, and in a regression so may a second. Other members start from weights that
        ``reset_parameters`` of its parts draws.
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
        layers (variable projection) after every step. Second, training begins on a part of the samples where there are
        at least 16 for each weight, and at least 1,000. In mini-batches it starts with more damping and lowers it more
        slowly. ``skgn.damping.GainRatio()`` is the same rule without any of this.
    l2_regularization : "evidence" or float >= 0, default="evidence"
        "evidence" estimates one precision for each prior group while training, without a validation set. A float is the
        l2 of the objective ``mean loss + l2 / 2 * ||w||^2``, where w holds all weights, biases included. With
        ``init="centered"`` it holds their distances from the initial weights.
    prior_groups : {"auto", "feature", "layer", "shared"}, default="auto"
        Which weights share an estimated precision. "feature" gives the first-layer weights of each feature a precision
        of their own (automatic relevance determination). Periodic inputs and categories then have a precision for each
        of their columns. "layer" gives all first-layer weights one precision, "shared" all weights of the network.
        "auto" trains members of both "feature" and "layer", and of "layer" only where nothing is compared (a float
        ``l2_regularization``, :meth:`partial_fit`).
    n_estimators : int or "auto", default="auto"
        Number of networks whose predictions are averaged with ``weights_``. What the parameters leave open comes in all
        kinds, so that members complement each other. That is the scaling of the inputs with its hidden layers, the
        prior, and the steepness of the units. "auto" is 6. It is 4 above 2,000 rows, above 1,000 weights, and where
        nothing is compared (a float ``l2_regularization``, :meth:`partial_fit`). With "relu" units among them (see
        ``activation``) it is 4, or 3 above 1,000 weights if every other member has such units. One of radial units is
        the last of the 4 of two classes, and one more of other classes. One of a forest is one more on 400 rows,
        and one of normal distributions where these tell more.

        Every network that starts becomes a member. Where none has "relu" units and rows are more than 2,000, twice as
        many networks start. They train for 16 iterations on 2,000 rows; approximate leave-one-out then compares them,
        and the better half goes on. With 1, three short starts are compared in the same way.

        More networks may be trained, of which the best are kept. Where at most half of the columns are of use, some
        read these columns alone in their hidden layers. With no more rows than columns, one of them also does so on its
        linear path. A column is of use if it tells something of the target, or of what a network has left over. If
        every other member has "relu" units and these hardly count, more of the others have steeper units, on up to
        2,000 rows. On up to 2,000 rows, or 10,000 of a regression, one is linear in radial units. Each unit is large
        near one row of the fit. This needs hidden layers, activation, prior and scaling that are left to the fit, and
        ``linear_path``. There is none of several labels. On 400 rows or more, one more reads what a forest of trees
        says of classes, under the same conditions. Trees know the rows of the fit by heart: test with others. Where
        normal distributions of the classes tell left-out labels better than all networks, one more reads these.
    solver : {"auto", "primal", "dual", "cg"}, default="auto"
        "primal" factorises the system of the weights (P x P), "dual" the system of samples times outputs (n k x n k).
        "cg" solves the system by conjugate gradients, without a factorisation. It needs no more memory than some
        vectors of P. It gives no posterior, so that ``l2_regularization`` must be a float. "auto" takes the cheaper
        factorisation that fits in memory, and "cg" if neither fits. With a float ``l2_regularization``, and for
        members with "relu" units (see ``activation``), it also takes "cg" where a factorisation would take longer, as
        with wide networks and many classes. ``solver_`` names the factorisation that such a member has in the end.
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
        With early stopping it is the validation loss, relative to its lowest value. With evidence it is the log
        evidence, relative to a nat a sample. Without a noise level that is at most 20 sqrt(n) nats for n samples. If
        the evidence has fallen since its peak, by more than 0.03 nats a sample, the fit keeps the weights of the peak.
    early_stopping : bool, default=False
        Stop each member when its loss on a validation set makes no more progress (see ``tol``). The member then goes
        back to the weights where that loss was lowest. This is useful with a float ``l2_regularization`` above all: the
        evidence needs no validation set.
    validation_fraction : float, default=0.1
        Part of the rows that ``early_stopping=True`` keeps for validation, stratified by class, unless ``fit`` is given
        a validation set. Equal rows stay together.
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
    class_weight : "balanced", dict or None, default=None
        Weights of the classes in predictions, not in training. Each probability is multiplied by the weight of its
        class, and they are divided by their sum. These are the probabilities for classes that come so many times as
        often. "balanced" gives each class the weight ``n / (n_classes * n_in_class)``, with the sum of
        ``sample_weight`` for n. Rows of a class of weight 0 take no part. ``left_out_score_`` is that without these
        weights.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels; for a multilabel y the indices of the labels.
    coefs_, intercepts_ : list of ndarray
        Weights of the best member by layer, (inputs, outputs) and (outputs,). With ``linear_path`` the readout's inputs
        are the units of the last hidden layer, followed by the inputs of the linear path. The linear path has an input
        for each feature, or for each column of ``preprocessor_`` if there is one. For robust inputs
        (``estimators_[0].scaling``) these are the straight columns, and for finer ones and steps these and the pieces.
        For radial units, which have no hidden layer, they are combinations of the units, then the straight columns. For
        periodic inputs they are all scores, then all sines, then all cosines, and for piecewise inputs the pieces of
        each feature, in order. With ``network=`` the list has the module's parameters, in order, and there are no
        intercepts.
    network_ : torch.nn.Module
        Only with ``network=``: a copy of the module in float64 with the weights of the best member. It maps scaled
        inputs to the member's outputs divided by ``alpha``.
    estimators_ : list
        The trained members, the largest weight first, but those that read a forest or normal distributions last. The
        first member is called the best. Each has ``network``, ``scaling``, ``prior_kind``, ``solver``, ``n_iter``,
        ``status``, ``history``, ``log_evidence`` and ``n_effective_parameters``.
    weights_ : ndarray of shape (n_members,)
        Weight of each member in a prediction; the weights sum to 1. They are the weights of the mixture that predicts
        left-out samples best, drawn towards equal weights. A member of weight 0 has failed and takes no part. All
        weights are equal where left-out samples cannot be predicted (``solver_`` "cg", undetermined weights, streams).
        A stream after a fit keeps those of the fit.
    n_outputs_ : int
        Number of outputs of the network.
    n_iter_ : int
        Number of iterations of the best member, with the iterations after its peak.
    loss_ : float
        Weighted mean data loss of the best member, in nats.
    loss_curve_ : list of float
        Data loss of the best member after each iteration.
    history_ : dict of ndarray
        Values at the starting point and after each iteration of the best member. If training began on a part of the
        samples (with a float ``l2_regularization``), the history begins where all samples take part. The keys are
        "objective", "loss", "gradient_norm", "damping", "gain_ratio", "step_norm", "distance_from_init",
        "n_effective_parameters", "log_evidence", "noise_std" (always nan), "time" (seconds), and "validation_loss" with
        early stopping. The callback :class:`~skgn.spectrum.SpectrumMonitor` adds "min_eigenvalue", "max_eigenvalue" and
        "riemannian_gradient_norm".
    status_, status_message_ : str
        The reason why training stopped, in a word and in a sentence. It is that of the best member, unless
        ``max_time``, an interrupt or a callback has ended the training of other members.
    solver_ : {"primal", "dual", "cg"}
        The solver that was used.
    damping_ : float
        The last damping.
    log_evidence_ : float or None
        Log evidence of the best member in nats. It is None for a float ``l2_regularization``.
    left_out_score_ : float
        The score that the fit expects on new rows. Each training row is predicted without itself. So it promises too
        much for rows of new groups and of a later time (docs/guide/groups.md). The score is the part of the best
        constant's mean loss that these predictions take away (McFadden's R2). It is at most 1, and below 0 where a
        constant predicts better. It is nan with a float ``l2_regularization``, with ``solver_`` "cg", in streams, and
        where members interpolate.
    n_effective_parameters_ : float
        Number of weights of the best member that the data determine; nan with ``solver_`` "cg".
    temperature_ : float
        Divisor of the members' outputs before they become probabilities. A temperature below 1 makes the members surer,
        a temperature above 1 less sure. Left-out samples set it with ``l2_regularization="evidence"``; otherwise it is
        1.
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
    GNRegressor : The same for regression.
    sklearn.linear_model.LogisticRegression : The linear model.

    References
    ----------
    .. [1] S. Cayci, "A Riemannian Optimization Perspective of the Gauss-Newton Method for Feedforward Neural
       Networks", arXiv:2412.14031.
    .. [2] D. J. C. MacKay, "A practical Bayesian framework for backpropagation networks", Neural Computation 4, 1992.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from skgn import GNClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = GNClassifier(random_state=0).fit(X[:400], y[:400])
    >>> print(f"accuracy {model.score(X[400:], y[400:]):.1f}")
    accuracy 1.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseGN._parameter_constraints,
        "class_weight": [one_of("balanced"), dict, None],
    }

    temperature_: float

    _target: ClassificationTarget

    _needed = (*BaseGN._needed, "temperature_")

    def __init__(
        self,
        hidden_layer_sizes: str | int | Sequence[int] | np.ndarray = "auto",
        *,
        activation: str = "auto",
        linear_path: bool = True,
        network: nn.Module | None = None,
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
        class_weight: str | Mapping[Any, float] | None = None,
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
        self.class_weight = class_weight

    def _new_target(self, raw: RawRows) -> ClassificationTarget:
        target = ClassificationTarget.of(raw.y)
        if self.warm_start and hasattr(self, "estimators_"):
            target = self._target.going_on(target)
        return self._under_weights(target, raw)

    def _next_target(self, raw: RawRows, classes: Any) -> ClassificationTarget:
        if isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight='balanced' needs all of the data; give partial_fit a dict of weights or sample_weight."
            )
        if not hasattr(self, "estimators_"):
            return self._under_weights(ClassificationTarget.of_stream(raw.y, classes), raw)
        self._target.check_classes(classes)
        return self._under_weights(replace(self._target, factors=None), raw)

    def _under_weights(self, target: ClassificationTarget, raw: RawRows) -> ClassificationTarget:
        return target if self.class_weight is None else target.under(self.class_weight, raw.class_totals(target))

    @property
    def classes_(self) -> np.ndarray:
        """The classes, sorted; of a multilabel target, the positions of its labels."""
        check_is_fitted(self)
        return self._target.classes

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train in one pass on a block of rows. Training goes on from the blocks before, or from a fit.

        Damping, scalings, the remembered curvature and the estimated precisions are kept from block to block. Where the
        rows have outgrown the scalings of the first block, columns are scaled anew, and the weights are re-expressed
        (docs/guide/batches.md). The levels and indicators of ``preprocessor_`` are those of the first block. Nothing is
        compared: layers, scaling and prior are those of a single network. ``n_estimators="auto"`` is 4. ``max_iter``,
        ``max_time`` and ``tol`` have no effect. An interrupted call leaves the model as it was before. The temperature
        is 1.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A block works best with some thousand rows in random order. It is divided into batches of ``batch_size``
            rows ("auto" if None), at least two.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        classes : array-like of shape (n_classes,), default=None
            All classes that any block will contain. The first call needs them, except for a multilabel y.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : object

        Raises
        ------
        ValueError, TypeError
            As for :meth:`fit`. The model then keeps what it has learned before.

        Warns
        -----
        UnfamiliarDataWarning
            If no cell of a category has a level of the first block. If rows have outgrown the scalings and the weights
            cannot follow: those of ``network``, and after a fit, of which no rows are kept. If columns are less
            than a thousandth of those before: they are learned in the earlier units, as nearly 0.
        UserWarning
            If weights have a mean below 0.1, as those that sum to 1: they are repetitions.
        """
        return self._partial_fit(X, y, sample_weight, classes)

    def _store(self, ensemble: Ensemble, noise: InputNoise | None = None) -> None:
        super()._store(ensemble, noise)
        self.temperature_ = ensemble.temperature

    def _predicted(
        self, X: Any, of: Callable[[ClassificationTarget, np.ndarray, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """What a method of the target makes of outputs (members, n, k), over the temperature, and of weights."""

        def predict(scaled: ScaledRows) -> tuple[np.ndarray]:
            outputs, weights = outputs_of_voters(self, scaled)
            return (of(self._target, outputs / self.temperature_, weights),)

        (values,), dtype = predicted_in_parts(self, X, predict)
        return in_dtype(values, dtype)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict the logarithms of the class probabilities. They do not underflow.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_classes)

        Warns
        -----
        UnfamiliarDataWarning
            As for :meth:`predict_proba`.
        """
        return self._predicted(X, ClassificationTarget.log_proba)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities: the mean over the members, weighted by ``weights_``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
            The columns are in the order of ``classes_``, and each row sums to 1. For a multilabel y each column holds
            the probability of a label.

        Warns
        -----
        UnfamiliarDataWarning
            If rows are far beyond those of training, or levels of a category do not match (docs/guide/tables.md). Also
            if a tenth of the rows have levels, codes or missing cells that training did not have.
        """
        return np.exp(self.predict_log_proba(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute the log odds (binary and multilabel) or log probabilities (multiclass) of the averaged probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,) for two classes, else (n_samples, n_classes)
            ``predict`` takes the class with the largest score. For two classes and for labels it takes scores above 0.

        Warns
        -----
        UnfamiliarDataWarning
            As for :meth:`predict_proba`.
        """
        return self._predicted(X, ClassificationTarget.scores)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class or, for a multilabel y, all labels with a probability above one half.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)

        Warns
        -----
        UnfamiliarDataWarning
            As for :meth:`predict_proba`.
        """
        scores = self.decision_function(X)
        return self._target.labels(scores)

    def mutual_information(self, X: Any) -> np.ndarray:
        """Mutual information of the label and the member that predicts it: what the members disagree about.

        It is the entropy of the members' mean probabilities less their mean entropy. The members stand for weights
        drawn from their posterior, as in deep ensembles [2]_. So all count alike, whatever ``weights_`` are. Active
        learning asks for labels where it is large (BALD [1]_). This may be worse than to ask where the probability is
        nearest to one half, or at random (docs/guide/uncertainty.md). Where classes overlap, probabilities near one
        half are certain and it is small.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        information : ndarray of shape (n_samples,), or (n_samples, n_labels) for a multilabel y
            In nats, between 0 and the logarithm of the number of classes; of labels that of each.

        Raises
        ------
        ValueError
            If the fit has a single member, which cannot disagree.

        Warns
        -----
        UnfamiliarDataWarning
            As for :meth:`predict_proba`.

        References
        ----------
        .. [1] N. Houlsby, F. Huszar, Z. Ghahramani and M. Lengyel, "Bayesian active learning for classification and
           preference learning", arXiv:1112.5745.
        .. [2] B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and scalable predictive uncertainty estimation
           using deep ensembles", NIPS 2017.
        """
        check_is_fitted(self)
        if len(self.estimators_) < 2:
            raise ValueError(
                "mutual_information needs two members at least, which may disagree, and this fit has one: refit with "
                "n_estimators='auto' or more than 1."
            )

        def predict(scaled: ScaledRows) -> tuple[np.ndarray]:
            outputs = stacked_outputs(self.estimators_, scaled, self.device)
            probabilities = self._target.probabilities(outputs / self.temperature_)
            return (mutual_information(probabilities, equal_weights(len(outputs))),)

        (information,), dtype = predicted_in_parts(self, X, predict, all_members=True)
        return in_dtype(information, dtype)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
