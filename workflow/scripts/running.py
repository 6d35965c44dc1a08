"""What every script shares: progress to terminal and log, and one clear message for an error."""

import errno
import gc
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError
from threadpoolctl import threadpool_limits

# The library of this checkout, whatever else is installed.
sys.path.insert(0, str(Path(__file__).parents[1]))

from layersight import interruption, plan
from layersight.cluster.gpus import check_start
from layersight.errors import DivergenceError, UserError
from layersight.interruption import Interrupted
from layersight.memory import keep_freed_memory
from layersight.provenance.attempt import Attempt
from layersight.provenance.code import CodeIndex
from layersight.provenance.failures import leave_out
from layersight.provenance.steps import describe
from layersight.slices import restore
from layersight.study import Study

PLAN = ".plan.json"
SCRIPTS = Path(__file__).parent
FILE_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class _Tee:
    """Writes to the terminal and to the log file; a full disk costs the log, not the message."""

    def __init__(self, terminal: IO[str], log: IO[str]) -> None:
        self._terminal = terminal
        self._log = log

    def write(self, text: str) -> int:
        self._terminal.write(text)
        with suppress(OSError):
            self._log.write(text)
        return len(text)

    def flush(self) -> None:
        self._terminal.flush()
        with suppress(OSError):
            self._log.flush()

    def close(self) -> None:
        # Libraries that log close what they took for the terminal at their exit.
        self.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._terminal.fileno()


def _close(log: IO[str]) -> None:
    # What is still in its buffer may not fit on a full disk.
    with suppress(OSError):
        log.close()


@contextmanager
def job(snakemake: Any, *, online: bool = False) -> Iterator[Study]:
    """Run the body of a script; yields the slice of the study that the rule declares.

    If every output is kept from an earlier run on the same settings, code and inputs, the body does
    not run.

    Args:
        snakemake: of the script.
        online: whether the job may ask the hub of models; the others work without network.
    """
    # Bars of libraries would fill the log; our own progress lines say more.
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if not online:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # A part of the time that importing torch and transformers takes is Python going through their
    # objects for garbage again and again; one such round in 300,000 new objects is enough.
    gc.set_threshold(300_000)
    interruption.end_with_parent()
    interruption.install()
    keep_freed_memory()
    # PEFT uses a name that transformers is about to rename: nothing that a user could mend.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    terminal = sys.stderr
    log = Path(snakemake.log[0])
    with ExitStack() as stack:
        stack.callback(interruption.ignore)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            file = log.open("w", encoding="utf-8")
            stack.callback(_close, file)
            stack.enter_context(threadpool_limits(snakemake.threads))
            sys.stderr = _Tee(terminal, file)  # type: ignore[assignment]
            stack.callback(setattr, sys, "stderr", terminal)
            attempt = _begin(snakemake, stack)
            if attempt.todo:
                study = restore(snakemake.params.get("study", {}))
                check_start(snakemake.resources, _device(study))
                yield study
            else:
                _say(f"{attempt.step.name}: nothing that it depends on differs; its result is kept")
            attempt.finish()
        except DivergenceError as error:
            _leave_out(snakemake, error)
            _stop(snakemake, str(error))
        except UserError as error:
            _stop(snakemake, str(error))
        except Interrupted as error:
            _say(f"{snakemake.rule}: {error}")
            os._exit(143)
        except OSError as error:
            if error.errno not in FILE_SYSTEM:
                raise
            _stop(snakemake, _about_disk(error))
        except SafetensorError as error:
            # The number of the system's error stands in the text only.
            number = re.search(r"os error (\d+)", str(error))
            if number is None or int(number[1]) not in FILE_SYSTEM:
                raise
            place = str(_results(snakemake))
            code = int(number[1])
            _stop(snakemake, _about_disk(OSError(code, os.strerror(code), place)))
    _say_remaining(snakemake)
    if not attempt.todo:
        # The generator has not yielded: leave the script here.
        sys.exit(0)


class _Current:
    """The attempt that the running script is."""

    attempt: Attempt


