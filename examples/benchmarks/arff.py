"""Tables of ARFF files that nobody has tuned on, in the form tables.py reads.

    git clone --depth 1 https://github.com/renatopp/arff-datasets
    python examples/benchmarks/arff.py arff-datasets DATA_DIR [--task reg|clf]
    OMP_NUM_THREADS=1 python examples/benchmarks/tables.py DATA_DIR OUT.csv --folds 1 --cap 2500 \
        --models skgn,linear,boosting,catboost

The target is the attribute "class", else the last one. A number of more than ten values is a regression. Any other
target of up to 30 values is a classification, without classes of fewer than five rows. Tables have at least 100 rows
and three columns. Columns of hardly a second value, texts of more than 60 levels, and row numbers are left out. So are
files that SciPy does not read, such as those with dates, and tables on which the defaults were settled, by name.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd
from scipy.io.arff import ParseArffError, loadarff

#: Tables that were at hand when the defaults were settled, and their copies; and four of many labels and rows.
USED = (
    *("abalone", "baseball", "baseball-hitter", "bodyfat", "boston", "boston_corrected", "housing", "cal.housing"),
    *("cholesterol", "cpu.act", "cpu.small", "kin8nm", "lowbwt", "servo", "pbc", "stock", "autompg", "wisconsin"),
    *("breast.cancer", "breast.w", "credit.a", "credit.g", "dermatology", "haberman", "heart.statlog", "iris"),
    *("mushroom", "page.blocks", "segment", "sonar", "spambase", "vehicle", "vote", "wine", "analcatdata_titanic"),
    *("letter", "nursery", "pendigits", "optdigits"),
)

#: Fewest rows and columns of a table, and most levels of a text.
ROWS, COLUMNS, LEVELS = 100, 3, 60

#: Most classes, fewest rows of a class, and most values of a number that is a label.
CLASSES, ROWS_OF_CLASS, VALUES = 30, 5, 10

#: Rows that do not have the most frequent value of a column: fewer than that tell nothing.
OTHERS = 5


def read(path: Path) -> pd.DataFrame:
    """A table with missing cells as such, and texts as strings."""
    with path.open(encoding="utf-8", errors="replace") as file:
        table = pd.DataFrame(loadarff(file)[0])
    for name in table.select_dtypes("object"):
        table[name] = table[name].str.decode("utf-8", errors="replace").replace({"?": None, "": None})
    return table


def task_of(y: pd.Series) -> str | None:
    """Whether a target is a regression or a classification; None if it is neither."""
    if pd.api.types.is_numeric_dtype(y) and y.nunique() > VALUES:
        return "reg"
    return "clf" if 2 <= y.nunique() <= CLASSES else None


def useful(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out columns that tell nothing, and texts of many levels."""

    def is_useful(column: pd.Series) -> bool:
        counts = column.value_counts(dropna=False)
        is_text = not pd.api.types.is_numeric_dtype(column)
        numbers_rows = column.name.lower() in ("id", "instance", "case", "obs") and len(counts) == len(column)
        return len(column) - counts.iloc[0] >= OTHERS and not (is_text and len(counts) > LEVELS) and not numbers_rows

    return table[[name for name in table if is_useful(table[name])]]


def of_target(table: pd.DataFrame) -> tuple[str | None, pd.DataFrame]:
    """What a table is for, and its useful columns with the column "target"."""
    name = next((name for name in table if name.lower() == "class"), table.columns[-1])
    table = table[table[name].notna()]
    y = table.pop(name)
    task = task_of(y)
    if task == "clf":
        counts = y.value_counts()
        kept = y.isin(counts[counts >= ROWS_OF_CLASS].index)
        table, y = table[kept], y[kept]
    return task, useful(table).assign(target=y)


def main() -> None:
    """Write NAME.csv, whose column "target" is to be predicted, and NAME.json for each table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", choices=["reg", "clf"], default="reg")
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    written = 0
    for path in sorted(arguments.clone.rglob("*.arff")):
        if path.stem.split(" ")[0] in USED:
            continue
        try:
            table = read(path)
        # What SciPy raises for kinds of attributes that it does not know, and for files that are not as they should be.
        except (ParseArffError, NotImplementedError, ValueError, IndexError, StopIteration) as error:
            print(f"{path.stem} is not read: {error!r:.80}")
            continue
        if len(table) < ROWS:
            continue
        task, table = of_target(table)
        if task == arguments.task and len(table) >= ROWS and table.shape[1] >= COLUMNS:
            name = f"{path.parent.name}-{path.stem}".replace(" ", "_")
            table.to_csv(arguments.data / f"{name}.csv", index=False)
            (arguments.data / f"{name}.json").write_text(json.dumps({"task": task}), encoding="utf-8")
            written += 1
    print(f"{written} tables")


if __name__ == "__main__":
    main()
