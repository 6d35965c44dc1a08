"""From a conversation to tokens: the template, the role of every token, the loss mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from layersight.data.templates import IMAGE_MARKER, Span, render
from layersight.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from layersight.study import Template

IGNORE = -100
IMAGE_TOKEN = -200
"""Stands in `input_ids` where an image feature goes (as in LLaVA); no tokenizer has it."""
OPENING = "opening"
"""Whom a last turn is from that an answer begins with; the model goes on from there."""
_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


class Role(IntEnum):
    """What a token is."""

    PADDING = 0
    TEMPLATE = 1
    """Of the template or the system message."""
    TEXT = 2
    """Of the user's own words."""
    IMAGE = 3
    ANSWER = 4
    """Of an assistant's turn, its end-of-turn token included: where the loss is taken."""


@dataclass(frozen=True)
class Tokens:
    """One tokenised conversation, without padding.

    Attributes:
        input_ids: token ids; `IMAGE_TOKEN` at every image position.
        roles: a `Role` for every token.
    """

    input_ids: list[int]
    roles: list[int]

    @property
    def labels(self) -> list[int]:
        """Target at every position: the token itself on answers, `IGNORE` elsewhere."""
        return [
            token if role == Role.ANSWER else IGNORE
            for token, role in zip(self.input_ids, self.roles, strict=True)
        ]


