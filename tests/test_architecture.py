"""What docs/architecture.md says of the modules: what `import skgn` loads, which imports which, how large they are."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import skgn
from skgn.directions import DIRECTIONS

PACKAGE = Path(__file__).parents[1] / "skgn"
DOCS = PACKAGE.parent / "docs"
TABLE = (DOCS / "architecture.md").read_text(encoding="utf-8")

#: Modules and subpackages of skgn, from the top of the table to its bottom, and from left to right in a line.
ORDER = [name for line in re.findall(r"^\| (`.*?`) \|", TABLE, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)]

#: Several tests look at the same sources.
parse = cache(ast.parse)


@cache
def nodes(source):
    """All nodes of a source."""
    return list(ast.walk(parse(source)))


#: The package itself only hands names on; `persistence` asks it for its version.
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def module_of(name):
    """The module or subpackage of skgn that an absolute dotted name lies in; None for the package and all others."""
    parts = name.split(".")
    return parts[1] if parts[0] == "skgn" and len(parts) > 1 and parts[1] in ORDER else None


def imported(path):
    """Modules and subpackages of skgn that a file imports anywhere in it, for types as well."""
    within = ["skgn", *path.relative_to(PACKAGE).parts[:-1]]
    for node in nodes(path.read_text(encoding="utf-8")):
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


def test_the_picture_shows_the_modules_in_the_order_of_the_table():
    picture = (DOCS / "_static" / "modules.svg").read_text(encoding="utf-8")
    assert re.findall(r'text-anchor="middle" fill="#222222">(\w+)</text>', picture) == ORDER


def test_imports_go_down_the_table_only():
    for path in FILES:
        module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        above = {other for other in imported(path) if ORDER.index(other) < ORDER.index(module)}
        assert not above, f"{path.relative_to(PACKAGE)} imports what stands above it: {', '.join(sorted(above))}"


def test_imports_are_found():
    """The parser of this file knows each way in which a module is imported."""
    assert {"estimator", "tables"} <= set(imported(PACKAGE / "dask" / "estimator.py"))
    assert {"comparison", "status"} <= set(imported(PACKAGE / "diagnostics.py"))


def loaded_by(*steps):
    """Names of the modules that a new process has loaded after each of some steps of code."""
    code = "import sys\n" + "".join(f"{step}\nprint(*sys.modules)\n" for step in steps)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return [set(line.split()) for line in run.stdout.splitlines()]


#: All modules but that of dask, which needs an extra.
MODULES = sorted({*ORDER} - {"dask"})


@cache
def loaded_in_turn():
    """What is loaded before an estimator is imported, then, and after all modules were asked for."""
    return loaded_by(
        "import torch, sklearn.neural_network",
        "from skgn import GNClassifier, GNRegressor",
        f"import skgn\nfor name in {MODULES}: assert getattr(skgn, name).__name__ == 'skgn.' + name",
    )


def packages(modules):
    return {name.partition(".")[0] for name in modules}


def test_importing_the_package_loads_nothing_until_it_is_asked_for():
    (loaded,) = loaded_by("import skgn; skgn.__version__, dir(skgn)")
    assert {name for name in loaded if name.startswith("skgn")} == {"skgn"}
    assert not packages(loaded) & {"torch", "sklearn", "scipy", "numpy", "pandas"}


def test_importing_an_estimator_loads_torch_and_what_scikit_learn_itself_loads():
    """No package beside these: not matplotlib, dask nor onnx. pandas is loaded by scikit-learn, where it is there."""
    before, loaded, _ = loaded_in_turn()
    # A compiled module of scikit-learn 1.6 gives itself the name "_loss".
    assert packages(loaded) - packages(before) - {"_loss"} == {"skgn"}
    beside = ORDER[: ORDER.index("fitted") + 1]
    assert not {module_of(name) for name in loaded} & set(beside)
    assert not packages(loaded) & {"matplotlib", "dask", "distributed", "onnx", "onnxscript", "onnxruntime"}


@pytest.mark.parametrize("name", skgn.__all__)
def test_names_are_handed_on(name):
    assert name in dir(skgn)
    assert getattr(skgn, name) is vars(skgn)[name]


def test_completion_offers_what_the_reference_has_whether_it_is_loaded_or_not():
    pytest.importorskip("dask")
    reference = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.rst"))
    modules = set(re.findall(r"^.. (?:auto|current|)module:: skgn\.(\w+)$", reference, re.MULTILINE))
    code = "import skgn\nprint(*dir(skgn))\nimport skgn.status\nprint(*dir(skgn))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    for offered in run.stdout.splitlines():
        assert set(offered.split()) == modules | set(skgn.__all__)


def test_modules_are_attributes_without_an_import_of_their_own():
    """None of them loads matplotlib, not even the displays."""
    loaded = loaded_in_turn()[-1]
    assert {f"skgn.{name}" for name in MODULES} <= loaded
    assert "matplotlib" not in packages(loaded)


@pytest.mark.parametrize("name", ["nothing", "__nothing__", "_skl_callbacks"])
def test_what_is_not_there_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"module 'skgn' has no attribute '{name}'"):
        getattr(skgn, name)
    with pytest.raises(ImportError, match=name):
        exec(f"from skgn import {name}")


#: The files that know a solver by name: each direction's own, and their registry.
SOLVERS = {direction.__module__.removeprefix("skgn.") for direction in DIRECTIONS.values()} | {"directions"}


def told_apart(path):
    """Lines of a file that name a solver outside docstrings, or ask whether something is of a direction's class."""
    source, names = path.read_text(encoding="utf-8"), "|".join(DIRECTIONS)
    classes = {direction.__name__ for direction in DIRECTIONS.values()}
    docstrings = {id(node.value) for node in nodes(source) if isinstance(node, ast.Expr)}
    for node in nodes(source):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if re.fullmatch(names, node.value) or re.search(rf"""["']({names})["']""", node.value):
                yield node.lineno
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
            if classes & {getattr(part, "id", "") for part in ast.walk(node)}:
                yield node.lineno
        elif isinstance(node, ast.Compare):
            if classes & {getattr(part, "id", "") for part in [node.left, *node.comparators]}:
                yield node.lineno


