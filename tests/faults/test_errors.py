"""What a file system says instead of carrying out a call, at each call of a head: it is waited out, nothing is lost.

The stories of tests/head/test_cuts.py, each told once for each call to which a fault applies (port.py), with the fault
there and nowhere else, and for some faults once more, there and at every later call until it is lifted. The head may
fail and begin a new term; then no file of a user is lost or doubled at any moment, and at the end of the story all has
come true that was to (Stage.audit), and fsck finds nothing. Directories in memory and no fsync: no power is cut here.

A look that makes the very calls, with the very records, that an earlier one made in any of the stories is passed over.
And where another head leads after the trouble, and everything came to rest as it did in an earlier telling of the same
story, which came to a good end, the rest of it is known (pictures.py says what that leaves out).
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from spool_layout.errors import Deposed
from spool_layout.modes import PRIVATE
from spool_layout.stamps import SharedDisk
from spool_layout.states import Status
from spool_layout.storage import Disk
from spoold.fsck.facts import gather
from spoold.fsck.judging import judge
from spoold.head.term import Term
from tests.faults.chance import chance
from tests.faults.pictures import memory_of, picture
from tests.faults.port import FAULTS, Call, Fault, Port, explained, put_in_place, through
from tests.head import test_cuts as told
from tests.head.stage import CPU, SETTINGS, Mortal, Stage

NOW = time.time() + 3600.0  # later than any file is changed, so that none is taken for one that is still written
PATIENCE = 3  # failures in a row after which a lasting fault is lifted
TICKS = 4  # after a failure in which memory is compared with the disk
FEW = 53  # of so many calls one, in the tests that always run
CHANCE = re.compile(r"[0-9a-f]{8,}|[0-9]+")  # tokens, digests, times, numbers
Story = Callable[[Stage], None]
Rests = set[Hashable]  # what everything was like when it had come to rest
# Where any error ends a term, the ones that last differ in what a head can still do: nothing, only look, all but half a
# write, all. (test_errors_daemons.py lets each of them last.)
LAST = {"EIO", "ENOSPC", "short write", "done, says ENOENT or EEXIST"}
HOW = [(fault, False) for fault in FAULTS] + [(fault, True) for fault in FAULTS if fault.name in LAST]


class Troubled(Stage):
    """A stage whose heads meet a fault: where one fails, it begins a new term, as `spoold head` does.

    shared: the spool is on a network file system, as the head believes. known: how it came to rest in earlier tellings.
    """

    def __init__(self, folder: Path, port: Port, shared: bool = False, known: Rests | None = None) -> None:
        super().__init__(folder, through(port, SharedDisk if shared else Mortal))
        self.mend = lambda: through(port, Mortal)
        self.port, self.shared = port, shared
        self.looks: list[tuple[int, int]] = []  # the calls of each, as numbers in port.calls
        self.seen, self.since = 0, 0  # how often something went wrong, and how many ticks ago
        self.terms = self.runs = 0
        self.before_term = 0  # how often something had gone wrong when the present head took over
        self.known, self.rests = Rests() if known is None else known, Rests()
        for name in PRIVATE:
            (folder / name).chmod(0o700)

    def look(self) -> None:
        self.bear(super().look)

    def write_ledger(self) -> None:
        self.bear(super().write_ledger)

    def run(self) -> None:
        super().run()
        self.runs += 1
        if 0 < len(self.port.struck) == self.before_term and not (self.port.lasting and self.port.fault):
            rest = self._rest()
            if rest in self.known:
                super().memory_is_the_disk()
                raise Known
            self.rests.add(rest)

    def _rest(self) -> Hashable:
        nodes = [(n.phases, n.orders, n.ran, n.over, n.seen, n.read, n.beat) for n in self.nodes.values()]
        users = self.runs, self.hearing.said, self.texts, sorted(self.deleted), self.killed
        assert self.term is not None
        return picture(self.spool.root), memory_of(self.term), repr(nodes), repr(users), self.terms

    def bear(self, act: Callable[[], None]) -> None:
        """Act until it goes well without meeting a fault; one that lasts is lifted after a while."""
        began = len(self.port.calls)
        for tried in range(1, PATIENCE + 3):
            before = len(self.port.struck)
            try:
                act()
            except (OSError, Deposed):
                if len(self.port.struck) == before:
                    raise
                self.term = None
                self.each_file_once()
                if tried >= PATIENCE:
                    self.port.lift()
            else:
                if len(self.port.struck) == before:
                    self.looks.append((began, len(self.port.calls)))
                    return
                self.port.lift()  # it came to rest in spite of it
        raise AssertionError("the head does not come to rest, though nothing goes wrong any more")

    def lead(self, disk: Disk) -> Term:
        self.terms += 1
        chance.begin(f"term {self.terms}")
        before = len(self.port.struck)
        term = super().lead(disk)
        self.before_term = before
        term.observer.nodes.sparing = self.shared
        return term

    def memory_is_the_disk(self) -> None:
        """In the first ticks after something went wrong: before that all tellings of a story are alike."""
        self.since = self.since + 1 if len(self.port.struck) == self.seen else 0
        self.seen = len(self.port.struck)
        if self.seen and self.since < TICKS:
            super().memory_is_the_disk()

    def is_sound(self) -> None:
        """What was promised, and what fsck says."""
        self.audit()
        found = judge(gather(self.spool, Disk(), SETTINGS.id))
        assert [finding for finding in found if finding.fault] == []


class Known(Exception):
    """From here on everything happens that happened in an earlier telling."""


def tell(folder: Path, port: Port, story: Story, shared: bool = False, known: Rests | None = None) -> Troubled:
    """A story, from the beginning to its end or to where the rest is known, in a new spool."""
    stage = Troubled(folder / "spool", port, shared, known)
    try:
        story(stage)
        port.lift()
        stage.is_sound()
    except Known:
        pass
    finally:
        shutil.rmtree(stage.spool.root)
    return stage


# ---- one more story


def take_over(s: Stage) -> None:
    """Heads are killed with files in their hands: new ones and a request, not committed; accepted ones, not moved on;
    one that starts; one of a job that is over. What goes wrong comes upon them or upon those that take over."""
    told.start_a_before_b(s)
    s.drop("c", CPU)
    s.bad("x", "first")
    s.drop("d")
    s.request("cancel: b")
    die(s, "append ")
    s.run()
    assert {"c", "d"} <= s.jobs().keys(), "one head later they are accepted"
    s.drop("e", CPU)
    s.bad("x", "second")
    die(s, "move claims/")
    s.run()
    for node in s.nodes.values():
        node.over.add("a")
        node.step()
    die(s, "move claims/")
    s.run()
    die(s, "move spool/running/")
    s.finish("a", "c", "d", "e")
    assert s.job("b").status is Status.CANCELLED
    assert all(s.job(name).status is Status.SUCCEEDED for name in "acde")


def die(s: Stage, what: str) -> None:
    """The head that leads now is killed before its next operation that is called so."""
    assert isinstance(s.disk, Mortal)
    s.disk.trap = lambda done: done.startswith(what)


STORIES = [*told.STORIES, take_over]


def tell_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of all tellings tell the same time, and the same names by chance: with the real ones no two tellings that
    are alike could be seen to be."""
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setattr(os, "urandom", chance.bytes)
    monkeypatch.setattr(secrets, "token_hex", chance.hex)


