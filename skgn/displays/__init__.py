"""Pictures of fitted estimators, as scikit-learn displays. The first drawing imports matplotlib."""

from .convergence import ConvergenceDisplay
from .grid import GridDisplay
from .relevance import RelevanceDisplay
from .spectrum import SpectrumDisplay
from .uncertainty import UncertaintyDisplay

__all__ = ["ConvergenceDisplay", "GridDisplay", "RelevanceDisplay", "SpectrumDisplay", "UncertaintyDisplay"]
