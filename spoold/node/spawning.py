"""Orders to the starter; and starting one where none lives.

A starter that cannot start (a half upgraded environment, no memory) must not hold up the node: one try a pass, with
growing pauses, and nobody waits for it; the next pass repeats the order.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from typing import IO

from spoold.node.environment import LOGIN_PATH
from spoold.node.workplace import Workplace, read

log = logging.getLogger("spoold.node")

BELIEVED = 0.2  # seconds for which a starter that was seen is taken to live
LONGEST_PAUSE = 30.0  # seconds between two tries


class Starters:
    """The runner's side of the FIFO `orders`. trouble: why no starter starts, "" if that is not so.

    keeper: where several users' jobs need a starter with root's rights, the pipe to who starts one (keeper.py).
    """

    def __init__(self, place: Workplace, keeper: int | None = None) -> None:
        self.place, self.keeper = place, keeper
        self.orders = os.open(place.orders, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.trouble = ""
        self._next_try = self._seen = 0.0
        self._pause = 0.5

    def order(self, key: str) -> None:
        """Tell the starter to look at an attempt (or another order, see starter.py); start one if none lives. Orders
        are repeated until they show."""
        if not self._lives() and not self._start():
            return
        try:
            os.write(self.orders, f"{key}\n".encode())
        except BlockingIOError:
            pass  # the FIFO is full of orders: this one is repeated

    def _lives(self) -> bool:
        """Whether a starter lives, or did a moment ago: where it has gone, the order is repeated."""
        now = time.monotonic()
        if now - self._seen > BELIEVED:
            self._seen = now if self.place.has_starter() else 0.0
        return self._seen > 0.0

    def _start(self) -> bool:
        """Whether one may be coming up; it reads the FIFO from its beginning then."""
        now = time.monotonic()
        if now < self._next_try:
            return self.trouble == ""
        self._next_try, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE)
        try:
            if self.keeper is None:
                spawn(self.place)
            else:
                os.write(self.keeper, b"!")
        except (OSError, subprocess.SubprocessError) as error:
            self._tell(f"no process can be started here: {error}")
            return False
        return True

    def look(self) -> None:
        """Once a pass: whether the starter that was started came up."""
        if self._lives():
            self.trouble, self._pause = "", 0.5
        elif self._pause > 2.0:
            lines = (read(os.path.join(self.place.path, "starter.log")) or "").strip().splitlines()
            self._tell("no job can be started: " + (lines[-1] if lines else "the starter does not come up"))

    def _tell(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.error("%s", trouble)
        self.trouble = trouble


def spawn(place: Workplace) -> None:
    """Start the node's starter. OSError, CalledProcessError."""
    with open_log(place) as errors:
        run(place, errors)


def run(place: Workplace, errors: IO[bytes], *words: str, isolated: bool = False) -> None:
    """Start it as no child of ours: it outlives this process. OSError, CalledProcessError.

    errors: where its own go; words: more of its command line; isolated: with nothing of our environment, by the Python
    that is installed.
    """
    python = [sys.executable, *(["-I"] if isolated else [])]
    starter = [*python, "-m", "spoold.node.starter", place.path, *words]
    code = f"import os,sys\nif os.fork(): os._exit(0)\nos.setsid()\nos.execv({sys.executable!r},{starter!r})"
    subprocess.run(
        [*python, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=errors,
        stderr=errors,
        cwd="/",
        env={"PATH": LOGIN_PATH, "LANG": "C.UTF-8"} if isolated else None,
        check=True,
    )


def open_log(place: Workplace) -> IO[bytes]:
    """Where a starter's own errors go. Links are not followed."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(os.path.join(place.path, "starter.log"), flags, 0o644), "ab")
