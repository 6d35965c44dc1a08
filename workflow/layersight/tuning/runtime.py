"""What a training run computes on: one device, several whole models, or shares of one model.

accelerate places the processes, casts (bf16, fp16) and keeps whole models in step (DDP). Shares
(FSDP, full shard) come from torch's `fully_shard`, which accelerate calls as well, but on GPUs
alone: called here, the same code is tested on two processes of a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, gather_object
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from layersight.data.batch import Batch
from layersight.errors import TrainingError
from layersight.models.blocks import decoder_blocks
from layersight.models.vlm import VisionLanguageModel

Value = TypeVar("Value")
Precision = Literal["float32", "bfloat16", "float16"]
_ACCELERATE = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


class Runtime:
    """The processes of one training run, each with its device.

    Args:
        device: of this process, if it is the only one; several take one GPU each, or the CPU.
        precision: type of numbers in the forward and backward pass.
        parallel: what several processes hold: the whole model each, or a share of it.

    Raises:
        TrainingError: the precision cannot be had here.
    """

    def __init__(
        self,
        device: torch.device,
        precision: Precision = "float32",
        parallel: Literal["ddp", "fsdp"] = "ddp",
    ) -> None:
        # accelerate keeps the first settings of a process; a second run here brings its own.
        AcceleratorState._reset_state()
        if precision == "float16" and device.type == "cpu":
            raise TrainingError(
                "compute.precision: float16 training needs a GPU; take bfloat16 or float32"
            )
        self._accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=_ACCELERATE[precision],
            # A process whose rows have no picture leaves the connector unused in that step.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.sharded = parallel == "fsdp" and self.processes > 1
        if self.sharded and precision == "float16":
            raise TrainingError("compute.parallel: fsdp takes bfloat16 or float32, not float16")
        self._wrapped: nn.Module | None = None

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        return torch.device(self._accelerator.device)

    @property
    def processes(self) -> int:
        """Number of processes."""
        return int(self._accelerator.num_processes)

    @property
    def process(self) -> int:
        """Number of this process, from 0."""
        return int(self._accelerator.process_index)

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return bool(self._accelerator.is_main_process)

    def place(self, model: VisionLanguageModel) -> None:
        """Put the model on the devices, in place; its parameters keep their names.

        What learns is kept in float32, whatever the precision: small steps would be lost in half
        precision.
        """
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                parameter.data = parameter.data.float()
        model.to(self.device)
        forward = _Loss(model)
        if self.sharded:
            mesh = init_device_mesh(self.device.type, (self.processes,))
            for block in decoder_blocks(model.language_model):
                fully_shard(block, mesh=mesh)
            fully_shard(forward, mesh=mesh)
            model.same_graph = True
            self._wrapped = forward
        elif self.processes > 1 and any(p.requires_grad for p in model.parameters()):
            self._wrapped = self._accelerator.prepare_model(forward)
        else:
            self._wrapped = forward

    def optimiser(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return AdamW over parameter groups of the placed model."""
        return torch.optim.AdamW(groups, fused=not self.sharded)

    def loss(self, batch: Batch) -> tuple[torch.Tensor, int]:
        """Return the mean loss of a batch on this process's device, and its answer tokens."""
        if self._wrapped is None:
            raise RuntimeError("place a model first")
        with self._accelerator.autocast():
            loss, count = self._wrapped(batch.to(self.device))
        return loss, int(count)

    @contextmanager
    def parts(self, last: bool) -> Iterator[None]:
        """Keep gradients to this process until the last part of a batch."""
        if self._wrapped is None:
            raise RuntimeError("place a model first")
        if self.sharded:
            self._wrapped.set_requires_gradient_sync(last)  # type: ignore[operator]
            yield
            return
        waits = self.processes > 1 and not last
        with self._accelerator.no_sync(self._wrapped) if waits else nullcontext():
            yield

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a loss (scaled, in fp16)."""
        if loss.requires_grad:
            self._accelerator.backward(loss)

    def step(
        self, optimiser: torch.optim.Optimizer, learning: Sequence[nn.Parameter], clip: float | None
    ) -> tuple[float, bool]:
        """Return the global gradient norm, and whether it may be stepped with.

        Gradients are unscaled and clipped; the step itself is `finish`.
        """
        scaler = self._accelerator.scaler
        if scaler is not None:
            scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(learning, float("inf") if clip is None else clip)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        # fp16 looks for the largest scale that does not overflow: such a step is left out.
        overflow = scaler is not None and not bool(torch.isfinite(norm))
        if overflow and scaler.get_scale() <= 1.0:
            overflow = False
        return float(norm), overflow

    def finish(self, optimiser: torch.optim.Optimizer) -> None:
        """Take the optimiser's step."""
        scaler = self._accelerator.scaler
        if scaler is None:
            optimiser.step()
        else:
            scaler.step(optimiser)
            scaler.update()
        optimiser.zero_grad(set_to_none=True)

    @property
    def scale(self) -> dict[str, Any]:
        """State of the loss scale of fp16; empty otherwise."""
        scaler = self._accelerator.scaler
        return {} if scaler is None else dict(scaler.state_dict())

    @scale.setter
    def scale(self, state: dict[str, Any]) -> None:
        if self._accelerator.scaler is not None and state:
            self._accelerator.scaler.load_state_dict(state)

    def total(self, value: float) -> float:
        """Return the sum of a number over the processes."""
        if self.processes == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        return float(self._accelerator.reduce(tensor, "sum"))

    def any(self, flag: bool) -> bool:
        """Return whether any process says so."""
        return self.total(float(flag)) > 0

    def all_of(self, value: Value) -> list[Value]:
        """Return what every process holds, by its number."""
        return [value] if self.processes == 1 else list(gather_object([value]))

    def wait(self) -> None:
        """Wait until every process is here."""
        self._accelerator.wait_for_everyone()

    def gather(self, model: nn.Module) -> None:
        """Put the shares of what learned together, in place, on the CPU; every process calls it."""
        if not self.sharded:
            return
        whole: dict[int, nn.Parameter] = {}
        # Duplicates too: tied weights have several names.
        for name, parameter in list(model.named_parameters(remove_duplicate=False)):
            if parameter.requires_grad and isinstance(parameter, DTensor):
                if id(parameter) not in whole:
                    whole[id(parameter)] = nn.Parameter(parameter.full_tensor().detach().cpu())
                owner, _, leaf = name.rpartition(".")
                model.get_submodule(owner)._parameters[leaf] = whole[id(parameter)]


class _Loss(nn.Module):
    """The loss as a module's forward pass, where DDP and FSDP act."""

    def __init__(self, model: VisionLanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[torch.Tensor, int]:
        return self.model.loss(batch)
