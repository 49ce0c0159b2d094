"""What docs/architecture.md says of the modules: what `import skgn` loads, and which module imports which."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from skgn.directions import DIRECTIONS

PACKAGE = Path(__file__).parents[1] / "skgn"
TABLE = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")

#: Modules and subpackages of skgn, from the top of the table to its bottom, and from left to right in a line.
ORDER = [name for line in re.findall(r"^\| (`.*?`) \|", TABLE, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)]

#: The package itself only hands names on; `persistence` asks it for its version.
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def module_of(name):
    """The module or subpackage of skgn that an absolute dotted name lies in; None for the package and all others."""
    parts = name.split(".")
    return parts[1] if parts[0] == "skgn" and len(parts) > 1 and parts[1] in ORDER else None


def imported(path):
    """Modules and subpackages of skgn that a file imports anywhere in it, for types as well."""
    within = ["skgn", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = within[: len(within) + 1 - node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from filter(None, map(module_of, names))


def test_every_module_has_one_place_in_the_table():
    modules = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert sorted(ORDER) == sorted(modules)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_the_table_only(path):
    module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    above = {other for other in imported(path) if ORDER.index(other) < ORDER.index(module)}
    assert not above, f"{module} imports what stands above it: {', '.join(sorted(above))}"


def test_imports_are_found():
    """The parser of this file knows each way in which a module is imported."""
    assert {"estimator", "tables"} <= set(imported(PACKAGE / "dask" / "estimator.py"))
    assert {"calibration", "status"} <= set(imported(PACKAGE / "diagnostics.py"))


def test_importing_the_package_loads_nothing_that_draws():
    code = (
        "import sys, skgn; "
        "print(*(name for name in sys.modules if name.split('.')[0] == 'matplotlib' or 'displays' in name))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


#: The files that know a solver by name: each direction's own, and their registry.
SOLVERS = {direction.__module__.removeprefix("skgn.") for direction in DIRECTIONS.values()} | {"directions"}


def told_apart(path):
    """Lines of a file that name a solver outside docstrings, or ask whether something is of a direction's class."""
    tree, names = ast.parse(path.read_text(encoding="utf-8")), "|".join(DIRECTIONS)
    classes = {direction.__name__ for direction in DIRECTIONS.values()}
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if re.fullmatch(names, node.value) or re.search(rf"""["']({names})["']""", node.value):
                yield node.lineno
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
            if classes & {getattr(part, "id", "") for part in ast.walk(node)}:
                yield node.lineno
        elif isinstance(node, ast.Compare):
            if classes & {getattr(part, "id", "") for part in [node.left, *node.comparators]}:
                yield node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_file_tells_solvers_apart(path):
    """So that a new one is a file and an entry."""
    if path.stem not in SOLVERS:
        assert not list(told_apart(path))


def test_files_that_tell_solvers_apart_are_found(tmp_path):
    path = tmp_path / "file.py"
    path.write_text(
        '"""A docstring may say "dual"."""\n'
        'a = solver == "cg"\n'
        "b = \"refit with solver='primal'\"\n"
        "c = isinstance(direction, Dual | Primal)\n"
        "d = choose() is ConjugateGradient\n"
        'e = "a primal solver", Primal(jacobian, S)\n'
    )
    assert sorted(told_apart(path)) == [2, 3, 4, 5]
