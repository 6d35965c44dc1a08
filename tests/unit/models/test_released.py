"""Released models as subjects: the same numbers as transformers', and refusals by name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.unit.models import released_checkpoints as rel
from tests.unit.models import tiny_checkpoints as tiny
from tests.unit.models.test_llava_hf import both_inputs
from transformers import LlavaForConditionalGeneration

from layersight import cost
from layersight.data.features import FeatureStore
from layersight.data.schemas import IMAGES
from layersight.errors import AssetError, StudyError
from layersight.interventions.hybrid import Hybrid, run_hybrids
from layersight.models.deltas import FEATURES, TENSORS, VISION, apply_delta, load_connector
from layersight.models.language import load_language_model
from layersight.models.released_weights import write_difference
from layersight.models.stages import compute_features
from layersight.models.subjects import load_subject
from layersight.models.vlm import VisionLanguageModel
from layersight.storage.manifest import read_manifest
from layersight.storage.tables import write_table
from layersight.tuning.released import take_connector, take_released

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def images(tmp_path):
    """A table of the tests' pictures."""
    rows = [
        {
            "image_id": str(number), "concept": "c", "style": "s",
            "image": {"bytes": tiny.png(pixels), "path": f"{number}.png"},
        }
        for number, pixels in enumerate(tiny.pictures())
    ]  # fmt: skip
    write_table(tmp_path / "images.parquet", rows, IMAGES)
    return tmp_path / "images.parquet"


def take(study, parts, kind, out, images=None):
    take_released(
        study, variant="pair", language_model=parts / "base", checkpoint=parts / kind, out=out,
        images=images, vision_weights=parts / "clip",
    )  # fmt: skip
    return read_manifest(out / "manifest.json")


def subject(study, parts, stage, name="pair/seed-0"):
    return load_subject(study, name, language_model=parts / "base", stage=stage).model


@torch.inference_mode()
def logits_of(model, inputs, vocabulary):
    return model(**inputs).logits[..., :vocabulary]


@pytest.mark.parametrize("kind", ["kept", "tuned"])
def test_a_released_llava_gives_the_logits_that_transformers_gives(
    tmp_path, parts, load, images, kind
):
    study = load(kind)
    record = take(study, parts, kind, tmp_path / "out", images)
    compute_features(study, images=images, weights=parts / "clip", out=tmp_path / "features")
    # A vision encoder of its own brings its own features; a kept one reads the study's.
    assert (tmp_path / "out" / FEATURES).is_file() == (kind == "tuned")
    assert bool(record["trainable_vision"]) == (kind == "tuned")
    own = tmp_path / "out" / FEATURES if kind == "tuned" else tmp_path / "features"
    theirs = LlavaForConditionalGeneration.from_pretrained(parts / kind)
    inputs, batch = both_inputs(parts / kind, tiny.pictures())
    batch = replace(batch, pixels=None, features=FeatureStore.load(own).take(["0", "1"]))
    model = subject(study, parts, tmp_path / "out")
    vocabulary = model.language_model.config.vocab_size
    assert record["vocabulary"] == {
        "base": vocabulary, "released": vocabulary + 4, "taken": vocabulary
    }  # fmt: skip
    expected = logits_of(theirs, inputs, vocabulary)
    seen = batch.attention_mask.bool()
    with torch.inference_mode():
        ours = model.head(model.hidden(batch))
    assert expected[seen].std() > 0.1
    assert float((ours[seen] - expected[seen]).abs().max()) < 1e-5


