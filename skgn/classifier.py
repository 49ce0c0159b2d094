"""GNClassifier: the scikit-learn face of the network for classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.special import log_expit, log_softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import check_array
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d
from torch import nn

from .activations import ACTIVATIONS
from .damping import DampingRule
from .ensemble import Ensemble
from .estimator import BaseGN
from .losses import LogLoss, Loss, SoftmaxLoss
from .mixture import mixture_log_probability

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["GNClassifier", "one_hot"]


def one_hot(codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Rows of the unit matrix for class codes (n, 1): shape (n, n_classes)."""
    return np.eye(n_classes)[codes[:, 0].astype(int)]


class GNClassifier(ClassifierMixin, BaseGN):
    """Classification by a small neural network, trained by damped Gauss-Newton and regularised by its evidence.

    Parameters
    ----------
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Units of each hidden layer; ``()`` is a linear model. "auto" is (20,), or (16, 16) where there are 8
        observations for each of its weights; for periodic inputs (see ``standardize``) (10,), or (12, 12). Where (20,)
        has more than 1,000 weights it is (10, 10), and (5,) where that has more as well and most columns are indicators
        of categories.
    activation : str, default="auto"
        "tanh", "logistic", "softplus", "silu", "gelu" or "identity"; "relu" works but is outside the theory, which
        asks for smooth functions. "auto" is "tanh"; for two classes on up to 2,000 rows, with the evidence and
        ``prior_groups="auto"``, one member in three has "relu" and the prior "unit", and for "auto" one layer of 20.
    linear_path : bool, default=True
        Let the inputs feed the readout directly, beside the hidden layers, so that a linear model is within reach.
    network : torch.nn.Module, default=None
        A network of your own in the place of the built-in one, of which ``hidden_layer_sizes``, ``activation`` and
        ``linear_path`` then must be left alone: it maps rows of scaled columns (n, n_columns) to logits (n, n_outputs),
        each row on its own: one for two classes, else one a class or label. It is copied, never changed, in evaluation
        mode; the Jacobian comes from :mod:`torch.func`, at a cost (docs/guide/network.md). The first member begins from
        its own weights, others from what ``reset_parameters`` of its parts draws.
    alpha : float, default=1.0
        Output scaling factor of the network, ``f(x) = alpha * net(x)``; **not** the L2 penalty that
        :class:`~sklearn.neural_network.MLPClassifier` calls alpha (that is ``l2_regularization``). Large values keep
        training near its initial point, small ones let the hidden features move.
    init : {"random", "symmetric", "centered"}, default="random"
        "symmetric" pairs units whose outputs cancel (even widths only), "centered" subtracts the initial network;
        both make the output exactly 0 at the start.
    damping : "adaptive", float or damping rule, default="adaptive"
        Damping of the Gauss-Newton system: adapted to the gain ratio; constant, as in the Levenberg-Marquardt flow (0
        is pure Gauss-Newton, with the shortest step where the system is singular); or a rule of :mod:`skgn.damping`. A
        step that does not lower the objective is retried with more damping if adaptive, and shortened otherwise.
        "adaptive" also takes short cuts to the minimum of the objective where it is fixed (a float
        ``l2_regularization``, ``step_size=1``, no warm start): after every step the readout is solved for the hidden
        layers (variable projection), and where there are at least 16 samples a weight, and 1,000, training begins on a
        part of them. ``skgn.damping.GainRatio()`` is the same rule without short cuts.
    step_size : float in (0, 1], default=1.0
        Fraction of the Gauss-Newton step that is taken; small values follow the flow.
    l2_regularization : "evidence" or float >= 0, default="evidence"
        "evidence" estimates one precision for each prior group while training, without a validation set.
        A float is the l2 of the objective ``mean loss + l2 / 2 * ||w||^2``, with all weights in w, biases included.
    prior_groups : {"auto", "feature", "layer", "shared", "unit"}, default="auto"
        Which weights share a precision when it is estimated: "feature" has one for the first-layer weights of each
        feature, or of each column of periodic inputs and of categories (automatic relevance determination), "layer" one
        for all of these, "shared" one for all weights; "unit" sets every precision to 1 instead. "auto" has members of
        both "feature" and "layer", or "layer" where nothing is compared.
    n_estimators : int or "auto", default="auto"
        Networks whose predictions are averaged, by ``weights_``. What is left open (scaling of the inputs with the
        hidden layers for it, prior, the steepness of its units) comes in all kinds, so that
        members complement each other. "auto" is 6 of six kinds, or 4 above 2,000 rows, above 1,000 weights, and
        where nothing is compared (a float ``l2_regularization``, :meth:`partial_fit`). Up to 2,000 rows every network
        that starts is a member. Above, twice as many are compared on 2,000 rows after 16 iterations, by approximate
        leave-one-out, and the better half goes on. With 1, three short starts are compared in this way.
    solver : {"auto", "primal", "dual", "cg"}, default="auto"
        Factorise the system of weights (P x P) or that of samples times outputs (n k x n k), or solve by conjugate
        gradients: no factorisation and no more memory than some vectors of P, but also no posterior, so that
        ``l2_regularization`` must be a float. "auto" takes the cheaper factorisation that fits in memory, and "cg"
        where neither does. With many classes "cg" may be ten times as fast.
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
        Part of the rows that is kept for validation with ``early_stopping=True``, stratified by class, unless ``fit``
        is given a validation set. Equal rows stay together.
    n_iter_no_change : int, default=5
        See ``tol`` and ``early_stopping``.
    standardize : bool, "robust", "rank" or "periodic", default=True
        Scale inputs: "robust" for hidden layers by median and interquartile range, squashed smoothly at 3 units, and
        for the linear path by mean and standard deviation, clipped at two ranges beyond the values seen; "rank" to the
        normal scores z of their ranks; "periodic" to these and, for features of three values or more, sin 2z and cos 2z
        beside them. True is "robust", with "periodic" for a part of the members where there are hidden layers of up
        to 1,000 weights and no float ``l2_regularization``.
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
    class_weight : "balanced", dict or None, default=None
        Weights of the classes, multiplied with ``sample_weight``; "balanced" is ``n / (n_classes * n_in_class)``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels; for a multilabel y the indices of the labels.
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
        Its weighted mean data loss.
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
        Log evidence of the best member, in nats; None for a float
        ``l2_regularization``.
    left_out_score_ : float
        What score the fit expects on new rows: the part of the best constant's mean loss that it takes away from
        training rows, each predicted without itself (McFadden's
        R2). At most 1, below 0 where a constant is better; nan where it is not known: with a float
        ``l2_regularization`` and several members, with ``solver_`` "cg", in streams, and where members interpolate.
    n_effective_parameters_ : float
        Weights of the best member that the data determine, between 0 and their number; nan with ``solver_`` "cg".
    temperature_ : float
        What the members' outputs are divided by before they become probabilities: below 1 it makes them surer, above
        less sure. Set by left-out samples with ``l2_regularization="evidence"``, else 1.
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
        "activation": [StrOptions({"auto", *ACTIVATIONS})],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    classes_: np.ndarray
    temperature_: float

    _needed = (*BaseGN._needed, "classes_", "temperature_", "_multilabel")

    def __init__(
        self,
        hidden_layer_sizes: str | int | Sequence[int] = "auto",
        *,
        activation: str = "auto",
        linear_path: bool = True,
        network: nn.Module | None = None,
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
        self.class_weight = class_weight

    def _validate_target(self, y: np.ndarray) -> np.ndarray:
        check_classification_targets(y)
        self._multilabel = type_of_target(y, input_name="y") == "multilabel-indicator"
        if self._multilabel:
            if self.class_weight is not None:
                raise ValueError("class_weight is not defined for a multilabel y; pass sample_weight or None.")
            self.classes_ = np.arange(y.shape[1])
            return np.asarray(y, dtype=np.float64)
        self.classes_ = np.unique(column_or_1d(y, warn=True))
        self._check_class_weight()
        return self._encode_target(y)

    def _check_class_weight(self) -> None:
        if isinstance(self.class_weight, Mapping):
            unknown = [label for label in self.class_weight if label not in self.classes_]
            if unknown:
                raise ValueError(f"class_weight has weights for {unknown}, which are not among {self.classes_}.")

    def _encode_target(self, y: Any) -> np.ndarray:
        if self._multilabel:
            Y = check_array(y, dtype=np.float64, input_name="y")
            if Y.shape[1] != len(self.classes_) or not np.isin(Y, (0, 1)).all():
                raise ValueError(f"y must be an indicator matrix of {len(self.classes_)} labels, as in training.")
            return Y
        y = column_or_1d(y)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"y contains the labels {unknown.tolist()}, which are not among {self.classes_}.")
        return np.searchsorted(self.classes_, y)[:, None].astype(np.float64)

    def _begin_classes(self, y: np.ndarray, classes: Any) -> None:
        if isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight='balanced' needs all of the data; give partial_fit a dict of weights or sample_weight."
            )
        if not hasattr(self, "classes_"):
            check_classification_targets(y)
            self._multilabel = type_of_target(y, input_name="y") == "multilabel-indicator"
            if self._multilabel:
                classes = np.arange(y.shape[1])
                if self.class_weight is not None:
                    raise ValueError("class_weight is not defined for a multilabel y; pass sample_weight or None.")
        _check_partial_fit_first_call(self, classes)
        if not self._multilabel:
            self._check_class_weight()

    def _weigh_classes(self, Y: np.ndarray, sample_weight: np.ndarray) -> np.ndarray:
        if self.class_weight is None:
            return sample_weight
        codes = Y[:, 0].astype(int)
        totals = np.bincount(codes, weights=sample_weight, minlength=len(self.classes_))
        return sample_weight * self._class_factors(totals)[codes]

    def _class_factors(self, totals: np.ndarray) -> np.ndarray:
        """Weight of each class, for the total sample weights of the classes."""
        if self.class_weight is None:
            return np.ones(len(totals))
        if isinstance(self.class_weight, str):
            # scikit-learn's formula n / (k n_c), with weights counted as repetitions.
            present = totals > 0
            factors = np.zeros_like(totals)
            factors[present] = totals.sum() / (present.sum() * totals[present])
        else:
            factors = np.array([float(self.class_weight.get(label, 1.0)) for label in self.classes_.tolist()])
            if not (np.isfinite(factors).all() and (factors >= 0).all() and (factors[totals > 0] > 0).any()):
                raise ValueError(f"class_weight must be non-negative and not all zero, got {self.class_weight}.")
        return factors

    @property
    def _multiclass(self) -> bool:
        return not self._multilabel and len(self.classes_) > 2

    def _fit_target(self, Y: np.ndarray, sample_weight: np.ndarray) -> None:
        """Classes are all there is to know."""

    def _target_type(self, Y: np.ndarray) -> str | None:
        if self._multilabel:
            return None
        return "multiclass" if self._multiclass else "binary"

    def _training_loss(self) -> Loss:
        return SoftmaxLoss() if self._multiclass else LogLoss()

    def likelihood(self) -> Loss:
        """The loss of the fit."""
        return self._training_loss()

    def _transform_target(self, Y: np.ndarray) -> np.ndarray:
        return one_hot(Y, len(self.classes_)) if self._multiclass else Y

    def _strata(self, Y: np.ndarray) -> np.ndarray | None:
        return None if self._multilabel else Y[:, 0]

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train in one pass on a block of rows, going on from the blocks before, or from a fit.

        Damping, scalings, the remembered curvature and the estimated precisions are kept from block to block; all
        scalings and ``preprocessor_`` are those of the first block. Nothing is compared: what is "auto" is chosen as
        for a single network. ``max_iter``, ``max_time`` and ``tol`` have no part in it; an interrupted call leaves what
        there was before. The temperature is 1.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Best some thousand rows, in random order: it is parted into batches of ``batch_size`` rows ("auto" if
            None), at least two.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        classes : array-like of shape (n_classes,), default=None
            All classes there will be; needed at the first call, but for a multilabel y.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : object

        Raises
        ------
        ValueError, TypeError
            As :meth:`fit`; what was learned before is kept.
        """
        return self._partial_fit(X, y, sample_weight, classes)

    def _store(self, ensemble: Ensemble) -> None:
        super()._store(ensemble)
        self.temperature_ = ensemble.temperature

    def _log_proba(self, X: Any) -> tuple[np.ndarray, np.ndarray | None, np.dtype]:
        """Log of the members' mean probabilities by their weights, (n, k); for logits also that of the complements."""
        scaled, dtype = self._scale_inputs(X)
        outputs, weights = self._outputs(scaled) / self.temperature_, self.voters()[1]
        if self._multiclass:
            return mixture_log_probability(log_softmax(outputs, axis=2), weights), None, dtype
        positive, negative = (mixture_log_probability(log_expit(f), weights) for f in (outputs, -outputs))
        return positive, negative, dtype

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of :meth:`predict_proba`, without the underflow of taking it afterwards.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_classes)
        """
        positive, negative, dtype = self._log_proba(X)
        if negative is not None and not self._multilabel:
            positive = np.zeros_like(positive) if len(self.classes_) == 1 else np.hstack([negative, positive])
        return positive.astype(dtype, copy=False)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities: the mean over the members, by their ``weights_``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``, rows summing to 1; for a multilabel y the probability of each label.
        """
        return np.exp(self.predict_log_proba(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Log odds (binary and multilabel) or log probabilities (multiclass) of the averaged probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,) for two classes, else (n_samples, n_classes)
            ``predict`` takes the largest, or for two classes and for labels those above 0.
        """
        positive, negative, dtype = self._log_proba(X)
        scores = positive if negative is None else positive - negative
        scores = scores.astype(dtype, copy=False)
        return scores if self._multilabel or len(self.classes_) > 2 else scores[:, 0]

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class, or the set of labels more probable than not.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        """
        scores = self.decision_function(X)
        if self._multilabel:
            return (scores > 0).astype(int)
        if len(self.classes_) == 1:
            return np.full(len(scores), self.classes_[0])
        if len(self.classes_) == 2:
            return self.classes_[(scores > 0).astype(int)]
        return self.classes_[scores.argmax(axis=1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
