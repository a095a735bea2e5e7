"""Reading log files that are being written, perhaps by another host.

A file is opened anew by path for each look (an open one may show old content on NFS for a minute), read from where the
last look ended, and closed. Output goes from the job straight into the file, so what is in the file is all there is.
The last lines are found from the end, in blocks: the cost is by what is shown, not by the size of the file.
"""

from __future__ import annotations

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


class Reader:
    """What is new in one file since the last look."""

    def __init__(self, path: str, offset: int = 0) -> None:
        self.path, self.offset = path, offset

    def new(self) -> bytes:
        """The next piece, at most CHUNK bytes; b"" for nothing new."""
        data = read(self.path, self.offset)
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
