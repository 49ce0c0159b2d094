"""Small neural networks for tabular data, trained by damped Gauss-Newton, as scikit-learn estimators."""

from .classifier import GNClassifier
from .diagnostics import diagnose
from .regressor import GNRegressor
from .summary import summarize

__version__ = "0.1.0.dev0"

__all__ = ["GNClassifier", "GNRegressor", "__version__", "diagnose", "summarize"]
