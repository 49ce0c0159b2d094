"""Draw ``docs/_static/modules.svg``, the modules in layers, from the table of ``docs/architecture.md``.

    python docs/_ext/draw_modules.py

Run it after a change of the table. ``tests/test_architecture.py`` compares the two.
"""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1]

#: The first module of each layer, and what the layer is called.
LAYERS = {
    "dask": "beside the estimators",
    "fitted": "estimators",
    "rows": "data and choices",
    "relevance": "a fit",
    "screening": "worth of members",
    "training": "training of a member",
    "evidence": "priors and directions",
    "memory": "memory and objective",
    "feedforward": "networks and losses",
    "target_scalers": "tables and scalings",
    "workers": "below all",
}

WIDTH, LEFT, RIGHT, HEIGHT, GAP = 920, 172, 874, 30, 8


def box(x: int, y: int, width: int, name: str, colour: str) -> str:
    """One module."""
    centre = x + width // 2
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="4" fill="#ffffff" stroke="{colour}" '
        f'stroke-width="1.5"/>\n<text x="{centre}" y="{y + 20}" text-anchor="middle" fill="#222222">{name}</text>'
    )


def rows_of(names: list[str]) -> list[list[tuple[int, int, str]]]:
    """Left edge, width and name of the boxes, in rows that fit the picture."""
    rows, x = [[]], LEFT
    for name in names:
        width = round(7.3 * len(name) + 18)
        if x + width > RIGHT:
            rows.append([])
            x = LEFT
        rows[-1].append((x, width, name))
        x += width + GAP
    return rows


def draw(modules: list[str]) -> str:
    """The picture of modules in the order of the table."""
    starts = [*map(modules.index, LAYERS), len(modules)]
    shades, parts, y = ("#eef4fa", "#f6f6f6"), [], 14
    for number, label in enumerate(LAYERS.values()):
        rows = rows_of(modules[starts[number] : starts[number + 1]])
        height = 16 + len(rows) * HEIGHT + (len(rows) - 1) * 7
        parts.append(f'<rect x="8" y="{y}" width="872" height="{height}" rx="5" fill="{shades[number % 2]}"/>')
        parts.append(f'<text x="18" y="{y + 28}" fill="#555555" font-size="12.5">{label}</text>')
        colour = "#2b7bb9" if number else "#f28e2b"
        parts += [
            box(x, y + 8 + row * (HEIGHT + 7), width, name, colour)
            for row, boxes in enumerate(rows)
            for x, width, name in boxes
        ]
        y += height + 8
    total = y + 6
    head = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" \
role="img" font-family="sans-serif" font-size="13">
<title>The modules of skgn in layers; imports go downwards, and within a layer to the right</title>
<rect width="{WIDTH}" height="{total}" rx="8" fill="#ffffff"/>"""
    arrow = f"""<path d="M 900 24 V {total - 30}" stroke="#555555" stroke-width="2"/>\
<path d="M 894 {total - 32} l 6 12 l 6 -12 z" fill="#555555"/>
<text transform="translate(894 {total / 2}) rotate(-90)" text-anchor="middle" fill="#555555" font-size="12.5">\
imports</text>
</svg>
"""
    return "\n".join([head, *parts, arrow])


if __name__ == "__main__":
    table = (DOCS / "architecture.md").read_text(encoding="utf-8")
    modules = [name for cell in re.findall(r"^\| (`.*?`) \|", table, re.M) for name in re.findall(r"`(\w+)`", cell)]
    (DOCS / "_static" / "modules.svg").write_text(draw(modules), encoding="utf-8")
