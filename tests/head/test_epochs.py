"""What epochs and versions protect from, one moment each: another head is faster, a spool went back, a node is another.

The stories of the other files put heads side by side and look at what comes of it. Here one look of one program meets
one thing that another one did, and must not go on as if it had not.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from skyspool import submission
from skyspool.clusters import Cluster as Known
from skyspool.present import Watch
from spool_layout import history, leadership
from spool_layout.errors import Damaged, Deposed
from spool_layout.leadership import Epoch
from spool_layout.paths import Spool
from spool_layout.records import Assigned, HeadStatus, Leader, NodeStatus, Remnant, decode, encode
from spool_layout.settings import load
from spool_layout.states import Status
from spool_layout.storage import Disk
from spoold import restored
from spoold.head import loop
from spoold.head import term as terms
from spoold.head.loop import Head
from spoold.node import journal
from spoold.node.workplace import Workplace
from spoold.restored import WentBack, refuse, runner_knows_more
from tests.e2e.cluster import Cluster
from tests.head.stage import CPU, Mortal, Stage


def another(spool: Spool) -> Epoch:
    """A head that takes the next epoch and leads."""
    epoch = leadership.take(spool, Disk())
    assert epoch is not None
    leadership.seal(epoch, Leader("another", 1, 1.0), time.time())
    return epoch


class Meeting(Disk):
    """A disk on which something happens once, before or after a call whose name and path are named."""

    def __init__(self, call: str, part: str, before: Callable[[], object] | None, after: Callable[[], object] | None):
        self.call, self.part, self.before, self.after, self.done = call, part, before, after, False

    def _meets(self, call: str, path: str) -> bool:
        meets = not self.done and call == self.call and self.part in path
        self.done |= meets
        return meets

    def publish_new(self, path: str, data: bytes, mode: int = 0o644) -> bool:
        meets = self._meets("publish_new", path)
        if meets and self.before:
            self.before()
        won = super().publish_new(path, data, mode)
        if meets and self.after:
            self.after()
        return won

    def read(self, path: str, start: int = 0) -> bytes | None:
        meets = self._meets("read", path)
        if meets and self.before:
            self.before()
        found = super().read(path, start)
        if meets and self.after:
            self.after()
        return found

    def stat(self, path: str) -> os.stat_result | None:
        if self._meets("stat", path) and self.before:
            self.before()
        return super().stat(path)

    def move(self, source: str, target: str, inode: int | None = None) -> bool:
        if self._meets("move", source) and self.before:
            self.before()
        return super().move(source, target, inode)


# ---- claiming an epoch


def test_an_epoch_that_another_head_has_just_claimed_is_not_ours(folder: Path) -> None:
    s = Stage(folder)
    events = s.spool.events_of(1)
    disk = Meeting("publish_new", "1.jsonl", lambda: Path(events).touch(), None)
    assert leadership.take(s.spool, disk) is None
    assert os.listdir(s.spool.claims) == []


def test_an_epoch_is_lost_where_a_higher_one_is_listed_after_it_was_claimed(folder: Path) -> None:
    s = Stage(folder)
    disk = Meeting("publish_new", "1.jsonl", None, lambda: another(s.spool))
    assert leadership.take(s.spool, disk) is None
    assert [name.split(".")[0] for name in os.listdir(s.spool.claims)] == ["2"]


def test_a_head_that_is_overtaken_before_it_has_read_the_history_is_deposed_and_finds_no_damage(folder: Path) -> None:
    s = Stage(folder)
    s.look()

    def overtake() -> None:
        s.term = None
        s.write_ledger()  # packs away what the other one has just listed

    disk = Meeting("read", "events/1.jsonl", overtake, None)
    epoch = leadership.take(s.spool, disk)
    assert epoch is not None
    with pytest.raises(Deposed):
        leadership.seal(epoch, Leader("host", 1, 1.0), time.time())
    assert disk.done


def test_an_event_file_under_the_name_of_another_epoch_is_damage(folder: Path) -> None:
    s = Stage(folder)
    s.look()
    Path(s.spool.events_of(2)).write_bytes(Path(s.spool.events_of(1)).read_bytes())
    with pytest.raises(Damaged, match="does not begin with its seal"):
        history.take_stock(s.spool, Disk(), 3)


def test_claim_directories_of_later_heads_are_left_alone(folder: Path) -> None:
    s = Stage(folder)
    later = Path(s.spool.claim_dir(99, "abc"))
    later.mkdir()
    (later / "new-1-x.yaml").write_text(CPU)
    s.look()
    assert os.listdir(later) == ["new-1-x.yaml"]


# ---- a newer head, met in the middle of a look


def deposed_by(s: Stage, call: str, part: str, does: Callable[[], object]) -> list[int]:
    """A head looks, and at this call another one leads and does something. The epochs after that."""
    s.look()
    assert s.term is not None
    told = Path(s.term.epoch.file).stat().st_size
    disk = Meeting(call, part, lambda: (another(s.spool), does()), None)
    for part_of_the_head in (s.term.claims, s.term.observer, s.term.observer.intake, s.term.projector):
        part_of_the_head.disk = disk
    s.drop("a", CPU)
    with pytest.raises(Deposed):
        s.term.tick()
    assert disk.done
    assert Path(s.term.epoch.file).stat().st_size == told
    return history.epochs(s.spool, Disk())


def test_a_head_whose_claimed_file_is_gone_asks_who_leads_before_it_decides_anything(folder: Path) -> None:
    s = Stage(folder)

    def take_it() -> None:
        assert s.term is not None
        os.unlink(os.path.join(s.term.epoch.claims, "new-1-a.yaml"))

    assert deposed_by(s, "stat", "/new-1-", take_it) == [1, 2]


def test_a_head_whose_dropped_file_is_gone_asks_who_leads_before_it_decides_anything(folder: Path) -> None:
    s = Stage(folder)
    assert deposed_by(s, "move", "pending/a.yaml", lambda: os.unlink(s.spool.dropped("a.yaml"))) == [1, 2]


def test_a_head_whose_claim_directory_is_gone_is_deposed(folder: Path) -> None:
    s = Stage(folder)

    def clear_it() -> None:
        assert s.term is not None
        os.rmdir(s.term.epoch.claims)

    assert deposed_by(s, "move", "pending/a.yaml", clear_it) == [1, 2]


def test_a_head_whose_claim_directory_is_gone_takes_no_file_for_deleted_whoever_removed_it(folder: Path) -> None:
    s = Stage(folder)
    s.node("n1", gpus=1)
    s.drop("a")
    s.run()
    s.drop("b")
    s.run()
    n1, term = s.nodes["n1"], s.term
    assert term is not None
    n1.over.add("a")
    n1.step()
    os.rmdir(term.epoch.claims)
    with pytest.raises(Deposed):
        term.tick()
    s.term = None
    s.run()
    assert s.job("b").status is Status.RUNNING


def test_a_head_whose_claim_directory_is_gone_does_not_wait_for_a_file_that_it_cannot_take(folder: Path) -> None:
    s = Stage(folder)
    s.look()
    assert s.term is not None
    os.rmdir(s.term.epoch.claims)
    s.drop("a", CPU)
    with pytest.raises(Deposed):
        s.term.tick()


def test_a_head_whose_lock_was_lost_leads_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(tmp_path)
    head = Head(cluster.spool.root, state=str(tmp_path / "state"))
    head.lock.lost = True
    monkeypatch.setattr(head.waker, "wait", lambda seconds: head.stop())
    try:
        with pytest.raises(Deposed, match="lock was lost"):
            head.lead()
    finally:
        head.waker.close()


def test_an_epoch_of_many_events_is_followed_by_the_next_one_and_packed_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to read what a head did in a year; to those who look it led all the time."""
    cluster = Cluster(tmp_path)
    head = Head(cluster.spool.root, state=str(tmp_path / "state"))
    monkeypatch.setattr(loop, "VERY_LONG", 3000)
    monkeypatch.setattr(loop, "FILES_EVERY", 0.0)  # hardly any time passes here
    monkeypatch.setattr("spoold.head.keeping.EVENTS", 5)
    told: list[tuple[int, float]] = []

    def wait(_seconds: float) -> bool:
        (path,) = Path(cluster.spool.heads).iterdir()
        said = decode(path.read_bytes(), HeadStatus, str(path))
        assert said.role == "leading"
        told.append((said.epoch, said.since))
        if len(told) < 20:
            cluster.drop(f"{len(told)}.yaml", "resources: {accelerators: H100:1}\nrun: hostname\n...\n")
            head.waker.news.add(cluster.spool.pending)
        else:
            head.stop()
        return True

    monkeypatch.setattr(head.waker, "wait", wait)
    try:
        head.lead()
    finally:
        head.waker.close()
    assert told[0][0] == 1 and told[-1][0] >= 3 and len({since for _, since in told}) == 1
    assert history.epochs(cluster.spool, Disk())[0] >= told[-1][0] - 1  # the others are in the archive
    assert list(history.read_present(cluster.spool, Disk()).state.jobs) == list(range(1, 20))
    cluster.sound()


