"""Models of the hub, from a cache in the hub's own layout and from a server on this machine."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import threading
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file
from tests.unit.data.hub_cache import as_hub_cache, digests
from tests.unit.models import tiny_checkpoints as tiny
from transformers import LlamaForCausalLM

from layersight.data.hub import PROVENANCE, fetch_model, fetch_part
from layersight.errors import AssetError
from layersight.models.checkpoints import language_shape
from layersight.models.language import load_language_model
from layersight.models.pickled import convert_folder
from layersight.study import Study

NAME, COMMIT = "someone/tiny", "89abcdef0123456789abcdef0123456789abcdef"


def in_hub_cache(model: Path, cache: Path) -> Path:
    return as_hub_cache(model, cache, NAME, COMMIT)


@pytest.fixture
def model(tmp_path):
    return tiny.write_language_model(tmp_path / "model", "llama")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's own cache of the hub, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hf"


def test_a_model_in_the_users_cache_is_taken_from_there_with_its_digests(model, cache, tmp_path):
    snapshot = in_hub_cache(model, cache)
    out = fetch_model(NAME, COMMIT, tmp_path / "cache/models/tiny")
    record = json.loads((out / PROVENANCE).read_text())
    assert (record["id"], record["revision"]) == (NAME, COMMIT)
    assert record["files"] == {p.name: {"sha256": digests(p)[0]} for p in model.iterdir()}
    assert (out / "model.safetensors").stat().st_ino == (
        snapshot / "model.safetensors"
    ).stat().st_ino  # a link: the weights are on disk once
    assert not (out / "model.safetensors").is_symlink()
    fetched, _ = load_language_model(out, dtype=torch.float32)
    own, _ = load_language_model(model, dtype=torch.float32)
    for name, tensor in own.state_dict().items():
        assert torch.equal(fetched.state_dict()[name], tensor)
    before = (out / PROVENANCE).stat().st_mtime_ns
    fetch_model(NAME, COMMIT, out)
    assert (out / PROVENANCE).stat().st_mtime_ns == before


def test_a_pickle_becomes_safetensors_shard_by_shard(model, cache, tmp_path):
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"pytorch_model-00001-of-00002.bin": names[:9],
              "pytorch_model-00002-of-00002.bin": names[9:]}  # fmt: skip
    for file, held in shards.items():
        content = {name: tensors[name] for name in held}
        content[f"model.layers.{len(held)}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
        torch.save(content, model / file)
    places = {name: file for file, held in shards.items() for name in held}
    index = model / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    # As the client leaves it after downloading: the pickles are in the cache of the study.
    in_hub_cache(model, tmp_path / "cache/models/.hub")
    out = fetch_model(NAME, COMMIT, tmp_path / "cache/models/tiny")
    assert not list(out.glob("*.bin*"))
    assert sorted(p.name for p in out.glob("*.safetensors")) == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    ]  # fmt: skip
    assert json.loads((out / PROVENANCE).read_text())["converted_from_pickle"]
    loaded, _ = load_language_model(out, dtype=torch.float32)
    assert all(torch.equal(loaded.state_dict()[n], t) for n, t in tensors.items())
    assert not list((tmp_path / "cache/models/.hub").iterdir())


class Trap:
    """What a pickle could run."""

    def __reduce__(self):
        return (os.mkdir, ("/tmp/layersight-trap",))


@pytest.mark.parametrize("pickled", [False, True])
def test_a_model_whose_folder_went_away_is_linked_again_without_the_hub(
    model, cache, tmp_path, pickled
):
    if pickled:
        weights = load_file(model / "model.safetensors")
        torch.save(weights, model / "pytorch_model.bin")
        (model / "model.safetensors").unlink()
    in_hub_cache(model, cache)
    out = fetch_model(NAME, COMMIT, tmp_path / "cache/models/tiny")
    before = {path.name: (path.stat().st_ino, digests(path)[0]) for path in out.iterdir()}
    shutil.rmtree(cache)
    shutil.rmtree(out)
    fetch_model(NAME, COMMIT, out)
    assert before == {path.name: (path.stat().st_ino, digests(path)[0]) for path in out.iterdir()}
    # What is kept is not trusted when it is damaged or of another commit.
    shutil.rmtree(out)
    with pytest.raises(AssetError, match="could not be fetched"):
        fetch_model(NAME, COMMIT[::-1], out)
    damaged = out.parent / ".kept/tiny/model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(AssetError, match="could not be fetched"):
        fetch_model(NAME, COMMIT, out)
    assert not out.exists()


def test_a_pickle_that_holds_more_than_tensors_is_refused_and_runs_nothing(model, tmp_path):
    torch.save({"a": Trap()}, model / "pytorch_model.bin")
    with pytest.raises(AssetError, match=r"pytorch_model\.bin: damaged, or more than tensors"):
        convert_folder(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not Path("/tmp/layersight-trap").exists()


def test_a_folder_of_pickles_is_converted_by_hand_and_tied_weights_are_kept(tmp_path):
    folder = tiny.write_language_model(tmp_path / "model", "llama", tie_word_embeddings=True)
    whole = LlamaForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(whole.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(AssetError, match=r"python -m layersight\.models\.pickled"):
        load_language_model(folder, dtype=torch.float32)
    convert_folder(folder, tmp_path / "out")
    loaded, _ = load_language_model(tmp_path / "out", dtype=torch.float32)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_a_file_that_is_not_what_the_hub_gave_is_refused(model, cache, tmp_path):
    snapshot = in_hub_cache(model, cache)
    for name in ("model.safetensors", "config.json"):
        blob = (snapshot / name).resolve()
        content = blob.read_bytes()
        blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(AssetError, match=f"{name} of someone/tiny is damaged"):
            fetch_model(NAME, COMMIT, tmp_path / "cache/models/tiny")
        blob.write_bytes(content)
    assert not (tmp_path / "cache/models/tiny").exists()


def test_a_snapshot_without_all_its_shards_is_not_taken(model, cache, tmp_path):
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    places = dict.fromkeys(tensors, "model-00002-of-00002.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    in_hub_cache(model, cache)
    with pytest.raises(AssetError, match=r"someone/tiny: could not be fetched .*hf download"):
        fetch_model(NAME, COMMIT, tmp_path / "cache/models/tiny")


def test_another_architecture_than_the_study_says_is_refused_when_fetched(
    smoke, model, cache, tmp_path
):
    in_hub_cache(model, cache)
    _, shape = language_shape(model)
    data = smoke.model_dump(mode="json")
    data["backbone"]["language_model"] = {
        "source": "hub", "id": NAME, "revision": COMMIT, "family": "qwen2", "shape": shape,
    }  # fmt: skip
    study = Study.model_validate_json(json.dumps(data))
    out = tmp_path / f"cache/models/someone--tiny-{COMMIT[:12]}"
    with pytest.raises(AssetError, match=r"family: is 'qwen2', but .* of the family 'llama'"):
        fetch_part(study, "language_model", out)


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for a model that is gated, private or has no such commit."""

    def do_GET(self):
        code, status = self.server.answer
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{found.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    yield found
    found.shutdown()


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("GatedRepo", 403, r"someone/tiny is gated: ask for access .* HF_TOKEN"),
        ("RevisionNotFound", 404, r"someone/tiny: has no commit 89abcdef"),
        ("RepoNotFound", 401, r"someone/tiny: there is no such model on the hub, or it is private"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_message(server, tmp_path, code, status, message):
    server.answer = (code, status)
    with pytest.raises(AssetError, match=message):
        fetch_model(NAME, COMMIT, tmp_path / "cache/models/tiny")
    assert not (tmp_path / "cache/models/tiny").exists()


def test_a_tokenizer_of_sentencepiece_becomes_a_fast_one(model, cache, tmp_path):
    """Vicuna's has tokenizer.model alone."""
    import sentencepiece

    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (model / name).unlink(missing_ok=True)
    text = tmp_path / "text.txt"
    text.write_text("\n".join(["which kind of thing is this, round or angular"] * 50))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(model / "tokenizer"), vocab_size=60, model_type="bpe",
        byte_fallback=False, hard_vocab_limit=False,
    )  # fmt: skip
    (model / "tokenizer.vocab").unlink()
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    in_hub_cache(model, cache)
    out = fetch_model(NAME, COMMIT, tmp_path / "cache/models/tiny")
    _, tokenizer = load_language_model(out, dtype=torch.float32)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(model / "tokenizer.model"))
    words = "this round thing"
    assert tokenizer(words, add_special_tokens=False)["input_ids"] == theirs.encode(words)
