"""Steering: a low-rank edit of the residual stream at chosen tokens (LoReFT, MoReS).

    h' = h + R (W h + b - Rᵀ h),   R of shape (D, r) with RᵀR = I

LoReFT (Wu et al. 2024) and MoReS (LLaVA Steering, Bi et al. 2024) are this edit of the output of
blocks; MoReS makes it at image tokens, LoReFT at the ends of the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from torch import nn
from torch.nn.utils.parametrizations import orthogonal
from torch.nn.utils.parametrize import register_parametrization

from layersight.adapters.positions import Choice, announced
from layersight.adapters.registration import AdapterType, register
from layersight.adapters.wrapping import Unmergeable, Wrapper, WrapperModel


@dataclass
class SteeringConfig(PeftConfig):
    """What `adapter_config.json` says of steering; the fields of `Choice` say at which tokens.

    Attributes:
        r: rank of the edit.
        use_bias: whether the edit has the bias b.
        dropout: probability of dropout.
        dropout_on: `update` drops parts of R (...); `output` drops parts of h' at steered tokens.
        target_modules: regular expression that the full names of the steered blocks match.
    """

    r: int = 1
    use_bias: bool = True
    dropout: float = 0.0
    dropout_on: str = "update"
    stream: str = "image"
    tokens: str = "all"
    first: int = 4
    last: int = 5
    number: int = 9
    ratio: float = 0.01
    text_anchor: bool = False
    target_modules: list[str] | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = AdapterType.LAYERSIGHT_STEERING

    @property
    def choice(self) -> Choice:
        """Which tokens are steered."""
        return Choice(
            stream=self.stream,  # type: ignore[arg-type]
            tokens=self.tokens,  # type: ignore[arg-type]
            first=self.first,
            last=self.last,
            number=self.number,
            ratio=self.ratio,
            text_anchor=self.text_anchor,
        )


class _Raw(nn.Module):
    """Reads the parameter behind R, one long vector, as the matrix that torch's map takes.

    A vector, because optimisers let matrices decay and R must not: decay would pull its columns
    towards the first axes of the residual stream, which mean nothing. The diagonal is kept at ±1,
    for torch's Householder map reads the signs of R's columns there, as whole numbers.
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.shape = (width, rank)

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Return the matrix, `(D, r)`."""
        matrix = raw.view(self.shape)
        return torch.diagonal_scatter(matrix, matrix.diagonal().sign())

    def right_inverse(self, wanted: torch.Tensor) -> torch.Tensor:
        """Return the vector that gives the wanted matrix."""
        return wanted.flatten()


class _Frame(nn.Module):
    """Holds R, `(D, r)`, orthonormal whatever its parameter becomes."""

    weight: torch.Tensor

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        # On the CPU whatever the default device: a QR decomposition finds the parameter of R.
        start = torch.empty(width, rank, dtype=torch.float32, device="cpu")
        self.weight = nn.Parameter(nn.init.orthogonal_(start))
        register_parametrization(self, "weight", _Raw(width, rank))
        orthogonal(self, orthogonal_map="householder", use_trivialization=False)
        self.weight = start


class Steering(nn.Module):
    """The edit of vectors of width D, in float32: 2 D r parameters, and r with the bias.

    R is kept orthonormal by torch's Householder parametrization, as in the released code of MoReS,
    but without trivialisation, which would keep a D × D matrix for every block. W starts as any
    linear layer does, so the edit is not the identity at the start.
    """

    def __init__(self, width: int, config: SteeringConfig) -> None:
        super().__init__()
        self.frame = _Frame(width, config.r)
        self.source = nn.Linear(
            width, config.r, bias=config.use_bias, dtype=torch.float32, device="cpu"
        )
        self.dropout = nn.Dropout(config.dropout)
        self._drops_output = config.dropout_on == "output"

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Edit vectors `(n, D)` of any type; the result has that type."""
        state = hidden.to(self.source.weight.dtype)
        frame = self.frame.weight
        update = (self.source(state) - state @ frame) @ frame.mT
        if self._drops_output:
            edited = self.dropout(state + update)
        else:
            edited = state + self.dropout(update)
        result: torch.Tensor = edited.to(hidden.dtype)
        return result


class SteeredBlock(Unmergeable, Wrapper):
    """A decoder block whose output is edited at chosen tokens; all other positions keep their bits.

    Whatever else is asked of it, the block inside answers.
    """

    adapter_layer_names = ("steering_edit",)
    other_param_names = ("steering_choice",)

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: SteeringConfig, width: int
    ) -> None:
        super().__init__(base_layer, adapter_name)
        self.width = width
        self.steering_edit = nn.ModuleDict()
        self.steering_choice: dict[str, Choice] = {}
        self.update_layer(adapter_name, config)

    def _add(self, adapter_name: str, config: SteeringConfig) -> None:
        """Make an edit."""
        self.steering_edit[adapter_name] = Steering(self.width, config)
        self.steering_choice[adapter_name] = config.choice

    def _move(self, adapter_name: str) -> None:
        """Bring an edit to the block's device; it stays in float32."""
        # PEFT's own looks for the device at a weight, and a block has none.
        device = next(self.base_layer.parameters()).device
        if device.type != "meta":
            self.steering_edit[adapter_name].to(device)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the block and edit its first output.

        Raises:
            RuntimeError: the positions of the running batch are unknown, or those of another batch.
        """
        output = self.base_layer(hidden_states, *args, **kwargs)
        stream = output[0] if isinstance(output, tuple) else output
        names = self._active(self.steering_edit)
        if not names or _generates(stream, kwargs.get("past_key_values")):
            return output
        positions = announced()
        if stream.shape[:2] != positions.image.shape:
            raise RuntimeError(
                f"the positions of a batch of {tuple(positions.image.shape)} tokens were "
                f"announced, but the block reads {tuple(stream.shape[:2])}"
            )
        for name in names:
            where = positions.find(self.steering_choice[name])
            # Even where no token is chosen: the loss then depends on the edit, by nothing.
            stream = stream.index_put(where, self.steering_edit[name](stream[where]))
        return (stream, *output[1:]) if isinstance(output, tuple) else stream

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)


def _generates(stream: torch.Tensor, cache: Any) -> bool:
    """Whether the block reads a generated token, after a prompt that it has already read."""
    return cache is not None and int(cache.get_seq_length()) > stream.shape[1]


class SteeringModel(WrapperModel):
    """Wraps blocks."""

    prefix = "steering_"
    tuner_layer_cls = SteeredBlock

    def wrapped(
        self, target: nn.Module, name: str, adapter_name: str, config: SteeringConfig
    ) -> SteeredBlock:
        """Return a block with an edit behind it."""
        return SteeredBlock(target, adapter_name, config, int(self.model.config.hidden_size))

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        # PEFT's own hands on a weight, and a block has none.
        setattr(parent, child_name, new_module)

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # PEFT's own looks for the name next to the end, but a parametrized weight lies deeper.
        return key.replace(f".steering_edit.{adapter_name}.", ".steering_edit.")


register(AdapterType.LAYERSIGHT_STEERING, SteeringConfig, SteeringModel)