def test_a_client_reads_of_a_long_epoch_what_came_after_its_last_ledger(folder: Path) -> None:
    s = Stage(folder)
    for number in range(30):
        s.drop(f"j{number}", CPU)
    s.look()
    s.write_ledger()
    before = Path(s.spool.events_of(1)).stat().st_size
    s.drop("late", CPU)
    s.look()
    asked: list[int] = []

    class Noted(Disk):
        def read(self, path: str, start: int = 0) -> bytes | None:
            asked.extend([start] if path == s.spool.events_of(1) else [])
            return super().read(path, start)

    assert len(history.read_present(s.spool, Noted()).state.jobs) == 31
    assert asked and all(before / 2 < start <= before for start in asked)


def test_a_reader_begins_anew_where_another_head_led_while_it_read(folder: Path) -> None:
    s = Stage(folder)
    s.drop("a", CPU)
    s.look()

    def go_on() -> None:
        s.term = None
        s.drop("b", CPU)
        s.look()

    found = history.read_present(s.spool, Meeting("read", "events/1.jsonl", None, go_on))
    assert (list(found.state.jobs), found.epoch) == ([1, 2], 2)


def test_a_reader_that_follows_reads_what_another_head_did(folder: Path) -> None:
    s = Stage(folder)
    s.drop("a", CPU)
    s.look()
    watch = Watch(Known("test", s.spool, 4.0, 2.0), Disk())
    assert list(watch.refresh().jobs) == [1]
    s.term = None
    s.drop("b", CPU)
    s.look()
    assert list(watch.refresh().jobs) == [1, 2]


