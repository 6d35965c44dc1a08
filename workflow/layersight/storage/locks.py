"""Locks on files, which the system gives back when a process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})


def lock_file(file: int, *, wait: bool = False) -> bool | None:
    """Lock an open file for this process alone.

    Args:
        file: descriptor.
        wait: whether to wait for the process that has it.

    Returns:
        True if it is locked now, False if another process has it, None if the file system has no
        locks, as Lustre mounted without `flock`.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True
