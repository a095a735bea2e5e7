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

from spoold.node.workplace import Workplace, read

log = logging.getLogger("spoold.node")

LONGEST_PAUSE = 30.0  # seconds between two tries


class Starters:
    """The runner's side of the FIFO `orders`. trouble: why no starter starts, "" if that is not so."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.orders = os.open(place.orders, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.trouble = ""
        self._next_try = 0.0
        self._pause = 0.5

    def order(self, key: str) -> None:
        """Tell the starter to look at an attempt; start one if none lives. Orders are repeated until they show."""
        if not self.place.has_starter() and not self._start():
            return
        try:
            os.write(self.orders, f"{key}\n".encode())
        except BlockingIOError:
            pass  # the FIFO is full of orders: this one is repeated

    def _start(self) -> bool:
        """Whether one may be coming up; it reads the FIFO from its beginning then."""
        now = time.monotonic()
        if now < self._next_try:
            return self.trouble == ""
        self._next_try, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE)
        try:
            spawn(self.place)
        except (OSError, subprocess.SubprocessError) as error:
            self._tell(f"no process can be started here: {error}")
            return False
        return True

    def look(self) -> None:
        """Once a pass: whether the starter that was started came up."""
        if self.place.has_starter():
            self.trouble, self._pause = "", 0.5
        elif self._pause > 2.0:
            lines = (read(os.path.join(self.place.path, "starter.log")) or "").strip().splitlines()
            self._tell("no job can be started: " + (lines[-1] if lines else "the starter does not come up"))

    def _tell(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.error("%s", trouble)
        self.trouble = trouble


def spawn(place: Workplace) -> None:
    """Start the node's starter, no child of ours: it outlives this process. OSError, CalledProcessError."""
    code = (
        f"import os,sys\nif os.fork(): os._exit(0)\nos.setsid()\n"
        f"os.execv(sys.executable,[sys.executable,'-m','spoold.node.starter',{place.path!r}])"
    )
    with open(os.path.join(place.path, "starter.log"), "ab") as errors:
        subprocess.run(
            [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, cwd="/", check=True
        )