def _begin(snakemake: Any, stack: ExitStack) -> Attempt:
    results = _results(snakemake)
    step = describe(
        snakemake.rule,
        dict(snakemake.wildcards.items()),
        dict(snakemake.params.items()),
        snakemake.input._allitems(),
        list(snakemake.output),
        results=results,
        scripts=SCRIPTS,
        index=CodeIndex(),
    )
    shared = snakemake.params.get("shared")
    attempt = Attempt(step, results=results, shared=Path(shared) if shared else None)
    attempt.lock()
    stack.callback(attempt.release)
    attempt.todo = attempt.restore()
    _Current.attempt = attempt
    return attempt


def work() -> Path:
    """Return the folder for this job's unfinished work; it survives a kill."""
    return _Current.attempt.work


def parts(names: Sequence[str]) -> dict[str, Path]:
    """Return where to make the parts of this job that are not there yet.

    Args:
        names: of the parts, in the order of the job's outputs.
    """
    attempt = _Current.attempt
    return {
        name: attempt.staged(path)
        for name, path in zip(names, attempt.step.outputs, strict=True)
        if path in attempt.todo
    }


def as_list(files: Any) -> list[Path]:
    """Return a named input as paths, whether it holds no, one or several files."""
    return [Path(files)] if isinstance(files, str) else [Path(str(item)) for item in files]


def paths(files: Any) -> dict[str, Path]:
    """Return the files of a named input by their names without ending."""
    return {path.stem: path for path in as_list(files)}


def names(folders: Any) -> list[str]:
    """Return the names of the folders of a named input."""
    return [path.name for path in as_list(folders)]


def folders(files: Any) -> dict[str, Path]:
    """Return the folders of a named input by their names."""
    return {path.name: path for path in as_list(files)}


def folder(folders: Any) -> Path:
    """Return the folder that the folders of a named input lie in."""
    return as_list(folders)[0].parent


def manifests(root: Path, *folders: Any) -> dict[str, Path]:
    """Return the manifests of artefacts by their place below `root`."""
    found = [path for group in folders for path in as_list(group)]
    return {str(path.relative_to(root)): path / "manifest.json" for path in found}


def first(files: Any) -> Path | None:
    """Return the file of a named input that may be empty."""
    found = as_list(files)
    return found[0] if found else None


def live(snakemake: Any) -> Path:
    """Return the file beside the log in which training shows its steps as it goes."""
    return Path(snakemake.log[0]).with_suffix(".parquet")


def tensorboard(snakemake: Any) -> Path | None:
    """Return the folder for TensorBoard, if the study asks for it."""
    return Path(snakemake.log[0]).with_suffix("") if snakemake.params.tensorboard else None


def _results(snakemake: Any) -> Path:
    """Folder of the study's results: every job logs below it."""
    return Path(*Path(snakemake.log[0]).parts[:2])


def _leave_out(snakemake: Any, error: DivergenceError) -> None:
    if snakemake.rule == "tune":
        leave_out(
            _results(snakemake),
            f"{snakemake.wildcards.variant}/seed-{snakemake.wildcards.seed}",
            _Current.attempt.step,
            str(error),
        )


def _stop(snakemake: Any, message: str) -> None:
    _say(f"\n{snakemake.rule}: {message}\n")
    sys.exit(1)


def _device(study: Study) -> str:
    """Device that the step reads from the study; a slice may lack it."""
    return str(getattr(getattr(study, "compute", None), "device", "auto"))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _about_disk(error: OSError) -> str:
    place = Path(error.filename) if error.filename else Path.cwd()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        existing = next((p for p in (place, *place.absolute().parents) if p.exists()), Path("/"))
        free = shutil.disk_usage(existing).free / 1e6
        return (
            f"{place}: no space left on the device ({free:.0f} MB free): make room, then give the "
            "same command again; it goes on from here"
        )
    return (
        f"{place}: cannot be written ({error.strerror}): give yourself the right to write there, "
        "then give the same command again"
    )


def _say_remaining(snakemake: Any) -> None:
    found = plan.remaining(_results(snakemake) / PLAN)
    if found is not None:
        done, total, seconds = found
        _say(
            f"== {snakemake.rule} is done · {min(done + 1, total)} of {total} jobs · about "
            f"{max(0, seconds) / 60:.0f} min left of this run"
        )
