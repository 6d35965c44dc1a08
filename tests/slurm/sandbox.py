"""A real Slurm on this machine: controller and three nodes as processes of this user."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

HERE = Path(__file__).parent
NODES = ("cpu1", "cpu2", "gpu1")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
PACKAGES = ("slurm-wlm", "munge")
PATIENCE_S = 60.0
MANY_CPUS = (os.cpu_count() or 1) + 6
"""CPUs of one pretended node: more than this machine has."""


def missing() -> list[str]:
    """Programs of Slurm that this machine lacks."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def install() -> str | None:
    """Install Slurm where that is possible; return why it is not there, or None."""
    if not missing():
        return None
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"Slurm is not installed here ({', '.join(missing())}), and only root could do so"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"Slurm could not be installed: {done.stderr.strip()[-400:]}"
    return f"Slurm was installed, but lacks {', '.join(missing())}" if missing() else None


class Sandbox:
    """A cluster in one folder.

    Args:
        root: an empty folder with a short name: sockets lie below it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.completed = root / "log/completed.log"
        self._ports = _free_ports(1 + len(NODES))

    def environment(self) -> dict[str, str]:
        """What Slurm's commands need."""
        path = f"{self.root}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
        return {"SLURM_CONF": f"{self.root}/etc/slurm.conf", "PATH": path}

    def run(self, *command: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        done = self.attempt(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def _launch(self, *command: str) -> None:
        """Run a daemon, which goes on in the background and must not hold a pipe of ours."""
        log = self.root / f"log/{command[0]}.out"
        with log.open("a") as out:
            subprocess.run(
                command,
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                check=True,
                timeout=PATIENCE_S,
            )

    def attempt(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands, whatever comes of it."""
        return subprocess.run(
            command,
            env={**os.environ, **self.environment()},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def start(self) -> None:
        """Start everything; the cluster is idle when this returns."""
        for name in ("etc", "run", "log", "state", "dev", "munge", "bin", *_spools()):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o755)
        for index in range(4):
            (self.root / f"dev/gpu{index}").symlink_to("/dev/null")
        for name in ("slurm.conf", "gres.conf"):
            (self.root / "etc" / name).write_text(self._filled((HERE / name).read_text()))
        # The plugin takes SLURM_CONF away from srun, which a cluster in /etc does not need.
        srun = self.root / "bin/srun"
        srun.write_text(
            f'#!/bin/sh\nSLURM_CONF={self.root}/etc/slurm.conf exec {shutil.which("srun")} "$@"\n'
        )
        srun.chmod(0o755)
        self._start_munge()
        self.completed.touch()
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        wait_for(self._is_idle, "idle nodes")

    def start_controller(self) -> None:
        """Start slurmctld, which finds its jobs in its state."""
        self._launch("slurmctld")
        wait_for(lambda: self.attempt("scontrol", "ping").returncode == 0, "the controller")

    def stop_controller(self) -> None:
        """End slurmctld; jobs go on without it."""
        self._end(self.root / "run/slurmctld.pid", signal.SIGTERM)

    def start_node(self, node: str) -> None:
        """Start the daemon of one node."""
        self._launch("slurmd", "-N", node)

    def fail_node(self, node: str) -> None:
        """Let a node die with all that runs on it, and the controller know."""
        pid = int((self.root / f"run/{node}.pid").read_text())
        steps = [
            process
            for process in psutil.process_iter()
            if f"[{node}]" in " ".join(_command(process)) or _belongs_to(process, node)
        ]
        doomed = {process for step in steps for process in (step, *step.children(recursive=True))}
        psutil.Process(pid).kill()
        for process in doomed:
            if process.is_running():
                process.kill()
        (self.root / f"run/{node}.pid").unlink(missing_ok=True)
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=failed")

    def repair_node(self, node: str) -> None:
        """Bring a node back."""
        self.start_node(node)
        # A node that comes back by itself needs no call, and Slurm refuses it.
        self.attempt("scontrol", "update", f"nodename={node}", "state=resume")

    def stop(self) -> None:
        """End every job and every daemon that this sandbox has started."""
        if (self.root / "run/slurmctld.pid").exists():
            # A controller that does not answer has no jobs to end.
            self.attempt("scancel", f"--user={getpass.getuser()}")
            time.sleep(1)
        for name in (*NODES, "slurmctld"):
            self._end(self.root / f"run/{name}.pid", signal.SIGTERM)
        self._end(self.root / "munge/pid", signal.SIGTERM)

    def _start_munge(self) -> None:
        folder = self.root / "munge"
        key = folder / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        parts = {"key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        files = [f"--{option}={folder}/{name}" for option, name in parts.items()]
        self._launch("munged", "--force", "--num-threads=2", f"--socket={folder}/socket", *files)
        wait_for((folder / "socket").exists, "munge")

    def _is_idle(self) -> bool:
        shown = self.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split()
        return set(shown) == set(NODES)

    def _filled(self, text: str) -> str:
        words = {"ROOT": self.root, "HOST": socket.gethostname().split(".")[0]}
        words |= {"USER": getpass.getuser(), "MANY": MANY_CPUS}
        words |= {f"PORT{index}": port for index, port in enumerate(self._ports)}
        for name, value in words.items():
            text = text.replace(f"@{name}@", str(value))
        return text

    def _end(self, pid_file: Path, how: signal.Signals) -> None:
        if not pid_file.exists():
            return
        try:
            process = psutil.Process(int(pid_file.read_text()))
            process.send_signal(how)
            process.wait(10)
        except psutil.NoSuchProcess:
            pass
        except psutil.TimeoutExpired:
            process.kill()
        pid_file.unlink(missing_ok=True)


def wait_for(
    seen: Callable[[], object], what: str, seconds: float = PATIENCE_S, every: float = 0.2
) -> None:
    """Wait until something is true, and look for it so often."""
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(every)


def _spools() -> list[str]:
    return [f"spool/{node}" for node in NODES]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _belongs_to(process: psutil.Process, node: str) -> bool:
    try:
        return process.environ().get("SLURMD_NODENAME") == node
    except psutil.Error:
        return False
