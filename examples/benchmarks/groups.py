"""Rows of groups: what left-out rows promise, and what becomes of it on rows of other groups.

    git clone --depth 1 https://github.com/vincentarelbundock/Rdatasets
    OMP_NUM_THREADS=1 python examples/benchmarks/groups.py Rdatasets OUT.csv

Tables of Rdatasets with repeated measures, of patients, schools or states. Of long ones as many whole groups are drawn
as have 1,500 rows. The column of the group is left out, and so are others that name the rows or contain the target.
Three folds hold out whole groups. Fits are at the defaults: once every row is an observation, and once there is a
weight of 1 for the rows of each group together. Columns of the output are means over the folds.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GroupKFold

from skgn import GNRegressor

DEATHS = [f"{kind}fatal{age}" for kind in "ns" for age in ("", "1517", "1820", "2124")]

#: Group, target, and columns that are left out.
TABLES = {
    "AER/Fatalities": ("state", "fatal", ["afatal", *DEATHS, "fatal1517", "fatal1820", "fatal2124"]),
    "AER/Guns": ("state", "violent", ["murder", "robbery"]),
    "geepack/dietox": ("Pig", "Weight", ["Litter"]),
    "lme4/cake": ("replicate", "angle", ["temp"]),
    "mlmRev/Exam": ("school", "normexam", ["student"]),
    "mlmRev/ScotsSec": ("primary", "attain", []),
    "nlme/bdf": ("schoolNR", "langPOST", ["aritPOST", "pupilNR"]),
    "nlme/BodyWeight": ("Rat", "weight", []),
    "nlme/MathAchieve": ("School", "MathAch", []),
    "nlme/Orthodont": ("Subject", "distance", []),
    "nlme/Oxboys": ("Subject", "height", ["Occasion"]),
    "plm/Cigar": ("state", "sales", []),
    "plm/Crime": ("county", "crmrte", ["lcrmrte"]),
    "plm/Males": ("nr", "wage", []),
    "plm/RiceFarms": ("id", "goutput", ["noutput"]),
    "survival/pbcseq": ("id", "bili", ["futime", "status"]),
}

ROWS, FOLDS = 1500, 3


def rows_of(clone: Path, name: str) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Read a table: columns, targets and groups."""
    group, target, out = TABLES[name]
    table = pd.read_csv(clone / "csv" / f"{name}.csv").drop(columns="rownames").dropna(subset=[target])
    table = table.sample(frac=1, random_state=0).reset_index(drop=True)
    size = table[group].value_counts(sort=False).sample(frac=1, random_state=0)
    table = table[table[group].isin(size.index[size.cumsum() <= ROWS])]
    y = table[target].to_numpy(float)
    columns = table.drop(columns=[group, target, *(column for column in out if column in table)])
    return columns, np.log(y) if target == "bili" else y, pd.factorize(table[group])[0]


def compare(X: pd.DataFrame, y: np.ndarray, group: np.ndarray) -> dict[str, float]:
    """Fit on the rows of some groups, predict those of others."""
    folds = []
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=0).split(X, y, group):
        share = 1 / np.bincount(group[train])[group[train]]
        row = {"groups": float(len(np.unique(group[train])))}
        for name, weight in {"rows": None, "groups one each": share}.items():
            model = GNRegressor(random_state=0).fit(X.iloc[train], y[train], sample_weight=weight)
            low, high = model.predict_interval(X.iloc[test], 0.9).T
            row[f"{name}, promised"] = model.left_out_score_
            row[f"{name}, R2"] = model.score(X.iloc[test], y[test])
            row[f"{name}, in 90 %"] = float(((low <= y[test]) & (y[test] <= high)).mean())
        numbers = X.select_dtypes("number")
        boosting = HistGradientBoostingRegressor(random_state=0).fit(numbers.iloc[train], y[train])
        folds.append(row | {"boosting, R2": boosting.score(numbers.iloc[test], y[test])})
    return pd.DataFrame(folds).mean().to_dict()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results = {}
    for name in TABLES:
        X, y, group = rows_of(options.clone, name)
        results[name] = {"rows": len(y)} | compare(X, y, group)
        pd.DataFrame(results).T.round(3).to_csv(options.out)
        print(name, {key: round(value, 2) for key, value in results[name].items()}, flush=True)
