"""Data-parallel training on dask: `DaskGNRegressor` and `DaskGNClassifier`.

Each worker reduces its own rows to a Gram matrix, a gradient and a loss. Dask adds these up, and the process that calls
``fit`` solves the system. The modules import only downwards in this list:

| module | what it holds |
|---|---|
| `regressor`, `classifier` | the two estimators: prediction methods |
| `estimator` | what both share: reading collections, lazy predictions |
| `placed_rows` | rows on the workers, as the steps of a fit see them |
| `statistics` | statistics of the columns, and the scalings that are made of them |
| `objective` | the objective of a network on rows that stay on their workers |
| `rows` | collections to rows on the workers |
| `shards` | functions of every worker's rows, and their sums, whatever becomes of a worker |
| `cluster` | the workers, how long a fit waits for one, and what is said where the scheduler is gone |
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
