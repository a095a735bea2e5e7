"""Supervisors at rest: one whose attempt is over waits for the next, so that not every attempt costs a fork.

A supervisor tells the starter that it rests, and waits; the starter gives it the key of an attempt, or nothing, and
then it ends. Both talk over one socket pair: of those that rest any may take what is given. A starter that is gone ends
all that rest, since nobody holds the other end.

Level-triggered, like all here: an order that was given to one that had been killed is repeated by the runner, and what
is given twice in a row is for a new supervisor; one that two were given is carried out by whoever makes the marker.
"""

from __future__ import annotations

import socket
import time

MOST = 16  # that rest at a time
FOR = 5.0  # seconds
KEY_BYTES = 256


class Resting:
    """The starter's side: how many rest, since when."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)
        self._since: list[float] = []
        self._given = ""

    def hear(self) -> None:
        """Take in who has come to rest. Of too many, some end."""
        while True:
            try:
                self.ours.recv(KEY_BYTES)
            except BlockingIOError:
                break
            self._since.append(time.monotonic())
        while len(self._since) > MOST:
            self._dismiss()

    def give(self, key: str) -> bool:
        """Give an attempt to one that rests. False: none does, or none took it when it was given last."""
        if not self._since or key == self._given:
            return False
        self._given = key
        self._since.pop()
        return self._send(key.encode())

    def dismiss(self) -> None:
        """End those that have rested for long."""
        while self._since and time.monotonic() - self._since[0] > FOR:
            self._dismiss()

    def _dismiss(self) -> None:
        del self._since[0]
        self._send(b"")

    def _send(self, data: bytes) -> bool:
        try:
            self.ours.send(data)
        except OSError:  # full, since those that were to read it were killed
            return False
        return True


def next_attempt(theirs: socket.socket) -> str:
    """The supervisor's side: rest, until there is an attempt to supervise. Its key; "": there is nothing more to do."""
    try:
        theirs.send(b"rests")
        return theirs.recv(KEY_BYTES).decode("ascii", "replace")
    except OSError:
        return ""
