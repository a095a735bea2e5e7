"""What the nodes say: nodes/*/status.json, and how well each is heard (core/hearing.py judges).

On a disk of this host a file is not read again while its stamp says that it has not changed.

A file that is missing or cannot be read says nothing: its node is taken for what it was until T has passed, and one
such file never keeps the others from being heard.

Where each look costs a file server calls (`sparing`), a node that runs nothing is read every few seconds only, while
no job waits; what it said last is passed on meanwhile, as if its file had been read and found unchanged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from spool_layout.errors import Damaged
from spool_layout.paths import FORMAT, Spool
from spool_layout.records import NodeStatus, decode
from spool_layout.replay import State
from spool_layout.settings import MOST_SECONDS
from spool_layout.stamps import Stamp
from spool_layout.storage import Disk
from spoold.core.hearing import Hearing
from spoold.core.model import Report, Silent

log = logging.getLogger("spoold.head")

STATUS_BYTES = 8 << 20  # 50,000 attempts; small records in 64 MiB of JSON would take a gigabyte of memory
MOST = 1 << 40  # of anything that a node counts: CPUs in thousandths, MiB, incarnations
MOST_GPUS = 4_096
LONGEST = 255  # characters of a name
SELDOM = 10.0  # seconds between two looks at what can wait, where they cost a file server calls
STARTING = 10.0  # seconds within which a node that made its directory writes its first status.json


def absurd(status: NodeStatus) -> str:
    """What cannot be of what a node says of itself; "" where all can. Whatever writes there may have a fault, or mean
    harm: what it says goes into the ledger, and two GPUs of one UUID would be given out twice (promise P3)."""
    counts = (status.cpus_milli, status.memory_mb, status.incarnation, *(gpu.memory_mb for gpu in status.gpus))
    if not all(0 <= count <= MOST for count in counts):
        return "numbers that no node has"
    if not all(0 <= seconds <= MOST_SECONDS for seconds in (status.interval, status.timeout)):
        return "times that no runner keeps"
    if len(status.gpus) > MOST_GPUS or len({gpu.uuid for gpu in status.gpus}) < len(status.gpus):
        return "more GPUs than there can be, or one of them twice"
    words = [status.host, status.address, *(word for gpu in status.gpus for word in (gpu.uuid, gpu.name, gpu.product))]
    if not all(len(word) <= LONGEST and word.isprintable() for word in words):
        return "names that are none"
    return ""


class Read(NamedTuple):
    """A status.json as it was read last."""

    data: bytes
    status: NodeStatus
    changed: float  # by the server's clock
    stamp: Stamp | None  # None: it may have changed since without another one
    at: float  # monotonic clock


class Listener:
    """Reads the nodes' reports. clock: the file server's."""

    def __init__(
        self, spool: Spool, disk: Disk, hearing: Hearing, clock: Callable[[], float], sparing: bool = False
    ) -> None:
        self.spool, self.disk, self.hearing, self.clock, self.sparing = spool, disk, hearing, clock, sparing
        self.listed: dict[str, float] = {}  # node with a directory -> since when (monotonic clock) it is seen
        self.expects = False  # whether a node is about to speak for the first time
        self._troubles: dict[str, str] = {}  # node -> what is wrong with its status.json, told once
        self._said: dict[str, NodeStatus] = {}  # node -> what it said when it was read last
        self._texts: dict[str, Read] = {}  # node -> the text of that, and what it comes to
        self._all_read = -SELDOM  # when all were read last (monotonic clock)

    def hear(
        self, state: State, everybody: bool = False, known_only: bool = False
    ) -> tuple[list[Report], list[Silent]]:
        """What the nodes say, and which of those that the ledger knows say nothing.

        everybody: all are asked now, since a job may start on what they say. known_only: nobody has come.
        """
        now = time.monotonic()
        if everybody:
            self._all_read = -SELDOM
        busy = self._busy(state, now)
        if busy is None and not known_only:
            self.listed = {e.name: self.listed.get(e.name, now) for e in self.disk.list(self.spool.nodes)}
        names = sorted(self.listed)
        reports = [r for name in names if (r := self._report(name, state, busy is None or name in busy)) is not None]
        heard = {report.status.node for report in reports}
        self.expects = any(name not in heard and now - since < STARTING for name, since in self.listed.items())
        silent = [
            Silent(name, self.hearing.miss(name, now, node.state), name in self.listed)
            for name, node in state.nodes.items()
            if name not in heard
        ]
        return reports, silent

    def _busy(self, state: State, now: float) -> set[str] | None:
        """The nodes that have to be read now; None: all, and those that may have come."""
        seldom = min(SELDOM, self.hearing.slack() / 1.5)  # nobody is to be missed because we did not look
        if self.sparing and not state.waiting and not self.expects and now - self._all_read < seldom:
            return {name for name, node in state.nodes.items() if node.shares}
        self._all_read = now
        return None

    def _report(self, node: str, state: State, due: bool) -> Report | None:
        status, age = self._said.get(node), 0.0
        if due or status is None:
            self._said.pop(node, None)
            read = self._read(node)
            if read is None:
                return None
            status, changed = read
            self._said[node] = status
            known = self.hearing.heard.get(node)
            age = self.clock() - changed if known is None or known.beat < 0 else 0.0
        recorded = state.nodes.get(node)
        return Report(status, self.hearing.judge(status, age, time.monotonic(), recorded.state if recorded else ""))

    def _read(self, node: str) -> tuple[NodeStatus, float] | None:
        """What a node's status.json says, and when it was changed, by the server's clock. None: nothing."""
        path = self.spool.status(node)
        try:
            known = self._texts.get(node)
            if known is not None and self._stands(path, known):
                self._troubles.pop(node, None)
                return known.status, known.changed
            began = 0 if self.sparing else time.time_ns()
            seen = self.disk.inspect(path, STATUS_BYTES)
            found = Stamp(seen.inode, seen.size, seen.modified_ns, seen.changed_ns)
            stamp = found if not self.sparing and found.is_settled(began) else None
            if known is not None and known.data == seen.data:
                self._troubles.pop(node, None)
                self._texts[node] = known._replace(changed=seen.changed, stamp=stamp, at=time.monotonic())
                return known.status, seen.changed
            status = decode(seen.data, NodeStatus, path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, Damaged) as error:
            self._tell(node, str(error))
            return None
        if fault := absurd(status):
            self._tell(node, f"{path} says {fault}")
            return None
        if status.format > FORMAT or status.node != node:
            self._tell(node, f"{path} is of format {status.format} and node {status.node!r}")
            return None
        self._troubles.pop(node, None)
        # Mostly it has said nothing new by the next look.
        self._texts[node] = Read(seen.data, status, seen.changed, stamp, time.monotonic())
        return status, seen.changed

    def _stands(self, path: str, known: Read) -> bool:
        """Whether a file still is what was read, without reading it. Raises OSError."""
        if known.stamp is None or time.monotonic() - known.at >= SELDOM:  # whatever a stamp may hide shows then
            return False
        info = self.disk.stat(path)
        return info is not None and Stamp.of(info) == known.stamp

    def _tell(self, node: str, trouble: str) -> None:
        if self._troubles.get(node) != trouble:
            log.warning("node %s is not heard: %s", node, trouble)
            self._troubles[node] = trouble
