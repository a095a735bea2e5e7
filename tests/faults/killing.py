"""A story in which one act of a daemon is cut at its system calls: told once for each call that makes a difference.

    python -m tests.faults.kill_stories STORY [kills|errors]

A story is a function that acts on a Scene as users, nodes and heads do (tests/head/stage.py; the stories are in
kill_stories.py). An act is what one process does at once: a head that takes over, looks, or writes a ledger; a pass of
a runner, a starter's or a supervisor's life; a submission. In each telling one act is carried out in a fork, under
strace, and killed before one of its calls on the spool or on the node's local directory. Then the next head (runner,
starter) goes on where that one left off, the story comes to its end, and all promises are checked:

- at the moment of the kill: no file of a user is lost or doubled; a client can read the present; `spoold fsck` finds
  nothing but what it calls unfinished;
- at the end: Stage.audit, and `spoold fsck` finds nothing at all.

Between two calls that change something all kills leave the same. Of each such row of calls the first and the last are
hit; with KILLS=every in the environment (make test-faults KILLS=every) it is each single one.

Whoever goes on after a kill knows nothing but what stands on the disk. So where that is what an earlier kill of the
same act left, and what was made good then, the telling ends with the check at the moment of the kill. pictures.py says
what "the same" leaves out; where the node is real, whose records tell times and pids, nothing is the same. Before the
kill all tellings of a story do the same: what the story asks on its way is asked in the one without a kill, and from
the kill on.

A telling in which nothing was killed fails. The same is told with errors in place of the kill, for a sample of calls:
the act may give up then, as a daemon does that begins anew, or do without; what it may not do is to break.

All of it runs in a process of its own, without threads where it forks, with a spool id of its own.
"""

from __future__ import annotations

import functools
import os
import re
import secrets
import shutil
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from spool_layout import history
from spool_layout.localdisk import LocalDisk
from spool_layout.storage import Disk
from spoold.core.invariants import broken
from spoold.fsck.facts import gather
from spoold.fsck.judging import judge
from spoold.head.term import Term
from tests.faults import tracing
from tests.faults.chance import chance
from tests.faults.pictures import picture
from tests.faults.tracing import Act, Astray, Call, Start
from tests.head import stage
from tests.head.stage import Killed, Mortal, Stage

Hit = Callable[[Start], int]  # what happens to a process; its exit code

TRIES = 3  # of a telling that goes astray: a busy machine may let a tick leave for the next one what it has no time for
ERRORS = ("EIO", "ENOSPC", "EDQUOT", "ESTALE", "EINTR")
SAMPLE = 24  # errors in one tale
EVERY_CALL = os.environ.get("KILLS") == "every"
SETTINGS = stage.SETTINGS = msgspec.structs.replace(stage.SETTINGS, id=f"s{os.urandom(8).hex()}")
SETTINGS_TEXT = f"""format: {SETTINGS.format}
id: {SETTINGS.id}
name: {SETTINGS.name}
settle: 0
shell: plain
heartbeat: 100s
node_timeout: 600s
grace: 1s
"""

os.urandom, secrets.token_hex = chance.bytes, chance.hex  # in this process, which does nothing else


class Known(Exception):
    """What was hit left behind what an earlier one did."""


