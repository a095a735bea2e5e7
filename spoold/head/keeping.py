"""The ledger: writing generations, vouching for them, packing away what they make superfluous.

A generation is the whole state, immutable, in ledger/EPOCH.SEQ.json. Order, each step durable before the next:

    0 moves out of the claim directory, and lines in done/DAY/, are made durable: once forgotten they are not redone
    1 ledger/EPOCH.SEQ.json is written
    2 the event `vouched` names it, with its digest; events/ is listed (a deposed head stops here)
    3 ledger.json, the same bytes under the fixed name, for everybody
    4 what is older than this generation, which this head wrote itself, is packed away: event files of epochs below its
      own to events/archive/YYYY-MM/, earlier generations are removed

Cut after 1: a file that nobody vouches for; removed with the next one. Cut after 2: ledger.json is older than what is
vouched for, readers load the generation. Cut within 4: the rest goes with the next generation.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from spool_layout import history
from spool_layout.events import Vouched
from spool_layout.leadership import Epoch
from spool_layout.paths import Spool, generation_of
from spool_layout.records import encode
from spool_layout.replay import State
from spool_layout.settings import Settings
from spool_layout.storage import Disk

EVENTS = 1000  # a generation after so many events
BYTES = 1 << 20  # or so much of them
PACKED_AT_ONCE = 200  # files moved or removed in one go


class Keeper:
    """Generations of one term."""

    def __init__(
        self,
        spool: Spool,
        disk: Disk,
        settings: Settings,
        epoch: Epoch,
        state: State,
        clock: Callable[[], float],
        outcomes: set[str] | None = None,
    ) -> None:
        self.clock = clock
        self.outcomes = set[str]() if outcomes is None else outcomes  # files of which lines may not be durable yet
        self.spool, self.disk, self.settings, self.epoch, self.state = spool, disk, settings, epoch, state
        self.seq = 0
        self.events = 0
        self.offset = 0

    def note(self, count: int) -> None:
        """So many events were committed."""
        self.events += count

    def is_due(self, idle: bool) -> bool:
        """Whether to write one now. idle: there is nothing else to do."""
        if idle:
            return self.events > 0
        return self.events >= EVENTS or self.epoch.offset - self.offset >= BYTES

    def write(self, unsettled: Iterable[int] = ()) -> None:
        """Steps 1 to 4. unsettled: ended jobs whose file is not in its place yet; they are not forgotten."""
        self._make_durable()
        self.state.trim(self.settings.recent, unsettled)
        self.seq += 1
        name = (self.epoch.number, self.seq)
        ledger = self.state.to_ledger(self.settings.name, self.settings.id, name, self.epoch.offset, self.clock())
        data = encode(ledger)
        self.disk.publish(self.spool.generation(*name), data)
        self.disk.sync(self.spool.generations)
        self.epoch.append([Vouched(generation=name, digest=history.digest(data), at=self.clock())])
        self.disk.publish(self.spool.ledger, data)
        self.events, self.offset = 0, self.epoch.offset
        self._pack(name)

    def _make_durable(self) -> None:
        """What no later head puts in its place again, since nothing after this generation tells of it."""
        self.disk.sync(self.epoch.claims)
        for path in sorted(self.outcomes):
            self.disk.sync_file(path)
            self.disk.sync(os.path.dirname(path))
            self.outcomes.discard(path)

    def _pack(self, name: tuple[int, int]) -> None:
        old = [g for g in (generation_of(e.name) for e in self.disk.list(self.spool.generations)) if g and g < name]
        for generation in sorted(old)[:PACKED_AT_ONCE]:
            self.disk.remove(self.spool.generation(*generation))
        epochs = [e for e in history.epochs(self.spool, self.disk) if e < self.epoch.number]
        if not epochs:
            return
        month = os.path.join(self.spool.archive, time.strftime("%Y-%m", time.gmtime(self.clock())))
        self.disk.make_dir(month)
        for number in epochs[:PACKED_AT_ONCE]:
            self._pack_epoch(number, month)

    def _pack_epoch(self, number: int, month: str) -> None:
        source = self.spool.events_of(number)
        info = self.disk.stat(source)
        if info is not None and info.st_size == 0:
            self.disk.remove(source)  # claimed, never sealed: holds nothing
        else:
            self.disk.move(source, os.path.join(month, f"{number}.jsonl"))