def test_a_client_finds_its_id_also_where_another_head_gave_it(folder: Path) -> None:
    s = Stage(folder)
    for name in "abc":
        s.drop(name, CPU)
        s.look()
    mark = submission.mark(s.spool, Disk())
    s.term = None
    s.put_new(s.spool.dropped("d@0000000000000a.yaml"), "d")
    s.look()
    assert Path(s.spool.events_of(2)).stat().st_size < mark.offset
    assert submission.await_id(s.spool, Disk(), "d@0000000000000a.yaml", mark, 0.0) == 4


# ---- a spool that went back in time


def test_a_head_stops_where_a_node_has_seen_a_later_epoch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "PAUSE", 0.0)
    s = Stage(folder)
    s.node("n1")
    s.run()
    s.nodes["n1"].seen = (99, 1)
    s.nodes["n1"].report()
    assert s.term is not None
    with pytest.raises(WentBack, match="has seen epoch 99"):
        s.term.tick()


def test_a_deposed_head_does_not_take_what_a_node_has_seen_for_a_restored_spool(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms, "PAUSE", 0.0)
    s = Stage(folder)
    s.node("n1")
    s.run()
    s.nodes["n1"].seen = (another(s.spool).number, 1)
    s.nodes["n1"].report()
    assert s.term is not None
    with pytest.raises(Deposed):
        s.term.tick()


@pytest.mark.parametrize(
    ("seen", "found", "more"),
    [
        ((5, 1), None, "has seen epoch 5"),
        ((5, 1), (1, 1), "has seen epoch 5"),
        ((1, 2), (1, 1), "has seen assignment 1.2"),
        ((1, 2), None, ""),
        ((1, 2), (1, 2), ""),
        ((1, 2), (1, 3), ""),
    ],
)
def test_a_runner_tells_a_spool_that_went_back(
    folder: Path, seen: tuple[int, int], found: tuple[int, int] | None, more: str
) -> None:
    s = Stage(folder)
    s.look()
    told = runner_knows_more(s.spool, Disk(), seen, found)
    assert more in told and bool(more) == bool(told)


