"""Locks on files, also where the file system has none."""

from __future__ import annotations

import errno
import fcntl

import pytest

from layersight.errors import UserError
from layersight.provenance.lock import RunLock
from layersight.storage.locks import lock_file


def test_a_lock_is_had_by_one_at_a_time(tmp_path):
    with (tmp_path / "lock").open("w") as one, (tmp_path / "lock").open("w") as two:
        assert lock_file(one.fileno()) is True
        assert lock_file(two.fileno()) is False
        one.close()
        assert lock_file(two.fileno(), wait=True) is True


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_stops_nothing(tmp_path, monkeypatch, code):
    def refuse(file, how):
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (tmp_path / "lock").open("w") as file:
        assert lock_file(file.fileno()) is None
    run = RunLock(tmp_path / "results", "any")
    run.take()
    run.release()


def test_another_error_is_no_missing_lock(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (tmp_path / "lock").open("w") as file, pytest.raises(OSError, match="broken"):
        lock_file(file.fileno())


def test_a_second_run_of_a_study_is_refused_with_who_runs_it(tmp_path):
    first, second = RunLock(tmp_path, "any"), RunLock(tmp_path, "any")
    first.take()
    with pytest.raises(UserError, match="is being run already, by process"):
        second.take()
    first.release()
    second.take()
    second.release()
