"""The figures of `gpu.py` as Markdown: one section a device, in docs/performance.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NONE = "none"
_SECTION = re.compile(r"<!-- gpu: (?P<name>.*?) -->\n(?P<text>.*?)<!-- /gpu -->\n", re.DOTALL)


@dataclass(frozen=True)
class Figure:
    """What was measured, and what was found."""

    name: str
    found: str


def page(versions: str, day: str, figures: Sequence[Figure]) -> str:
    """Return the table of one device."""
    rows = "".join(f"| {figure.name} | {figure.found} |\n" for figure in figures)
    return f"{day}, {versions}.\n\n| measurement | found |\n|---|---|\n{rows}"


def write(path: Path, device: str, text: str) -> None:
    """Put a device's section into a page, in place of its last one; others stay.

    Args:
        path: with at least one section, `<!-- gpu: NAME -->` to `<!-- /gpu -->`. The section `none`
            says that no device has been measured, and goes.
        device: its name.
        text: Markdown.

    Raises:
        ValueError: the page has no section.
    """
    before = path.read_text(encoding="utf-8")
    found = list(_SECTION.finditer(before))
    if not found:
        raise ValueError(f"{path}: has no section <!-- gpu: ... --> to put figures into")
    sections = {match["name"]: match["text"] for match in found if match["name"] != NONE}
    sections[device] = f"### {device}\n\n{text}"
    made = "\n".join(
        f"<!-- gpu: {name} -->\n{sections[name]}<!-- /gpu -->\n" for name in sorted(sections)
    )
    head, tail = before[: found[0].start()], before[found[-1].end() :]
    path.write_text(head + made + tail, encoding="utf-8")
