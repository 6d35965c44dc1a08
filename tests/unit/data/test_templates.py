"""Published templates, token by token: LLaVA's `plain` and `v1`, TinyLLaVA's `phi`."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from layersight.data.conversation import IGNORE, IMAGE_TOKEN, Role, Tokens, answer_tokens, tokenize
from layersight.errors import DataError

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
TEXTS = [
    SYSTEM, "USER: What is this? ASSISTANT: A red circle.", "USER: Sure? ASSISTANT: yes", "a star"
] * 20  # fmt: skip
PICTURE = {"from": "human", "value": "<image>\nWhat is this?"}
ANSWER = {"from": "gpt", "value": "A red circle."}
MORE = [{"from": "human", "value": "Sure?"}, {"from": "gpt", "value": "42, yes"}]


def llama_tokenizer(before_texts: str) -> Any:
    """A small tokenizer as Llama's: bytes for what is unknown, `<s>` before every text.

    `before_texts` says how it puts a blank before a text: as its first files do, or later ones.
    """
    core = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=450, special_tokens=[*special, *byte_tokens], show_progress=False
    )
    core.train_from_iterator(TEXTS, trainer)
    if before_texts == "normalizer":
        core.pre_tokenizer = None
        core.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=before_texts, split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token=special[0], bos_token=special[1], eos_token=special[2]
    )


def phi_tokenizer() -> Any:
    """A small tokenizer as Phi's: bytes, nothing before a text, one token for begin and end."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        special_tokens=[end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=end, eos_token=end)


@pytest.fixture(scope="module", params=["normalizer", "first", "always"])
def llama(request):
    return llama_tokenizer(request.param)


@pytest.fixture(scope="module")
def phi():
    return phi_tokenizer()


def pieces(tokenizer: Any, text: str, images: int) -> list[int]:
    """Tokens of a published prompt: each text between pictures by itself, one `<s>` at most."""
    ids: list[int] = []
    for index, piece in enumerate(text.split("<image>")):
        ids += [IMAGE_TOKEN] * images if index else []
        ids += tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else []
    return ids


def learned(tokens: Tokens, tokenizer: Any) -> list[str]:
    """Texts of the stretches that the loss is taken on."""
    stretches: list[list[int]] = [[]]
    for label in tokens.labels:
        if label != IGNORE:
            stretches[-1].append(label)
        elif stretches[-1]:
            stretches.append([])
    return [tokenizer.decode(stretch) for stretch in stretches if stretch]


ROUNDS = {
    "a picture": (
        [PICTURE, ANSWER],
        "USER: <image>\nWhat is this? ASSISTANT: A red circle.END",
        [" A red circle.END"],
    ),
    "two rounds": (
        [PICTURE, ANSWER, *MORE],
        "USER: <image>\nWhat is this? ASSISTANT: A red circle.ENDUSER: Sure? ASSISTANT: 42, yesEND",
        [" A red circle.END", " 42, yesEND"],
    ),
    "no picture": (MORE, "USER: Sure? ASSISTANT: 42, yesEND", [" 42, yesEND"]),
    "a line break": (
        [MORE[0], {"from": "gpt", "value": "\nyes\n"}],
        "USER: Sure? ASSISTANT: \nyes\nEND",
        [" \nyes\nEND"],
    ),
    "to be answered": ([PICTURE, ANSWER, MORE[0]],
                       "USER: <image>\nWhat is this? ASSISTANT: A red circle.ENDUSER: Sure? "
                       "ASSISTANT:", [" A red circle.END"]),
    "a picture after the words": (
        [{"from": "human", "value": "What is this?\n<image>"}, ANSWER],
        "USER: <image>\nWhat is this? ASSISTANT: A red circle.END",
        [" A red circle.END"],
    ),
    "the assistant first": ([ANSWER, *MORE], "USER: Sure? ASSISTANT: 42, yesEND", [" 42, yesEND"]),
}  # fmt: skip


@pytest.mark.parametrize(("turns", "text", "answers"), ROUNDS.values(), ids=ROUNDS)
def test_v1_is_llavas_text_and_its_loss_covers_answers_and_their_ends(llama, turns, text, answers):
    tokens = tokenize(turns, llama, image_tokens=3, template="v1")
    published = f"{SYSTEM} {text.replace('END', '</s>')}"
    assert tokens.input_ids == [llama.bos_token_id, *pieces(llama, published, 3)]
    assert learned(tokens, llama) == [answer.replace("END", "</s>") for answer in answers]
    assert tokens.roles[0] == Role.TEMPLATE
    for token, role in zip(tokens.input_ids, tokens.roles, strict=True):
        assert (token == IMAGE_TOKEN) == (role == Role.IMAGE)


