"""A vision-language model that others have tuned and released: nothing is trained here."""

from __future__ import annotations

from typing import Literal

from layersight.study_released import Released

TRAINS = False
"""There is no stage 2: the subject is taken from a checkpoint."""


class Options(Released):
    """The released model, compared with the study's base language model; see docs/released.md.
    Its subject is `<variant>/seed-0`, however many `seeds` the other variants have.
    """

    inputs: Literal["all", "text"] = "all"
    """`all`: pictures too, through the model's own connector, and vision encoder if it is not the
    study's. `text`: the language model alone, on text; for models that read pictures in a way that
    the assembled model cannot."""
