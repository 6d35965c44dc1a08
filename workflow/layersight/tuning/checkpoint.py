"""Checkpoints of training: all that the next step depends on, so that a killed job goes on.

`<work>/checkpoint-<step>/` holds `tensors-NNNN.safetensors` (parameters that learn, AdamW's state,
torch's random states) and `state.json` (step, log, the random states of Python and NumPy). What is
frozen is not kept: the job loads or derives it anew.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from layersight.storage.atomic import atomic_folder

SHARD_BYTES = 2**28
"""A file holds about this much: safetensors copies a whole file's tensors before it writes them."""
_STATE = "state.json"


class Checkpoints:
    """Keeps the newest checkpoint of one training run, and finds it again.

    Args:
        work: folder for unfinished work, made where needed.
        seconds: time between two checkpoints; 0 keeps one after every step.
        what: names the run.
        steps: steps of the whole run.
    """

    def __init__(self, work: Path, *, seconds: float, what: str, steps: int) -> None:
        self._work = Path(work)
        self._seconds = seconds
        self._what = what
        self._steps = steps
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is old enough for a new one."""
        return time.monotonic() - self._last >= self._seconds

    def save(
        self,
        step: int,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        records: Sequence[Mapping[str, Any]],
    ) -> None:
        """Keep the state after `step` steps; older checkpoints go once the new one is whole."""
        folder = self._work / f"checkpoint-{step:08d}"
        with atomic_folder(folder) as beside:
            described: dict[str, Any] = {}
            shards = 0
            for shard in _shards(_tensors(model, optimiser)):
                save_file(shard, beside / _shard_name(shards))
                described |= {name: _description(tensor) for name, tensor in shard.items()}
                shards += 1
            state = {
                "what": self._what,
                "step": step,
                "steps": self._steps,
                "shards": shards,
                "tensors": described,
                "records": [dict(record) for record in records],
                "random": _random_states(),
            }
            (beside / _STATE).write_text(json.dumps(state), encoding="utf-8")
        for other in self._work.glob("checkpoint-*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        self._last = time.monotonic()

    def restore(
        self, model: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[int, list[dict[str, Any]]]:
        """Put model, optimiser and random states back to the newest checkpoint that is whole.

        Returns:
            The number of steps done and the log so far; (0, []) and nothing changed if there is no
            checkpoint. One that is torn or of another model is passed over, and named.
        """
        for left_behind in self._work.glob(".checkpoint-*"):
            shutil.rmtree(left_behind, ignore_errors=True)
        for folder in sorted(self._work.glob("checkpoint-*"), reverse=True):
            try:
                state = self._checked(folder, model)
            except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
                print(f"{folder}: passed over, {error}", file=sys.stderr, flush=True)
                continue
            _load(folder, int(state["shards"]), model, optimiser)
            _set_random_states(state["random"])
            return int(state["step"]), list(state["records"])
        return 0, []

    def _checked(self, folder: Path, model: nn.Module) -> dict[str, Any]:
        """Read a checkpoint's description and see that its files hold just that, for this model.

        Raises:
            OSError, SafetensorError, ValueError, KeyError, TypeError: it cannot be used.
        """
        state: dict[str, Any] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        if (state["what"], state["steps"]) != (self._what, self._steps):
            raise ValueError(f"it belongs to {state['what']} with {state['steps']} steps")
        if {"python", "numpy"} - state["random"].keys():
            raise ValueError("it lacks random states")
        if len(state["records"]) != state["step"]:
            raise ValueError(f"its log has {len(state['records'])} of {state['step']} steps")
        shapes: dict[str, list[int]] = {}
        for number in range(state["shards"]):
            # Opening checks the header against the file's length.
            with safe_open(folder / _shard_name(number), framework="pt") as file:
                shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        if shapes != {name: about["shape"] for name, about in state["tensors"].items()}:
            raise ValueError("its tensors are not those that its description names")
        ours = {f"parameter/{name}": _description(p) for name, p in _learning(model)}
        theirs = {k: v for k, v in state["tensors"].items() if k.startswith("parameter/")}
        if ours != theirs:
            odd = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
            raise ValueError(f"{odd[0]} is {theirs.get(odd[0])} there and {ours.get(odd[0])} here")
        return state


def _learning(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _tensors(
    model: nn.Module, optimiser: torch.optim.Optimizer
) -> Iterator[tuple[str, torch.Tensor]]:
    yield "random/cpu", torch.get_rng_state()
    if torch.cuda.is_available():
        for index, state in enumerate(torch.cuda.get_rng_state_all()):
            yield f"random/cuda/{index}", state
    for name, parameter in _learning(model):
        yield f"parameter/{name}", parameter.detach()
        # A parameter that no batch has reached yet has no state.
        for key, value in optimiser.state.get(parameter, {}).items():
            yield f"optimiser/{key}/{name}", value


def _shards(tensors: Iterator[tuple[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    shard: dict[str, torch.Tensor] = {}
    size = 0
    for name, tensor in tensors:
        if shard and size + tensor.nbytes > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor.contiguous()
        size += tensor.nbytes
    yield shard


def _load(folder: Path, shards: int, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    parameters = dict(_learning(model))
    for number in range(shards):
        with safe_open(folder / _shard_name(number), framework="pt") as file:
            for full_name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(full_name)
                kind, _, name = full_name.partition("/")
                if kind == "parameter":
                    with torch.no_grad():
                        parameters[name].copy_(tensor)
                elif kind == "optimiser":
                    key, _, name = name.partition("/")
                    parameter = parameters[name]
                    # A copy: the file is mapped into memory, and will be removed.
                    optimiser.state[parameter][key] = tensor.to(parameter.device, copy=True)
                elif name == "cpu":
                    torch.set_rng_state(tensor.clone())
                elif torch.cuda.is_available():
                    index = int(name.removeprefix("cuda/"))
                    if index < torch.cuda.device_count():
                        torch.cuda.set_rng_state(tensor.clone(), index)


def _description(tensor: torch.Tensor) -> dict[str, Any]:
    return {"type": str(tensor.dtype), "shape": list(tensor.shape)}


def _random_states() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
    }


def _set_random_states(states: Mapping[str, Any]) -> None:
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))


def _shard_name(number: int) -> str:
    return f"tensors-{number:04d}.safetensors"
