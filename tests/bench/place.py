"""Where the bench works: a temporary directory on a real disk, an empty home, and tools that it has got for itself.

Programs come from the distribution (apt-get, where we are root) and from the Python index (a venv in the temporary
directory). What cannot be had is told in the table. Every process that is started is ended by its own pid.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from spool_layout.mounts import IN_MEMORY, mount_of
from tests.bench.figures import say

DEBIAN = {  # program -> packages
    "tsp": "task-spooler",
    "nq": "nq",
    "parallel": "parallel",
    "strace": "strace",
    "slurmctld": "slurmctld slurmd slurm-client munge",
}
PYTHON = ("huey", "hyperqueue")
BASES = ("/var/tmp", "/tmp", str(Path(__file__).parents[2] / "build"))


class Place:
    """The temporary directory. tools: a directory with a venv from an earlier run, else one is made here."""

    def __init__(self, path: Path, tools: Path | None = None) -> None:
        self.path = path
        self.home = self.folder("home")
        self.venv = (tools or path / "tools").absolute()
        self.processes: list[subprocess.Popen[str]] = []
        self.missing: dict[str, str] = {}  # program or distribution -> why it could not be had

    @property
    def file_system(self) -> str:
        """Type and source."""
        mount = mount_of(str(self.path))
        return f"{mount.kind} on {mount.source}"

    def folder(self, name: str) -> Path:
        """A new directory."""
        made = self.path / name
        made.mkdir(parents=True)
        return made

    def fetch(self) -> Place:
        """Install what is missing, as far as we may."""
        wanted = [name for program, names in DEBIAN.items() if not shutil.which(program) for name in names.split()]
        if wanted and os.getuid() == 0 and shutil.which("apt-get"):
            say(f"apt-get install {' '.join(wanted)}")
            subprocess.run(
                ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
        for program, package in DEBIAN.items():
            if not shutil.which(program):
                self.missing[program] = f"needs the packages {package}"
        for name in PYTHON:
            if not self.python_has(name):
                self.missing[name] = "pip could not install it"
        return self

    def pip(self, *names: str) -> bool:
        """Install into the bench's own venv."""
        if not (self.venv / "bin/python").exists():
            say(f"makes {self.venv}")
            subprocess.run([sys.executable, "-m", "venv", str(self.venv)], check=True)
        command = [str(self.venv / "bin/python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *names]
        return subprocess.run(command, stdout=sys.stderr, stderr=subprocess.DEVNULL).returncode == 0

    def python_has(self, name: str) -> bool:
        """Whether the venv has a distribution, now."""
        python = self.venv / "bin/python"
        if (
            python.exists()
            and subprocess.run([python, "-c", f"import {name}"], stderr=subprocess.DEVNULL).returncode == 0
        ):
            return True
        return self.pip(name)

    def start(self, words: list[str], said: Path | None = None, **more: str) -> subprocess.Popen[str]:
        """A process that talks in lines on stdin and stdout, ended by `close`. said: its stderr; more: variables."""
        with (said or self.path / "others.log").open("a") as log:
            process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **more},
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End what was started, the last first."""
        for process in reversed(self.processes):
            end(process)
        self.processes.clear()


def signal_all(process: subprocess.Popen[str] | subprocess.Popen[bytes], number: int) -> None:
    """Signal a process that was started here, and its children: each such process leads a group of its own."""
    if process.poll() is None:
        os.killpg(process.pid, number)


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM, patience: float = 10) -> None:
    """Ask one process to end, then make it."""
    signal_all(process, signal.SIGCONT)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def on_disk() -> Path:
    """The first directory that is not in memory."""
    for base in (os.environ.get("TMPDIR", ""), *BASES):
        if base and Path(base).is_dir() and mount_of(base).kind not in IN_MEMORY:
            return Path(base)
    sys.exit("there is no temporary directory on a disk: set TMPDIR")


@contextlib.contextmanager
def place(tools: Path | None = None) -> Iterator[Place]:
    """A place that is removed in the end. HOME of everything started from here is empty."""
    folder = Path(tempfile.mkdtemp(prefix="skyspool-bench.", dir=on_disk()))
    here = Place(folder, tools)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    os.environ.update(HOME=str(here.home), TMPDIR=str(here.folder("tmp")), LC_ALL="C.UTF-8")
    tempfile.tempdir = None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("was told to end"))  # so that all is ended
    try:
        yield here
    finally:
        here.close()
        shutil.rmtree(folder, ignore_errors=True)


def machine() -> str:
    """What this ran on, in one line."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ":?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    cores = len(os.sched_getaffinity(0))
    name = model.partition(":")[2].strip()
    return f"{cores} cores of {name}, {memory} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def load() -> str:
    """Who else is at work here."""
    return f"load {os.getloadavg()[0]:.1f} at {time.strftime('%Y-%m-%d %H:%M:%SZ', time.gmtime())}"