class Scene(Stage):
    """A stage on which one act is hit. folder: holds the spool and the node's local directories; at: the act's number,
    from 1; 0: none is hit. heads: whether what heads do are acts. disk: the first head's. known: what was left behind
    and made good in earlier tellings that did the same up to here; None: no two do."""

    def __init__(
        self, folder: Path, at: int, hit: Hit, heads: bool, disk: Mortal, known: set[tuple[int, bytes]] | None = None
    ) -> None:
        chance.begin("before")
        self.folder, self.at, self.hit, self.heads, self.known = folder, at, hit, heads, known
        self.left = 0, b""  # behind by what was hit: its exit code, and what stood on the disk
        self.acts = self.takeover = 0  # how many there were; the first one after a head was killed in its own process
        self.code = 0  # exit code of what was hit
        self.failing = False  # whether it is hit by an error instead of a kill
        self.close: Act = lambda: None
        self.disks: list[LocalDisk] = []  # of its heads
        super().__init__(folder / "spool", disk)
        for private in (self.spool.tmp, self.spool.pending, self.spool.requests, self.spool.claims):
            os.chmod(private, 0o700)
        Path(self.spool.settings).write_text(SETTINGS_TEXT)

    # ---- acts

    def act(self, act: Act) -> object:
        """Carry out one act: here, or in a fork that is hit."""
        self.acts += 1
        if self.acts != self.at:
            return act()
        self._be_hit(tracing.forked(lambda: (chance.begin("act"), act())))
        raise Killed

    def process(self, start: Start) -> int:
        """The same for what is a process of its own; its exit code."""
        self.acts += 1
        if self.acts != self.at:
            return tracing.alone(start)
        self._be_hit(start)
        raise Killed

    def _be_hit(self, start: Start) -> None:
        self.code = self.hit(start)
        chance.begin("after")
        self.is_sound_enough()
        if self.known is not None:
            self.left = self.code, picture(str(self.folder))
            if self.left in self.known:
                raise Known

    def lead(self, disk: Disk) -> Term:
        if isinstance(disk, LocalDisk):
            self.disks.append(disk)
        if not self.heads:
            return super().lead(disk)
        if self.killed and not self.takeover:
            self.takeover = self.acts + 1
        term = self.act(lambda: super(Scene, self).lead(disk))
        assert isinstance(term, Term)
        tick, write = term.tick, term.keeper.write
        # Each is an act of its own, in a traced fork: the product has no seam there, and needs none.
        term.tick = lambda: bool(self.act(tick))  # type: ignore[method-assign]
        term.keeper.write = lambda *more: self.act(lambda: write(*more))  # type: ignore[method-assign]
        return term

    # ---- what is true

    def memory_is_the_disk(self) -> None:
        if self.killed or not self.at:
            super().memory_is_the_disk()

    def is_sound_enough(self) -> None:
        """What holds at any moment."""
        assert broken(history.read_present(self.spool, Disk()).state) == []
        faults = [finding for finding in judge(gather(self.spool, Disk(), SETTINGS.id)) if finding.fault]
        assert faults == [], f"fsck, before anybody goes on: {faults}"

    def audit(self) -> None:
        super().audit()
        self.write_ledger()
        assert (found := judge(gather(self.spool, Disk(), SETTINGS.id))) == [], f"fsck, at the end: {found}"


class Tale(NamedTuple):
    """A story, and which of its acts are hit. heads: what heads do as well; debris: only the takeover after a head that
    was killed half way. patient: what is hit waits until an error is over, however long. real: its node or lock is, so
    that no two tellings write the same."""

    story: Callable[[Scene], None]
    heads: bool = True
    debris: bool = False
    patient: bool = False
    real: bool = False


class Telling(NamedTuple):
    """How a tale is told once: which act is hit; before which operation the first head dies of itself."""

    number: int = 0
    death: int | None = None


