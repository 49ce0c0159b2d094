"""Data-parallel training on dask: `DaskGNRegressor` and `DaskGNClassifier`.

Each worker reduces its own rows to a Gram matrix, a gradient and a loss. Dask adds these up, and the process that calls
``fit`` solves the system. The modules import only downwards in this list:

| module | what it holds |
|---|---|
| `regressor`, `classifier` | the two estimators: prediction methods |
| `estimator` | what both share: reading collections, lazy predictions |
| `placed_rows` | rows on the workers, as the steps of a fit see them |
| `objective` | the objective of a network on rows that stay on their workers |
| `rows` | collections to rows on the workers, and the statistics of their columns |
| `shards` | functions of every worker's rows, and their sums, whatever becomes of a worker |
"""

try:
    import dask
    import distributed
except ImportError as error:
    raise ImportError('skgn.dask needs dask and distributed: pip install "skgn[dask]"') from error

from .classifier import DaskGNClassifier
from .regressor import DaskGNRegressor

__all__ = ["DaskGNClassifier", "DaskGNRegressor"]

del dask, distributed
