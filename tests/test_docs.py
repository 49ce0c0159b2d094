"""The Python blocks of the README and the documentation run, and print what is shown below them.

A block is marked ``python``; the blocks of a page run in one namespace, one after the other, as a reader would paste
them. A ``text`` block right below holds what it prints. Blocks that cannot run here (a cluster, a GPU, your own files)
are marked ``py`` instead.
"""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    if "```python\n" in page.read_text(encoding="utf-8")
]

BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n*```text\n(?P<output>.*?)^```\n)?", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")

#: Pages about what earlier versions of scikit-learn have not.
NEEDS = {"callbacks.md": ("sklearn.callback", "sklearn.callback comes with scikit-learn 1.9")}

#: Numbers that training printed may differ by this part of them, or by some units of their last digit: other versions
#: round otherwise, and iterations let that grow.
PART, UNITS = 0.1, 3


def unlike(printed: str, shown: str) -> str:
    """How the printed text differs from the one shown, "" if it does not: words are equal, numbers nearly."""
    if re.split(r"\s+", NUMBER.sub("#", printed).strip()) != re.split(r"\s+", NUMBER.sub("#", shown).strip()):
        return f"printed:\n{printed}\nshown:\n{shown}"
    for new, old in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
        decimals = len(old.partition(".")[2]) if "e" not in old else 0
        tolerance = max(PART * abs(float(old)), UNITS * 10.0**-decimals if decimals else 0)
        if abs(float(new) - float(old)) > tolerance:
            return f"{new} is shown as {old}; printed:\n{printed}"
    return ""


def test_there_are_pages_with_blocks():
    assert {"README.md", "getting_started.md", "evidence.md", "architecture.md"} <= {page.name for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run_and_print_what_is_shown(page, tmp_path, monkeypatch, request):
    if page.name in NEEDS:
        module, reason = NEEDS[page.name]
        pytest.importorskip(module, reason=reason)
    if page.name == "export.md":
        request.getfixturevalue("one_registry")
    text = page.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    namespace = {"__name__": "__main__"}
    try:
        for block in BLOCK.finditer(text):
            line = text[: block.start("code")].count("\n")
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * line + block["code"], str(page), "exec"), namespace)
            difference = unlike(printed.getvalue(), block["output"] or "")
            assert not difference, f"{page.name}, line {line + 1}: {difference}"
    finally:
        torch.set_num_threads(threads)


def test_the_index_of_the_reference_names_every_entry_of_its_pages():
    named = set(
        re.findall(r":(?:class|func|data):`([\w.]+)`", (DOCS / "api" / "index.rst").read_text(encoding="utf-8"))
    )
    for page in sorted((DOCS / "api").glob("*.rst")):
        text = page.read_text(encoding="utf-8")
        module = ""
        for line in text.splitlines():
            if found := re.match(r"\.\. (?:current)?module:: ([\w.]+)", line):
                module = found[1]
            elif found := re.match(r"   (\w+)$|\.\. data:: (\w+)", line):
                entry = f"{module}.{found[1] or found[2]}"
                assert page.name == "index.rst" or entry in named, f"{entry} of {page.name} is missing in index.rst"