@pytest.mark.parametrize(("turns", "text", "answers"), ROUNDS.values(), ids=ROUNDS)
def test_phi_is_v1_with_phis_end_and_nothing_before_it(phi, turns, text, answers):
    tokens = tokenize(turns, phi, image_tokens=3, template="phi")
    published = f"{SYSTEM} {text.replace('END', '<|endoftext|>')}"
    assert tokens.input_ids == pieces(phi, published, 3)
    assert learned(tokens, phi) == [answer.replace("END", "<|endoftext|>") for answer in answers]


@pytest.mark.parametrize("caption", ["A red circle.", "42 stars", "\nstars \n"])
def test_plain_is_picture_and_caption_and_its_loss_covers_caption_and_line_break(
    llama, phi, caption
):
    turns = [{"from": "human", "value": "Describe it.\n<image>"}, {"from": "gpt", "value": caption}]
    for tokenizer in (llama, phi):
        tokens = tokenize(turns, tokenizer, image_tokens=3, template="plain", system_prompt="Hi.")
        first = [tokenizer.bos_token_id] if tokenizer is llama else []
        rest = tokenizer(f"{caption}\n", add_special_tokens=False)["input_ids"]
        assert tokens.input_ids == [*first, *[IMAGE_TOKEN] * 3, *rest]
        assert tokens.labels == [IGNORE] * (len(first) + 3) + rest


def test_the_study_can_have_its_own_system_message_or_none(llama):
    def text(system_prompt: str) -> str:
        ids = tokenize(
            MORE, llama, image_tokens=3, template="v1", system_prompt=system_prompt
        ).input_ids[1:]
        return llama.decode(ids).lstrip()

    assert text("Be brief.") == "Be brief. USER: Sure? ASSISTANT: 42, yes</s>"
    assert text("").startswith("USER: Sure?")


def test_the_users_words_alone_have_the_role_text(llama, phi, tokenizer):
    for known in (llama, phi, tokenizer):
        tokens = tokenize([PICTURE, ANSWER, *MORE], known, image_tokens=3, template="v1")
        words = [t for t, r in zip(tokens.input_ids, tokens.roles, strict=True) if r == Role.TEXT]
        assert "".join(known.decode(words).split()) == "Whatisthis?Sure?"


def test_another_models_answers_are_closed_by_its_own_end_of_text(tokenizer):
    """The tiny model knows no `</s>`: as a text, it would never end an answer."""
    for template in ("v1", "phi"):
        tokens = tokenize([PICTURE, ANSWER], tokenizer, image_tokens=3, template=template)
        text = tokenizer.decode([t for t in tokens.input_ids if t >= 0])
        assert text == f"{SYSTEM} USER: \nWhat is this? ASSISTANT: A red circle.<|im_end|>"
        assert learned(tokens, tokenizer) == [" A red circle.<|im_end|>"]
        assert tokens.input_ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("template", ["chat", "plain", "v1"])
def test_an_answers_tokens_are_those_that_it_has_in_a_conversation(tokenizer, template):
    tokens = tokenize([PICTURE, ANSWER], tokenizer, image_tokens=3, template=template)
    learns = [label for label in tokens.labels if label != IGNORE]
    assert answer_tokens("A red circle.", tokenizer, template=template) == learns[:-1]


def test_a_prompt_goes_on_with_an_answers_tokens(llama, phi):
    for known in (llama, phi):
        prompt = tokenize([PICTURE], known, image_tokens=3, template="v1").input_ids
        whole = tokenize([PICTURE, ANSWER], known, image_tokens=3, template="v1").input_ids
        answer = answer_tokens("A red circle.", known, template="v1")
        assert [*prompt, *answer, known.eos_token_id] == whole


@pytest.mark.parametrize(
    ("template", "turns", "message"),
    [
        ("v1", [PICTURE, PICTURE], "turn 2 is from 'human', expected 'gpt'"),
        ("v1", [{"from": "system", "value": "x"}, *MORE], "turn 1 is from 'system'"),
        ("v1", [ANSWER], "no turn from 'human'"),
        ("phi", [{"from": "human", "value": "<image><image>"}], "several times in one turn"),
        ("plain", MORE, "one picture and at most one answer"),
        ("plain", [PICTURE, ANSWER, *MORE], "one picture and at most one answer"),
        ("plain", [], "no turns"),
        ("v1", [{"from": "robot", "value": "x"}], "robot"),
    ],
)
def test_what_a_template_has_no_place_for_is_told(tokenizer, template, turns, message):
    with pytest.raises(DataError, match=message):
        tokenize(turns, tokenizer, image_tokens=3, template=template)


def test_a_tokenizer_without_an_end_of_text_is_refused(phi):
    endless = PreTrainedTokenizerFast(tokenizer_object=phi.backend_tokenizer)
    with pytest.raises(DataError, match="no end-of-text token"):
        tokenize(MORE, endless, image_tokens=3, template="v1")
