"""What the nodes say: nodes/*/status.json, and how well each is heard (core/hearing.py judges).

A file that is missing or cannot be read says nothing: its node is taken for what it was until T has passed, and one
such file never keeps the others from being heard.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from spool_layout.errors import Damaged
from spool_layout.paths import FORMAT, Spool
from spool_layout.records import NodeStatus, decode
from spool_layout.replay import State
from spool_layout.storage import Disk
from spoold.core.hearing import Hearing
from spoold.core.model import Report, Silent

log = logging.getLogger("spoold.head")

STATUS_BYTES = 64 << 20
STARTING = 10.0  # seconds within which a node that made its directory writes its first status.json


class Listener:
    """Reads the nodes' reports. clock: the file server's."""

    def __init__(self, spool: Spool, disk: Disk, hearing: Hearing, clock: Callable[[], float]) -> None:
        self.spool, self.disk, self.hearing, self.clock = spool, disk, hearing, clock
        self.listed: dict[str, float] = {}  # node with a directory -> since when (monotonic clock) it is seen
        self.expects = False  # whether a node is about to speak for the first time
        self._troubles: dict[str, str] = {}  # node -> what is wrong with its status.json, told once

    def hear(self, state: State) -> tuple[list[Report], list[Silent]]:
        """What the nodes say, and which of those that the ledger knows say nothing."""
        now = time.monotonic()
        names = sorted(entry.name for entry in self.disk.list(self.spool.nodes))
        self.listed = {name: self.listed.get(name, now) for name in names}
        reports = [report for name in names if (report := self._report(name, state)) is not None]
        heard = {report.status.node for report in reports}
        self.expects = any(name not in heard and now - since < STARTING for name, since in self.listed.items())
        silent = [
            Silent(name, self.hearing.miss(name, now, node.state), name in self.listed)
            for name, node in state.nodes.items()
            if name not in heard
        ]
        return reports, silent

    def _report(self, node: str, state: State) -> Report | None:
        path = self.spool.status(node)
        try:
            seen = self.disk.inspect(path, STATUS_BYTES)
            status = decode(seen.data, NodeStatus, path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, Damaged) as error:
            self._tell(node, str(error))
            return None
        if status.format > FORMAT or status.node != node:
            self._tell(node, f"{path} is of format {status.format} and node {status.node!r}")
            return None
        self._troubles.pop(node, None)
        known = self.hearing.heard.get(node)
        age = self.clock() - seen.changed if known is None or known.beat < 0 else 0.0
        recorded = state.nodes.get(node)
        return Report(status, self.hearing.judge(status, age, time.monotonic(), recorded.state if recorded else ""))

    def _tell(self, node: str, trouble: str) -> None:
        if self._troubles.get(node) != trouble:
            log.warning("node %s is not heard: %s", node, trouble)
            self._troubles[node] = trouble
