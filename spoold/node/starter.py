"""The starter: one small process for each node that forks a supervisor for each attempt.

    python -m spoold.node.starter DIRECTORY [SPOOL UID GID]

It is told by a line "KEY" in the FIFO `orders` to look at attempts/KEY, and gives it to a supervisor (supervisor.py)
if it was never started: to one that rests, since its attempt is over (resting.py), else to one that it forks. A fork of
this process costs a millisecond, an interpreter for each job would cost twenty. An order for what is done already does
nothing, so the runner may repeat itself; lost orders are repeated by the runner.

For several users' jobs it is started by root, with the spool and the account whose rights it goes on with (rights.py).
The runner, which may not signal such jobs, writes `KEY poke` to wake a supervisor, and `KEY end GRACE` to end what is
left of an attempt (ender.py).

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
from collections.abc import Callable

from spool_layout.becoming import account_of
from spool_layout.paths import parse_attempt_key
from spoold.node import cgroups
from spoold.node.containment import signal_process
from spoold.node.resting import Resting
from spoold.node.rights import Post, lay_down
from spoold.node.supervisor import supervise
from spoold.node.workplace import Workplace, start_time

IDLE = 10.0  # seconds without a runner after which it ends: a runner that was killed is mostly started again at once
LOOK = 1.0  # seconds between two looks whether there is one, however often it is woken


class Starter:
    """The process. lock: the descriptor that says that it lives."""

    def __init__(self, place: Workplace, lock: int) -> None:
        self.place, self.lock = place, lock
        self.enders: dict[str, int] = {}  # attempt -> pid of what ends it
        self.kept = self.place.keep_from_cleaners()  # supervisors hold it on
        self.orders = os.open(self.place.orders, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.bell = os.open(self.place.bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.woken, self.waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.rest = ""
        self.resting = Resting()
        self.seen_runner = time.monotonic()
        self.last_look, self.too_soon = float("-inf"), False

    def run(self) -> None:
        """Until there is nobody to do it for."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        poll = select.poll()
        poll.register(self.orders, select.POLLIN)
        poll.register(self.woken, select.POLLIN)
        poll.register(self.resting.ours, select.POLLIN)
        gc.freeze()  # what is here by now stays shared with the supervisors
        while not self.is_over():
            poll.poll(1000 * (LOOK if self.too_soon else IDLE / 2))
            drain(self.woken)
            self.note_ended(reap())
            self.resting.hear()
            for line in self.read_orders():
                self.heed(*line.split(" "))
            self.resting.dismiss()

    def is_over(self) -> bool:
        """Whether it has been without a runner for long enough; or its directory is gone."""
        self.too_soon = time.monotonic() - self.last_look < LOOK
        if self.too_soon:
            return False
        self.last_look = time.monotonic()
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

    def heed(self, key: str, word: str = "", *more: str) -> None:
        """Carry out one order. What is no order of ours is passed over."""
        try:
            parse_attempt_key(key)
            if word == "poke":
                self.poke(key)
            elif word == "end":
                self.end(key, float(more[0]))
            elif not word:
                self.look_at(key)
        except (ValueError, LookupError, TypeError) as error:
            print(f"cannot heed {key!r} {word!r}: {error!r}", file=sys.stderr, flush=True)

    def look_at(self, key: str) -> None:
        """Have an attempt supervised that has no supervisor and never had one."""
        names = self.place.attempt(key).names()
        if "order.json" in names and not names & {"marker", "outcome"} and not self.resting.give(key):
            self.fork(key, lambda: supervise(self.place, key, self.bell, self.resting.theirs))

    def poke(self, key: str) -> None:
        """Tell a supervisor to look."""
        from spoold.node.progress import supervisor

        watcher = supervisor(self.place.attempt(key))
        if watcher is not None:
            signal_process(watcher, signal.SIGUSR1)

    def end(self, key: str, grace: float) -> None:
        """Fork an ender for an attempt that has none now."""
        from spoold.node import ender

        if key not in self.enders:
            self.enders[key] = self.fork(key, lambda: ender.end(self.place, key, grace, self.bell))

    def fork(self, key: str, work: Callable[[], None]) -> int:
        """Do it in a fork, in a session of its own. Its pid; 0: none could be forked, and the runner repeats the order.

        The lock is the starter's: a new one must be able to take it."""
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, no memory
            print(f"cannot fork for {key}: {error.strerror}", file=sys.stderr, flush=True)
            return 0
        if pid:
            return pid
        code = 70  # EX_SOFTWARE
        try:
            for descriptor in (self.lock, self.orders, self.woken, self.waker):
                os.close(descriptor)
            self.resting.ours.close()  # who rests ends with the starter, the only one to hold it
            signal.set_wakeup_fd(-1)
            work()
            code = 0
        except BaseException:
            import traceback  # a megabyte in each supervisor

            traceback.print_exc()
        finally:
            os._exit(code)

    def note_ended(self, pids: list[int]) -> None:
        """Enders that are no more, or could not be forked, may be forked again."""
        self.enders = {key: pid for key, pid in self.enders.items() if pid and pid not in pids}


def reap() -> list[int]:
    """Supervisors and enders that have ended; and orphans that fall to us since theirs was killed. Their pids."""
    found: list[int] = []
    try:
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            found.append(pid)
    except ChildProcessError:
        pass
    return found


def drain(descriptor: int) -> bytes:
    """All that can be read from a non-blocking descriptor."""
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts)


def main(path: str, spool: str = "", uid: str = "", gid: str = "") -> None:
    """Hold the starter's lock and work, if no other starter does. spool, uid, gid: for several users' jobs."""
    if spool:
        lay_down(Post(account_of(int(uid), int(gid)), spool))
        prepare(spool)
    place = Workplace(path, shared=bool(spool))
    lock = place.lock_starter()
    if lock is None:
        return
    os.ftruncate(lock, 0)
    os.write(lock, json.dumps({"pid": os.getpid(), "start": start_time(os.getpid())}).encode())
    cgroups.tidy(path)
    Starter(place, lock).run()


def prepare(spool: str) -> None:
    """Bring in what only several users' jobs need: who has become somebody else may not be able to read it."""
    import traceback
    import urllib.parse

    from spool_layout.mounts import read_on
    from spoold.node import ender, owner, progress

    assert ender and owner and progress and traceback and urllib.parse
    read_on(spool)


if __name__ == "__main__":
    main(*sys.argv[1:])
