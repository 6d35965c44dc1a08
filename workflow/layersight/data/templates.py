"""Published conversation templates: what text a conversation becomes, and whose words it holds.

Sources: LLaVA-1.5 (Liu et al. 2023) for `plain`, its first stage, and `v1`, its second; TinyLLaVA
Factory (Jia et al. 2024), which LLaVA Steering (Bi et al. 2024) is built on, for `phi`.
"""

from __future__ import annotations

from collections.abc import Sequence

from layersight.errors import DataError

IMAGE_MARKER = "<image>"
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
"""System message of `v1` and `phi`."""
Span = tuple[int, int, str]
"""Start, end and speaker (`user` or `assistant`) of words in a text."""


def render(
    template: str,
    conversation: Sequence[dict[str, str]],
    *,
    system_prompt: str | None,
    end: str,
) -> tuple[str, list[Span]]:
    """Return the text of a conversation and where the user's and the assistant's words stand.

    The assistant's words are all that the published training takes the loss on: the answer with the
    blank before it, which most tokenizers make a part of the answer's first token, and what closes
    it. A conversation that ends with the human's turn ends with what asks for an answer.

    Args:
        template: `plain`, `v1` or `phi`.
        conversation: turns `{"from": "human" | "gpt", "value": ...}`. A first turn of the assistant
            is left out, as in the published code.
        system_prompt: replaces the template's own system message; None keeps it, "" has none.
            `plain` never has any.
        end: what closes an answer of `v1` and `phi`: the tokenizer's end of text, which is `</s>`
            for the published models with `v1` and `<|endoftext|>` for those with `phi`. Any other
            text would be no sign to a model to end its answer.

    Raises:
        DataError: turns do not alternate, or are not what the template has a place for.
    """
    turns = list(conversation[1:] if conversation[0]["from"] == "gpt" else conversation)
    for index, turn in enumerate(turns):
        due = ("human", "gpt")[index % 2]
        if turn["from"] != due:
            raise DataError(
                f"the template {template} takes turns of human and gpt one after the other; turn "
                f"{index + 1} is from {turn['from']!r}, expected {due!r}"
            )
    if not turns:
        raise DataError("the conversation has no turn from 'human'")
    return _plain(turns) if template == "plain" else _two_separators(turns, system_prompt, end)


def _plain(turns: Sequence[dict[str, str]]) -> tuple[str, list[Span]]:
    """The picture, its caption and a line break; the question is left out."""
    if len(turns) > 2 or turns[0]["value"].count(IMAGE_MARKER) != 1:
        raise DataError(
            "the template plain is for captions: a conversation holds one picture and at most one "
            "answer; choose another template"
        )
    text, spans = IMAGE_MARKER, [(0, len(IMAGE_MARKER), "user")]
    if len(turns) == 2:
        text += turns[1]["value"] + "\n"
        spans.append((len(IMAGE_MARKER), len(text), "assistant"))
    return text, spans


def _two_separators(
    turns: Sequence[dict[str, str]], system_prompt: str | None, end: str
) -> tuple[str, list[Span]]:
    """A blank after the system message and every question, `end` after every answer."""
    system = SYSTEM if system_prompt is None else system_prompt
    text = f"{system} " if system else ""
    spans: list[Span] = []
    for turn in turns:
        if turn["from"] == "human":
            text += "USER: "
            words = _picture_first(turn["value"])
            spans.append((len(text), len(text) + len(words), "user"))
            text += f"{words} ASSISTANT:"
        else:
            words = f" {turn['value']}{end}"
            spans.append((len(text), len(text) + len(words), "assistant"))
            text += words
    return text, spans


def _picture_first(question: str) -> str:
    """Put a picture on a line of its own before the words, wherever it stood."""
    if IMAGE_MARKER not in question:
        return question
    if question.count(IMAGE_MARKER) > 1:
        raise DataError(f"{IMAGE_MARKER} stands several times in one turn; once is expected")
    return f"{IMAGE_MARKER}\n{question.replace(IMAGE_MARKER, '').strip()}".strip()
