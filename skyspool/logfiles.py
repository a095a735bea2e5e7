"""Reading log files that are being written, perhaps by another host.

A file is opened anew by path for each look (an open one may show old content on NFS for a minute), read from where the
last look ended, and closed. Output goes from the job straight into the file, so what is in the file is all there is.
The last lines are found from the end, in blocks: the cost is by what is shown, not by the size of the file.

A log that is not there yet is waited for with care (`Folder`): looking for it at the wrong moment could hide it.
"""

from __future__ import annotations

import errno
import os
import time
from typing import NamedTuple

from spool_layout.stamps import stamp_of
from spool_layout.storage import insist, length, read_piece

BLOCK = 1 << 16
CHUNK = 1 << 20  # bytes of one look, so that a large file does not fill the memory
LONGEST = 1 << 22  # bytes of a line that are kept back until it is whole


def read(path: str, offset: int, limit: int = CHUNK) -> bytes:
    """Up to `limit` bytes from `offset` on; b"" where there is nothing (yet)."""
    return insist(path, lambda: read_piece(path, offset, limit)) or b""


def size(path: str) -> int:
    """The bytes in a file now; 0 where it is not there."""
    return insist(path, lambda: length(path)) or 0


def tail_offset(path: str, lines: int) -> int:
    """Where the last `lines` lines begin. A last line without its newline counts."""
    end = size(path)
    at, wanted = end, lines
    while at > 0:
        start = max(0, at - BLOCK)
        block = read(path, start, at - start)
        if at == end and block.endswith(b"\n"):
            block = block[:-1]
        count = block.count(b"\n")
        if count >= wanted:
            return start + _after_nth_last(block, wanted)
        wanted -= count
        at = start
    return 0


def _after_nth_last(block: bytes, count: int) -> int:
    """The place after the count-th newline from the end."""
    at = len(block)
    for _ in range(count):
        at = block.rfind(b"\n", 0, at)
    return at + 1


def count_lines(path: str, limit: int) -> int:
    """The lines in a file; it stops counting beyond `limit`."""
    lines = offset = 0
    while lines <= limit and (data := read(path, offset)):
        lines += data.count(b"\n")
        offset += len(data)
    return lines


class Folder:
    """The directory of logs that other hosts may be about to make, on NFS.

    A client of NFS 3 remembers that a name is missing for as long as the time stamp of its directory stays the same,
    and that has steps of up to 10 ms. Who looks for a name between two changes of one step, of which the second makes
    the name, never sees it (measured: of 60 logs that were looked for every 50 ms, 3 stayed hidden). So nothing is
    looked up here until the stamps of the directory, and of those above it, have stood still for longer than a step:
    what is made later changes them. When all is over, nothing is made any more, and looking is safe.
    """

    STEP = 0.03  # seconds: a slow server's clock has steps of 0.01
    BUSY = 1.0  # seconds: a stamp that never stands still for so long (where much is started) will change again

    def __init__(self, path: str, levels: int = 2) -> None:
        """levels: how many names at the end of the path are looked up with care: ID of logs/ID and what is in it."""
        self.over = False  # whether nothing is made here any more
        self.restless = False  # whether it was too early to look: soon it is not
        self._levels = [path]
        while len(self._levels) < levels:
            self._levels.insert(0, os.path.dirname(self._levels[0]))
        self._stamps: dict[str, _Stamp] = {}
        self._looked, self._may_look = 0.0, False

    def may_look(self) -> bool:
        """Whether a file in it may be opened by its name now. Asked for each file: a directory is looked at once."""
        if not self.over and time.monotonic() - self._looked > self.STEP / 3:
            self.restless = False
            self._may_look = self._look()
            self._looked = time.monotonic()
        return self.over or self._may_look

    def wait(self) -> None:
        """Until it is not too early to look."""
        while not self.may_look() and self.restless:
            time.sleep(self.STEP)

    def _look(self) -> bool:
        for level in self._levels:
            try:
                stamp = self._stamps.get(level, _Stamp()).seen(stamp_of(level))
            except PermissionError:
                continue  # its stamp is not ours to know
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESTALE):
                    raise
                return False  # not there: that could be asked, since what is above stands still
            self._stamps[level] = stamp
            if not stamp.age > self.STEP and not stamp.restless > self.BUSY:
                self.restless = True
                return False
        return True


class _Stamp(NamedTuple):
    """A directory's time stamp. age: seconds for which it was seen to stand; restless: for which it never stood."""

    value: int = -1
    since: float = 0.0
    first: float = 0.0
    now: float = 0.0

    @property
    def age(self) -> float:
        return self.now - self.since

    @property
    def restless(self) -> float:
        return self.now - self.first

    def seen(self, value: int) -> _Stamp:
        """As it is now."""
        now = time.monotonic()
        if value == self.value:
            return self._replace(now=now)
        return _Stamp(value, now, now if self.age > Folder.STEP or self.value < 0 else self.first, now)


class Reader:
    """What is new in one file since the last look. folder: with its care the file is looked for until it is there."""

    def __init__(self, path: str, offset: int = 0, folder: Folder | None = None) -> None:
        self.path, self.offset, self._folder = path, offset, folder

    def is_there(self) -> bool:
        """Whether the file has been seen; False also where it is too early to look."""
        if (
            self._folder is not None
            and self._folder.may_look()
            and insist(self.path, lambda: length(self.path)) is not None
        ):
            self._folder = None
        return self._folder is None

    def arrive(self) -> bool:
        """Whether the file is there, when it is not too early to look."""
        if self._folder is not None:
            self._folder.wait()
        return self.is_there()

    def new(self) -> bytes:
        """The next piece, at most CHUNK bytes; b"" for nothing new."""
        data = read(self.path, self.offset) if self.is_there() else b""
        self.offset += len(data)
        return data


class Prefixed:
    """Whole pieces of a rank's output with the rank in front, as SkyPilot merges several.

    A piece ends with a newline or, for progress bars, with a carriage return; what has neither yet is kept back, up to
    LONGEST bytes.
    """

    def __init__(self, prefix: bytes) -> None:
        self.prefix, self.kept, self.after_return = prefix, b"", False

    def feed(self, data: bytes) -> bytes:
        """The pieces that are whole now."""
        out = b""
        if self.after_return and data.startswith(b"\n"):  # \r\n, torn apart between two looks
            out, data = b"\n", data[1:]
        pieces = (self.kept + data).splitlines(keepends=True)
        whole = not pieces or pieces[-1].endswith((b"\n", b"\r")) or len(pieces[-1]) > LONGEST
        self.kept = b"" if whole else pieces.pop()
        if data:
            self.after_return = data.endswith(b"\r")
        return out + b"".join(self.prefix + piece for piece in pieces)

    def rest(self) -> bytes:
        """What was kept back, at the end of the output."""
        kept, self.kept = self.kept, b""
        return self.prefix + kept + b"\n" if kept else b""
