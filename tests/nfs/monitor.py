"""What a machine's kernel says when it is asked from outside: User-Mode Linux's management console (mconsole)."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import tempfile
from pathlib import Path

MAGIC, VERSION = 0xCAFEBABE, 2  # arch/um/drivers/mconsole.h
REQUEST, REPLY = "=III512s", "=III"  # of both: a number, a number, a length; then text


def ask(console: Path, command: str, seconds: float = 10) -> str:
    """Give a command (`sysrq w`, `proc meminfo`, `stack PID`): the answer, or a word that there is none in time."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(os.path.join(folder, "s"))
        ours.settimeout(seconds)
        text = command.encode()
        answer = b""
        with contextlib.suppress(OSError):
            ours.sendto(struct.pack(REQUEST, MAGIC, VERSION, len(text), text), str(console))
            more = 1
            while more:
                reply = ours.recv(4096)
                _, more, length = struct.unpack_from(REPLY, reply)
                answer += reply[struct.calcsize(REPLY) :][:length]
            return answer.decode(errors="replace")
        return answer.decode(errors="replace") + f"<{command}: no answer>"
