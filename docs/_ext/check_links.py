"""Check the links of built pages: `python check_links.py docs/_build/html`.

Every local ``href`` and ``src`` has to lead to a file, every fragment to an id there, and nothing that a page needs to
be drawn (script, style, picture) may come from the network.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The ids and links of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag names and leads to."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.append((tag, value))


def problems(root: Path) -> list[str]:
    """Sentences about every broken link below a folder."""
    pages = {path.resolve(): Page(path) for path in sorted(root.rglob("*.html")) if "_static" not in path.parts}
    found = []
    for path, page in pages.items():
        for tag, link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                # A link to be followed may lead anywhere.
                if tag != "a" and parts.scheme != "data":
                    found.append(f"{path.relative_to(root.resolve())}: <{tag}> needs the network: {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{path.relative_to(root.resolve())}: no file for {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                found.append(f"{path.relative_to(root.resolve())}: no such place: {link}")
    return found


if __name__ == "__main__":
    broken = problems(Path(sys.argv[1]))
    print("\n".join(broken) or "All links lead somewhere.")
    sys.exit(bool(broken))