def test_no_other_file_tells_solvers_apart():
    """So that a new one is a file and an entry."""
    others = [path for path in FILES if path.stem not in SOLVERS]
    assert {str(path.relative_to(PACKAGE)): lines for path in others if (lines := list(told_apart(path)))} == {}


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


#: Most lines of a function, of a class and of a file.
MOST_LINES = {ast.FunctionDef: 80, ast.AsyncFunctionDef: 80, ast.ClassDef: 300, ast.Module: 450}

#: Their docstrings describe every parameter, and do not count.
ESTIMATORS = ("GNRegressor", "GNClassifier")


def too_long(source):
    """Names of the functions and classes of a source that have too many lines, and "the file" if that has."""
    classes = [node for node in nodes(source) if isinstance(node, ast.ClassDef)]
    described = [node.body[0] for node in classes if node.name in ESTIMATORS]
    for node in nodes(source):
        if type(node) in MOST_LINES:
            first, last = (1, source.count("\n")) if isinstance(node, ast.Module) else (node.lineno, node.end_lineno)
            docstrings = sum(
                d.end_lineno - d.lineno + 1 for d in described if first <= d.lineno and d.end_lineno <= last
            )
            if last - first + 1 - docstrings > MOST_LINES[type(node)]:
                yield getattr(node, "name", "the file")


def test_files_classes_and_functions_stay_small():
    sources = {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in FILES}
    assert {name: long for name, source in sources.items() if (long := list(too_long(source)))} == {}


def test_what_is_too_long_is_found():
    line = "    a = 1\n"
    assert not list(too_long("def f():\n" + 79 * line + "class C:\n" + 299 * line))
    assert list(too_long("def f():\n" + 80 * line + "class C:\n" + 300 * line)) == ["f", "C"]
    assert list(too_long(451 * "a = 1\n")) == ["the file"]
    docstring = '    """' + 300 * "\n" + '    """\n'
    assert not list(too_long("class GNRegressor:\n" + docstring + 299 * line))
    assert list(too_long("class Other:\n" + docstring + 299 * line)) == ["the file", "Other"]
