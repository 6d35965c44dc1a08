"""Large results on a scratch file system, reached through a link in the folder of results.

Activations of a large model take more than many quotas allow, and can be made again. With a
scratch folder set, `results/<study>/activations` is a link to a folder there, and unfinished and
kept copies of activations lie beside that folder, so that files move within one file system.
"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from layersight.errors import UserError
from layersight.study import Study

VARIABLE = "LAYERSIGHT_SCRATCH"
"""Environment variable that overrides the study's `compute.scratch`."""
LARGE = "activations"
"""The folder of results that goes there, and the stage of a study that fills it."""


def scratch_folder(study: Study) -> Path | None:
    """Return the scratch folder of this machine, absolute; None if there is none."""
    named = os.environ.get(VARIABLE) or study.compute.scratch
    return Path(os.path.expandvars(named)).expanduser().absolute() if named else None


def place_large(results: Path, scratch: Path | None) -> None:
    """Link the large part of a study's results to the scratch folder; called before a run.

    A link that is there stays, whatever the setting says now. What it leads to is made again if the
    scratch file system was cleaned.

    Args:
        results: folder of the study's results.
        scratch: where large results go; None links nothing new.

    Raises:
        UserError: results lie at the link's place, or the scratch folder cannot be written.
    """
    link = results / LARGE
    if link.is_symlink():
        target = Path(os.readlink(link))
    elif scratch is not None:
        target = scratch / _own_name(results) / LARGE
    else:
        return
    try:
        if not link.is_symlink() and link.is_dir():
            # An empty one makes room; one that holds results stays.
            link.rmdir()
        target.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise UserError(
                f"{link}: holds activations already, but {VARIABLE} (or compute.scratch) says "
                f"{scratch}: move them (mkdir -p {target.parent} && mv {link} {target} && "
                f"ln -s {target} {link}), or unset it; nothing has been started"
            ) from None
        raise UserError(
            f"{target}: the scratch folder cannot be written ({error.strerror}): correct "
            f"{VARIABLE} (or compute.scratch); if that file system is gone, remove the link "
            f"{link} and activations are made again; nothing has been started"
        ) from None


def home_of(path: Path, results: Path) -> Path:
    """Return the folder that holds the unfinished and kept copies of an output.

    Args:
        path: of the output.
        results: folder of the study's results: the answer, unless the output lies behind a link.
    """
    if not path.is_relative_to(results) or path == results:
        return results
    first = results / path.relative_to(results).parts[0]
    return Path(os.readlink(first)).parent if first.is_symlink() else results


def _own_name(results: Path) -> str:
    """Name for one study of one clone: two clones may hold studies of the same name."""
    place = str(results.absolute())
    return f"{results.name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"