def test_an_epoch_that_was_only_claimed_hides_no_restore_from_a_runner(folder: Path) -> None:
    s = Stage(folder)
    s.look()
    assert leadership.take(s.spool, Disk()) is not None
    assert "has seen epoch 2, and the newest here is 1" in runner_knows_more(s.spool, Disk(), (2, 1), None)
    s.term = None
    s.look()
    assert runner_knows_more(s.spool, Disk(), (3, 1), None) == ""


@pytest.mark.parametrize(
    ("epoch", "bytes_more", "more"), [(9, 0, "led epoch 9"), (1, 1, "bytes of epoch 1"), (1, 0, "")]
)
def test_a_head_tells_a_spool_that_went_back_by_what_its_host_wrote(
    folder: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, bytes_more: int, more: str
) -> None:
    monkeypatch.setattr(restored, "PAUSE", 0.0)
    s = Stage(folder)
    s.look()
    size = Path(s.spool.events_of(1)).stat().st_size
    kept = folder / "kept"
    kept.mkdir()
    (kept / restored.LED).write_text(json.dumps({"epoch": epoch, "offset": size + bytes_more}))
    if not more:
        assert refuse(s.spool, Disk(), str(kept)).generation == (0, 0)
        return
    with pytest.raises(WentBack, match=more):
        refuse(s.spool, Disk(), str(kept))


def test_a_head_that_refuses_has_claimed_no_epoch(tmp_path: Path) -> None:
    """Each one would come nearer to those that others know, and hide what happened."""
    cluster = Cluster(tmp_path)
    kept = tmp_path / "state" / load(cluster.spool, Disk()).id
    os.makedirs(kept)
    (tmp_path / "state").chmod(0o700)
    (kept / restored.LED).write_text(json.dumps({"epoch": 9, "offset": 1}))
    refused = cluster.once("head")
    assert refused.returncode == 65 and "led epoch 9" in refused.stderr, refused.stderr
    assert history.epochs(cluster.spool, Disk()) == [] == os.listdir(cluster.spool.claims)


def test_a_runner_tells_what_it_began_later_than_what_stands_there(tmp_path: Path) -> None:
    place = Workplace(str(tmp_path))
    place.make()
    s = Stage(tmp_path / "spool")
    s.node("n1", gpus=1)
    s.drop("a")
    s.run()
    order = s.nodes["n1"].orders["1.1"]
    for ident, version in ((1, (1, 1)), (2, (1, 5)), (3, (2, 1)), (3, (2, 2))):
        journal.note(place, msgspec.structs.replace(order, id=ident, name=f"j{ident}", user="ann", uid=5), version)
    told = [Remnant(ident, 1, name=f"j{ident}", user="ann", uid=5) for ident in (1, 2, 3)]
    assert journal.later_than(place, (0, 0)) == told
    assert journal.later_than(place, (1, 1)) == told[1:]
    assert journal.later_than(place, (2, 0)) == told[2:]
    assert journal.of(place, {"2.1", "9.1"}) == told[1:2]


# ---- a node that is another one now


def test_an_assignment_is_written_anew_for_another_incarnation_of_the_runner(folder: Path) -> None:
    s = Stage(folder)
    n1 = s.node("n1")
    s.run()
    status = decode(Path(s.spool.status("n1")).read_bytes(), NodeStatus, "")
    Path(s.spool.status("n1")).write_bytes(encode(msgspec.structs.replace(status, incarnation=2)))
    s.look()
    assert decode(Path(s.spool.assigned("n1")).read_bytes(), Assigned, "").incarnation == 2
    assert n1.read < decode(Path(s.spool.assigned("n1")).read_bytes(), Assigned, "").version


def test_an_assignment_that_a_deposed_head_overwrote_is_written_anew(folder: Path) -> None:
    s = Stage(folder)
    n1 = s.node("n1", gpus=1)
    s.look()
    old = Path(s.spool.assigned("n1")).read_bytes()
    s.term = None
    s.drop("a")
    s.run()
    Path(s.spool.assigned("n1")).write_bytes(old)
    n1.step()
    assert n1.read[0] == 1  # it refuses that, and says so
    s.look()
    assert "1.1" in decode(Path(s.spool.assigned("n1")).read_bytes(), Assigned, "").attempts


# ---- what can wait


def assigned(s: Stage) -> Assigned:
    return decode(Path(s.spool.assigned("n1")).read_bytes(), Assigned, "")