def tokenize(
    conversation: Sequence[dict[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    image_tokens: int,
    system_prompt: str | None = None,
    template: Template = "chat",
) -> Tokens:
    """Tokenise a LLaVA-style conversation.

    A conversation that ends with the human's turn is closed by the template's generation prompt;
    one that ends with an answer ends with that answer's end-of-turn token, and one that ends with
    the opening of an answer ends with its words, which count as the template's.

    Args:
        conversation: turns `{"from": "human" | "gpt", "value": ...}`; `<image>` marks an image. The
            last one may be from `opening`.
        tokenizer: a fast tokenizer, for `chat` with a chat template.
        image_tokens: positions that one image takes.
        system_prompt: system message; None leaves the template's own default.
        template: the tokenizer's own chat template, or a published one (`templates.render`). Those
            begin with the tokenizer's first token, if it puts one before every text; a chat
            template has it in its text.

    Raises:
        DataError: no turn or an unknown one, no chat template or end-of-text token, or a template
            that does not take these turns or does not keep one verbatim.
    """
    if not conversation:
        raise DataError("the conversation has no turns")
    begun = conversation[-1]["from"] == OPENING
    if begun:
        conversation = [*conversation[:-1], {**conversation[-1], "from": "gpt"}]
    for turn in conversation:
        if turn["from"] not in _ROLES:
            raise DataError(f"a turn is from {turn['from']!r}; known: {', '.join(_ROLES)}")
    if template == "chat":
        rendered, spans = _chat(conversation, tokenizer, system_prompt)
        if begun:
            rendered, spans = _opened(rendered, spans)
        return _encode(rendered, spans, tokenizer, image_tokens)
    if tokenizer.eos_token is None:
        raise DataError("the language model's tokenizer has no end-of-text token")
    rendered, spans = render(
        template,
        conversation,
        system_prompt=system_prompt,
        end="" if begun else str(tokenizer.eos_token),
    )
    if begun:
        rendered, spans = _opened(rendered, spans)
    tokens = _encode(rendered, spans, tokenizer, image_tokens)
    first = _first_token(tokenizer)
    return Tokens([*first, *tokens.input_ids], [Role.TEMPLATE] * len(first) + tokens.roles)


def answer_tokens(
    answer: str, tokenizer: PreTrainedTokenizerBase, *, template: Template = "chat"
) -> list[int]:
    """Return the tokens of an answer where it follows a prompt, without what closes it.

    Most tokenizers write a word differently after a blank, which `v1` and `phi` put before answers.

    Args:
        answer: what the assistant says.
        tokenizer: as for `tokenize`.
        template: as for `tokenize`.
    """
    if template == "chat":
        return list(tokenizer(answer, add_special_tokens=False)["input_ids"])
    turns = [{"from": "human", "value": IMAGE_MARKER}, {"from": "gpt", "value": answer}]
    rendered, spans = render(template, turns, system_prompt=None, end="")
    tokens = _encode(rendered.removesuffix("\n"), spans, tokenizer, image_tokens=0)
    return [
        token
        for token, role in zip(tokens.input_ids, tokens.roles, strict=True)
        if role == Role.ANSWER
    ]


def _first_token(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token that a tokenizer puts before every text (Llama's does), if it has one."""
    first = tokenizer("a")["input_ids"][:1]
    return list(first) if first == [tokenizer.bos_token_id] else []


def _chat(
    conversation: Sequence[dict[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    system_prompt: str | None,
) -> tuple[str, list[Span]]:
    """Return the text of the tokenizer's own chat template, and where every message stands."""
    messages = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    for turn in conversation:
        messages.append({"role": _ROLES[turn["from"]], "content": turn["value"]})
    prompting = messages[-1]["role"] != "assistant"
    rendered, spans = _render(messages, tokenizer, prompting)
    if not prompting:
        rendered = rendered[: _end_of_turn(rendered, spans[-1][1], tokenizer)]
    return rendered, spans


def _opened(rendered: str, spans: Sequence[Span]) -> tuple[str, list[Span]]:
    """Return a text up to the end of its last words, which are no answer yet."""
    start, end, _ = spans[-1]
    return rendered[:end], [*spans[:-1], (start, end, OPENING)]


def _encode(
    rendered: str, spans: Sequence[Span], tokenizer: PreTrainedTokenizerBase, image_tokens: int
) -> Tokens:
    """Tokenise the text between the images, piece by piece, and give every token its role."""
    input_ids: list[int] = []
    roles: list[int] = []
    start = 0
    for piece in _split_images(rendered):
        if piece == IMAGE_MARKER:
            input_ids += [IMAGE_TOKEN] * image_tokens
            roles += [Role.IMAGE] * image_tokens
        elif piece:
            encoded = tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True)
            for token, (left, right) in zip(
                encoded["input_ids"], encoded["offset_mapping"], strict=True
            ):
                input_ids.append(token)
                roles.append(_role(start + left, start + right, spans, token, tokenizer, roles))
        start += len(piece)
    return Tokens(input_ids, roles)


def _render(
    messages: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase, prompting: bool
) -> tuple[str, list[Span]]:
    """Apply the chat template; return the text and (start, end, role) of every message in it.

    The template is applied to marks that occur nowhere else, which then give way to the messages:
    searching for the messages themselves would find "star" in `<|im_start|>`.
    """

    def apply(contents: Sequence[str]) -> str:
        try:
            return str(
                tokenizer.apply_chat_template(
                    [
                        {"role": message["role"], "content": content}
                        for message, content in zip(messages, contents, strict=True)
                    ],
                    tokenize=False,
                    add_generation_prompt=prompting,
                )
            )
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise DataError(
                f"the chat template does not take a conversation of {roles}: {error}"
            ) from None

    if not tokenizer.chat_template:
        raise DataError("the language model's tokenizer has no chat template")

    marks = [f"\ue000{index}\ue001" for index in range(len(messages))]
    rest = apply(marks)
    text, spans = "", []
    for mark, message in zip(marks, messages, strict=True):
        before, found, rest = rest.partition(mark)
        if not found:
            raise DataError(f"the chat template leaves out a message: {message['content']!r}")
        start = len(text) + len(before)
        text += before + message["content"]
        spans.append((start, len(text), message["role"]))
    text += rest
    if text != apply([message["content"] for message in messages]):
        raise DataError(
            f"the chat template does not keep these messages verbatim: "
            f"{[message['content'] for message in messages]!r}"
        )
    return text, spans


def _end_of_turn(rendered: str, position: int, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the end of the end-of-turn token after an answer (the template may add a newline)."""
    eos = str(tokenizer.eos_token)
    found = rendered.find(eos, position)
    if found < 0:
        raise DataError(f"the chat template does not close an answer with {eos!r}")
    return found + len(eos)


def _split_images(rendered: str) -> list[str]:
    pieces: list[str] = []
    for index, piece in enumerate(rendered.split(IMAGE_MARKER)):
        pieces += [piece] if index == 0 else [IMAGE_MARKER, piece]
    return pieces


def _role(
    left: int,
    right: int,
    spans: Sequence[Span],
    token: int,
    tokenizer: PreTrainedTokenizerBase,
    before: Sequence[int],
) -> Role:
    for start, end, role in spans:
        if left < end and right > start:
            return {"user": Role.TEXT, "assistant": Role.ANSWER}.get(role, Role.TEMPLATE)
    if token == tokenizer.eos_token_id and before and before[-1] == Role.ANSWER:
        return Role.ANSWER
    return Role.TEMPLATE
