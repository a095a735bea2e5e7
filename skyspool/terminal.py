"""What of a job's output may reach a terminal.

A job's output is written by whoever wrote the job. On a terminal, escape sequences can do more than colour: set the
title, write to the clipboard, make the terminal type an answer. Kept are colours, the movements of progress bars and
erasing; the other sequences and control bytes are dropped. Piped output and `--raw` are never touched.
"""

from __future__ import annotations

import re

# complete sequences: CSI; strings (OSC, DCS, SOS, PM, APC) up to BEL or ST; other two- and three-byte escapes; C1
_SEQUENCE = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]"
    rb"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"
    rb"|\x1b[ -/]+[0-~]|\x1b[0-OQ-WYZ\\`-~]"
    rb"|\xc2[\x80-\x9f]"
    rb"|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]"
)
_HARMLESS = re.compile(rb"\x1b\[[0-9;:]*[mKABCDEFGJ]")
# the beginning of one that may go on in the next piece
_OPEN = re.compile(rb"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?|\xc2)\Z")
LONGEST = 4096  # bytes of an unfinished sequence; then its ESC alone is dropped


class Filter:
    """Takes pieces of output, gives what may be shown."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        """What may be shown of the output so far."""
        data = self._kept + data
        self._kept = b""
        if (match := _OPEN.search(data)) and match.end() > match.start() and len(match[0]) < LONGEST:
            data, self._kept = data[: match.start()], match[0]
        clean = _SEQUENCE.sub(lambda m: m[0] if _HARMLESS.fullmatch(m[0]) else b"", data)
        return re.sub(rb"\x1b(?!\[[0-9;:]*[mKABCDEFGJ])", b"", clean)
