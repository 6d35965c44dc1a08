"""What a study says of weights that others have tuned and released."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from layersight.strict import Strict
from layersight.study_backbone import HubId, Revision


class Released(Strict):
    """A checkpoint that others have released, on the Hugging Face hub or in a local folder."""

    source: Literal["hub", "folder"]
    """`hub`: `id` at the commit `revision`. `folder`: `path`."""
    id: HubId | None = None
    """Name on the hub, `organisation/model`."""
    revision: Revision | None = None
    """The commit, 40 hexadecimal digits; branches and tags can move."""
    path: Annotated[str, Field(min_length=1)] | None = None
    """The folder, with config.json and the weights."""

    @model_validator(mode="after")
    def _named(self) -> Released:
        wanted = ("id", "revision") if self.source == "hub" else ("path",)
        for key in ("id", "revision", "path"):
            if key in wanted and getattr(self, key) is None:
                more = ": the commit, 40 hexadecimal digits" if key == "revision" else ""
                raise ValueError(f"{key}: required with source {self.source}{more}")
            if key not in wanted and getattr(self, key) is not None:
                raise ValueError(f"{key}: is no key of the source {self.source}")
        return self

    @property
    def words(self) -> str:
        """Which checkpoint it is, for people."""
        if self.source == "hub":
            return f"{self.id} at the commit {self.revision}"
        return f"the folder {self.path}"


class ReleasedConnector(Released):
    """A connector that others have trained: LLaVA's `mm_projector.bin`, or the connector inside a
    whole LLaVA checkpoint."""
