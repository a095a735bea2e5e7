"""Ending what is left of an attempt, its containers too, until nothing is: then its outcome is written.

Processes first (progress.Ending): SIGTERM, SIGKILL after the grace time. Containers are no children of the job; engines
may be slow and the heartbeat may not, so they are swept in a thread. A sweep that begins while processes live only
gives containers their grace time; the one that counts begins when no process is left that could start another.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import msgspec

from spool_layout.records import GONE, Phase
from spoold.node import progress
from spoold.node.workplace import Attempt

log = logging.getLogger("spoold.node")


class Cleaner:
    """Ends attempts. grace: seconds; ring: called when a sweep is over."""

    def __init__(self, spool_id: str, grace: float, ring: Callable[[], None]) -> None:
        self.spool_id, self.grace, self.ring = spool_id, grace, ring
        self.ending = progress.Ending(grace)
        self._sweeps: dict[str, threading.Thread] = {}

    def clean(self, attempt: Attempt, phase: Phase) -> None:
        """Do what is due now."""
        if phase.phase in GONE:
            return
        alone = self.ending.step(attempt)
        if self._swept(attempt, alone) and alone:
            phase = progress.stand(attempt)
            if trouble := (attempt.read("swept") or {}).get("reason"):
                phase = msgspec.structs.replace(phase, reason="; ".join(filter(None, (phase.reason, trouble))))
            progress.close(attempt, phase)

    def forget(self, key: str) -> None:
        """An attempt is forgotten."""
        self._sweeps.pop(key, None)

    def _swept(self, attempt: Attempt, last: bool) -> bool:
        """Stop containers that the job's wrappers started. last: no process is left. True: there is nothing to stop."""
        if not attempt.has("containers") or attempt.has("swept"):
            return True
        thread = self._sweeps.get(attempt.key)
        if thread is not None and thread.is_alive():
            return False
        if last or thread is None:
            thread = threading.Thread(target=self._sweep, args=(attempt, last), daemon=True)
            self._sweeps[attempt.key] = thread
            thread.start()
        return False

    def _sweep(self, attempt: Attempt, last: bool) -> None:
        from spoold.node import containers

        reason = ""
        try:
            if not containers.stop_all(attempt.key, self.spool_id, self.grace, attempt.path):
                reason = "containers of it may still run: their engine did not answer"
        except Exception:  # a fault of ours must not hold the slot for ever
            log.exception("containers of %s may still run", attempt.key)
            reason = "containers of it may still run"
        if last:
            attempt.write("swept", {"reason": reason})
        self.ring()
