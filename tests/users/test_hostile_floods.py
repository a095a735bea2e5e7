"""What one user does in numbers: no other user waits for it, and what is above a limit waits where it stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from spool_layout.events import Accepted, Edited, Rejected, Requested
from spool_layout.limits import pending_of, too_many_pending
from spool_layout.paths import Spool
from spool_layout.records import Leader
from spool_layout.replay import REJECTED_KEPT, State
from spool_layout.settings import Settings
from spool_layout.states import Status
from spool_layout.storage import Disk, Entry, Seen
from spool_layout.users import user_name
from spoold.head import arrivals, observe
from spoold.head.allowance import PerMinute
from spoold.head.arrivals import SEVERAL_LINKS, Arrivals
from spoold.head.observe import aside_name
from spoold.head.term import Term
from tests.client.builders import Scene
from tests.client.conftest import Run, unprivileged
from tests.client.conftest import at_home as at_home
from tests.client.conftest import scene as scene
from tests.client.conftest import sky as sky
from tests.head.conftest import folder as folder
from tests.head.stage import CPU, Stage

FLOODER, OTHER = 31_001, 31_002
as_root = pytest.mark.skipif(os.getuid() != 0, reason="NOT TESTED: files of two users need root")


class Counting(Disk):
    """Counts what a look costs."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def stat(self, path: str) -> os.stat_result | None:
        self.calls["stat" if "/pending/" in path else "stat of a claim"] += 1
        return super().stat(path)

    def inspect(self, path: str, limit: int, known: Seen | None = None) -> Seen:
        self.calls["inspect"] += 1
        return super().inspect(path, limit, known)


class Crowd(Stage):
    """A stage with two users beside the head's own."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.counting = Counting()
        super().__init__(folder, self.counting)
        self.settings = Settings(1, "0" * 16, "test", settle=0.0, allow=[FLOODER, OTHER], **limits)  # type: ignore[arg-type]

    def lead(self, disk: Disk) -> Term:
        from spool_layout import leadership

        epoch = leadership.take(self.spool, disk)
        assert epoch is not None
        return Term(self.spool, disk, self.settings, self.hearing, True, time.time, epoch, Leader("host", 1, 1.0))

    def tick(self) -> Term:
        if self.term is None:
            self.term = self.lead(self.disk)
        self.term.tick()
        return self.term

    def user_drops(self, uid: int, name: str, text: str | bytes = CPU, folder: str | None = None) -> str:
        path = os.path.join(folder or self.spool.pending, name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, text if isinstance(text, bytes) else text.encode())
        os.fchown(descriptor, uid, uid)
        os.close(descriptor)
        return path

    def status_of(self, uid: int) -> list[Status]:
        assert self.term is not None
        return [job.status for job in self.term.state.known() if job.uid == uid]


def flooded(stage: Crowd, count: int) -> None:
    """So many files of one user, and one of another before and after them: listings show the last or the first one
    first, as the file system likes. There is room for all that two ticks accept: who gets it is the scheduler's."""
    for number in range(2 * observe.TAKEN_AT_ONCE // 128 + 1):
        stage.node(f"n{number}", gpus=0)
    stage.tick()
    stage.user_drops(OTHER, "aaa.yaml")
    for number in range(count):
        stage.user_drops(FLOODER, f"flood-{number}.yaml")
    stage.user_drops(OTHER, "zzz.yaml")


@as_root
@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.faults)])
def test_a_flood_of_files_lets_another_users_job_start_within_two_ticks(count: int, folder: Path) -> None:
    stage = Crowd(folder)
    flooded(stage, count)
    began = time.process_time()
    for _ in range(2):
        stage.tick()
    took = time.process_time() - began
    assert [status is Status.PENDING for status in stage.status_of(OTHER)] == [False, False], stage.status_of(OTHER)
    assert stage.counting.calls["stat"] <= count + 2_000, "each name is asked for its owner once"
    print(f"two ticks over {count} files: {took:.2f} s of CPU")
    assert took < 20, f"two ticks took {took:.1f} s of CPU"
    while stage.counting.calls["stat"] < count:  # on a busy machine not all names were asked for yet
        stage.tick()
    before = stage.counting.calls["stat"]
    stage.tick()
    assert stage.counting.calls["stat"] - before <= observe.CHECKED_AT_ONCE + observe.TAKEN_AT_ONCE


def dear() -> bytes:
    """Numbers in base 60, the dearest that a file of its size can hold."""
    return b"envs:\n" + b"".join(b"  A%d: 9%s\n" % (n, b":59" * 95) for n in range(3400)) + b"run: x\n...\n"


