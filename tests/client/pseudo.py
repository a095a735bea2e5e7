"""A command line at a terminal of a given size: a pseudo terminal, whose output is read to the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import NamedTuple


class Shown(NamedTuple):
    """What a command wrote to its terminal, and its exit code."""

    code: int
    out: bytes

    @property
    def lines(self) -> list[str]:
        """The lines, without colours."""
        text = re.sub(rb"\x1b\[[0-9;]*m", b"", self.out).decode()
        return [line.rstrip("\r") for line in text.split("\n")][:-1]


def on_terminal(*words: str, columns: int = 80, timeout: float = 60, stderr: bool = False, **env: str) -> Shown:
    """Run a command line of skyspool at a terminal. stderr: this goes there too."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    started = subprocess.Popen(
        [sys.executable, "-m", "skyspool", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs if stderr else subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm-256color", **env},
        start_new_session=True,
    )
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        out = _all(terminal.fileno())
    return Shown(started.wait(timeout), out)


def _all(descriptor: int) -> bytes:
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # EIO: nobody holds the other end any more
            part = b""
        if not part:
            return b"".join(parts)
        parts.append(part)
