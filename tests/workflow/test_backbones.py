"""Backbones from folders and from the hub's cache, through the whole workflow."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from tests.unit.data.hub_cache import as_hub_cache
from tests.unit.models import tiny_checkpoints as tiny
from tests.workflow.conftest import Checkout, copy_of_repository
from transformers import AutoModelForCausalLM

import layersight
from layersight.data.rows import tokenized_rows
from layersight.models.checkpoints import language_shape, vision_shape
from layersight.models.language import load_language_model
from layersight.study import Study
from layersight.study_file import load_study

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
LORA = {"method": "lora", "layers": [1, 3], "options": {"r": 2, "lora_alpha": 4}}
FULL = {"method": "full"}
QUERIES = {"queries": 3, "heads": 2, "size": 16}


@dataclass(frozen=True)
class Combination:
    """A backbone and how it is tuned.

    Attributes:
        language: family of the language model.
        vision: family of the vision encoder.
        connector: as a study says it.
        variant: of stage 2.
        tokens: image tokens of a picture.
        backbone: further keys of the study's backbone.
        encoder: further keys of its vision encoder.
        made: how the tiny language model is made.
        whole: whether the vision encoder comes with the half that reads words.
    """

    language: str
    vision: str
    connector: dict[str, Any]
    variant: dict[str, Any]
    tokens: int = (tiny.SIDE // tiny.PATCH) ** 2
    backbone: dict[str, Any] = field(default_factory=dict)
    encoder: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    whole: bool = False

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Save both checkpoints."""
        # The identity carries features that are as wide as the language model.
        width = tiny.WIDTH if self.connector["kind"] == "identity" else 24
        return (
            tiny.write_language_model(
                folder / "llm", self.language, max_position_embeddings=512, **self.made
            ),
            tiny.write_vision_encoder(
                folder / "vision", self.vision, width=width, whole=self.whole
            ),
        )


COMBINATIONS = [
    Combination("llama", "clip", {"kind": "mlp", "layers": 3}, FULL,
                made={"shard": "20KB"}, whole=True),
    Combination("mistral", "siglip", {"kind": "linear"}, LORA, whole=True),
    Combination("qwen2", "dinov2", {"kind": "qformer", **QUERIES}, FULL, tokens=3),
    Combination("qwen3", "clip", {"kind": "resampler", **QUERIES}, LORA, tokens=3),
    Combination("phi", "siglip", {"kind": "identity", "normalise": False}, FULL),
    Combination("phi3", "dinov2", {"kind": "identity"}, LORA,
                encoder={"select_layer": -1}),
    Combination("gemma", "clip", {"kind": "mlp2x_gelu", "normalise": False}, FULL,
                backbone={"image_shape": "pad"}),
    Combination("gemma2", "siglip", {"kind": "linear"}, LORA,
                backbone={"template": "v1"}, made={"chat": False}),
    Combination("stablelm", "clip", {"kind": "resampler", **QUERIES, "layers": 1},
                {**FULL, "layers": [1, 3], "train_vision": 1}, tokens=3,
                encoder={"select_feature": "cls_patch"}),
]  # fmt: skip


