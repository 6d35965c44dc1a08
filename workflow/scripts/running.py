"""What every script shares: progress to terminal and log, and one clear message for an error."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from threadpoolctl import threadpool_limits

# The library of this checkout, whatever else is installed.
sys.path.insert(0, str(Path(__file__).parents[1]))

from layersight import plan
from layersight.errors import UserError
from layersight.memory import keep_freed_memory
from layersight.slices import restore
from layersight.study import Study

PLAN = ".plan.json"


class _Tee:
    """Writes to the terminal and to the log file."""

    def __init__(self, *streams: IO[str]) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._streams[0].fileno()


@contextmanager
def job(snakemake: Any) -> Iterator[Study]:
    """Run the body of a script; yields the slice of the study that the rule declares."""
    # Bars of libraries would fill the log; our own progress lines say more.
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    keep_freed_memory()
    # PEFT uses a name that transformers is about to rename: nothing that a user could mend.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    terminal = sys.stderr
    log = Path(snakemake.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    study = restore(snakemake.params.get("study", {}))
    with log.open("w", encoding="utf-8") as file, threadpool_limits(snakemake.threads):
        sys.stderr = _Tee(terminal, file)  # type: ignore[assignment]
        try:
            yield study
        except UserError as error:
            print(f"\n{snakemake.rule}: {error}\n", file=sys.stderr, flush=True)
            sys.exit(1)
        finally:
            sys.stderr = terminal
    _say_remaining(snakemake)


def as_list(files: Any) -> list[Path]:
    """Return a named input as paths, whether it holds no, one or several files."""
    return [Path(files)] if isinstance(files, str) else [Path(str(item)) for item in files]


def paths(files: Any, names: list[str]) -> dict[str, Path]:
    """Pair the files of a named input with their names."""
    return dict(zip(names, as_list(files), strict=True))


def first(files: Any) -> Path | None:
    """Return the file of a named input that may be empty."""
    found = as_list(files)
    return found[0] if found else None


def _say_remaining(snakemake: Any) -> None:
    parts = Path(snakemake.log[0]).parts
    if parts[0] != "results":
        return
    found = plan.remaining(Path(parts[0], parts[1], PLAN))
    if found is not None:
        done, total, seconds = found
        print(
            f"== {snakemake.rule} is done · {min(done + 1, total)} of {total} jobs · about "
            f"{max(0, seconds) / 60:.0f} min left of this run",
            file=sys.stderr,
            flush=True,
        )
