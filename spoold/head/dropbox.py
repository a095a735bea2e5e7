"""One drop box, pending/ or requests/: what is new in it is looked at, claimed and read, one file after another.

So a user's costly file keeps another user's from being taken for as long as it takes to read one of them, and no more
is claimed than is read. Whose turn it is, arrivals.py says; which files are complete, intake.py.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator

from spool_layout.storage import Entry
from spoold.head.arrivals import Arrivals
from spoold.head.claims import Claims, Ready
from spoold.head.intake import Intake, Left

OF_ONE_FILE = frozenset({errno.EACCES, errno.EPERM, errno.EBUSY})  # a rename that fails for this file alone


class DropBox:
    """What a head remembers of one. kind: what its files are called in the claim directory."""

    def __init__(self, kind: str, folder: str, claims: Claims, intake: Intake) -> None:
        self.kind, self.folder, self.claims, self.intake = kind, folder, claims, intake
        self.arrivals = Arrivals(claims.disk, folder, intake.settings.max_file if intake.local else 0)
        self.all_taken = True  # whether the last `take` left nothing that could have been taken
        self._left: dict[Entry, Left] = {}

    def listed(self, entries: list[Entry]) -> None:
        """Take in a listing of it, without the files of accepted jobs."""
        self.arrivals.listed(entries)
        if self._left:
            present = set(entries)
            self._left = {entry: left for entry, left in self._left.items() if entry in present}

    @property
    def left(self) -> list[Left]:
        """What is left where it is, and why."""
        return list(self._left.values())

    def take(self, may: Callable[[int], bool], most: int, seconds: float) -> Iterator[str]:
        """Claim complete files of users who may have one more taken, in turn; one at least, then for so long.

        The name of each in the claim directory, right when it is there: what is done with it until the next one is
        asked for counts as its owner's time.
        """
        end, count = time.monotonic() + seconds, 0
        self.all_taken = False
        for uid, entry in self.arrivals.turns(may):
            claim = self._claim(uid, entry)
            if claim is not None:
                yield claim
                count += 1
            if count >= most or time.monotonic() > end:
                return
        self.all_taken = True

    def again(self, may: Callable[[int], bool]) -> float | None:
        """Seconds until there may be something to take; None: nothing is on its way."""
        return self.arrivals.again(may) if self.all_taken else 0.0

    def _claim(self, uid: int, entry: Entry) -> str | None:
        path, settle = os.path.join(self.folder, entry.name), self.intake.settings.settle
        verdict = self.intake.look_at(path, entry.name, self.arrivals.read(entry))
        self._left.pop(entry, None)
        if isinstance(verdict, Ready):
            verdict, claim = self._move(path, verdict)
            if verdict is None:
                return claim
        if isinstance(verdict, Left):
            self._left[entry] = verdict
            self.arrivals.rest(uid, entry, settle, wanted=False)
        elif verdict is None:  # gone, or empty: who writes to it makes it news
            self.arrivals.rest(uid, entry, settle, wanted=False)
        else:
            self.arrivals.rest(uid, entry, verdict, wanted=True)
        return None

    def _move(self, path: str, file: Ready) -> tuple[Left | None, str | None]:
        """Into the claim directory: (why not, the name there); neither where the file is gone."""
        try:
            claim = self.claims.take(self.kind, path, file.name, file)
        except OSError as error:
            if error.errno not in OF_ONE_FILE:
                raise
            return Left(file.name, f"cannot be taken by the head: {error.strerror}"), None
        if claim is None:
            self.claims.epoch.check()
        return None, claim