def test_all_blocks_embeddings_norm_and_head_patched_into_the_base_give_the_released_model(
    tmp_path, parts, load, images
):
    study = load()
    take(study, parts, "kept", tmp_path / "out")
    take_connector(study, checkpoint=parts / "projector", out=tmp_path / "aligned")
    compute_features(study, images=images, weights=parts / "clip", out=tmp_path / "features")
    tuned = subject(study, parts, tmp_path / "out")
    aligned = subject(study, parts, tmp_path / "aligned", "aligned")
    inputs, batch = both_inputs(parts / "kept", tiny.pictures())
    features = FeatureStore.load(tmp_path / "features").take(["0", "1"])
    batch = replace(batch, pixels=None, features=features)
    blocks, everything = run_hybrids(
        aligned, tuned, batch,
        [Hybrid(0, tiny.LAYERS), Hybrid(0, tiny.LAYERS, "donor", "donor")],
    )  # fmt: skip
    theirs = LlavaForConditionalGeneration.from_pretrained(parts / "kept")
    expected = logits_of(theirs, inputs, everything.shape[-1])[:, -1]
    assert torch.allclose(everything, expected, atol=1e-5)
    assert not torch.allclose(blocks, expected, atol=1e-2)
    # By hand: what patching leaves in its place, taken as well.
    model, donor = aligned.language_model, tuned.language_model
    model.model.embed_tokens, model.model.norm = donor.model.embed_tokens, donor.model.norm
    model.lm_head = donor.lm_head
    by_hand = VisionLanguageModel(model, tuned.connector)
    (result,) = run_hybrids(by_hand, tuned, batch, [Hybrid(0, tiny.LAYERS)])
    assert torch.allclose(result, expected, atol=1e-5)


def test_half_precision_that_only_rounds_the_frozen_encoder_keeps_the_studys(tmp_path, parts, load):
    study = load("halves")
    record = take(study, parts, "halves", tmp_path / "out")
    assert record["trainable_vision"] == 0
    assert not (tmp_path / "out" / VISION).exists()
    with safe_open(tmp_path / "out" / TENSORS, "pt") as file:
        assert file.get_tensor("model.norm.weight").dtype == torch.float16


def test_a_released_projector_is_the_aligned_connector_and_leaves_text_as_it_is(
    tmp_path, parts, load
):
    study = load()
    take_connector(study, checkpoint=parts / "projector", out=tmp_path / "aligned")
    connector = load_connector(tmp_path / "aligned")
    pickle = rel.projector(24)
    features = torch.randn(2, 16, 24, generator=torch.Generator().manual_seed(0))
    first = features @ pickle["model.mm_projector.0.weight"].T + pickle["model.mm_projector.0.bias"]
    expected = (
        torch.nn.functional.gelu(first) @ pickle["model.mm_projector.2.weight"].T
        + pickle["model.mm_projector.2.bias"]
    )
    assert torch.allclose(connector(features), expected, atol=1e-5)
    aligned = subject(study, parts, tmp_path / "aligned", "aligned").language_model
    base, _ = load_language_model(parts / "base", dtype=torch.float32)
    for name, tensor in base.state_dict().items():
        assert torch.equal(aligned.state_dict()[name], tensor), name


def test_the_connector_inside_a_llava_checkpoint_serves_as_well(tmp_path, parts, load):
    study = load(connector="kept")
    take_connector(study, checkpoint=parts / "kept", out=tmp_path / "aligned")
    stored = load_file(parts / "kept/model.safetensors")
    found = load_connector(tmp_path / "aligned")
    assert torch.equal(found.second.weight, stored["multi_modal_projector.linear_2.weight"])


