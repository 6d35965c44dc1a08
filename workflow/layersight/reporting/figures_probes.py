"""Figure of linear probes: what can be read off a layer, within a modality and across."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from layersight.reporting.figures_cross_modal import pairing_title, pairings
from layersight.reporting.figures_grid import Row, line_grid
from layersight.reporting.figures_layers import rows_of
from layersight.reporting.lineup import Lineup
from layersight.reporting.style import styled

CASES = {
    ("image", "image"): "image → image",
    ("text", "text"): "text → text",
    ("image", "text"): "image → text",
    ("text", "image"): "text → image",
}
ROWS = (
    Row("accuracy", "accuracy", guide="majority", floor=0.0),
    Row("selectivity", "selectivity", floor=0.0),
)


def probe_pairing(frame: pd.DataFrame) -> tuple[tuple[str, str, str], pd.DataFrame]:
    """Return the pair and streams that are drawn, and their rows, each modality on its own scale.

    The first pairing stands for all: the concepts, at the last token if that is read.
    """
    pairing = pairings(frame)[0]
    pair, stream_image, stream_text = pairing
    rows = rows_of(frame, pair=pair, stream_image=stream_image, stream_text=stream_text)
    return pairing, rows_of(rows, scaling="own")


@styled
def linear_probes(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Accuracy and selectivity of probes, one column a pair of training and test modality.

    Args:
        frame: the table `linear_probes`.
        lineup: the subjects.
    """
    pairing, rows = probe_pairing(frame)
    columns = [
        (title, rows_of(rows, train=train, test=test)) for (train, test), title in CASES.items()
    ]
    return line_grid(
        columns,
        ROWS,
        lineup,
        guide="always the commonest class",
        row_height=1.7,
        title=f"{pairing_title(*pairing).replace(chr(10), ', ')}: trained on → tested on",
    )
