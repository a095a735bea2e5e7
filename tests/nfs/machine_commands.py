#!/usr/bin/env python3
"""The last stage of a machine's first process: runs what this host leaves in the machine's folder.

NAME.command asks for a command, NAME.signal holds a signal for its process group; the answers are NAME.out, NAME.err
and, last, NAME.status. A byte on the machine's serial line says that there is something to do. Nothing here goes over
the machine's network, so a machine that is cut off still obeys.

Two commands are carried out here, since they are asked for several times a second, and a process of their own would
take more from the two cores than all that is tested: ["files", FOLDER] tells every file below a directory as JSON,
["names", FOLDER] their paths alone. Both are for the server, whose own disk never hangs.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tty
from pathlib import Path

FOLDER = Path(sys.argv[1])
LOOK = 2.0  # seconds between looks when no bell rings
LOOKS = ("files", "names")
running: dict[int, str] = {}  # pid -> name
# Kept as long as they run: of one that was let go, the next Popen takes the exit status, and we would wait for ever.
processes: dict[int, subprocess.Popen[bytes]] = {}


def look(kind: str, folder: str) -> str:
    """What is below a directory, as JSON: path -> text of each file, or the paths."""
    texts: dict[str, str] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            with contextlib.suppress(FileNotFoundError):  # it was just moved or removed
                texts[os.path.relpath(path, folder)] = "" if kind == "names" else text_of(path)
    return json.dumps(sorted(texts) if kind == "names" else texts)


def text_of(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def start(name: str) -> None:
    asked = json.loads((FOLDER / f"{name}.command").read_text())
    (FOLDER / f"{name}.command").unlink()
    if asked["words"][0] in LOOKS:
        (FOLDER / f"{name}.out").write_text(look(*asked["words"]))
        return finish(name, 0)
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
        running[process.pid], processes[process.pid] = name, process
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
            processes.pop(pid).returncode = code
            finish(running.pop(pid), code if code >= 0 else 128 - code)


signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, lambda *_: None)
bell = os.open(sys.argv[2], os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
tty.setraw(bell)
woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
(FOLDER / "ready").touch()
while True:
    for entry in sorted(os.listdir(FOLDER)):
        if entry.endswith(".command"):
            start(entry.removesuffix(".command"))
        elif entry.endswith(".signal"):
            send(entry.removesuffix(".signal"))
    reap()
    for descriptor in select.select([bell, woken], [], [], LOOK)[0]:
        os.read(descriptor, 4096)
