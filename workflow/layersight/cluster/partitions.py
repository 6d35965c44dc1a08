"""The partition file: what a cluster offers, in the one place that a user edits.

It is the file of Snakemake's Slurm plugin (`slurm-partition-config`), with one section more that
the plugin passes over: `gpus`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from layersight.errors import UserError
from layersight.strict import Strict

VARIABLE = "SNAKEMAKE_SLURM_PARTITIONS"
"""Environment variable that names the file; the plugin's own. Jobs find the file by it."""

Positive = Annotated[float, Field(gt=0.0, strict=False)]


class ClusterError(UserError):
    """The partition file is not what it should be, or has no place for a job."""


class Limits(Strict):
    """What one job may take in one partition. The names are the plugin's; left out: no limit."""

    max_runtime: float | str | None = None
    """Minutes, or a text such as `12h` or `2-00:00:00`."""
    max_mem_mb: Positive = math.inf
    max_mem_mb_per_cpu: Positive = math.inf
    max_cpus_per_task: Positive = math.inf
    max_threads: Positive = math.inf
    max_nodes: Positive = math.inf
    max_tasks: Positive = math.inf
    max_tasks_per_node: Positive = math.inf
    max_gpu: Annotated[int, Field(ge=0)] = 0
    """GPUs of one node; 0: a partition without GPUs."""
    available_gpu_models: list[str] | None = None
    max_cpus_per_gpu: Positive = math.inf
    supports_mpi: bool = True
    max_mpi_tasks: Positive = math.inf
    available_constraints: list[str] | None = None

    @field_validator("max_runtime")
    @classmethod
    def _is_a_time(cls, value: float | str | None) -> float | str | None:
        minutes(value)
        return value

    @property
    def minutes(self) -> float:
        """Longest time of a job, in minutes."""
        return minutes(self.max_runtime)

    @property
    def threads(self) -> float:
        """Most threads of a job."""
        return min(self.max_threads, self.max_cpus_per_task)


class Kind(Strict):
    """The GPUs of one partition."""

    memory_gb: Positive | None = None
    """Memory of one GPU, in GB; jobs that need more by prediction go elsewhere."""
    device: str | None = None
    """Part of the name that the driver gives these GPUs, such as `A100`; jobs check it."""


class Gpus(Strict):
    """How GPUs are asked for."""

    request: Literal["gpus", "gres"] = "gpus"
    """`gpus` gives sbatch `--gpus=2`, `gres` gives `--gres=gpu:2`; sites take one or the other."""
    name_model: bool = False
    """Also name the first of a partition's `available_gpu_models`: `--gpus=a100:2`."""
    kinds: dict[str, Kind] = {}
    """The GPUs of each partition, by the partition's name."""


class Site(Strict):
    """A cluster: its partitions in the order in which they are tried."""

    path: Path
    partitions: Annotated[dict[str, Limits], Field(min_length=1)]
    gpus: Gpus = Gpus()

    def kind(self, partition: str) -> Kind:
        """Return what is known of the GPUs of a partition."""
        return self.gpus.kinds.get(partition, Kind())


def read_site(path: Path) -> Site:
    """Read a partition file.

    Args:
        path: YAML file; see `profiles/slurm/partitions.yaml`.

    Raises:
        ClusterError: it is missing, unreadable or holds a wrong value; names file and key.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ClusterError(
            f"{path}: the partition file cannot be read ({error.strerror}): give its place as "
            f"slurm-partition-config in profiles/slurm/config.yaml, or in {VARIABLE}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ClusterError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("partitions"), dict):
        raise ClusterError(f"{path}: partitions: must map names of partitions to their limits")
    known = {"partitions": _named(data["partitions"]), "gpus": data.get("gpus") or {}}
    try:
        site = Site.model_validate({"path": Path(path), **known})
    except ValidationError as error:
        raise ClusterError(f"{path}:\n{_explain(error)}") from None
    for name in site.gpus.kinds:
        if name not in site.partitions or not site.partitions[name].max_gpu:
            raise ClusterError(
                f"{path}: gpus.kinds.{name}: there is no partition {name} with max_gpu; partitions "
                f"with GPUs: {', '.join(_with_gpus(site)) or 'none'}"
            )
    return site


def minutes(time: float | str | None) -> float:
    """Return a time limit in minutes; None is no limit.

    Raises:
        ValueError: it is no time in one of the plugin's notations.
    """
    # The plugin is there only where Snakemake is.
    from snakemake_executor_plugin_slurm.utils import parse_time_to_minutes
    from snakemake_interface_common.exceptions import WorkflowError

    if time is None:
        return math.inf
    try:
        found = float(parse_time_to_minutes(time))
    except WorkflowError:
        found = 0.0
    if found <= 0:
        raise ValueError(f"{time!r} is no time: write minutes, or such as 12h or 2-00:00:00")
    return found


def _named(partitions: dict[Any, Any]) -> dict[str, Any]:
    # A partition without any limit is written as a name and a colon; names may be numbers.
    return {str(name): {} if limits is None else limits for name, limits in partitions.items()}


def _with_gpus(site: Site) -> list[str]:
    return [name for name, limits in site.partitions.items() if limits.max_gpu]


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            model: type[Strict] = Limits if problem["loc"][0] == "partitions" else Gpus
            known = Kind if len(problem["loc"]) == 4 else model
            text = f"unknown key; known: {', '.join(known.model_fields)}"
        lines.append(f"  {key}: {text}")
    return "\n".join(lines)
