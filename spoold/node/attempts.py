"""What a runner remembers of its node's attempts from one pass to the next: where each stands, and what it was told.

It is for sparing looks, reads and orders alone. The next runner begins without any of it, and finds out by what stands
in the attempts' own directories. An attempt that is over is not looked at again; another one is where the bell named
it, where it could not be told how it stands, where something of it is being ended, and where all is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from spool_layout.records import GONE, Assignment, Phase
from spoold.node import progress
from spoold.node.attention import Attention
from spoold.node.cleaning import Cleaner, RemoteCleaner
from spoold.node.workplace import Attempt, Workplace

log = logging.getLogger("spoold.node")


class Attempts:
    """Of one runner, by their keys.

    let: lapses when `go` was last said of one, as far as we said it. urged: the same of one that was begun, and may go,
    when that was said. named: the version that named one first. final: where those stand that are over. ending: those
    of which this pass ends what is left. unclear: why it cannot be told where one stands, told in status.json."""

    def __init__(self, place: Workplace, attention: Attention, cleaner: Cleaner | RemoteCleaner) -> None:
        self.place, self.attention, self.cleaner = place, attention, cleaner
        self.let: dict[str, int] = {}
        self.urged: dict[str, int] = {}
        self.named: dict[str, tuple[int, ...]] = {}
        self.final: dict[str, Phase] = {}
        self.ending: set[str] = set()
        self.unclear: dict[str, str] = {}
        self._known: dict[str, Attempt] = {}  # those that are remembered, with what was read of them for good
        self.standing: dict[str, Phase] = {}  # where they stood when they were looked at last
        self.were_ending: set[str] = set()  # those of which the last pass ended what was left

    def __getitem__(self, key: str) -> Attempt:
        """The place of an attempt: the same one for as long as it is remembered."""
        return self._known.get(key) or self.place.attempt(key)

    def named_by(self, key: str) -> tuple[int, ...]:
        """The version that named an attempt first."""
        if key not in self.named:
            order = self[key].read("order.json") or {}
            self.named[key] = tuple(order.get("version", (0, 0)))
        return self.named[key]

    def forget(self, key: str) -> None:
        """An attempt is over and reported: nothing of it stays here, nor on the local disk."""
        progress.forget(self[key])
        self.cleaner.forget(key)
        self.let.pop(key, None)
        self.urged.pop(key, None)
        self.named.pop(key, None)
        self._known.pop(key, None)
        del self.final[key]

    # ---- ending

    def begin_pass(self) -> None:
        """What the last pass was ending is looked at in this one."""
        self.were_ending, self.ending = self.ending, set()

    def are_ending(self) -> bool:
        """Whether something is left to end for the next pass."""
        return bool(self.ending - self.final.keys())

    def clean(self, attempt: Attempt, phase: Phase) -> None:
        """End what is left of an attempt, as far as that is due now; the next pass goes on, soon."""
        self.ending.add(attempt.key)
        self.cleaner.clean(attempt, phase)

    # ---- where they stand

    def phases(self, assigned: Mapping[str, Assignment], reported: Mapping[str, Phase]) -> dict[str, Phase]:
        """Phase of every attempt that is remembered. assigned: what is; reported: what was said of them last."""
        self._known = {key: self[key] for key in self.place.remembered()}
        known = {key: self.final.get(key) or self._stood(key) for key in self._known}
        self.standing = {
            key: phase or self._try_to_stand(key, assigned.get(key), reported.get(key)) for key, phase in known.items()
        }
        return self.standing

    def _stood(self, key: str) -> Phase | None:
        """Where an attempt stood, if nobody said that this has changed."""
        phase = self.standing.get(key)
        exited = phase is not None and phase.phase == "exited"  # each pass goes on with what is left of it
        due = exited or key in self.were_ending or key in self.unclear or self.attention.is_due(key)
        return None if due else phase

    def _try_to_stand(self, key: str, assignment: Assignment | None, reported: Phase | None) -> Phase:
        """Where one attempt stands; as reported last where that cannot be told, which concerns it alone."""
        try:
            phase = self._stand(key, assignment)
            self.unclear.pop(key, None)
            return phase
        except Exception as error:
            text = f"attempt {key}: {error!r}"
            if self.unclear.get(key) != text:
                log.error("%s; tries again", text)
            self.unclear[key] = text
            return reported or Phase("starting")

    def _stand(self, key: str, assignment: Assignment | None) -> Phase:
        """Where one attempt stands now, after cleaning up where that is due."""
        attempt = self[key]
        phase = progress.stand(attempt)
        if progress.is_orphaned(attempt, phase):
            phase = progress.stand(attempt)  # its supervisor may have written the end just before
        if progress.is_orphaned(attempt, phase) or (phase.phase == "exited" and _ends_alone(attempt, assignment)):
            self.clean(attempt, phase)
            phase = progress.stand(attempt)
        if phase.phase in GONE:
            self.final[key] = phase
        return phase


def _ends_alone(attempt: Attempt, assignment: Assignment | None) -> bool:
    """Whether leftovers are ended as soon as the job's own process has: a gang's live until the head says stop."""
    if assignment is None or len(assignment.nodes) == 1:
        return True
    return progress.is_gone(attempt) and not attempt.calls_engines()  # these may serve the other ranks