# ---- which calls


def words(call: Call) -> str:
    """What a call is, but for what is another one in each telling; of a write, also what is written."""
    data = call.args[1] if call.name in ("write", "pwrite") else b""
    return CHANCE.sub("0", f"{call} {bytes(data).decode('latin-1')}")


@pytest.fixture(scope="module")
def calls() -> Iterator[dict[str, list[tuple[str, bool]]]]:
    """Of each story, told without trouble: each call's name, and whether no earlier look has made it."""
    found: dict[str, list[tuple[str, bool]]] = {}
    seen: set[tuple[str, ...]] = set()
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as place:
        tell_alike(patched)
        for story in STORIES:
            port = Port()
            put_in_place(port, patched)
            stage = tell(Path(place), port, story)
            new = [True] * len(port.calls)
            for begin, end in stage.looks:
                look = tuple(map(words, port.calls[begin:end]))
                new[begin:end] = [look not in seen] * (end - begin)
                seen.add(look)
            found[story.__name__] = [(call.name, fresh) for call, fresh in zip(port.calls, new, strict=True)]
    yield found


def points(calls: list[tuple[str, bool]], fault: Fault) -> list[int]:
    """Of the calls that a fault applies to, counted from 1, those that are worth a telling."""
    fitting = [fresh for name, fresh in calls if name in fault.calls]
    return [number for number, fresh in enumerate(fitting, 1) if fresh]


