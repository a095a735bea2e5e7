"""A file that is replaced by rename, again and again, while it is read: is it seen whole each time, and never older?"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import NamedTuple

REPLACED = 100  # times that a file is replaced under a reader of the same host
LINES = 400  # of a version; each says which one it is


class Reads(NamedTuple):
    """What a reader saw of a file that was replaced over and over. stale: ESTALE, after which one opens again."""

    reads: int
    torn: int = 0
    missing: int = 0
    older: int = 0
    stale: int = 0


def replaced(folder: str) -> Reads:
    """One thread replaces a file by rename, another reads it."""
    path = os.path.join(folder, "replaced")
    replace(path, 0)
    stop = threading.Event()
    writer = threading.Thread(target=replace_all, args=(path, REPLACED, stop.is_set))
    reader = Reader(path)
    try:
        writer.start()
        while writer.is_alive():
            reader.look()
    finally:  # whoever is told to end meanwhile removes this directory next: nothing may be written into it any more
        stop.set()
        if writer.ident is not None:  # else it has not begun, and will find that it is over
            writer.join()
    reader.look()
    return reader.seen


def replace(path: str, number: int) -> None:
    """Put version `number` in place of a file, by rename."""
    private = f"{path}.part"
    with open(private, "wb") as file:
        file.write(b"%08d\n" % number * LINES)
    os.replace(private, path)


def replace_all(path: str, versions: int, is_over: Callable[[], bool] = bool) -> None:
    """Put versions 1 and so on in its place, as fast as it goes, until it is over."""
    for number in range(1, versions):
        if is_over():
            return
        replace(path, number)


class Reader:
    """Reads such a file again and again, and counts what it sees."""

    def __init__(self, path: str) -> None:
        self.path, self.newest, self.seen = path, -1, Reads(0)

    def look(self) -> None:
        """Open, read, close, compare."""
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            self._count("missing")
            return
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            self._count("stale")
            return
        self._count("reads")
        line = data[:9]
        if len(data) != 9 * LINES or data != line * LINES:
            self._count("torn")
        elif int(line) < self.newest:
            self._count("older")
        else:
            self.newest = int(line)

    def _count(self, what: str) -> None:
        self.seen = self.seen._replace(**{what: getattr(self.seen, what) + 1})
