"""Starting a training stage on one device here, or on several by one process each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from layersight import errors, interruption
from layersight.errors import DivergenceError, TrainingError, UserError
from layersight.interruption import Interrupted
from layersight.slices import restore

LIBRARY = Path(__file__).parents[2]


def launch(stage: Callable[..., None], study: Mapping[str, Any], **arguments: Any) -> None:
    """Run a stage of training on the devices that the study names.

    Args:
        stage: `align` or `tune` of `layersight.tuning.stages`.
        study: the slice of the study that the stage reads, as plain data.
        arguments: of the stage; paths, numbers and texts.

    Raises:
        UserError, DivergenceError: as the stage raises them, wherever it ran.
        Interrupted: an end was asked for.
    """
    devices = study["compute"]["devices"]
    if devices == 1:
        stage(restore(study), **arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        request = Path(folder) / "request.json"
        plain = {k: str(v) if isinstance(v, Path) else v for k, v in arguments.items()}
        paths = [name for name, value in arguments.items() if isinstance(value, Path)]
        request.write_text(
            json.dumps(
                {"stage": stage.__name__, "study": study, "arguments": plain, "paths": paths}
            ),
            encoding="utf-8",
        )
        code = _run(request, devices, int(study["compute"]["training_threads"]))
        _raise_failure(Path(folder), code, devices)


def _run(request: Path, devices: int, threads: int) -> int:
    """Start one process a device and wait for them; pass on what they say and a wish to end."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(LIBRARY), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": str(threads),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "layersight.tuning.worker", str(request), str(devices)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    reader = threading.Thread(target=_pass_on, args=(process.stdout,), daemon=True)
    reader.start()
    asked = False
    while True:
        try:
            code = process.wait(timeout=0.5)
            reader.join(timeout=5.0)
            return code
        except subprocess.TimeoutExpired:
            if interruption.requested() and not asked:
                asked = True
                process.terminate()


def _pass_on(lines: IO[str] | None) -> None:
    for line in lines or ():
        sys.stderr.write(line)


def _raise_failure(folder: Path, code: int, devices: int) -> None:
    failures = [json.loads(path.read_text()) for path in sorted(folder.glob("failure-*.json"))]
    for failure in failures:
        if failure["kind"] == "Interrupted":
            raise Interrupted(failure["message"])
        kind = getattr(errors, failure["kind"], UserError)
        if kind is DivergenceError:
            raise DivergenceError(failure["message"], **failure["details"])
        raise kind(failure["message"])
    if code:
        raise TrainingError(
            f"training on {devices} devices ended with exit code {code}; the reason stands above"
        )
