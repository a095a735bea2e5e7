"""Whose turn it is: the names in a drop box that no head has taken yet, by owner.

A drop box may hold 100,000 files of one user beside one of another. So of a new name only the owner is asked for (one
lstat, once), and files are opened one by one: next is always one of the user who has had the least of the head's time
so far. What a user's files cost, in number or in size, is paid by that user's other files. On a disk of this host a few
small new files are read at once instead, which tells the owner, too; whoever's turn it is, that is not done again.

The owner of a file with several links is not believed here, since anybody may have put a link there: such files wait in
a queue of their own.

A name stays known while it is listed: a look at a full drop box costs its listing, and what is new in it. A file that
cannot be taken yet rests: it is incomplete, empty, a directory, or cannot be read. It is looked at again at every look,
or, where a user has many of these, after a while. All of this is memory that a restart does without.
"""

from __future__ import annotations

import heapq
import os
import stat
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from spool_layout.paths import is_passing
from spool_layout.storage import Disk, Entry, Seen

ASK_FOR = 5.0  # seconds that asking for the owners of new names may take in one look; one more is always asked for
ASK_WORK = 1.0  # seconds of them that this process may compute: enough for 100,000 names on a local disk
AT_ONCE, AT_ONCE_BYTES = 128, 4 << 20  # new files that are read instead of asking for their owners, and bytes of them
FEW = 100  # files of one user that may be looked at again at every look; more of them
SOON, LATE = 2.0, 30.0  # after so many seconds: those that may soon be complete; directories, empty files and the like
SEVERAL_LINKS = -1  # stands for the owner of a file that has several links
_PASSING = -2  # and of editors' and copiers' temporary files, which are never looked at


class _Due(NamedTuple):
    """A file and when it is looked at: sorts by that, then by its change time, then by name."""

    at: float  # monotonic clock; 0: it was never looked at
    changed: int  # nanoseconds, by the file server's clock
    entry: Entry


class Arrivals:
    """The new names of one drop box."""

    def __init__(self, disk: Disk, folder: str, limit: int = 0) -> None:
        """limit: bytes of a file up to which it may be read when it is new; 0: none is."""
        self.disk, self.folder, self.limit = disk, folder, limit
        self._read: dict[Entry, Seen] = {}  # what this look has read of new files, until it is their turn
        self._owners: dict[Entry, int] = {}  # every known name that is listed
        self._unasked: OrderedDict[Entry, None] = OrderedDict()  # in the order in which listings showed them
        self._queues: dict[int, list[_Due]] = {}
        self._resting: list[tuple[int, _Due]] = []  # until the next look, whatever it is for
        self._rested: Counter[int] = Counter()  # how many of each owner this look put to rest
        self._wanted: float | None = None  # when to look again for the sake of those (monotonic clock)
        self._spent: dict[int, float] = {}  # seconds of the head's time that each owner had

    def listed(self, entries: Iterable[Entry]) -> None:
        """Take in a listing of the drop box, without the files of accepted jobs."""
        present = dict.fromkeys(entries)
        self._read.clear()
        for gone in [entry for entry in self._owners if entry not in present]:
            del self._owners[gone]
        self._unasked = OrderedDict.fromkeys(entry for entry in self._unasked if entry in present)
        for entry in present:
            if entry not in self._owners:
                self._unasked[entry] = None
        self._ask()
        for uid, due in self._resting:
            self._push(uid, due)
        self._resting, self._rested, self._wanted = [], Counter(), None

    def _ask(self) -> None:
        end, worked = time.monotonic() + ASK_FOR, time.thread_time() + ASK_WORK
        room = AT_ONCE_BYTES if len(self._unasked) <= AT_ONCE else 0
        while self._unasked:
            entry, _ = self._unasked.popitem(last=False)
            if is_passing(entry.name):
                self._owners[entry] = _PASSING
            elif (seen := self._read_new(entry) if room > 0 else None) is not None:
                room -= len(seen.data)
                self._stands_in_line(entry, seen.uid, seen.links, seen.mode, seen.changed_ns)
            elif (info := self.disk.stat(os.path.join(self.folder, entry.name))) is not None:
                self._stands_in_line(entry, info.st_uid, info.st_nlink, info.st_mode, info.st_ctime_ns)
            if time.monotonic() > end or time.thread_time() > worked:
                break

    def _stands_in_line(self, entry: Entry, uid: int, links: int, mode: int, changed: int) -> None:
        owner = uid if links == 1 or stat.S_ISDIR(mode) else SEVERAL_LINKS
        self._owners[entry] = owner
        self._push(owner, _Due(0.0, changed, entry))

    def _read_new(self, entry: Entry) -> Seen | None:
        """What a new file says, to be `read` when it is its turn; None: its owner is to be asked for."""
        if not self.limit:
            return None
        try:
            seen = self.disk.inspect(os.path.join(self.folder, entry.name), self.limit)
        except OSError:
            return None
        self._read[entry] = seen
        return seen

    def read(self, entry: Entry) -> Seen | None:
        """What was read of a new file in this look; told once."""
        return self._read.pop(entry, None)

    def _push(self, uid: int, due: _Due) -> None:
        if uid not in self._queues:
            self._queues[uid] = []
            self._spent[uid] = min(self._spent.values(), default=0.0)
        heapq.heappush(self._queues[uid], due)

    def turns(self, may: Callable[[int], bool]) -> Iterator[tuple[int, Entry]]:
        """Owner and name of each file that is due, as long as its owner may have one more taken, whose time counts.

        Each is forgotten when it is handed out: where it is neither taken nor told to rest, it is a new name again.
        """
        while (uid := self._next(may)) is not None:
            due = heapq.heappop(self._queues[uid])
            del self._owners[due.entry]
            began = time.monotonic()
            try:
                yield uid, due.entry
            finally:
                self._spent[uid] += time.monotonic() - began

    def _next(self, may: Callable[[int], bool]) -> int | None:
        """Of the users who have something due, the one who has had least."""
        now = time.monotonic()
        for uid in list(self._queues):
            self._drop_gone(uid)
        ready = [uid for uid, queue in self._queues.items() if queue[0].at <= now and may(uid)]
        return min(ready, key=self._spent.__getitem__, default=None)

    def _drop_gone(self, uid: int) -> None:
        queue = self._queues[uid]
        while queue and self._owners.get(queue[0].entry) != uid:
            heapq.heappop(queue)
        if not queue:
            del self._queues[uid], self._spent[uid]

    def rest(self, uid: int, entry: Entry, seconds: float, wanted: bool) -> None:
        """A file cannot be taken yet. wanted: a look shall come within so long for its sake."""
        self._owners[entry] = uid
        self._rested[uid] += 1
        now = time.monotonic()
        if self._rested[uid] > FEW:
            self._push(uid, _Due(now + max(seconds, SOON if wanted else LATE), 0, entry))
            return
        self._resting.append((uid, _Due(0.0, 0, entry)))
        if wanted:
            self._wanted = min(now + seconds, self._wanted or now + seconds)

    def again(self, may: Callable[[int], bool]) -> float | None:
        """Seconds until something of a user who may have it taken is due, or wanted; None: nothing is."""
        if self._unasked:
            return 0.0
        times = [queue[0].at for uid, queue in self._queues.items() if queue and may(uid)]
        times += [] if self._wanted is None else [self._wanted]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def held_back(self, may: Callable[[int], bool]) -> set[int]:
        """The users of whom something is due and who may not have it taken now."""
        now = time.monotonic()
        return {uid for uid, queue in self._queues.items() if queue and queue[0].at <= now and not may(uid)}