# ---- the tests


def named(value: object) -> str:
    if isinstance(value, bool):
        return "lasting" if value else "once"
    return getattr(value, "__name__", "") or getattr(value, "name", "")


@pytest.fixture(autouse=True)
def _alike(monkeypatch: pytest.MonkeyPatch) -> None:
    tell_alike(monkeypatch)


@pytest.fixture(scope="module")
def rests() -> dict[str, Rests]:
    """By story: of all its tellings on this worker so far."""
    return defaultdict(Rests)


class Meet(NamedTuple):
    """Tells stories in which something goes wrong."""

    folder: Path
    port: Port
    rests: dict[str, Rests]

    def __call__(self, story: Story, fault: Fault, at: int, lasting: bool, shared: bool = False) -> None:
        """One of them; nothing going wrong is a failure."""
        known = Rests() if shared else self.rests[story.__name__]  # there a disk remembers, from term to term
        self.port.plan(fault, at, lasting)
        with explained(self.port):
            stage = tell(self.folder, self.port, story, shared, known)
            assert self.port.struck
        known |= stage.rests


@pytest.fixture
def meet(folder: Path, port: Port, rests: dict[str, Rests]) -> Meet:
    return Meet(folder, port, rests)


@pytest.mark.faults
@pytest.mark.parametrize(("fault", "lasting"), HOW, ids=named)
@pytest.mark.parametrize("story", STORIES, ids=named)
def test_a_head_makes_good_what_goes_wrong_at_any_call(
    meet: Meet, calls: dict[str, list[tuple[str, bool]]], story: Story, fault: Fault, lasting: bool
) -> None:
    numbers = points(calls[story.__name__], fault)
    assert numbers
    for number in numbers:
        meet(story, fault, number, lasting)


@pytest.mark.parametrize("story", STORIES, ids=named)
def test_a_head_makes_good_what_goes_wrong_at_some_calls(
    meet: Meet, calls: dict[str, list[tuple[str, bool]]], story: Story
) -> None:
    """Every so many calls another fault, by turns once and lasting."""
    all_of_them = [(fault, number) for fault in FAULTS for number in points(calls[story.__name__], fault)]
    for turn, (fault, number) in enumerate(all_of_them[::FEW]):
        meet(story, fault, number, lasting=turn % 2 == 1)


@pytest.mark.faults
@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_a_head_on_a_shared_disk_makes_good_what_goes_wrong_at_any_call(meet: Meet, fault: Fault) -> None:
    """Listings there are kept for as long as a directory's time stamp stays (SharedDisk)."""
    port = meet.port
    port.plan(None, 0)
    tell(meet.folder, port, told.accept, shared=True)
    for number in range(1, 1 + sum(call.name in fault.calls for call in port.calls)):
        meet(told.accept, fault, number, lasting=False, shared=True)
