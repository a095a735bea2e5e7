"""`spoold` that stops its own process (SIGSTOP) just before a write, so that it may be deposed right there.

    python halting.py MOMENT,MOMENT,… head ROOT …

One MOMENT is taken in each term in which this head leads: it stops before the first such write after it has taken over.
It says on standard error which write that is (`halts before MOMENT: PATH`), and, when it was let go on, what came of it
(`went on with MOMENT: done`, or what the call said). It looks at nothing in between: the write is what it does next.

    claim    a user's file in pending/ is moved into the claim directory
    append   events/EPOCH.jsonl is open and was found as long as it should be; what comes next is written
    place    a file in the claim directory is moved to where its job stands
    assign   a node's assigned.json is put in place
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from spool_layout import storage
from spoold.__main__ import main
from spoold.head.term import Term

MOVES = {"pending": "claim", "claims": "place"}  # folder from which a file is moved -> moment


class Halt:
    """When this process stops. armed: the moment that is waited for; "": none."""

    def __init__(self, moments: list[str]) -> None:
        self.moments, self.armed = moments, ""
        self.term: Term | None = None

    def before(self, moment: str, path: str, write: Callable[[], Any]) -> Any:
        """Make a write; stop before it where that is the moment."""
        if not moment or self.armed != moment:
            return write()
        self.armed = ""
        say(f"halts before {moment}: {path}")
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            said = write()
        except OSError as error:
            say(f"went on with {moment}: {type(error).__name__}")
            raise
        say(f"went on with {moment}: {'done' if said in (None, True) else said}")
        return said

    def install(self) -> None:
        """Stand before the writes of this process."""
        tick, append, write_all = Term.tick, storage.Disk.append, storage._write_all
        move, publish = storage.Disk.move, storage.Disk.publish

        def ticks(term: Term, *given: Any) -> bool:
            if term is not self.term:
                self.term, self.armed = term, self.moments.pop(0) if self.moments else ""
            return tick(term, *given)

        def appends(disk: storage.Disk, path: str, data: bytes, offset: int) -> None:
            storage._write_all = lambda *given: self.before("append", path, lambda: write_all(*given))
            try:
                append(disk, path, data, offset)
            finally:
                storage._write_all = write_all

        def moves(disk: storage.Disk, source: str, target: str, inode: int | None = None) -> bool:
            folders = set(os.path.dirname(source).split("/")) & set(MOVES)
            moment = MOVES[folders.pop()] if folders else ""
            return bool(self.before(moment, source, lambda: move(disk, source, target, inode)))

        def publishes(disk: storage.Disk, path: str, *given: Any, **more: Any) -> None:
            moment = "assign" if os.path.basename(path) == "assigned.json" else ""
            self.before(moment, path, lambda: publish(disk, path, *given, **more))

        for owner, name, wrapped in (
            (Term, "tick", ticks),
            (storage.Disk, "append", appends),
            (storage.Disk, "move", moves),
            (storage.Disk, "publish", publishes),
        ):
            setattr(owner, name, wrapped)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    Halt(sys.argv.pop(1).split(",")).install()
    main()