@pytest.fixture
def patient(folder: Path) -> Stage:
    """Three jobs run on a node, one of which has ended: that may stand in its assignment for an hour."""
    s = Stage(folder)
    s.later = 3600.0
    s.node("n1", gpus=3)
    for name in "abc":
        s.drop(name)
    s.run()
    s.finish("a")
    return s


def an_hour_later(s: Stage) -> None:
    assert s.term is not None
    s.term.projector.over = dict.fromkeys(s.term.projector.over, 0.0)
    s.run()


def test_what_is_over_leaves_an_assignment_together_a_little_later(patient: Stage) -> None:
    s, before = patient, assigned(patient)
    s.finish("b")
    assert s.term is not None and [s.job(name).live for name in "abc"] == [False, False, True]
    assert assigned(s) == before and 3500 < (s.term.again or 0) <= 3600
    an_hour_later(s)
    assert assigned(s).attempts.keys() == {"3.1"} and s.term.again is None


def test_what_is_over_leaves_an_assignment_with_the_next_that_starts(patient: Stage) -> None:
    patient.drop("d")
    patient.run()
    assert assigned(patient).attempts.keys() == {"2.1", "3.1", "4.1"}
    assert patient.term is not None and patient.term.again is None


def test_what_is_over_is_told_by_the_next_head(patient: Stage) -> None:
    patient.term = None
    patient.run()
    assert assigned(patient).attempts.keys() == {"2.1", "3.1"}
    patient.finish("b", "c")
    an_hour_later(patient)
    patient.audit()


def test_an_assignment_that_can_wait_is_written_at_once_for_another_incarnation(patient: Stage) -> None:
    status = decode(Path(patient.spool.status("n1")).read_bytes(), NodeStatus, "")
    Path(patient.spool.status("n1")).write_bytes(encode(msgspec.structs.replace(status, incarnation=2)))
    patient.look()
    assert (assigned(patient).incarnation, assigned(patient).attempts.keys()) == (2, {"2.1", "3.1"})


def test_an_assignment_that_can_wait_is_written_at_once_where_a_deposed_head_overwrote_it(patient: Stage) -> None:
    older = msgspec.structs.replace(assigned(patient), version=(0, 1))
    Path(patient.spool.assigned("n1")).write_bytes(encode(older))
    patient.nodes["n1"].step()
    patient.look()
    assert assigned(patient).attempts.keys() == {"2.1", "3.1"}


# ---- two steps in their order


@pytest.mark.parametrize("killed_at", ["", "/pending/2.b.yaml ->", "-> test/running/2.b.yaml"])
def test_an_attempt_is_assigned_only_when_its_file_stands_in_running(folder: Path, killed_at: str) -> None:
    s = Stage(folder)
    n1 = s.node("n1", gpus=1)
    s.drop("a")
    s.run()
    s.drop("b")
    s.run()
    n1.over.add("a")
    n1.step()
    looks: list[set[str]] = []

    def look_around() -> None:
        state = history.read_present(s.spool, Disk()).state
        started = {job.file for job in state.jobs.values() if job.allocations}
        looks.append(started - set(os.listdir(s.spool.running)))

    watching = Mortal(stop=look_around)
    watching.trap = lambda what: what.startswith("publish ") and what.endswith("nodes/n1/assigned.json")
    assert s.term is not None
    disk: Disk = watching
    if killed_at:
        mortal = Mortal()
        mortal.trap = lambda what: what.startswith("move") and killed_at in what.replace(f"{folder.name}/", "test/")
        disk, s.mend = mortal, lambda: watching
    for part_of_the_head in (s.term.claims, s.term.observer, s.term.projector):
        part_of_the_head.disk = disk
    s.look()
    assert s.killed == bool(killed_at)
    assert looks and not any(looks)
    s.run()
    assert [key for key, _ in n1.ran] == ["1.1", "2.1"]


