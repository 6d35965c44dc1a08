from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from layersight.reporting.style import OKABE_ITO, layer_ticks, looks, save, styled


def test_eight_variants_have_eight_colours_none_of_them_those_of_base_and_aligned() -> None:
    found = looks([f"v{index}" for index in range(8)])
    assert len({look.color for look in found.values()}) == 10


def test_no_two_of_thirty_subjects_look_the_same() -> None:
    found = looks([f"v{index}" for index in range(28)])
    assert len({(look.color, look.marker, str(look.linestyle)) for look in found.values()}) == 30


def test_a_further_variant_leaves_the_looks_of_the_others() -> None:
    assert looks(["full", "lora"])["full"] == looks(["full", "lora", "adapter"])["full"]


def test_colours_stay_apart_in_lightness_or_hue() -> None:
    values = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in OKABE_ITO]
    for index, first in enumerate(values):
        for second in values[index + 1 :]:
            assert sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) ** 0.5 > 50


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    def one(folder: Path) -> list[bytes]:
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([1, 2], [3, 4], label="a")
        return [path.read_bytes() for path in save(figure, folder, "figure")]

    first, second = one(tmp_path / "a"), one(tmp_path / "b")
    assert first == second
    assert b"CreationDate" not in first[1]


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    before = dict(mpl.rcParams)

    @styled
    def draw() -> Figure:
        assert mpl.rcParams["font.size"] == 8
        return Figure()

    draw()
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("last", [1, 2, 4, 12, 24, 30, 32, 80])
def test_layer_ticks_are_few_and_hold_both_ends(last: int) -> None:
    ticks = layer_ticks(last)
    assert ticks[0] == 0
    assert ticks[-1] == last
    assert len(ticks) <= 10