@as_root
def test_costly_files_of_one_user_let_another_users_job_start_within_two_ticks(folder: Path) -> None:
    stage = Crowd(folder)
    stage.node("n1", gpus=0)
    stage.tick()
    assert len(dear()) < stage.settings.max_file
    for number in range(60):
        stage.user_drops(FLOODER, f"{number}.yaml", dear())
    stage.user_drops(OTHER, "zzz.yaml")
    for _ in range(2):
        stage.tick()
    assert Status.PENDING not in stage.status_of(OTHER) and stage.status_of(OTHER)
    assert len(stage.status_of(FLOODER)) < 60, (
        "all fitted into two ticks: the files are not dear enough to show anything"
    )


@as_root
def test_who_edits_many_waiting_files_keeps_nobody_elses_edit_from_being_seen(folder: Path) -> None:
    stage = Crowd(folder)
    names = dict.fromkeys(map(str, range(24)), FLOODER) | {"mine": OTHER}
    for name, uid in names.items():
        stage.user_drops(uid, f"{name}.yaml", "run: x\n...\n")
    stage.look()
    assert stage.term is not None
    for file, ident in list(stage.term.state.waiting.items()):
        uid = stage.term.state.jobs[ident].uid
        new = stage.user_drops(uid, "new", dear() if uid == FLOODER else "run: y\n...\n", stage.spool.tmp)
        os.rename(new, stage.spool.dropped(file))
    for _ in range(2):
        stage.tick()
    edited = [event.id for event in stage.events() if isinstance(event, Edited)]
    assert 25 in edited
    assert len(edited) < 25, "all were seen in two ticks: the files are not dear enough to show anything"
    while len(edited) < 25:
        stage.tick()
        edited = [event.id for event in stage.events() if isinstance(event, Edited)]
    assert sorted(edited) == list(range(1, 26)), "each once"


@as_root
@pytest.mark.parametrize(
    "kind", ["dot files", "directories", "empty files", "several links", "files that are being written"]
)
def test_what_can_never_be_taken_stands_in_nobodys_way(kind: str, folder: Path) -> None:
    stage = Crowd(folder)
    stage.node("n1", gpus=0)
    stage.tick()
    theirs = stage.user_drops(OTHER, "linked", folder=stage.spool.tmp)
    for number in range(1500):
        path = stage.spool.dropped(f"{'.' * (kind == 'dot files')}{number}.yaml")
        if kind == "directories":
            os.mkdir(path)
            os.chown(path, FLOODER, FLOODER)
        elif kind == "several links":
            os.link(theirs, path)
        else:
            stage.user_drops(FLOODER, os.path.basename(path), b"" if kind == "empty files" else b"run: x")
    stage.user_drops(OTHER, "zzz.yaml")
    for _ in range(2):
        stage.tick()
    assert [job.status for job in stage.jobs()["zzz"]] != [Status.PENDING]
    before = stage.counting.calls["inspect"]
    stage.tick()
    assert stage.counting.calls["inspect"] - before <= observe.TAKEN_AT_ONCE + arrivals.FEW


@as_root
def test_requests_of_one_user_keep_no_request_of_another_waiting(folder: Path) -> None:
    stage = Crowd(folder, max_requests=50)
    stage.node("n1", gpus=0)
    stage.tick()
    stage.user_drops(OTHER, "mine.yaml")
    stage.tick()
    for number in range(2_000):
        stage.user_drops(FLOODER, f"{number}.yaml", b"cancel: all-users\n...\n", stage.spool.requests)
    stage.user_drops(OTHER, "zzz.yaml", b"cancel: mine\n...\n", stage.spool.requests)
    for _ in range(2):
        stage.tick()
    requests = [event for event in stage.events() if isinstance(event, Requested)]
    assert [request.ids for request in requests if request.user == str(OTHER)] == [[1]]
    assert sum(request.user == str(FLOODER) for request in requests) == 50, "so many in a minute"
    assert len(os.listdir(stage.spool.requests)) == 1950, "the others wait"
    assert stage.term is not None and stage.term.again is not None and 1 < stage.term.again <= 60


def test_as_many_requests_as_one_may_make_are_taken_anew_a_minute_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    asking = PerMinute(2)
    for _ in range(2):
        assert asking.may(7)
        asking.note(7)
    assert not asking.may(7) and asking.may(8)
    assert asking.again({7}) == 60
    now += 59.9
    assert not asking.may(7)
    now += 0.1
    assert asking.may(7)