class Teller:
    """All tellings of one tale."""

    def __init__(self, tale: Tale, folder: Path) -> None:
        self.tale, self.folder = tale, folder
        self.failures: list[str] = []
        self.failing = False
        self.kills = self.errors = 0  # how many were told of
        self.known: dict[Telling, set[tuple[int, bytes]]] = defaultdict(set)
        if not tale.real:
            now = time.time()
            time.time = lambda: now  # records of all tellings tell the same time

    def tell(self, how: Telling, hit: Hit = tracing.alone) -> Scene:
        """Once, to its end."""
        shutil.rmtree(self.folder, ignore_errors=True)
        known = None if self.tale.real else self.known[how]
        scene = Scene(self.folder, how.number, hit, self.tale.heads, Mortal(how.death), known)
        scene.failing = self.failing
        try:
            self.tale.story(scene)
            scene.audit()
        except Known:
            return scene
        finally:
            scene.close()
            for disk in scene.disks:  # else they would be let go in the midst of a later telling
                disk._let_go()
        assert scene.killed == bool(how.number) + bool(how.death)
        if known is not None:
            known.add(scene.left)
        return scene

    @functools.cached_property
    def acts(self) -> list[tuple[Telling, list[Call]]]:
        """Each act that does not do what an earlier one did, and its calls."""
        found: dict[tuple[tuple[str, ...], ...], tuple[Telling, list[Call]]] = {}
        for how in self._takeovers() if self.tale.debris else self._each_act():
            calls = self._listed(how)
            found.setdefault(tuple(call.paths for call in calls), (how, calls))
        return [*found.values()]

    def _listed(self, how: Telling) -> list[Call]:
        calls: list[Call] = []

        def look(start: Start) -> int:
            calls.extend(tracing.listing(start, [str(self.folder)]))
            return tracing.DONE

        self.tell(how, look)
        return calls

    def _each_act(self) -> Iterator[Telling]:
        for number in range(1, self.tell(Telling()).acts + 1):
            yield Telling(number)

    def _takeovers(self) -> Iterator[Telling]:
        """The takeover after a head that died before each kind of operation."""
        kinds = set()
        scene = self.tell(Telling())
        for death, what in enumerate(scene.first.done, 1):
            if (kind := kind_of(what)) not in kinds:
                kinds.add(kind)
                yield Telling(self.tell(Telling(death=death)).takeover, death)

    def kill_all(self) -> None:
        """Every act, killed at every call that makes a difference."""
        for how, calls in self.acts:
            for call in self._chosen(calls):
                self.kills += 1
                self.attempt(f"killed at {call}", how, lambda start, call=call: tracing.killed_at(start, call).code)

    def _chosen(self, calls: list[Call]) -> list[Call]:
        """The first and the last of each row of calls before which the same stands on the disk."""
        rows: list[list[Call]] = [[]]
        for call in calls:
            rows[-1].append(call)
            if call.changes:
                rows.append([])
        ends = [call for row in rows for call in dict.fromkeys((*row[:1], *row[-1:]))]
        return calls if EVERY_CALL else ends

    def fail_some(self) -> None:
        """Errors in place of a sample of calls, from all over the tale."""
        places = [(how, call) for how, calls in self.acts for call in calls]
        self.failing = True
        for number, (how, call) in enumerate(places[:: max(1, len(places) // SAMPLE)]):
            self.errors += 1
            error = ERRORS[number % len(ERRORS)]
            forever = number // len(ERRORS) % 2 == 1 and error != "EINTR" and not self.tale.patient
            what = f"{error}{' for ever' if forever else ''} from {call}"
            self.attempt(what, how, lambda start, c=call, e=error, f=forever: failed(start, c, e, f))

    def attempt(self, what: str, how: Telling, hit: Hit) -> None:
        """One telling; failures are kept."""
        for left in reversed(range(TRIES)):
            try:
                self.tell(how, hit)
                return
            except Astray as error:
                if not left:
                    self.failures.append(f"{how} {what}: {error}")
            except Exception:  # whatever went wrong is this call's failure; the others are still to be tried
                self.failures.append(f"{how} {what}:\n{traceback.format_exc(limit=-4)}")
                return


def kind_of(operation: str) -> tuple[str, ...]:
    """What an operation does, and in which directories; of files that were claimed, also what they are."""
    what, *paths = operation.replace(" -> ", " ").split(" ")
    kinds = [path.split("/")[-3 if path.startswith(("claims/", "done/", "nodes/")) else -2] for path in paths]
    claimed = [match[1] for path in paths if (match := re.match(r"claims/[^/]*/(new|request|[0-9])", path))]
    return what, *kinds, *claimed


def failed(start: Start, call: Call, error: str, forever: bool) -> int:
    """An error in place of a call. What was hit may not break, nor say that all is well if it could not sync."""
    code = tracing.failed_at(start, call, error, forever).code
    assert code != tracing.BROKE, f"broke at {error} from {call}"
    assert (call.name, error == "EINTR", code) != ("fsync", False, tracing.DONE), f"is content without {call}"
    return code
