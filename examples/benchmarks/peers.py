"""Models of other libraries at their defaults, for benchmarks that compare with them."""

from __future__ import annotations

import os
from typing import Any


def catboost(regression: bool) -> Any:
    """CatBoost without output and files, on the threads that OMP_NUM_THREADS names, or one."""
    import catboost

    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    quiet = {"verbose": False, "thread_count": threads, "random_seed": 0, "allow_writing_files": False}
    return (catboost.CatBoostRegressor if regression else catboost.CatBoostClassifier)(**quiet)