@as_root
def test_files_above_the_number_of_pending_jobs_wait_and_are_accepted_one_by_one(folder: Path) -> None:
    stage = Crowd(folder, max_pending=3)
    for number in range(5):
        stage.user_drops(FLOODER, f"{number}.yaml", "resources: {accelerators: H100:1}\nrun: x\n...\n")
    stage.user_drops(OTHER, "other.yaml")
    stage.look()
    assert stage.term is not None
    assert pending_of(stage.term.state) == {FLOODER: 3, OTHER: 1}
    assert sorted(os.listdir(stage.spool.pending))[-2:] == ["3.yaml", "4.yaml"] or len(stage.jobs()) == 4
    assert "max_pending" in too_many_pending(stage.term.state, stage.settings, FLOODER)
    assert too_many_pending(stage.term.state, stage.settings, OTHER) == ""
    assert stage.term.again is not None and stage.term.again >= 1, "it looks now and then, and not without rest"
    stage.request("cancel: all-users")
    stage.look()
    stage.look()
    assert pending_of(stage.term.state) == {FLOODER: 2}
    assert not [e for e in stage.events() if isinstance(e, Rejected)]


def test_what_one_look_takes_whole_is_accepted_in_the_order_of_its_coming(folder: Path) -> None:
    stage = Stage(folder)
    for name in ("z", "m", "a"):
        stage.drop(name, CPU)
    stage.look()
    assert [event.drop for event in stage.events() if isinstance(event, Accepted)] == ["z.yaml", "m.yaml", "a.yaml"]


# ---- whose turn it is


def test_next_is_who_had_least_of_the_heads_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Arrivals(Disk(), str(folder))
    owners = {f"{uid}-{n}": uid for uid in (1, 2) for n in range(4)}

    class Info:
        st_nlink, st_ctime_ns, st_mode = 1, 0, 0o100600

        def __init__(self, uid: int) -> None:
            self.st_uid = uid

    monkeypatch.setattr(box.disk, "stat", lambda path: Info(owners[os.path.basename(path)]))
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    box.listed([Entry(name, n) for n, name in enumerate(owners)])
    order = []
    for uid, entry in box.turns(lambda uid: True):
        order.append(entry.name)
        now += 10.0 if uid == 1 else 1.0
    assert order == ["1-0", "2-0", "2-1", "2-2", "2-3", "1-1", "1-2", "1-3"]


def test_a_name_that_comes_late_is_asked_for_after_those_before_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where asking is slow, nobody can push in front by dropping more."""
    monkeypatch.setattr(arrivals, "ASK_FOR", -1.0)  # one name a look
    for name in "abc":
        Path(folder, name).touch()
    box, seen = Arrivals(Disk(), str(folder)), []
    monkeypatch.setattr(box, "_push", lambda uid, due: seen.append(due.entry.name))
    box.listed([Entry("b", 1), Entry("a", 2)])
    for _ in range(2):
        box.listed([Entry("c", 3), Entry("a", 2), Entry("b", 1)])
    assert seen == ["b", "a", "c"]


@pytest.mark.parametrize("limit", [0, 100])
def test_a_link_to_a_file_is_not_counted_as_its_owners(folder: Path, limit: int) -> None:
    Path(folder, "a").touch()
    os.link(Path(folder, "a"), Path(folder, "b"))
    box = Arrivals(Disk(), str(folder), limit)
    box.listed(Disk().list(str(folder)))
    assert {uid for uid, _ in box.turns(lambda uid: True)} == {SEVERAL_LINKS}


class Asked(Disk):
    """A disk that notes which files are read, and of which only the owner is asked for."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []

    def stat(self, path: str) -> os.stat_result | None:
        self.made.append(("stat", os.path.basename(path)))
        return super().stat(path)

    def inspect(self, path: str, limit: int, known: Seen | None = None) -> Seen:
        self.made.append(("inspect", os.path.basename(path)))
        return super().inspect(path, limit, known)


def test_a_few_new_files_are_read_once_and_of_many_only_the_owners_are_asked_for(folder: Path) -> None:
    for name in "ab":
        Path(folder, name).write_text(name)
    box = Arrivals(disk := Asked(), str(folder), 100)
    entries = Disk().list(str(folder))
    box.listed(entries)
    taken = {entry.name: box.read(entry) for _, entry in box.turns(lambda uid: True)}
    assert {name: seen and seen.data for name, seen in taken.items()} == {"a": b"a", "b": b"b"}
    assert sorted(disk.made) == [("inspect", "a"), ("inspect", "b")]
    disk.made.clear()
    many = [Entry(f"{number}", number) for number in range(arrivals.AT_ONCE + 1)]
    box.listed(many)
    assert {call for call, _ in disk.made} == {"stat"} and len(disk.made) == len(many)


