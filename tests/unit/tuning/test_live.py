"""Training shown as it goes."""

from __future__ import annotations

import importlib.util

import pyarrow.parquet as pq
import pytest

from layersight.errors import TrainingError
from layersight.tuning.live import Live, Record


def record(step: int) -> Record:
    return Record(step, 2.0 - step, 1e-4, 1e-3, 0.0, 0.5, 120, 12)


def test_the_file_grows_with_the_steps(tmp_path):
    live = Live("full/seed-0", tmp_path / "live.parquet", seconds=0.0)
    live.start()
    records = []
    for step in range(3):
        records.append(record(step))
        live.add(records)
        seen = pq.read_table(tmp_path / "live.parquet").to_pydict()
        assert seen["step"] == list(range(step + 1))
        assert seen["loss"] == [2.0 - s for s in range(step + 1)]
        assert min(seen["tokens_per_second"]) > 0 and min(seen["memory_mb"]) > 10
    assert [row["step"] for row in live.times] == [0, 1, 2]


def test_steps_of_an_earlier_job_have_no_times(tmp_path):
    live = Live("full/seed-0", tmp_path / "live.parquet", seconds=0.0)
    live.start()
    live.add([record(0), record(1)])
    seen = pq.read_table(tmp_path / "live.parquet").to_pydict()
    assert seen["step"] == [0, 1]
    assert seen["seconds"][0] is None and seen["seconds"][1] >= 0


def test_tensorboard_gets_the_steps_or_its_absence_is_said(tmp_path):
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(TrainingError, match=r"compute\.tensorboard: .* is not installed"):
            Live("full/seed-0", tensorboard=tmp_path / "board")
        return
    live = Live("full/seed-0", tensorboard=tmp_path / "board")
    live.start()
    live.add([record(0)])
    live.close([record(0)])
    assert list((tmp_path / "board").glob("events*"))
