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
from torch.distributed.tensor import DTensor

from layersight.errors import TrainingError
from layersight.storage.atomic import atomic_folder
from layersight.tuning.runtime import Runtime

SHARD_BYTES = 2**28
"""A file holds about this much: safetensors copies a whole file's tensors before it writes them."""
_STATE = "state.json"
_RUN = {"what": "the subject is", "steps": "its steps are", "data": "its data have the digest"}


class Checkpoints:
    """Keeps the newest checkpoint of one training run, and finds it again.

    Of several processes each keeps a folder of its own, `process-<r>-of-<n>/`: its share of the
    model, its random states. A run goes on from the newest step that all of them have whole.

    Args:
        work: folder for unfinished work, made where needed.
        seconds: time between two checkpoints; 0 keeps one after every step.
        what: names the run.
        steps: steps of the whole run.
        data: digest of the order in which the run goes through its data: the step is the position.
    """

    def __init__(
        self, work: Path, *, seconds: float, what: str, steps: int, data: str = ""
    ) -> None:
        self._root = Path(work)
        self._work = self._root
        self._seconds = seconds
        self._run = {"what": what, "steps": steps, "data": data}
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
        runtime: Runtime,
    ) -> None:
        """Keep the state after `step` steps; older checkpoints go once the new one is whole."""
        self._work = _folder(self._root, runtime)
        folder = self._work / f"checkpoint-{step:08d}"
        with atomic_folder(folder) as beside:
            described: dict[str, Any] = {}
            shards = 0
            for shard in _shards(_tensors(model, optimiser)):
                save_file(shard, beside / _shard_name(shards))
                described |= {name: _description(tensor) for name, tensor in shard.items()}
                shards += 1
            state = {
                **self._run,
                "step": step,
                "shards": shards,
                "tensors": described,
                "records": [dict(record) for record in records],
                "random": _random_states(),
                "scale": runtime.scale,
            }
            (beside / _STATE).write_text(json.dumps(state), encoding="utf-8")
        # Not before every process has its new one may an old one go.
        runtime.wait()
        for other in self._work.glob("checkpoint-*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        self._last = time.monotonic()

    def restore(
        self, model: nn.Module, optimiser: torch.optim.Optimizer, runtime: Runtime
    ) -> tuple[int, list[dict[str, Any]]]:
        """Put model, optimiser and random states back to the newest checkpoint that is whole.

        Returns:
            The number of steps done and the log so far; (0, []) and nothing changed if there is no
            checkpoint. One that is torn or of other parameters is passed over, and named.

        Raises:
            TrainingError: a checkpoint is of another run.
        """
        self._work = _folder(self._root, runtime)
        for left_behind in self._work.glob(".checkpoint-*"):
            shutil.rmtree(left_behind, ignore_errors=True)
        whole: dict[int, tuple[Path, dict[str, Any]]] = {}
        for folder in sorted(self._work.glob("checkpoint-*"), reverse=True):
            try:
                state = self._checked(folder, model)
            except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
                print(f"{folder}: passed over, {error}", file=sys.stderr, flush=True)
                continue
            whole[int(state["step"])] = folder, state
        common = set.intersection(*(set(steps) for steps in runtime.all_of(list(whole))))
        if not common:
            return 0, []
        folder, state = whole[max(common)]
        _load(folder, int(state["shards"]), model, optimiser)
        _set_random_states(state["random"])
        runtime.scale = state.get("scale", {})
        return int(state["step"]), list(state["records"])

    def _checked(self, folder: Path, model: nn.Module) -> dict[str, Any]:
        """Read a checkpoint's description and see that its files hold just that, for this model.

        Raises:
            OSError, SafetensorError, ValueError, KeyError, TypeError: it cannot be used.
            TrainingError: it is of another run.
        """
        state: dict[str, Any] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        theirs_ours = [(key, state[key], value) for key, value in self._run.items()]
        for key, there, here in theirs_ours:
            if there != here:
                raise TrainingError(
                    f"{folder}: is a checkpoint of another run ({_RUN[key]} {there}, here {here}); "
                    "remove that folder, or put back the study that it is of"
                )
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
        yield f"parameter/{name}", _own(parameter.detach())
        # A parameter that no batch has reached yet has no state.
        for key, value in optimiser.state.get(parameter, {}).items():
            yield f"optimiser/{key}/{name}", _own(value)


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
                        _own(parameters[name]).copy_(tensor)
                elif kind == "optimiser":
                    key, _, name = name.partition("/")
                    parameter = parameters[name]
                    # A copy: the file is mapped into memory, and will be removed.
                    kept = tensor.to(parameter.device, copy=True)
                    optimiser.state[parameter][key] = _shared_like(parameter, kept)
                elif name == "cpu":
                    torch.set_rng_state(tensor.clone())
                elif torch.cuda.is_available():
                    index = int(name.removeprefix("cuda/"))
                    if index < torch.cuda.device_count():
                        torch.cuda.set_rng_state(tensor.clone(), index)


def _folder(root: Path, runtime: Runtime) -> Path:
    if runtime.processes == 1:
        return root
    return root / f"process-{runtime.process}-of-{runtime.processes}"


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """Return the share of a tensor that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _shared_like(parameter: nn.Parameter, share: torch.Tensor) -> torch.Tensor:
    """Return a share of AdamW's state in the form of its parameter; the step count is a number."""
    if not isinstance(parameter, DTensor) or share.ndim == 0:
        return share
    return DTensor.from_local(
        share,
        parameter.device_mesh,
        parameter.placements,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def _description(tensor: torch.Tensor) -> dict[str, Any]:
    own = _own(tensor)
    return {"type": str(own.dtype), "shape": list(own.shape)}


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
