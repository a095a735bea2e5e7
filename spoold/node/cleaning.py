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
from spoold.node.spawning import Starters
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
            trouble = (attempt.read("swept") or {}).get("reason", "")
            progress.close(attempt, with_trouble(progress.stand(attempt), trouble))

    def forget(self, key: str) -> None:
        """An attempt is forgotten."""
        self._sweeps.pop(key, None)

    def _swept(self, attempt: Attempt, last: bool) -> bool:
        """Stop containers that the job's wrappers started. last: no process is left. True: there is nothing to stop."""
        if not attempt.calls_engines() or attempt.has("swept"):
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
        reason = stop_containers(attempt, self.spool_id, self.grace)
        if last:
            attempt.write("swept", {"reason": reason})
        self.ring()


class RemoteCleaner:
    """The same of several users' attempts, which the starter ends for us, since we may not (ender.py)."""

    def __init__(self, grace: float, starters: Starters) -> None:
        self.grace, self.starters = grace, starters

    def clean(self, attempt: Attempt, phase: Phase) -> None:
        """Ask for what is due now; write the outcome when it is done."""
        if phase.phase in GONE:
            return
        if progress.is_gone(attempt) and (attempt.has("swept") or not attempt.calls_engines()):
            trouble = (attempt.read("swept") or {}).get("reason", "")
            progress.close(attempt, with_trouble(progress.stand(attempt), trouble))
        else:
            self.starters.order(f"{attempt.key} end {self.grace}")

    def forget(self, key: str) -> None:
        """Nothing is remembered here."""


def stop_containers(attempt: Attempt, spool_id: str, grace: float) -> str:
    """Stop the containers of an attempt. What there is to tell: that some may still run, or ""; grace: seconds.

    Where its notes were lost with its directory, the engines are asked that are found here, each once: nobody knows
    whether it ever called one, so what they do not answer is only logged.
    """
    from spoold.node import containers

    try:
        if not attempt.names():
            containers.stop_all(attempt.key, spool_id, grace, tries=1)
        elif not containers.stop_all(attempt.key, spool_id, grace, attempt.path):
            return "containers of it may still run: their engine did not answer"
    except Exception:  # whatever it is, in a thread that nobody waits for: told below, and in the job's outcome; if it
        # ended the thread instead, the attempt would never be over and would hold its GPUs for ever
        log.exception("containers of %s may still run", attempt.key)
        return "containers of it may still run"
    return ""


def with_trouble(phase: Phase, trouble: str) -> Phase:
    """The phase, with what there is to tell of its containers in its reason."""
    return msgspec.structs.replace(phase, reason="; ".join(filter(None, (phase.reason, trouble))))