def test_a_file_that_is_changed_just_when_it_starts_goes_back_when_that_is_durable(folder: Path) -> None:
    s = Stage(folder)
    n1 = s.node("n1", gpus=1)
    s.drop("a")
    s.run()
    s.drop("b")
    s.run()
    n1.over.add("a")
    n1.step()
    waiting: list[dict[str, int]] = []
    synced: list[str] = []

    class Editing(Mortal):
        """Its user edits b when the head has looked and takes it to be started."""

        def sync(self, path: str) -> None:
            synced.append(path)
            super().sync(path)

        def move(self, source: str, target: str, inode: int | None = None) -> bool:
            if source == s.spool.dropped("2.b.yaml") and os.path.exists(source) and not waiting and not self.done:
                s.edit("b")
            return super().move(source, target, inode)

    disk = Editing(stop=lambda: waiting.append(dict(history.read_present(s.spool, Disk()).state.waiting)))
    disk.trap = lambda what: what.startswith("move") and "pending/2.b+1.yaml" in what.split("-> ")[1]
    assert s.term is not None
    s.term.disk = s.term.projector.disk = disk
    s.look()
    assert waiting == [{"2.b+1.yaml": 2}]
    assert synced[0] == s.term.epoch.claims, "back in pending/ under its old name nobody would know it"
    s.finish("b")
    assert s.job("b").status is Status.SUCCEEDED and s.job("b").id == 2


def test_what_an_owner_made_of_a_waiting_file_is_durable_before_it_is_noted(folder: Path) -> None:
    done: list[str] = []

    class Noting(Disk):
        def sync(self, path: str) -> None:
            done.append(f"sync {os.path.basename(path)}")
            super().sync(path)

        def append(self, path: str, data: bytes, offset: int) -> None:
            done.append("append")
            super().append(path, data, offset)

    s = Stage(folder, Noting())
    two_jobs(s)
    for change in (s.replace, s.delete):
        done.clear()
        change("b")
        s.run()
        assert [what for what in done if what in ("sync pending", "append")] == ["sync pending", "append"]
    s.finish("a")


def two_jobs(s: Stage) -> None:
    """a runs, b waits."""
    s.node("n1", gpus=1)
    s.drop("a")
    s.run()
    s.drop("b")
    s.run()


@pytest.mark.parametrize("place", ["claims", "running"])
def test_a_waiting_file_counts_as_deleted_only_if_it_is_in_none_of_the_listings(folder: Path, place: str) -> None:
    s = Stage(folder)
    two_jobs(s)
    assert s.term is not None
    there = {"claims": s.term.claims.path("2.b.yaml"), "running": s.spool.started("2.b.yaml")}[place]
    os.rename(s.spool.dropped("2.b.yaml"), there)
    s.look()
    assert s.job("b").status is Status.PENDING
    os.unlink(there)
    s.look()
    assert s.job("b").status is Status.CANCELLED


def test_a_file_that_stands_in_running_already_is_not_looked_for_in_pending(folder: Path) -> None:
    """Another head may have moved it there when this one was about to."""
    s = Stage(folder)
    two_jobs(s)
    disk = Meeting(
        "move",
        "/pending/2.b.yaml",
        lambda: os.rename(s.spool.dropped("2.b.yaml"), s.spool.started("2.b.yaml")),
        None,
    )
    assert s.term is not None
    s.term.projector.disk = disk
    s.finish("a")
    assert disk.done and s.job("b").status is Status.RUNNING
    s.finish("b")
    assert s.job("b").status is Status.SUCCEEDED


def test_done_tells_how_a_job_ended_before_its_file_is_there(folder: Path) -> None:
    s = Stage(folder)
    s.node("n1", gpus=1)
    s.drop("a", CPU)
    s.run()
    told: list[list[bytes]] = []
    disk = Mortal(stop=lambda: told.append([path.read_bytes() for path in Path(s.spool.done).glob("*/*.jsonl")]))
    disk.trap = lambda what: what.startswith("move") and what.endswith(".SUCCEEDED.yaml")
    assert s.term is not None
    s.term.projector.disk = disk
    s.finish("a")
    assert len(told) == 1 and len(told[0]) == 1 and b'"SUCCEEDED"' in told[0][0]


def test_the_reason_stands_in_rejected_before_the_file(folder: Path) -> None:
    s = Stage(folder)
    seen: list[list[str]] = []
    disk = Mortal(stop=lambda: seen.append(os.listdir(s.spool.rejected)))
    disk.trap = lambda what: what.startswith("move") and "-> " in what and "/rejected/" in what.split("-> ")[1]
    s.disk = disk
    s.bad("x", "one")
    s.look()
    assert seen == [["x.error"]]
    assert sorted(os.listdir(s.spool.rejected)) == ["x.error", "x.yaml"]
