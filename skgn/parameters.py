"""The parameters that `GNRegressor` and `GNClassifier` share, and their allowed values."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib.metadata import metadata
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from .activations import ACTIVATIONS
from .backend import DTYPES, resolve_device, written
from .damping import DampingRule
from .directions import DIRECTIONS
from .feedforward import FeedForward
from .preprocessing import SCALINGS

__all__ = ["Parameters", "hidden_layers", "one_of", "parameter_defaults"]


def parameter_defaults(estimator: type) -> dict[str, Any]:
    """Return the defaults of an estimator class's parameters."""
    parameters = inspect.signature(estimator).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def one_of(*options: str) -> StrOptions:
    """Make the constraint of a parameter that is one of these strings; its message lists them in this order."""
    # The order of a set of strings differs from process to process.
    return StrOptions(dict.fromkeys(options).keys())


class Parameters(BaseEstimator):
    """Store and check the parameters, and tell what data go with them.

    The docstrings of the two estimators explain the parameters.
    """

    # For the tooltips of scikit-learn's tables of parameters, which it shows only where there is a page to link to.
    _doc_link_module = "skgn"

    @property
    def _doc_link_template(self) -> str:
        address = _documentation()
        return f"{address}/generated/{{page}}.html" if address else ""

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        package = type(self).__module__.rpartition(".")[0]
        return {"page": f"{package}.{type(self).__name__}"}

    #: Whether networks may be trained in the leading directions of their inputs, where all would take too long.
    _cuts: ClassVar[bool] = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", one_of("auto"), Interval(Integral, 1, None, closed="left")],
        "activation": [one_of(*ACTIVATIONS, "auto")],
        "linear_path": ["boolean"],
        "network": [nn.Module, None],
        # Its powers stay within the floats.
        "alpha": [Interval(Real, 1e-20, 1e20, closed="both")],
        "init": [one_of("random", "symmetric", "centered")],
        "damping": [one_of("adaptive"), Interval(Real, 0, None, closed="left"), DampingRule],
        "l2_regularization": [one_of("evidence"), Interval(Real, 0, None, closed="left")],
        "prior_groups": [one_of("auto", "feature", "layer", "shared")],
        "n_estimators": [Interval(Integral, 1, None, closed="left"), one_of("auto")],
        "solver": [one_of("auto", *DIRECTIONS)],
        "batch_size": [Interval(Integral, 1, None, closed="left"), one_of("auto"), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "standardize": ["boolean", one_of(*SCALINGS)],
        "categorical_features": ["array-like", one_of("from_dtype"), None],
        "warm_start": ["boolean"],
        "device": [str],
        "dtype": [one_of(*DTYPES)],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        hidden_layer_sizes: str | int | Sequence[int] | np.ndarray,
        activation: str,
        linear_path: bool,
        network: nn.Module | None,
        alpha: float,
        init: str,
        damping: str | float | DampingRule,
        l2_regularization: str | float,
        prior_groups: str,
        n_estimators: int | str,
        solver: str,
        batch_size: int | str | None,
        max_iter: int,
        max_time: float | None,
        tol: float,
        early_stopping: bool,
        validation_fraction: float,
        n_iter_no_change: int,
        standardize: bool | str,
        categorical_features: str | Sequence[Any] | np.ndarray | None,
        warm_start: bool,
        device: str,
        dtype: str,
        n_jobs: int | None,
        random_state: int | np.random.RandomState | None,
        verbose: int | bool,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.linear_path = linear_path
        self.network = network
        self.alpha = alpha
        self.init = init
        self.damping = damping
        self.l2_regularization = l2_regularization
        self.prior_groups = prior_groups
        self.n_estimators = n_estimators
        self.solver = solver
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.max_time = max_time
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.standardize = standardize
        self.categorical_features = categorical_features
        self.warm_start = warm_start
        self.device = device
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.input_tags.allow_nan = tags.input_tags.sparse = True
        return tags

    def _check_parameters(self) -> None:
        """Refuse parameters that no data can be fitted with."""
        self._validate_params()
        if isinstance(self.damping, type):  # It has the methods of a rule.
            name = self.damping.__name__
            raise TypeError(f"damping={name} is a class, and no rule yet: set damping={name}().")
        resolve_device(self.device)
        if self.network is not None:
            _check_beside_network(self)
        hidden_layers(self)


def _documentation() -> str:
    """Return the address of the documentation, as the metadata of the package give it; empty if they give none."""
    entries = metadata("skgn").get_all("Project-URL") or []
    addresses = {label.lower(): address for label, _, address in (entry.partition(", ") for entry in entries)}
    return addresses.get("documentation", "").rstrip("/")


def hidden_layers(parameters: Parameters) -> tuple[int, ...] | None:
    """Check the sizes of the hidden layers and return them; None for "auto"."""
    given = parameters.hidden_layer_sizes
    if isinstance(given, str):
        return None
    sizes = (given,) if isinstance(given, Integral) else tuple(np.asarray(given, dtype=object).tolist())
    if not all(isinstance(h, (int, np.integer)) and not isinstance(h, bool) and h > 0 for h in sizes):
        raise ValueError(f"hidden_layer_sizes must be positive integers, one a layer, got {given!r}.")
    if parameters.init == "symmetric" and any(h % 2 for h in sizes):
        # FeedForward raises the same error; here it comes before any work.
        FeedForward(1, 1, sizes, init="symmetric")
    return tuple(int(h) for h in sizes)


def _check_beside_network(parameters: Parameters) -> None:
    """Refuse parameters that describe the built-in network, as the user has given one."""
    defaults = parameter_defaults(type(parameters))
    for name in ("hidden_layer_sizes", "activation", "linear_path"):
        given = getattr(parameters, name)
        if not np.array_equal(given, defaults[name]):
            raise ValueError(f"{name}={written(given)} has no meaning for network=; leave it at its default.")
    if parameters.prior_groups == "feature":
        raise ValueError(
            "prior_groups='feature' needs to know which weights belong to a feature; with network= use 'layer' "
            "(a precision for each parameter of the module), 'shared' or 'auto'."
        )
