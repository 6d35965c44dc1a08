"""Training on conversations from elsewhere: LLaVA's JSON and a folder of pictures."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.torch import load_file

from layersight.data.features import FeatureStore
from layersight.data.llava_json import import_llava
from layersight.data.schemas import IMAGES
from layersight.errors import DataError
from layersight.models.stages import compute_features
from layersight.storage.tables import write_table
from layersight.study import Study
from layersight.tuning.stages import align, tune

ROWS, BATCH, STEPS = 10, 4, 5
COLOURS = ["red", "green", "blue", "white", "black"]


@pytest.fixture(scope="module")
def files(smoke, tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "pictures/a").mkdir(parents=True)
    entries = []
    for row in range(ROWS):
        entry = {"id": f"r{row}", "conversations": [{"from": "human", "value": "Which colour?"}]}
        if row % 3:
            entry["image"] = f"a/{row}.png"
            colour = COLOURS[row % len(COLOURS)]
            Image.new("RGB", (20 + row, 30), colour).save(folder / "pictures" / entry["image"])
            entry["conversations"][0]["value"] += "\n<image>"
        entry["conversations"].append({"from": "gpt", "value": "round"})
        entries.append(entry)
    (folder / "llava.json").write_text(json.dumps(entries))
    import_llava(folder / "llava.json", folder / "pictures", folder / "rows.parquet")
    # The study's own features, of no use to these rows.
    content = (folder / "pictures/a/1.png").read_bytes()
    size = smoke.concepts.image_size
    Image.open(folder / "pictures/a/1.png").resize((size, size)).save(folder / "own.png")
    content = (folder / "own.png").read_bytes()
    row = {"image_id": "x", "concept": "x", "style": "s", "image": {"bytes": content, "path": "x"}}
    write_table(folder / "images.parquet", [row], IMAGES)
    compute_features(
        smoke, images=folder / "images.parquet", weights=None, out=folder / "features.safetensors"
    )
    return SimpleNamespace(folder=folder, language_model=tiny_folder, smoke=smoke)


def study_of(files, **variant) -> Study:
    data = files.smoke.model_dump(mode="json")
    elsewhere = {
        "source": "llava",
        "file": str(files.folder / "llava.json"),
        "pictures": str(files.folder / "pictures"),
    }
    for stage in ("align", "tuning"):
        data[stage] |= {"steps": STEPS, "batch_size": BATCH, "data": elsewhere}
    data["variants"] = {"x": {"method": "full", **variant}}
    return Study.model_validate_json(json.dumps(data))


def run(files, study, out, **more):
    common = {
        "language_model": files.language_model,
        "conversations": files.folder / "rows.parquet",
        "features": files.folder / "features.safetensors",
    }
    align(study, out=out / "aligned", **common | more)
    tune(study, variant="x", seed=0, aligned=out / "aligned", out=out / "tuned", **common | more)
    return pq.read_table(out / "tuned/training.parquet").to_pandas()


def test_pictures_of_a_folder_are_trained_on_epoch_after_epoch(files, tmp_path):
    log = run(files, study_of(files), tmp_path)
    assert len(log) == STEPS and log["loss"].iloc[-1] < log["loss"].iloc[0]
    again = run(files, study_of(files), tmp_path / "again")
    assert again["loss"].tolist() == log["loss"].tolist()


def test_a_learning_encoder_learns_from_the_pictures_of_the_folder(files, tmp_path):
    study = study_of(files, train_vision=2)
    frozen = run(files, study_of(files), tmp_path / "frozen")
    aligned = {"aligned": tmp_path / "frozen/aligned"}
    tune(
        study,
        variant="x",
        seed=0,
        language_model=files.language_model,
        conversations=files.folder / "rows.parquet",
        features=files.folder / "features.safetensors",
        images=files.folder / "images.parquet",
        out=tmp_path / "tuned",
        **aligned,
    )
    log = pq.read_table(tmp_path / "tuned/training.parquet").to_pandas()
    assert log["loss"].iloc[0] == pytest.approx(frozen["loss"].iloc[0], abs=1e-6)
    assert log["loss"].iloc[-1] != frozen["loss"].iloc[-1]
    assert (log["vision_learning_rate"].iloc[1:] > 0).all()
    learned = load_file(tmp_path / "tuned/vision_encoder.safetensors")
    assert any(name.startswith("_blocks.15.") for name in learned)
    assert FeatureStore.load(tmp_path / "tuned/features.safetensors").tokens == 4


def test_fewer_rows_than_a_batch_are_refused(files, tmp_path):
    few = pq.read_table(files.folder / "rows.parquet").slice(0, 3)
    pq.write_table(few, tmp_path / "few.parquet")
    with pytest.raises(DataError, match="has 3 rows, less than a batch of 4"):
        align(
            study_of(files),
            language_model=files.language_model,
            conversations=tmp_path / "few.parquet",
            features=files.folder / "features.safetensors",
            out=tmp_path / "aligned",
        )
    assert not (tmp_path / "aligned").exists()


def test_a_picture_that_is_gone_is_named(files, tmp_path):
    (files.folder / "pictures/a/4.png").rename(files.folder / "pictures/a/moved.png")
    try:
        with pytest.raises(DataError, match=r"the picture a/4\.png is missing"):
            run(files, study_of(files), tmp_path)
    finally:
        (files.folder / "pictures/a/moved.png").rename(files.folder / "pictures/a/4.png")
    assert not (tmp_path / "aligned").exists()
