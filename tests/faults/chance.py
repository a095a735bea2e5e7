"""Names that are made by chance, made alike each time a story is told."""

from __future__ import annotations

import hashlib
import os


class Chance:
    """In place of os.urandom (`bytes`) and secrets.token_hex (`hex`).

    A fork makes others than its parent, unless it begins with a word of its own.
    """

    def __init__(self) -> None:
        self._word, self._count = "", 0
        os.register_at_fork(after_in_child=lambda: self.begin(f"{self._word} {os.getpid()}"))

    def begin(self, word: str) -> None:
        """From here on all follows from this word."""
        self._word, self._count = word, 0

    def bytes(self, count: int) -> bytes:
        """As os.urandom."""
        self._count += 1
        return hashlib.shake_128(f"{self._word} {self._count}".encode()).digest(count)

    def hex(self, count: int | None = None) -> str:
        """As secrets.token_hex."""
        return self.bytes(count or 16).hex()


chance = Chance()
