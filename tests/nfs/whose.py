"""A head or a runner that tells which of its calls at the port cost which calls of the server.

    python -m tests.nfs.whose head|node ROOT …

At SIGUSR2 it writes a line of JSON to its standard output: [[CALL, times, {operation: count}], ...], dearest first,
since the last such line. CALL: that of the port, and the functions that made it. What other processes and threads of
the machine ask for at that moment is counted with it; the close of a file of NFS 4 may count for the next call. So it
tells a head's calls well, and a runner's where no jobs begin at that moment. Each count takes its time.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from spool_layout.stamps import Glance, SharedDisk
from spool_layout.storage import Disk
from tests.nfs.mountstats import parse

DEEP = 3  # functions that are told
PORT = ("spool_layout.storage", "spool_layout.stamps")


class Book:
    """What each call cost."""

    def __init__(self) -> None:
        self.cost: dict[str, Counter[str]] = defaultdict(Counter)
        self.times: Counter[str] = Counter()
        self.within = False  # whether a call of the port is going on, which makes others

    def keep(self, kind: type) -> None:
        """From now on calls of this class are counted."""
        for name, call in list(vars(kind).items()):
            if callable(call) and not name.startswith("_"):
                setattr(kind, name, self._counted(name, call))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def counted(*words: Any, **more: Any) -> Any:
            if self.within or threading.current_thread() is not threading.main_thread():
                return call(*words, **more)
            self.within, before = True, so_far()
            try:
                return call(*words, **more)
            finally:
                who = f"{name}: {callers()}"
                self.cost[who] += so_far() - before
                self.times[who] += 1
                self.within = False

        return counted

    def tell(self, *_: object) -> None:
        """Write it down, and begin anew."""
        rows = sorted(self.cost.items(), key=lambda row: -row[1].total())
        os.write(1, f"{json.dumps([[who, self.times[who], cost] for who, cost in rows])}\n".encode())
        self.cost.clear()
        self.times.clear()


def so_far() -> Counter[str]:
    with open("/proc/self/mountstats", encoding="utf-8") as file:
        return parse(file.read())


def callers() -> str:
    """The functions of the product that called the port, the nearest first."""
    frame, names = sys._getframe(2), list[str]()
    while frame is not None and len(names) < DEEP:
        module = frame.f_globals.get("__name__", "")
        if module.startswith(("spoold.", "spool_layout.")) and module not in PORT:
            names.append(f"{module.rpartition('.')[2]}.{frame.f_code.co_name}")
        frame = frame.f_back  # type: ignore[assignment]
    return " < ".join(names)


if __name__ == "__main__":
    from spoold.__main__ import main

    book = Book()
    for kind in (Disk, SharedDisk, Glance):
        book.keep(kind)
    signal.signal(signal.SIGUSR2, book.tell)
    main(prog_name="spoold")