def write_study(folder: Path, name: str, one: Combination, **parts: Any) -> None:
    """Write the study of a combination: one variant, and less of everything than `smoke` has."""
    encoder = parts.pop("vision_encoder")
    data = {
        "extends": "smoke",
        "name": name,
        "backbone": {
            "language_model": parts.pop("language_model"),
            "vision_encoder": encoder | one.encoder,
            "connector": one.connector,
            **one.backbone,
        },
        "align": {"steps": 3},
        "tuning": {"steps": 3},
        "variants": {"full": None, "lora-1-3": None, "tuned": one.variant},
        "patching": {"sweeps": [{"kind": "sliding", "stride": 1, "width": 2}]},
        **parts,
    }
    text = yaml.safe_dump(json.loads(json.dumps(data)))
    (folder / f"config/studies/{name}.yaml").write_text(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose cache the studies of this module share."""
    return copy_of_repository(tmp_path_factory.mktemp("backbones") / "layersight")


@torch.inference_mode()
def check_text(study: Study, llm: Path, root: Path) -> None:
    """Compare what the workflow stored of the base model with what transformers computes."""
    _, tokenizer = load_language_model(llm, dtype=torch.float32)
    table = root / "data/probes/pair_texts.parquet"
    rows, images = tokenized_rows(study, table, tokenizer, 0)
    assert not any(images)
    model = AutoModelForCausalLM.from_pretrained(llm, attn_implementation="eager").eval()
    items = pq.read_table(table).column("item_id").to_pylist()
    hidden = {
        item: model(torch.tensor([row.input_ids]), output_hidden_states=True).hidden_states
        for item, row in zip(items, rows, strict=True)
    }
    results = layersight.open(root)
    for layer in range(tiny.LAYERS):
        ids, stored = results.activations("base", "pair_texts", layer, "last")
        theirs = torch.stack([hidden[item][layer][0, -1] for item in ids])
        assert theirs.std() > 0.1
        assert torch.allclose(torch.from_numpy(stored.copy()), theirs, atol=1e-4), layer


def check_run(study: Study, root: Path, tokens: int) -> None:
    """Look at what the whole workflow left behind."""
    results = layersight.open(root)
    assert results.subjects == ["aligned", "base", "tuned/seed-0"]
    _, vectors = results.activations("tuned/seed-0", "pair_images", tiny.LAYERS, "image_mean")
    assert vectors.shape == (24, tiny.WIDTH) and vectors.std() > 0
    change = results.table("weight_change")
    chosen = study.blocks("tuned") or range(tiny.LAYERS)
    moved = set(change[change["relative_change"] > 0]["block"])
    assert moved == set(chosen)
    assert set(results.table("scores")["subject"]) == {"aligned", "base", "tuned/seed-0"}
    sweep = json.loads((root / "patching/tuned/seed-0/manifest.json").read_text())
    assert sweep["identities"] == "exact"
    assert study.backbone.image_tokens == tokens
    assert f"{tokens} image tokens" in (root / "report/index.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("one", COMBINATIONS, ids=lambda one: f"{one.language}-{one.vision}")
def test_a_backbone_from_folders_runs_from_nothing_to_the_report(made, one, monkeypatch):
    place = Path("checkpoints") / one.language
    llm, _ = one.write(made.folder / place)
    name = f"with-{one.language}"
    write_study(
        made.folder, name, one,
        # One relative to the clone, one from anywhere.
        language_model={"source": "folder", "path": str(place / "llm")},
        vision_encoder={"source": "folder", "path": str(made.folder / place / "vision")},
    )  # fmt: skip
    done = made.snakemake("--cores", "2", study=name)
    assert done.returncode == 0, done.stdout[-6000:]
    monkeypatch.chdir(made.folder)
    study = load_study(Path(f"config/studies/{name}.yaml"))
    root = made.folder / "results" / name
    check_run(study, root, one.tokens)
    check_text(study, llm, root)


def hub_parts(made: Checkout, one: Combination) -> dict[str, Any]:
    """Put both checkpoints into a cache of the hub; return them as a study names them."""
    cache = made.folder / "hf/hub"
    llm, vision = one.write(made.folder / "published")
    parts = {}
    for key, folder, name, shape in (
        ("language_model", llm, "someone/words", language_shape),
        ("vision_encoder", vision, "someone/pictures", vision_shape),
    ):
        as_hub_cache(folder, cache, name, COMMIT)
        family, sizes = shape(folder)
        parts[key] = {
            "source": "hub", "id": name, "revision": COMMIT, "family": family, "shape": sizes,
        }  # fmt: skip
    made.variables |= {"HF_HOME": str(made.folder / "hf"), "HF_HUB_OFFLINE": "1"}
    return parts


def check_fetched(made: Checkout) -> None:
    """Both models lie in the cache that studies share, with where they came from."""
    for part in ("words", "pictures"):
        fetched = made.folder / f"cache/models/someone--{part}-{COMMIT[:12]}"
        record = json.loads((fetched / "layersight-model.json").read_text())
        assert record["revision"] == COMMIT and not record["converted_from_pickle"]


def test_a_backbone_of_the_hub_is_trained_read_and_patched_offline(fresh, monkeypatch):
    one = Combination("llama", "clip", {"kind": "mlp2x_gelu"}, LORA)
    write_study(
        fresh.folder, "published", one, **hub_parts(fresh, one),
        probes={"sets": ["pair_images", "pair_texts"]},
        patching={"items": 2, "sweeps": [{"kind": "cumulative", "stride": 2}]},
    )  # fmt: skip
    done = fresh.snakemake("--cores", "2", "activations", "patching", study="published")
    assert done.returncode == 0, done.stdout[-6000:]
    check_fetched(fresh)
    root = fresh.folder / "results/published"
    sweep = json.loads((root / "patching/tuned/seed-0/manifest.json").read_text())
    assert sweep["identities"] == "exact"
    monkeypatch.setenv("LAYERSIGHT_CACHE", str(fresh.folder / "cache"))
    study = load_study(fresh.folder / "config/studies/published.yaml")
    check_text(study, fresh.folder / "published/llm", root)


@pytest.mark.slow
def test_a_backbone_of_the_hub_runs_offline_from_nothing_to_the_report(fresh, monkeypatch):
    one = Combination("qwen3", "siglip", {"kind": "mlp2x_gelu"}, FULL, whole=True)
    write_study(fresh.folder, "published", one, **hub_parts(fresh, one))
    done = fresh.snakemake("--cores", "2", study="published")
    assert done.returncode == 0, done.stdout[-6000:]
    check_fetched(fresh)
    monkeypatch.setenv("LAYERSIGHT_CACHE", str(fresh.folder / "cache"))
    study = load_study(fresh.folder / "config/studies/published.yaml")
    check_run(study, fresh.folder / "results/published", one.tokens)
    report = (fresh.folder / "results/published/report/index.html").read_text()
    assert f"someone/words at the commit {COMMIT}" in report
    again = fresh.snakemake("--cores", "2", study="published")
    assert "Nothing to be done" in again.stdout


@pytest.mark.slow
def test_a_model_that_is_in_no_cache_is_asked_for_by_name_where_there_is_no_network(fresh):
    one = Combination("llama", "clip", {"kind": "linear"}, LORA)
    parts = hub_parts(fresh, one)
    parts["vision_encoder"]["revision"] = COMMIT[::-1]
    write_study(fresh.folder, "published", one, **parts)
    done = fresh.snakemake("--cores", "2", "features", study="published")
    assert done.returncode != 0
    assert "fetch_model: someone/pictures: could not be fetched from the hub" in done.stdout
    assert f"hf download someone/pictures --revision {COMMIT[::-1]}" in done.stdout
    assert "Traceback" not in done.stdout


GEMMA = {"source": "hub", "id": "google/gemma-2b-it", "revision": COMMIT}


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (
            {"language_model": {"source": "hub", "id": "lmsys/vicuna-7b-v1.5"}},
            "backbone.language_model.revision: required: the commit of lmsys/vicuna-7b-v1.5",
        ),
        (
            {"language_model": GEMMA},
            "backbone.language_model: google/gemma-2b-it is gated: ask for access",
        ),
        (
            {"language_model": {"source": "folder", "path": "vision"}},
            "model_type is 'clip_vision_model', which is no language model known here",
        ),
        (
            {
                "vision_encoder": {"source": "folder", "path": "vision"},
                "connector": {"kind": "identity"},
            },
            "the identity carries no 24 channels of the vision encoder into a language model of "
            "width 48",
        ),
    ],
)
def test_a_backbone_that_cannot_be_is_one_message_before_any_job(fresh, backbone, message):
    tiny.write_vision_encoder(fresh.folder / "vision", "clip")
    data = {"extends": "smoke", "name": "wrong", "backbone": backbone}
    (fresh.folder / "config/studies/wrong.yaml").write_text(yaml.safe_dump(data))
    nowhere = str(fresh.folder / "none")
    fresh.variables |= {"HF_TOKEN": "", "HF_TOKEN_PATH": nowhere, "HF_HOME": nowhere}
    done = fresh.snakemake("--cores", "2", study="wrong")
    assert done.returncode != 0
    assert message in done.stdout, done.stdout[-2000:]
    assert "config/studies/wrong.yaml" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (fresh.folder / "results").exists()
