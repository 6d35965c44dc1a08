"""SIGTERM asks a job for its end; once its work is over, it changes nothing more."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import atexit, os, signal
from layersight import interruption

def told_to_end_while_python_ends():
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGTERM)

atexit.register(told_to_end_while_python_ends)
interruption.install()
"""


def end(script: str) -> tuple[int, str]:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_a_job_whose_work_is_over_ends_in_silence_whatever_it_is_told():
    assert end(f"{SCRIPT}interruption.ignore()") == (0, "")


def test_without_that_the_end_of_python_would_print_a_traceback():
    assert "Traceback" in end(SCRIPT)[1]
