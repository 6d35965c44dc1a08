"""Reading the results of a study from a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersight import artefacts
from layersight.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from layersight.geometry.graph import NeighbourGraph


_TABLES = artefacts.all_tables()


class Results:
    """The results of one study.

    Example:
        >>> results = layersight.open("results/mini")
        >>> results.table("scores").query("benchmark == 'kind_image'")
        >>> ids, vectors = results.activations("full/seed-0", "visual_questions", 15, "last")

    Args:
        folder: `results/<study>`.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: no such folder; run `make run` first")

    @property
    def tables(self) -> list[str]:
        """Names of the tables that exist."""
        return [name for name, path in _TABLES.items() if (self.folder / path).is_file()]

    def table(self, name: str) -> pd.DataFrame:
        """Return one of the study's tables as a pandas frame.

        Raises:
            DataError: no table of that name, or it has not been made yet.
        """
        from layersight.storage.tables import read_frame

        if name not in _TABLES:
            raise DataError(f"no table {name!r}; tables: {', '.join(_TABLES)}")
        return read_frame(self.folder / _TABLES[name])

    @property
    def subjects(self) -> list[str]:
        """Subjects whose activations are stored."""
        root = self.folder / "activations"
        found = {path.parents[1] for path in root.rglob("manifest.json")}
        return sorted(str(path.relative_to(root)) for path in found)

    def activations(
        self, subject: str, probe: str, layer: int, stream: str
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return item ids `(n,)` and vectors `(n, width)` float32 of one layer and stream."""
        from layersight.activations.store import ActivationStore

        path = artefacts.ACTIVATIONS_PROBE.format(subject=subject, probe=probe)
        return ActivationStore(self.folder / path).read(layer, stream)

    def neighbours(self, subject: str, probe: str, layer: int, stream: str) -> NeighbourGraph:
        """Return the nearest neighbours of one layer and stream, with distances.

        Raises:
            DataError: they have not been found yet.
        """
        from layersight.geometry.graph_store import GraphStore

        path = artefacts.NEIGHBOURS.format(subject=subject, probe=probe)
        return GraphStore(self.folder / path).read(layer, stream)

    def manifest(self, artefact: str) -> dict[str, Any]:
        """Return the manifest of an artefact's folder, for example `models/full/seed-0`."""
        from layersight.storage.manifest import read_manifest

        return read_manifest(self.folder / artefact / artefacts.MANIFEST)

    def __repr__(self) -> str:
        return f"Results({str(self.folder)!r}, tables={self.tables})"


def open_results(folder: Path | str) -> Results:
    """Open the results of a study, `results/<study>`."""
    return Results(folder)
