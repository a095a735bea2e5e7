#!/usr/bin/env python3
"""The last stage of a machine's first process: runs what this host leaves in the machine's folder.

NAME.command asks for a command, NAME.signal holds a signal for its process group; the answers are NAME.out, NAME.err
and, last, NAME.status. Nothing here goes over the machine's network, so a machine that is cut off still obeys.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(sys.argv[1])
LOOK = 0.015  # seconds between looks
running: dict[int, str] = {}  # pid -> name


def start(name: str) -> None:
    asked = json.loads((FOLDER / f"{name}.command").read_text())
    (FOLDER / f"{name}.command").unlink()
    # O_SYNC: each write reaches this host's file at once, so output can be followed there.
    flags = os.O_WRONLY | os.O_CREAT | os.O_SYNC | os.O_APPEND
    out, err = (os.open(FOLDER / f"{name}.{kind}", flags, 0o600) for kind in ("out", "err"))
    try:
        process = subprocess.Popen(
            asked["words"],
            cwd=asked["cwd"],
            env=asked["environment"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        running[process.pid] = name
    except OSError as error:
        os.write(err, f"{error}\n".encode())
        finish(name, 127)
    finally:
        os.close(out)
        os.close(err)


def finish(name: str, code: int) -> None:
    (FOLDER / f"{name}.part").write_text(str(code))
    (FOLDER / f"{name}.part").rename(FOLDER / f"{name}.status")


def send(name: str) -> None:
    number = int((FOLDER / f"{name}.signal").read_text())
    (FOLDER / f"{name}.signal").unlink()
    for pid, command in running.items():
        if command == name:
            with contextlib.suppress(ProcessLookupError):  # it has just ended; if we died of that, so did the machine
                os.killpg(pid, number)


def reap() -> None:
    """Commands that ended, and orphans: this is the machine's first process."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in running:
            code = os.waitstatus_to_exitcode(status)
            finish(running.pop(pid), code if code >= 0 else 128 - code)


signal.signal(signal.SIGINT, signal.SIG_IGN)
(FOLDER / "ready").touch()
while True:
    for entry in sorted(os.listdir(FOLDER)):
        if entry.endswith(".command"):
            start(entry.removesuffix(".command"))
        elif entry.endswith(".signal"):
            send(entry.removesuffix(".signal"))
    reap()
    time.sleep(LOOK)
