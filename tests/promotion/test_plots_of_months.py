"""The images of the promotion rule's evidence."""

import json
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.promotion import RULES
from benchmarks.promotion_months import PROPOSED
from benchmarks.promotion_plots import IMAGE_OF, write_images

SVG = "{http://www.w3.org/2000/svg}"
LINES = ("maturity 7 days", "maturity 7 days, refit", "maturity 4 days", "today")


def _images(folder: Path, promoted: int, hours: list[int]) -> dict[str, ElementTree.Element]:
    line = {"look_every": 6, "served": [0.0, 0.5, 1.0], "best": [0.2, 0.6, 1.0]}
    data = {
        "nulls": {"loses < 5%": {"months": 400} | dict.fromkeys(RULES, 0) | {PROPOSED: promoted}},
        "gains": {"0.100 uniform, 45 frauds a day": {"months": 4, "hours": hours}},
        "reactions": dict.fromkeys(LINES, line),
    }
    (folder / "measured.json").write_text(json.dumps(data), encoding="utf-8")
    write_images(folder / "measured.json", folder)
    return {name: ElementTree.parse(folder / name).getroot() for name in IMAGE_OF}  # noqa: S314


def test_an_image_shows_what_was_measured(tmp_path: Path) -> None:
    """Fails when the documentation shows a rule as safer or faster than it was measured to be."""
    images = _images(tmp_path, promoted=200, hours=[20, 100, 400])
    circles = images["promotion_false.svg"].iter(f"{SVG}circle")
    dots = {float(one.attrib["cx"]) for one in circles if one.get("cy") == "66"}
    assert dots == {330.0, 600.0}  # none, and half of the months
    bars = [float(one.attrib["width"]) for one in images["promotion_power.svg"].iter(f"{SVG}rect") if one.get("x")]
    assert bars == [405.0, 270.0, 270.0, 135.0]  # within 30, 14, 7 days and one day
    line = next(images["promotion_drift.svg"].iter(f"{SVG}polyline"))
    assert [point.split(",")[1] for point in line.attrib["points"].split()] == ["310.0", "180.0", "50.0"]


def test_a_name_with_a_sign_of_xml_is_shown(tmp_path: Path) -> None:
    """Fails when the name of a null breaks the image."""
    words = [one.text for one in _images(tmp_path, 0, [])["promotion_false.svg"].iter(f"{SVG}text")]
    assert "loses < 5%" in words
