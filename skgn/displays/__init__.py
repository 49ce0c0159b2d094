"""Pictures of fitted estimators, as scikit-learn displays; matplotlib is imported when the first one is drawn."""

from .convergence import ConvergenceDisplay
from .grid import GridDisplay
from .relevance import RelevanceDisplay
from .spectrum import SpectrumDisplay
from .uncertainty import UncertaintyDisplay

__all__ = ["ConvergenceDisplay", "GridDisplay", "RelevanceDisplay", "SpectrumDisplay", "UncertaintyDisplay"]
