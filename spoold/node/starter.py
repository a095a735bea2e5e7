"""The starter: one small process for each node that forks a supervisor for each attempt.

    python -m spoold.node.starter DIRECTORY

It is told by a line "KEY" in the FIFO `orders` to look at attempts/KEY, and forks a supervisor for it (supervisor.py)
if it was never started. A fork of this process costs a millisecond, an interpreter for each job would cost twenty. An
order for what is done already does nothing, so the runner may repeat itself; lost orders are repeated by the runner.

Nothing depends on its life: supervisors outlive it, write down by themselves how their attempts end, and the runner
starts another one when it has an order. It ends by itself when its runner is gone.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
import traceback

from spoold.node.supervisor import supervise
from spoold.node.workplace import Workplace, start_time

IDLE = 10.0  # seconds without a runner after which it ends: a runner that was killed is mostly started again at once


class Starter:
    """The process. lock: the descriptor that says that it lives."""

    def __init__(self, path: str, lock: int) -> None:
        self.place, self.lock = Workplace(path), lock
        self.kept = self.place.keep_from_cleaners()  # supervisors hold it on
        self.orders = os.open(self.place.orders, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.bell = os.open(self.place.bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.woken, self.waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.rest = ""
        self.seen_runner = time.monotonic()

    def run(self) -> None:
        """Until there is nobody to do it for."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        poll = select.poll()
        poll.register(self.orders, select.POLLIN)
        poll.register(self.woken, select.POLLIN)
        gc.freeze()  # what is here by now stays shared with the supervisors
        while not self.is_over():
            poll.poll(IDLE * 500)
            drain(self.woken)
            reap()
            for key in self.read_orders():
                self.look_at(key)

    def is_over(self) -> bool:
        """Whether it has been without a runner for long enough; or its directory is gone."""
        if not os.path.isdir(self.place.attempts):
            return True
        if self.place.has_runner():
            self.seen_runner = time.monotonic()
            return False
        return time.monotonic() - self.seen_runner > IDLE or self.place.was_left()

    def read_orders(self) -> list[str]:
        """The keys that were written to the FIFO, each once."""
        text = self.rest + drain(self.orders).decode("ascii", "replace")
        *lines, self.rest = text.split("\n")
        return list(dict.fromkeys(line for line in lines if line and "/" not in line))

    def look_at(self, key: str) -> None:
        """Fork a supervisor for an attempt that has none and never had one."""
        names = self.place.attempt(key).names()
        if "order.json" not in names or names & {"marker", "outcome"}:
            return
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, no memory: the runner repeats the order
            print(f"cannot fork for {key}: {error.strerror}", file=sys.stderr, flush=True)
            return
        if pid == 0:
            self.become_supervisor(key)

    def become_supervisor(self, key: str) -> None:
        """In the fork: never returns. The lock is the starter's: a new one must be able to take it."""
        code = 70  # EX_SOFTWARE
        try:
            for descriptor in (self.lock, self.orders, self.woken, self.waker):
                os.close(descriptor)
            supervise(self.place, key, self.bell)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


def reap() -> None:
    """Supervisors that have ended; and orphans that fall to us since theirs was killed."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def drain(descriptor: int) -> bytes:
    """All that can be read from a non-blocking descriptor."""
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts)


def main(path: str) -> None:
    """Hold the starter's lock and work, if no other starter does."""
    lock = Workplace(path).lock_starter()
    if lock is None:
        return
    os.ftruncate(lock, 0)
    os.write(lock, json.dumps({"pid": os.getpid(), "start": start_time(os.getpid())}).encode())
    Starter(path, lock).run()


if __name__ == "__main__":
    main(sys.argv[1])
