"""Check the page that a package index makes of a wheel: `python .ci/check_description.py dist/*.whl`.

The page and README.md are rendered by the renderer of the index. Both have the same words, and no picture or link of
the page is relative. Those into the project's own source name the tag of the version, and a file of this checkout.
"""

from __future__ import annotations

import sys
from email import message_from_bytes
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from zipfile import ZipFile

from readme_renderer import markdown

ROOT = Path(__file__).parents[1]


class Page(HTMLParser):
    """The words, the links and the sections of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.sections: set[str] = set()
        self.feed(markdown.render(text) or sys.exit("The description cannot be rendered."))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where a link leads to, and what a picture shows."""
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        self.words += [value or "" for name, value in attrs if name == "alt"]
        self.sections |= {f"#{value}" for name, value in attrs if name == "id"}

    def handle_data(self, data: str) -> None:
        """Note what is to be read."""
        self.words += data.split()


def problems(wheel: Path) -> list[str]:
    """Sentences about what is wrong with the description of a wheel."""
    with ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    urls = dict(entry.split(", ", 1) for entry in metadata.get_all("Project-URL", []))
    page = Page(metadata.get_payload(decode=True).decode("utf-8"))
    readme = Page((ROOT / "README.md").read_text(encoding="utf-8"))
    found = [] if page.words == readme.words else ["The description has other words than README.md."]
    folders = tuple(f"{urls['Source']}/{kind}/v{metadata['Version']}/" for kind in ("blob", "raw"))
    for link in page.links:
        parts = urlsplit(link)
        if link.startswith("#"):
            found += [] if link in page.sections else [f"No such section: {link}"]
        elif not parts.scheme:
            found.append(f"A relative link: {link}")
        elif link.startswith(folders):
            file = unquote(parts.path).split(f"/v{metadata['Version']}/", 1)[1]
            found += [] if (ROOT / file).exists() else [f"No such file in the checkout: {link}"]
        elif link.startswith(urls["Source"]) and link not in urls.values():
            found.append(f"A link into the source without the tag of version {metadata['Version']}: {link}")
    return found


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    print("\n".join(wrong) or "The description reads as README.md, and each of its links is absolute.")
    sys.exit(bool(wrong))
