"""Times the vision encoder on random pictures, with and without keeping freed memory.

Each setting runs in a process of its own, since the C library cannot be asked to forget it.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time


def measure(keep: bool, pictures: int) -> None:
    """Print seconds of wall, user and kernel time for `pictures` pictures."""
    import numpy as np
    import torch

    from layersight.memory import keep_freed_memory
    from layersight.models.vision import image_features, load_efficientnet_lite0

    if keep and not keep_freed_memory():
        sys.exit("this C library cannot be asked to keep freed memory")
    torch.manual_seed(0)
    model = load_efficientnet_lite0(None)
    images = np.random.default_rng(0).integers(0, 255, (pictures, 224, 224, 3), dtype=np.uint8)
    batches = [images[start : start + 32] for start in range(0, pictures, 32)]
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    for _ in image_features(model, batches, 2, torch.device("cpu")):
        pass
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"keep freed memory: {keep!s:5}  wall {time.monotonic() - start:6.2f} s  "
        f"user {after.ru_utime - before.ru_utime:6.2f} s  "
        f"kernel {after.ru_stime - before.ru_stime:6.2f} s"
    )


def main() -> None:
    """Measure both settings in turn, three times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--only", choices=["keep", "give-back"], help="measure in this process")
    arguments = parser.parse_args()
    if arguments.only:
        measure(arguments.only == "keep", arguments.pictures)
        return
    for _ in range(3):
        for setting in ("give-back", "keep"):
            subprocess.run(
                [
                    sys.executable,
                    __file__,
                    "--only",
                    setting,
                    "--pictures",
                    str(arguments.pictures),
                ],
                check=True,
            )


if __name__ == "__main__":
    main()
