"""A machine of a bench as this host sees it: a User-Mode Linux kernel, that is, some ordinary processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path


class Machine:
    """The processes of one machine, found again by FOLDER/NAME.pid: first pid and its start time."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.note = folder / f"{name}.pid"
        self.process: subprocess.Popen[bytes] | None = None
        self.boots = 0
        self._bell = -1

    def start(self, words: list[str], environment: dict[str, str]) -> None:
        """Start its kernel in a session of its own; what it prints goes to NAME.log. Its serial line is a bell."""
        heard, bell = os.pipe2(os.O_CLOEXEC)
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*words, f"ssl0=fd:{heard}"],
                pass_fds=[heard],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
            )
        self.boots += 1
        os.close(heard)
        os.set_blocking(bell, False)
        self._bell = bell
        self.note.write_text(f"{self.process.pid} {start_time(self.process.pid)}")

    def ring(self) -> None:
        """Tell its first process to look at its folder."""
        with contextlib.suppress(OSError):  # it has not looked for long, or it is off
            os.write(self._bell, b".")

    def _hang_up(self) -> None:
        if self._bell >= 0:
            os.close(self._bell)
        self._bell = -1

    @property
    def pid(self) -> int | None:
        """Of its kernel; None: it is off."""
        try:
            pid, began = self.note.read_text().split()
            return int(pid) if start_time(int(pid)) == began else None
        except (OSError, ValueError):
            return None

    def signal(self, number: int) -> None:
        """Signal the kernel alone: it traces its helpers, and they wait for it."""
        pid = self.pid
        assert pid is not None, f"{self.name} is off"
        os.kill(pid, number)

    def kill(self) -> None:
        """Power off: nothing is flushed, nobody is told."""
        leader = self.pid
        while leader is not None and (members := list(family(leader))):
            for member in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
            time.sleep(0.01)
        self.reap()
        self.note.unlink(missing_ok=True)

    def reap(self) -> None:
        """Take in the kernel's process, if this process has started it, after it was killed."""
        if self.process is not None:
            self.process.wait(20)
        self._hang_up()


def stat_fields(pid: int | str) -> list[str]:
    """/proc/PID/stat from the state on; OSError if there is no such process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def start_time(pid: int) -> str:
    """In clock ticks since boot: with its pid it names one process. A zombie counts as gone (ProcessLookupError)."""
    fields = stat_fields(pid)
    if fields[0] in "ZX":
        raise ProcessLookupError(pid)
    return fields[19]


def family(leader: int) -> Iterator[int]:
    """The living processes of a session."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = stat_fields(entry.name)
            if int(fields[3]) == leader and fields[0] not in "ZX":
                yield int(entry.name)
