"""Small neural networks for tabular data, trained by damped Gauss-Newton, as scikit-learn estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import damping as damping
    from . import dask as dask
    from . import displays as displays
    from . import dynamics as dynamics
    from . import export as export
    from . import persistence as persistence
    from . import report as report
    from . import spectrum as spectrum
    from . import summary as summary
    from . import unfamiliar as unfamiliar
    from .classifier import GNClassifier
    from .diagnostics import diagnose
    from .regressor import GNRegressor
    from .summary import summarize

__version__ = "0.2.0.dev0"

__all__ = ["GNClassifier", "GNRegressor", "__version__", "diagnose", "summarize"]

#: Where the names are that this package hands on. A module is loaded once one of its names is asked for.
_HOME = {
    "GNClassifier": "classifier",
    "GNRegressor": "regressor",
    "diagnose": "diagnostics",
    "summarize": "summary",
}

#: Modules of the API reference.
_MODULES = (
    "damping",
    "dask",
    "displays",
    "dynamics",
    "export",
    "persistence",
    "report",
    "spectrum",
    "summary",
    "unfamiliar",
)


def _load(name: str) -> Any:
    """Return a name that the package hands on, or a module of the package, loaded when it is first asked for."""
    from importlib import import_module
    from importlib.util import find_spec

    if name in _HOME:
        # From now on it is found at once.
        found = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        return found
    if name.startswith("__") or find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    from importlib.util import find_spec

    # That of dask needs an extra.
    return sorted({*__all__, *_MODULES} - (set() if find_spec("dask") else {"dask"}))


if not TYPE_CHECKING:
    # A type checker knows the names above, and no others.
    __getattr__ = _load
