"""Draw what `benchmarks.promotion --full` measured as images for the documentation.

python -m benchmarks.promotion_plots    reads benchmarks/results/promotion.json, writes docs/images/promotion_*.svg
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.promotion import DAYS, MEASURED, RISK, ROOT, RULES
from benchmarks.promotion_months import MONTH

IMAGES = ROOT / "docs" / "images"
_COLOURS = ("#9aa5b1", "#52606d", "#d97706", "#b91c1c", "#7c3aed", "#0f766e")
_LEFT, _WIDTH, _ROW = 330, 900, 22
_POWER_OF = "45 frauds a day"
_LINES = ("maturity 7 days", "maturity 7 days, refit", "maturity 4 days", "today")

Measured = Mapping[str, Mapping[str, Mapping[str, Any]]]


def false_promotions(data: Measured) -> str:
    """Per null a row with a dot for each rule, on a line from 0 to 100 % of the months."""
    rows = list(data["nulls"].items())
    width, bottom = _WIDTH - _LEFT - 30, 60 + _ROW * len(rows)
    parts = [*_legend(RULES), *_scale(width, 50, bottom)]
    limit = _LEFT + RISK * width
    parts.append(f'<path d="M{limit:.1f} 50V{bottom}" stroke="#b91c1c" stroke-dasharray="4 3"/>')
    for place, (name, counts) in enumerate(rows):
        y = 66 + place * _ROW
        parts.append(_text(_LEFT - 12, y + 4, name, "end"))
        for colour, rule in zip(_COLOURS, RULES, strict=True):
            share = counts[rule] / counts["months"]
            parts.append(f'<circle cx="{_LEFT + share * width:.1f}" cy="{y}" r="5" fill="{colour}"/>')
    return _svg("Months with a false promotion, by rule", bottom + 30, parts)


def power(data: Measured) -> str:
    """Per gain a bar: the share of months in which it was promoted within each of `DAYS`."""
    rows = [(name, gain) for name, gain in data["gains"].items() if name.endswith(_POWER_OF)]
    width, bottom = _WIDTH - _LEFT - 30, 60 + _ROW * len(rows)
    colours = _COLOURS[2:]
    parts = [*_legend([f"{days} d" for days in DAYS], colours)]
    parts += _scale(width, 50, bottom)
    for place, (name, gain) in enumerate(rows):
        y = 58 + place * _ROW
        parts.append(_text(_LEFT - 12, y + 12, name.removesuffix(f", {_POWER_OF}"), "end"))
        for days, colour in reversed(list(zip(DAYS, colours, strict=False))):
            share = sum(hours <= 24 * days for hours in gain["hours"]) / gain["months"]
            parts.append(f'<rect x="{_LEFT}" y="{y}" width="{share * width:.1f}" height="14" fill="{colour}"/>')
    return _svg(f"Promoted within {DAYS[0]} to {MONTH} days, by gain in average precision", bottom + 30, parts)


def drift(data: Measured) -> str:
    """The share of the new pattern that the serving model sees, from the hour at which it appears."""
    left, width, top, height = 60, _WIDTH - 90, 50, 260
    reactions = [data["reactions"][name] for name in _LINES]
    lines = [*(one["served"] for one in reactions), reactions[0]["best"]]
    parts = [*_legend((*_LINES, "best model that can be trained"), left=left)]
    for values, colour in zip(lines, _COLOURS, strict=False):
        places = ((left + place / (len(values) - 1) * width, value) for place, value in enumerate(values))
        points = " ".join(f"{x:.1f},{top + (1 - value) * height:.1f}" for x, value in places)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    days = len(lines[0]) * reactions[0]["look_every"] / 24
    for day in range(0, round(days) + 1, 10):
        parts.append(_text(left + day / days * width, top + height + 18, f"day {day}"))
    for share in (0, 0.5, 0.8, 1):
        parts.append(_text(left - 8, top + (1 - share) * height + 4, f"{share:.0%}", "end"))
    return _svg("Share of a new fraud pattern that the serving model sees", top + height + 34, parts)


def _legend(names: Sequence[str], colours: Sequence[str] = _COLOURS, left: int = 20) -> Iterator[str]:
    step = (_WIDTH - left - 20) / len(names)
    for place, (name, colour) in enumerate(zip(names, colours, strict=False)):
        x = left + place * step
        yield f'<circle cx="{x:.0f}" cy="36" r="5" fill="{colour}"/>'
        yield _text(x + 9, 40, name, "start")


def _scale(width: int, top: int, bottom: int) -> Iterator[str]:
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = _LEFT + share * width
        yield f'<path d="M{x:.1f} {top}V{bottom}" stroke="#d9dee4"/>'
        yield _text(x, bottom + 16, f"{share:.0%}")


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    """The image on white, so that it can be read in a dark theme, too."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"'
    body = "\n".join(parts)
    heading = f'<text x="20" y="20" font-size="15" font-weight="bold">{escape(title)}</text>'
    return f'{head} font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n{heading}\n{body}\n</svg>\n'


IMAGE_OF = {"promotion_false.svg": false_promotions, "promotion_power.svg": power, "promotion_drift.svg": drift}


def write_images(measured: Path, folder: Path) -> None:
    """Write the images of a file that the benchmark wrote."""
    data = json.loads(measured.read_text(encoding="utf-8"))
    for name, draw in IMAGE_OF.items():
        (folder / name).write_text(draw(data), encoding="utf-8")


if __name__ == "__main__":
    write_images(MEASURED, IMAGES)
