"""Sphinx configuration: `sphinx-build -W --keep-going -n -b html docs docs/_build/html`, without any network."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import skgn  # noqa: E402

project = "skgn"
author = "The skgn developers"
copyright = "The skgn developers, BSD-3-Clause"
version = release = skgn.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "mathml",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**/sg_execution_times.*"]
nitpicky = True
smartquotes = False  # "auto" is to be copied
# Classes of other projects: their pages would have to be fetched to link to them.
nitpick_ignore_regex = [("py:.*", r"(sklearn|numpy|np|torch|distributed|dask|matplotlib|pandas|scipy|joblib)\b.*")]
nitpick_ignore = [("py:class", "object"), ("py:class", "optional")]

# -- Markdown ----------------------------------------------------------------------------------------------------------
myst_enable_extensions = ["colon_fence", "dollarmath", "tasklist"]
myst_heading_anchors = 4
html_math_renderer = "mathml"

# -- API ---------------------------------------------------------------------------------------------------------------
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say what the arguments are
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False  # the templates list them

# -- Gallery -----------------------------------------------------------------------------------------------------------
#: Folder of examples -> folder of pages, those there are.
GALLERIES = {"course": "course", "theory": "theory_gallery"}
_THERE = [name for name in GALLERIES if list((HERE.parent / "examples" / name).glob("*.rst"))]
sphinx_gallery_conf: dict[str, Any] = {
    "examples_dirs": [f"../examples/{name}" for name in _THERE],
    "gallery_dirs": [GALLERIES[name] for name in _THERE],
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "only_warn_on_example_error": False,
    # Nothing that differs from build to build.
    "min_reported_time": 1e9,
    "show_memory": False,
    "write_computation_times": False,
    "download_all_examples": False,
    "show_signature": False,
    "thumbnail_size": (800, 560),
    "plot_gallery": os.environ.get("SKGN_DOCS_GALLERY", "1") == "1",
}

# -- HTML --------------------------------------------------------------------------------------------------------------
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["skgn.css"]
html_context = {"default_mode": "auto"}
html_title = "skgn"
html_favicon = "_static/logo.svg"
html_theme_options = {
    "logo": {"text": "skgn", "image_light": "_static/logo.svg", "image_dark": "_static/logo.svg"},
    "header_links_before_dropdown": 7,
    "navbar_persistent": ["search-button"],
    "navbar_end": ["theme-switcher"],
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc", "edit-this-page", "sourcelink"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navigation_with_keys": False,
}
html_sidebars = {page: [] for page in ("index", "getting_started", "theory", "benchmarks", "decisions")}

#: Where the sources are published, if pyproject.toml has more than an example: each page has a link to edit it there.
_METADATA = (HERE.parent / "pyproject.toml").read_text(encoding="utf-8")
PUBLISHED = re.search(r'^Source = "(?!https://[^/"]*\.example\b)(.*)"$', _METADATA, re.MULTILINE)
if PUBLISHED:
    html_theme_options["use_edit_page_button"] = True
    html_context["edit_page_url_template"] = f"{PUBLISHED[1]}/edit/main/docs/{{{{ file_name }}}}"


def _importable(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


#: Pages of the reference whose module is not there, or needs what is not installed.
exclude_patterns += [
    f"api/{page}.rst"
    for page, modules in {
        "dask": ["distributed", "dask"],
        "diagnose": ["skgn.diagnostics"],
        "dynamics": ["skgn.dynamics"],
        "displays": ["skgn.displays", "matplotlib"],
        "export": ["skgn.export"],
    }.items()
    if not all(map(_importable, modules))
]


#: Files outside of this folder that Markdown pages link to, and the page that includes each.
INCLUDED = {"README.md": "readme.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
#: Labels of scikit-learn's documentation, in docstrings that are inherited.
SKLEARN_LABELS = {"accuracy_score", "r2_score"}


def link_to_included(app: Any, page: str, content: list[str]) -> None:
    """Links that are right on GitHub, out of this folder, point to the pages that are made from those files."""
    text = content[0]
    for file, included in INCLUDED.items():
        text = re.sub(rf"\]\((\.\./)*{re.escape(file)}", f"](/{included}", text)
    for folder, gallery in GALLERIES.items():
        text = re.sub(rf"\]\((\.\./)*examples/{folder}/\)", f"](/{gallery}/index.rst)", text)
        text = re.sub(rf"\]\((\.\./)*examples/{folder}/(\w+)\.py\)", rf"](/{gallery}/\2.rst)", text)
    content[0] = text


def link_from_included(app: Any, file: Path, page: str, content: list[str]) -> None:
    """The same for links in the included files."""
    link_to_included(app, page, content)
    text = content[0].replace("[LICENSE](LICENSE)", "LICENSE")
    content[0] = text.replace("](docs/)", "](/index.md)").replace("](docs/", "](/")


def skip_inherited(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what scikit-learn's base classes add for its own machinery."""
    return True if name.endswith("_request") or name == "get_metadata_routing" else None


def resolve_sklearn(app: Any, env: Any, node: Any, content: Any) -> Any:
    """References to labels of scikit-learn's documentation stay plain text."""
    return content if node["reftype"] == "ref" and node["reftarget"] in SKLEARN_LABELS else None


def edit_written_pages(app: Any, page: str, template: str, context: dict[str, Any], document: Any) -> None:
    """Only pages that were written here, and not made from other files, have a link to edit them."""
    if page.split("/")[0] in {"generated", *GALLERIES.values()} or f"{page}.md" in INCLUDED.values():
        context["theme_use_edit_page_button"] = False


def without_source(app: Any, module: str, name: str) -> str | None:
    """No source for `summarize`: viewcode leads back to one module, and those on its page are in two."""
    return module if (module, name) == ("skgn", "summarize") else None


def setup(app: Any) -> None:
    """Connect the hooks."""
    app.connect("viewcode-follow-imported", without_source)
    app.connect("html-page-context", edit_written_pages)
    app.connect("source-read", link_to_included)
    app.connect("include-read", link_from_included)
    app.connect("autodoc-skip-member", skip_inherited)
    app.connect("missing-reference", resolve_sklearn)
