"""Tables that nobody has tuned on: those of Rdatasets, with targets drawn at random, in the form tables.py reads.

    git clone --depth 1 https://github.com/vincentarelbundock/Rdatasets
    python examples/benchmarks/rdatasets.py Rdatasets DATA_DIR [--task reg|clf] [--tables 100] [--seed 0]
        [--without DIR ...]
    OMP_NUM_THREADS=1 python examples/benchmarks/tables.py DATA_DIR OUT.csv --folds 1

Tables come in random order, one of each shape, as many have copies. They have 150 to 60,000 rows, 6 to 120 columns and
files of up to 4 MiB. Row names, constant columns and texts of more than 40 levels are dropped. The target is drawn
among the columns that may be one: numbers of more than 20 values for a regression, and two to eight values of at least
15 rows each for classes. So some relations are nearly free of noise, as where a column is the square of another one,
and some are pure noise. Tables on which the defaults were settled are left out, by name. So are those that the folders
of ``--without`` have, with any target.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

#: Tables that were at hand when the defaults were settled, and their copies.
USED = (
    *("abalone", "Abalone", "ames", "baseball", "Baseball", "Boston", "Hedonic", "hprice2", "College", "Hitters"),
    *("Sacramento", "servo", "Wage", "diamonds", "mpg", "Auto", "birthwt", "lowbwt", "pbc", "pbcseq", "cells", "OJ"),
    *("Titanic", "titanic", "titanic_train", "biopsy", "brca", "credit_data", "iris", "Pima.tr", "Pima.te"),
    *("PimaIndiansDiabetes", "PimaIndiansDiabetes2", "HouseVotes84", "Vehicle", "Sonar", "Caravan", "spam7"),
)

#: Most levels of a category, fewest values of a number to be predicted, most classes, and fewest rows of each.
LEVELS, VALUES, CLASSES, ROWS_OF_CLASS = 40, 20, 8, 15

#: Fewest rows with a target, and most bytes of a file.
ROWS, BYTES = 120, 4 * 2**20


def tables(clone: Path, seed: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield names and tables in random order."""
    index = pd.read_csv(clone / "datasets.csv")
    index = index[index.Rows.between(150, 60_000) & index.Cols.between(6, 120)]
    index = index.drop_duplicates(["Rows", "Cols", "n_numeric"]).sample(frac=1, random_state=seed)
    for package, address in zip(index.Package, index.CSV, strict=True):
        path = clone / "csv" / package / f"{Path(address).stem}.csv"
        if path.stem not in USED and path.exists() and path.stat().st_size <= BYTES:
            yield f"{package}-{path.stem}", pd.read_csv(path, low_memory=False, encoding_errors="replace")


def cleaned(table: pd.DataFrame) -> pd.DataFrame:
    """Drop row names, texts of many levels, and columns of one value."""
    texts = table.select_dtypes(exclude=["number", "bool"]).columns
    drop = [c for c in table if c.lower() in ("rownames", "id") or (c in texts and table[c].nunique() > LEVELS)]
    return varying(table.drop(columns=drop))


def varying(table: pd.DataFrame) -> pd.DataFrame:
    """Drop columns of one value."""
    return table.loc[:, table.nunique() > 1]


def targets(table: pd.DataFrame, task: str) -> list[str]:
    """Columns that may be predicted."""
    if task == "reg":
        numbers = table.select_dtypes("number").columns
        return [c for c in numbers if table[c].nunique() > VALUES]
    return [c for c in table if table[c].nunique() <= CLASSES and table[c].value_counts().min() >= ROWS_OF_CLASS]


def main() -> None:
    """Write NAME.csv, whose column "target" is to be predicted, and NAME.json for each table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", choices=["reg", "clf"], default="reg")
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    rng, written = np.random.default_rng(arguments.seed), 0
    known = {path.stem for folder in arguments.without for path in folder.glob("*.json")}
    for name, raw in tables(arguments.clone, arguments.seed):
        if written == arguments.tables:
            break
        if name in known:
            continue
        table = cleaned(raw)
        choices = targets(table, arguments.task)
        if not choices or table.shape[1] < 4:
            continue
        target = rng.choice(choices)
        # Cells of other columns may be missing wherever there is a target.
        table = varying(table[table[target].notna()])
        # Another column may be called "target" already.
        table = table.rename(columns={"target": "another", target: "target"})
        if len(table) >= ROWS:
            table.to_csv(arguments.data / f"{name}.csv", index=False)
            about = {"task": arguments.task, "target": str(target)}
            (arguments.data / f"{name}.json").write_text(json.dumps(about), encoding="utf-8")
            written += 1
    print(f"{written} tables")


if __name__ == "__main__":
    main()
