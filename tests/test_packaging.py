"""What is said of the package outside of its code agrees with pyproject.toml, and with itself."""

import re
from pathlib import Path

import pytest

import skgn

ROOT = Path(__file__).parents[1]
# Part of Python since 3.11.
PROJECT = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
URLS = PROJECT["project"]["urls"]


def value(file, key):
    """The value of a key of a YAML file that is a word, without its quotes."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    (found,) = {line.partition(":")[2].strip().strip('"') for line in lines if line.strip().startswith(f"{key}: ")}
    return found


@pytest.mark.parametrize("label", ["Changelog", "Issues"])
def test_addresses_are_paths_below_that_of_the_source(label):
    assert URLS[label].startswith(URLS["Source"] + "/")


def test_links_of_the_readme_lead_to_the_source():
    hook = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    addresses = re.findall(r"https?://[^/)]*", "".join(rule["replacement"] for rule in hook["substitutions"]))
    assert addresses and {re.match(r"https?://[^/]*", URLS["Source"])[0]} == set(addresses)
    for rule in hook["substitutions"]:
        assert f"({URLS['Source']}/" in rule["replacement"]


@pytest.mark.parametrize("file", ["CITATION.cff", ".ci/conda/recipe.yaml"])
def test_versions_licences_and_addresses_agree(file):
    address = "repository-code" if file == "CITATION.cff" else "repository"
    assert value(file, "license") == PROJECT["project"]["license"]
    assert value(file, address) == URLS["Source"]
    if file == "CITATION.cff":
        assert value(file, "version") == skgn.__version__
    else:
        assert re.search(rf"^  version: {re.escape(skgn.__version__)}$", (ROOT / file).read_text(), re.MULTILINE)


def test_the_recipe_asks_for_what_the_wheel_asks_for():
    recipe = (ROOT / ".ci/conda/recipe.yaml").read_text(encoding="utf-8")
    asked = {name: bound for name, bound in re.findall(r"^    - ([\w-]+) (>=\S+)$", recipe, re.MULTILINE)}
    named = PROJECT["build-system"]["requires"] + PROJECT["project"]["dependencies"]
    wanted = dict(re.fullmatch(r"([\w-]+)(>=\S+)", line).groups() for line in named)
    wanted["pytorch"] = wanted.pop("torch")
    wanted["python"] = ">=${{"
    assert asked.keys() | {"python"} == wanted.keys()
    assert asked.items() <= wanted.items()
    assert f">={value('.ci/conda/recipe.yaml', 'python_min')}" == PROJECT["project"]["requires-python"]


def test_onnx_files_ask_for_the_torch_that_writes_them():
    source = (ROOT / "skgn" / "export" / "onnx_model.py").read_text(encoding="utf-8")
    (lowest,) = re.findall(r'^_LOWEST_TORCH = "(.*)"$', source, re.MULTILINE)
    assert f"torch>={lowest}" in PROJECT["project"]["optional-dependencies"]["onnx"]


def test_the_workflow_runs_each_python_that_is_claimed():
    (listed,) = re.findall(r"^ +python: \[(.*)\]$", (ROOT / ".github/workflows/ci.yml").read_text(), re.MULTILINE)
    prefix = "Programming Language :: Python :: "
    claimed = [line.removeprefix(prefix) for line in PROJECT["project"]["classifiers"] if line.startswith(prefix)]
    assert [version for version in claimed if "." in version] == re.findall(r"[\d.]+", listed)
    assert PROJECT["project"]["requires-python"] == f">={re.findall(r'[0-9.]+', listed)[0]}"