def test_large_files_that_are_new_are_not_all_read_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "AT_ONCE_BYTES", 15)
    for name in "abc":
        Path(folder, name).write_bytes(b"0123456789")
    box = Arrivals(disk := Asked(), str(folder), 100)
    box.listed(Disk().list(str(folder)))
    assert sorted(call for call, _ in disk.made) == ["inspect", "inspect", "stat"]


def test_what_was_read_of_a_new_file_counts_in_this_look_alone(folder: Path) -> None:
    Path(folder, "a").write_text("a")
    box, entries = Arrivals(Disk(), str(folder), 100), Disk().list(str(folder))
    box.listed(entries)
    box.listed(entries)  # its turn did not come
    assert [box.read(entry) for _, entry in box.turns(lambda uid: True)] == [None]


def test_what_cannot_be_read_stands_in_line_like_all_else(folder: Path) -> None:
    os.mkdir(Path(folder, "folder"))
    os.symlink("none", Path(folder, "link"))
    os.mkfifo(Path(folder, "fifo"))
    box = Arrivals(Disk(), str(folder), 100)
    box.listed(Disk().list(str(folder)))
    assert {(uid, entry.name) for uid, entry in box.turns(lambda uid: True)} == {
        (os.getuid(), name) for name in ("folder", "link", "fifo")
    }


# ---- what many bad files do


def test_thousands_of_bad_files_of_one_name_are_named_in_no_time() -> None:
    """Each took as long as there were before it."""
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    began = time.process_time()
    for number in range(20_000):
        taken.add(aside_name(f"{number}.same.yaml", taken, numbers))
    assert time.process_time() - began < 5
    assert len(taken) == 20_000


def test_one_users_rejected_files_do_not_push_anothers_out_of_the_listing() -> None:
    state = State()
    told = [Rejected("mine.yaml", "mine.yaml", 1, "me", "why", 1.0)]
    told += [Rejected(f"{n}.yaml", f"{n}.yaml", 2, "flooder", "why", 2.0 + n) for n in range(2 * REJECTED_KEPT)]
    for event in told:
        state.apply(event)
    assert len(state.rejected) == REJECTED_KEPT
    assert state.rejected[0].user == "me"
    assert state.rejected[1].drop == f"{REJECTED_KEPT + 1}.yaml", "of the flooder's the oldest go first"


def test_the_spool_knows_no_limit_where_it_says_0(folder: Path) -> None:
    assert too_many_pending(State(), Settings(1, "x", "x", max_pending=0), 1) == ""
    assert PerMinute(0).may(1)
    assert Spool(folder).root


# ---- what the owner of a file that waits is told


def test_whoever_waits_for_a_limit_is_told_which(scene: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(scene.spool.settings).open("a") as file:
        file.write("max_pending: 2\nmax_requests: 7\n")
    scene.head()
    scene.node("n1", "H100:1")
    scene.pending("a", "H100:1")
    scene.dropped("late.yaml")
    assert "max_pending" not in sky("queue").out
    assert "has not accepted it yet" in sky("why", "late").out
    scene.pending("b", "H100:1")
    told = "as many jobs of one user as may are pending already (2: max_pending in spool.yaml)"
    assert f"files of {user_name(os.getuid())} wait in pending/: {told}" in sky("queue").out
    assert f"late waits in pending/: {told}" in sky("why", "late").out
    assert told in sky("why").out and told in sky("logs", "--no-follow", "late").err
    (first, *_) = json.loads(sky("queue", "-o", "json").out)[scene.name]
    assert first["handle"] == "late" and told in first["reason"]
    monkeypatch.setattr("skyspool.verbs.cancel.PATIENCE", 0.0)
    assert "it carries out 7 a minute (max_requests in spool.yaml)" in sky("cancel", "1").err


def test_where_pending_may_not_be_listed_the_limit_is_told_all_the_same(scene: Scene) -> None:
    """As it is where several users share a spool."""
    with Path(scene.spool.settings).open("a") as file:
        file.write("max_pending: 1\n")
    scene.head()
    scene.pending("a", "H100:1")
    Path(scene.spool.pending).chmod(0o300)
    command = [*unprivileged(), sys.executable, "-m", "skyspool", "queue"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    Path(scene.spool.pending).chmod(0o700)
    assert "what you drop now waits in pending/: as many jobs of one user as may are pending already (1:" in done.stdout
