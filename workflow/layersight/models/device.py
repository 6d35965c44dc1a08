"""Where and in which numbers models run: device, weights' type, threads."""

from __future__ import annotations

import torch

from layersight.errors import UserError
from layersight.study import Study


def torch_device(study: Study) -> torch.device:
    """Return the device that the study asks for.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    wanted = study.compute.device
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.device: cuda is asked for, but torch sees no GPU")
    return torch.device(wanted)


def torch_dtype(study: Study) -> torch.dtype:
    """Return the weights' type that the study asks for."""
    return {
        "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16,
    }[study.compute.precision]  # fmt: skip


def limit_threads(threads: int) -> None:
    """Make torch use as many threads as the study says: thread counts change the last bits."""
    torch.set_num_threads(threads)
