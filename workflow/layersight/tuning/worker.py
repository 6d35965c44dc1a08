"""The processes of a training stage; `layersight.tuning.launch` starts the first of them.

With a number of devices this starts as many processes, without one it is one of those.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from torch.distributed import run

from layersight import interruption
from layersight.cluster.gpus import check_process
from layersight.errors import DivergenceError, UserError
from layersight.interruption import EXIT_CODE, Interrupted
from layersight.slices import restore
from layersight.storage.atomic import atomic_file


def main(request: Path) -> int:
    """Run this process's share of the stage; return the exit code.

    A failure that people can mend goes to `failure-<process>.json` beside the request.
    """
    interruption.end_with_parent()
    interruption.install()
    process = int(os.environ.get("RANK", "0"))
    if process:
        # All processes would say the same.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    asked = json.loads(request.read_text(encoding="utf-8"))
    arguments = {
        name: Path(value) if name in asked["paths"] else value
        for name, value in asked["arguments"].items()
    }
    try:
        check_process(int(os.environ.get("WORLD_SIZE", "1")), asked["study"]["compute"]["device"])

        from layersight.tuning import stages

        getattr(stages, asked["stage"])(restore(asked["study"]), **arguments)
    except (UserError, Interrupted) as error:
        details = vars(error) if isinstance(error, DivergenceError) else {}
        with atomic_file(request.parent / f"failure-{process}.json") as beside:
            beside.write_text(
                json.dumps(
                    {"kind": type(error).__name__, "message": str(error), "details": details}
                ),
                encoding="utf-8",
            )
        return EXIT_CODE if isinstance(error, Interrupted) else 1
    except BaseException:
        sys.stderr = sys.__stderr__
        raise
    finally:
        interruption.ignore()
    return 0


def start(request: Path, devices: int) -> None:
    """Start one process a device and wait for all of them."""
    interruption.end_with_parent()
    run.main(
        [
            "--standalone", "--nproc_per_node", str(devices),
            "-m", "layersight.tuning.worker", str(request),
        ]
    )  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) > 2:
        start(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        sys.exit(main(Path(sys.argv[1])))
