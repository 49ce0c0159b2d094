"""The fitted network within an estimator, a pipeline that ends with one, or a search over either."""

from __future__ import annotations

from typing import Any

from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .estimator import BaseGN

__all__ = ["best_of_search", "feature_names", "fitted_network", "rows_of_network"]


def best_of_search(estimator: Any) -> Any:
    """Return ``estimator``, or the best estimator of a fitted search."""
    if not isinstance(estimator, BaseSearchCV):
        return estimator
    check_is_fitted(estimator)
    if not hasattr(estimator, "best_estimator_"):
        raise ValueError(
            f"estimator is a {type(estimator).__name__} with refit={estimator.refit!r}, which keeps no fitted "
            "estimator: search with refit=True, or pass a fitted estimator."
        )
    return estimator.best_estimator_


def fitted_network(estimator: Any) -> BaseGN:
    """Return the fitted GNRegressor or GNClassifier in ``estimator``.

    Raises a TypeError if there is none, and a NotFittedError if it is not fitted.
    """
    network = best_of_search(estimator)
    while isinstance(network, Pipeline):
        network = network[-1]
    if not isinstance(network, BaseGN):
        got = f"the class {network.__name__}" if isinstance(network, type) else type(network).__name__
        within = "" if network is estimator else f" within a {type(estimator).__name__}"
        raise TypeError(
            "estimator must be a fitted GNRegressor or GNClassifier, a pipeline that ends with one, or a search over "
            f"one; got {got}{within}."
        )
    check_is_fitted(network)
    return network


def rows_of_network(estimator: Any, X: Any) -> Any:
    """Return rows as the network in ``estimator`` takes them: what the steps of a pipeline before it make of X."""
    step = best_of_search(estimator)
    while isinstance(step, Pipeline):
        X, step = step[:-1].transform(X) if len(step) > 1 else X, step[-1]
    return X


def feature_names(estimator: Any) -> list[str]:
    """Names of the features that the network in ``estimator`` saw.

    These are the network's own names, the pipeline's names, or else x0, x1, ...
    """
    network, pipeline = fitted_network(estimator), best_of_search(estimator)
    if hasattr(network, "feature_names_in_"):
        return [str(name) for name in network.feature_names_in_]
    if isinstance(pipeline, Pipeline) and len(pipeline) > 1:
        try:
            names = [str(name) for name in pipeline[:-1].get_feature_names_out()]
        except (AttributeError, ValueError):
            names = []  # a step that does not name its outputs
        if len(names) == network.n_features_in_:  # more steps may follow within the last
            return names
    return [f"x{j}" for j in range(network.n_features_in_)]