@pytest.mark.parametrize(
    ("kind", "layers", "message"),
    [("linear", None, "holds the connector tensors 0.bias, 0.weight, 2.bias, 2.weight, which are"),
     ("mlp", 3, "are not those of the connector mlp; see backbone.connector"),
     ("mlp2x_gelu", None, "the connector's 0.weight has the shape .32, 20.; expected .32, 24.")],
)  # fmt: skip
def test_a_connector_of_another_kind_or_width_is_refused(
    tmp_path, load, parts, kind, layers, message
):
    folder = tmp_path / "other"
    folder.mkdir()
    torch.save(rel.projector(20 if kind == "mlp2x_gelu" else 24), folder / "mm_projector.bin")
    connector = {"normalise": False, "kind": kind} | ({"layers": layers} if layers else {})
    study = load(
        backbone={"connector": connector},
        align={"released": {"source": "folder", "path": str(folder)}},
    )
    with pytest.raises(AssetError, match=message):
        take_connector(study, checkpoint=folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", list(rel.OTHERS))
def test_the_language_model_of_every_known_kind_computes_on_text_what_transformers_computes(
    tmp_path, kind
):
    base = rel.write_base(tmp_path / "base", rel.OTHERS[kind][0])
    theirs = rel.write_other(tmp_path / "vlm", kind)
    found = write_difference(base, tmp_path / "vlm", tmp_path)
    assert found.vocabulary["released"] == found.vocabulary["taken"] + 5
    model, _ = load_language_model(base, dtype=torch.float32)
    tuned = apply_delta(model, tmp_path)
    tokens = torch.randint(0, 300, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = theirs(input_ids=tokens).logits[..., : found.vocabulary["base"]]
        assert torch.allclose(tuned(input_ids=tokens).logits, expected, atol=1e-5)
    assert expected.std() > 0.1


def test_rows_beyond_a_smaller_released_vocabulary_stay_the_bases(tmp_path, parts):
    base = rel.write_base(tmp_path / "base", vocab_size=340)
    rel.write_llava(tmp_path / "vlm")
    found = write_difference(base, tmp_path / "vlm", tmp_path)
    assert found.vocabulary == {"base": 340, "released": 321, "taken": 321}
    stored, ours = load_file(tmp_path / TENSORS), load_file(base / "model.safetensors")
    theirs = load_file(tmp_path / "vlm/model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(stored[name][:321], theirs[f"language_model.{name}"])
        assert torch.equal(stored[name][321:], ours[name][321:])


def test_only_tensors_that_differ_are_stored(tmp_path, parts):
    rel.write_llava(tmp_path / "vlm", rows=0)
    path = tmp_path / "vlm/model.safetensors"
    tensors, base = load_file(path), load_file(parts / "base/model.safetensors")
    for name, tensor in base.items():
        rows = tensors[f"language_model.{name}"]
        rows[: len(tensor)] = tensor
    moved = "language_model.model.layers.2.mlp.up_proj.weight"
    tensors[moved][0, 0] += 1.0
    save_file(tensors, path, metadata={"format": "pt"})
    found = write_difference(parts / "base", tmp_path / "vlm", tmp_path)
    assert list(load_file(tmp_path / TENSORS)) == ["model.layers.2.mlp.up_proj.weight"]
    assert (found.differing, found.stored) == (1, tensors[moved].numel())


@pytest.mark.parametrize(
    ("base", "released", "message"),
    [({}, {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
      r"has \{.*500000.*\} as rope_parameters, the base .*10000"),
     ({}, {"rms_norm_eps": 1e-3}, "has 0.001 as rms_norm_eps"),
     ({}, {"intermediate_size": 48}, "has 48 as intermediate_size, the base .* has 64"),
     ({"tie_word_embeddings": True}, {}, "has a head of its own, language_model.lm_head.weight"),
     ({}, {"family": "mistral"}, "is of the family 'mistral', the base .* of the family 'llama'")],
)  # fmt: skip
def test_weights_that_would_compute_something_else_are_refused(tmp_path, base, released, message):
    folder = rel.write_base(tmp_path / "base", **base)
    rel.write_llava(tmp_path / "vlm", **released)
    with pytest.raises(AssetError, match=message):
        write_difference(folder, tmp_path / "vlm", tmp_path)
    assert not (tmp_path / TENSORS).exists()


def test_tokens_with_other_numbers_are_refused_by_name(tmp_path, parts):
    tokenizer = tiny.tiny_tokenizer()
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = core["model"]["vocab"]
    one, other = sorted(vocabulary, key=vocabulary.get)[20:22]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    tokenizer._tokenizer = type(tokenizer._tokenizer).from_str(json.dumps(core))
    rel.write_llava(tmp_path / "vlm", tokenizer=tokenizer)
    with pytest.raises(AssetError, match=r"has the number 20 in the base .*, and 21 here: its emb"):
        write_difference(parts / "base", tmp_path / "vlm", tmp_path)


def test_a_subject_that_reads_text_only_has_no_connector(tmp_path, parts, load):
    options = {"source": "folder", "path": str(parts / "next"), "inputs": "text"}
    study = load(variant={"method": "released", "options": options})
    take(study, parts, "next", tmp_path / "out")
    assert subject(study, parts, tmp_path / "out").connector is None
    assert not (tmp_path / "out/connector.safetensors").exists()


def test_a_released_variant_is_one_subject_whatever_the_number_of_seeds(load):
    study = load(seeds=3)
    assert study.tuned_subjects == ["pair/seed-0"]
    assert study.trained_variants == []


def test_the_published_llava_pair_is_priced_before_anything_is_fetched(load):
    def hub(name):
        return {"source": "hub", "id": name, "revision": COMMIT}

    study = load(
        variant={"method": "released", "options": hub("llava-hf/llava-1.5-7b-hf")},
        align={"released": hub("liuhaotian/llava-v1.5-mlp2x-336px-pretrain-vicuna-7b-v1.5")},
        backbone={
            "language_model": hub("lmsys/vicuna-7b-v1.5"),
            "vision_encoder": hub("openai/clip-vit-large-patch14-336"),
            "template": "v1",
        },
    )
    # 6,738,415,616 numbers of two bytes; mapped from files, so that they are not in memory.
    found = cost.predict(study, "take_released", variant="pair", seed="0")
    assert found.disk_mb == pytest.approx(13_477, rel=0.2)
    assert found.memory_mb < 13_477
    projector = 4 * (1024 * 4096 + 4096 * 4096 + 2 * 4096) / 1e6
    connector = "liuhaotian--llava-v1.5-mlp2x-336px-pretrain-vicuna-7b-v1.5-0123456789ab-connector"
    fetched = cost.predict(study, "fetch_model", model=connector).disk_mb
    assert fetched == pytest.approx(projector, abs=5)
    whole = f"llava-hf--llava-1.5-7b-hf-{COMMIT[:12]}"
    assert cost.predict(study, "fetch_model", model=whole).disk_mb > 13_000


def of(kind, **more):
    return {"method": "released", "options": {"source": "folder", "path": kind}} | more


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": of("PARTS/next")},
         r"variants\.pair\.options\.inputs: .*next cannot be measured on pictures here: it cuts a "
         r"picture into tiles.*; `inputs: text` compares its language model alone"),
        ({"variant": of("PARTS/two_layers")}, r"reads several layers of its vision encoder, \[-2"),
        ({"variant": of("PARTS/kept"), "base": "qwen2"},
         r"variants\.pair\.options: the language model of .*kept is of the family 'llama', but "
         r"backbone\.language_model is of the family 'qwen2'"),
        ({"variant": of("PARTS/kept"), "base": "shallow"},
         r"has 4 as layers, but backbone\.language_model has 3; name the base language model that"),
        ({"variant": of("PARTS/clip")}, r"model_type is 'clip_vision_model', which is no released"),
        ({"variant": of("PARTS/nowhere")}, r"options\.path: .*nowhere: no such folder"),
        ({"variant": of("PARTS/kept", layers=[0, 2])}, r"variants\.pair\.layers: the method "
         r"released trains nothing: its subject is taken from a checkpoint as it is; take the key"),
        ({"variant": of("PARTS/kept", learning_rate=1e-3)}, "learning_rate: the method released"),
        ({"variant": of("PARTS/kept", train_connector=False)}, "train_connector: the method"),
        ({"variant": of("PARTS/kept", train_vision="all")}, "train_vision: the method released"),
        ({"variant": {"method": "released", "options": {"source": "hub", "id": "a/b"}}},
         r"revision: required with source hub: the commit, 40 hexadecimal digits"),
        ({"variant": {"method": "released", "options": {"source": "folder", "id": "a/b"}}},
         r"id: is no key of the source folder"),
        ({"variant": {"method": "released", "options": {
            "source": "hub", "id": "llava-hf/llava-1.5-7b-hf", "revision": COMMIT}}},
         r"llava-1\.5-7b-hf at the commit 0123.* has 32 as layers, but backbone\.language_model "
         r"has 4; name the base"),
        ({"backbone": {"vision_encoder": {"source": "random", "grid": 2}}},
         r"has a vision transformer, and backbone\.vision_encoder is EfficientNet"),
        ({"backbone": {"connector": {}}}, r"backbone\.connector\.normalise: must be false with"),
        ({"backbone": {"connector": {"kind": "resampler", "normalise": False}}},
         r"backbone\.connector\.kind: resampler, but align\.released gives one of mlp2x_gelu"),
        ({"align": {"steps": 3, "released": {"source": "folder", "path": "PARTS/projector"}}},
         r"align\.steps: nothing is trained in stage 1 where `released` gives the connector"),
        ({"align": {"released": {"source": "folder", "path": "PARTS/nowhere"}}},
         r"align\.released\.path: .*nowhere: no such folder"),
        ({"align": {"steps": 3, "batch_size": 4}}, r"align\.learning_rate: required, but not"),
    ],
)  # fmt: skip
def test_a_pair_that_cannot_be_compared_is_refused_when_the_study_is_loaded(
    load, parts, changes, message
):
    changes = json.loads(json.dumps(changes).replace("PARTS", str(parts)))
    with pytest.raises(StudyError, match=message) as caught:
        load(**changes)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"select_layer": -1}, r"has 2 where backbone\.vision_encoder\.select_layer is 3"),
     ({"select_feature": "cls_patch"}, r"it reads the features patch, and .*select_feature is cls"),
     ({"shape": {"mean": [0.5, 0.5, 0.5]}}, r"backbone\.vision_encoder\.shape\.mean is \[0\.5")],
)  # fmt: skip
def test_a_llava_that_reads_pictures_in_another_way_is_refused(load, parts, changes, message):
    if "shape" in changes:
        known = load().backbone.vision_encoder.model_dump()
        changes = {"shape": known["shape"] | changes["shape"]}
    encoder = {"source": "folder", "path": str(parts / "clip")} | changes
    with pytest.raises(StudyError, match=message):
        load(backbone={"vision_encoder": encoder})


def test_a_damaged_or_incomplete_checkpoint_leaves_no_folder(tmp_path, parts, load):
    study = load()
    folder = tmp_path / "copy"
    rel.write_llava(folder, vision=parts / "clip")
    tensors = load_file(folder / "model.safetensors")
    del tensors["language_model.model.layers.1.mlp.gate_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AssetError, match=r"has no tensor .*layers\.1\.mlp\.gate_proj\.weight, but"):
        take_released(
            study, variant="pair", language_model=parts / "base", checkpoint=folder,
            out=tmp_path / "out", vision_weights=parts / "clip",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_a_pickle_that_holds_more_than_tensors_is_refused(tmp_path, load, parts):
    folder = tmp_path / "bad"
    folder.mkdir()
    torch.save({"model.mm_projector.0.weight": print}, folder / "mm_projector.bin")
    study = load(align={"released": {"source": "folder", "path": str(folder)}})
    with pytest.raises(AssetError, match=r"mm_projector\.bin: damaged, or more than tensors"):
        take_connector(study, checkpoint=folder, out=tmp_path / "out")
