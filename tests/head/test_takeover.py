"""What one head left half done, and what it still does after it was deposed: the next one makes it good."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spool_layout.states import Status
from spool_layout.storage import Disk, Entry
from spoold.head.term import Term
from tests.head.stage import CPU, LOOKS, Killed, Late, Mortal, Repeating, Stage, cuts

# ---- what is left of removed files ---------------------------------------------------------------------------


class Open(Disk):
    """An NFS client on which a process has files open that were removed: their `.nfs` names stay. Counts listings."""

    def __init__(self) -> None:
        self.listings = 0

    def remove(self, path: str) -> None:
        if os.path.basename(path).startswith(".nfs"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        super().remove(path)

    def list(self, path: str) -> list[Entry]:
        self.listings += 1
        return super().list(path)


def leave_removed_file(s: Stage, text: str) -> Path:
    """A head that ends, and in its claim directory the name that NFS gave to a file which it had removed."""
    s.look()
    assert s.term is not None
    left = Path(s.term.epoch.claims, ".nfs000000000001f5a300000001")
    left.write_text(text)
    s.term = None
    return left


@pytest.mark.parametrize("text", ["run: rm -rf ~\n...\n", "cancel: all\n...\n"], ids=["task", "request"])
def test_a_removed_file_that_is_still_open_in_a_claim_directory_is_no_file_of_a_user(folder: Path, text: str) -> None:
    s = Stage(folder)
    left = leave_removed_file(s, text)
    busy = s.disk = Open()
    s.drop("good", CPU)
    s.look()
    assert busy.listings < LOOKS * 10  # it is not waited for
    assert left.exists() and list(s.jobs()) == ["good"]
    s.term, s.disk = None, Disk()
    s.look()
    assert not left.parent.exists() and list(s.jobs()) == ["good"]


def test_files_beside_a_removed_one_that_is_still_open_are_accepted(folder: Path) -> None:
    s = Stage(folder)
    left = leave_removed_file(s, CPU)
    s.put_new(str(left.parent / "new-7-late.yaml"), "late")  # a deposed head's last rename
    s.disk = Open()
    s.look()
    assert list(s.jobs()) == ["late"]
    s.each_file_once()


# ---- users who act between the kill and the next head --------------------------------------------------------


def plain(s: Stage) -> None:
    """One runs, one waits, one starts beside them, one is no task."""
    s.node("n1", gpus=1)
    s.drop("a")
    s.look()
    s.drop("b")
    s.drop("c", CPU)
    s.bad("x", "first")
    s.run()
    s.finish("a", "b", "c")


def drop_the_same_names(s: Stage) -> None:
    """Every name once more, where it is free."""
    for name in "abc":
        if f"{name}.yaml" not in os.listdir(s.spool.pending):
            s.drop(name, CPU)


def drop_under_the_ids_shown(s: Stage) -> None:
    """A file under the name of each job that has started: it is a job of its own."""
    for file in os.listdir(s.spool.running):
        s.put_new(s.spool.dropped(file), file.split(".")[1])


def remove_the_labels(s: Stage) -> None:
    """A file in running/ is a label: deleting it changes nothing for what runs."""
    for path in Path(s.spool.running).iterdir():
        ident = int(path.name.split(".")[0])
        if any(key.startswith(f"{ident}.") for node in s.nodes.values() for key in node.phases):
            s.unlink(path)


def put_others_in_their_place(s: Stage) -> None:
    """The label of what runs is removed, and another file dropped under its name."""
    before = set(os.listdir(s.spool.running))
    remove_the_labels(s)
    for file in sorted(before - set(os.listdir(s.spool.running))):
        s.put_new(s.spool.dropped(file), file.split(".")[1])


def write_on(s: Stage) -> None:
    """Whoever has a file open goes on writing, wherever the head has moved it."""
    for folder in (s.spool.pending, s.spool.claims):
        for path in Path(folder).rglob("*.yaml"):
            with path.open("a") as file:
                file.write("# and more\n...\n")


MEANWHILE = [drop_the_same_names, drop_under_the_ids_shown, remove_the_labels, put_others_in_their_place, write_on]


@pytest.mark.parametrize("act", MEANWHILE, ids=lambda act: act.__name__)
def test_what_users_do_between_a_kill_and_the_next_head_is_neither_lost_nor_mistaken(
    act: Callable[[Stage], None], folder: Path
) -> None:
    for what, stage in cuts(folder, plain):
        try:
            stage.meanwhile = lambda stage=stage: act(stage)
            plain(stage)
            stage.run()
            stage.finish("a", "b", "c")
            stage.audit()
            for jobs in stage.jobs().values():
                assert any(job.status is Status.SUCCEEDED for job in jobs)
                # of one that was started, a text that was changed afterwards is a job of its own
                assert all(job.status is Status.SUCCEEDED or job.reason.startswith("its file") for job in jobs)
        except BaseException as error:
            error.add_note(f"{act.__name__}: {what}")
            raise


def cancelled(s: Stage) -> None:
    """A job is cancelled while it waits."""
    s.drop("a")
    s.look()
    s.request("cancel: 1")
    s.look()


def test_a_copy_under_the_name_of_a_job_that_ended_while_it_waited_is_a_job_of_its_own(folder: Path) -> None:
    """The copy is dropped between two heads, as soon as the job's own file is in done/; with the same text, which is
    all that a head can compare."""
    copied = 0
    for what, stage in cuts(folder, cancelled):
        cancelled(stage)
        (over,) = Path(stage.spool.done).rglob("*.yaml")
        text = over.read_text()
        Path(stage.spool.dropped("1.a.yaml")).write_text(text)
        stage.term = None
        stage.look()
        jobs = {job.id: job.status for job in stage.jobs()["a"]}
        assert jobs == {1: Status.CANCELLED, 2: Status.PENDING}, what
        assert Path(stage.waiting("a")).read_text() == over.read_text() == text, what
        copied += 1
    assert copied > 10


# ---- replies that are lost ------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed_at", [None, 5, 8, 15])
def test_a_move_whose_reply_is_lost_is_seen_to_have_happened(killed_at: int | None, folder: Path) -> None:
    """Of a head that leads, or of one that takes over from one that was killed at that operation."""
    for number in itertools.count(1):
        disk = Repeating(number)
        stage = Stage(folder / str(number), Mortal(killed_at) if killed_at else disk)
        stage.mend = lambda disk=disk: disk
        plain(stage)
        stage.audit()
        assert all(stage.job(name).status is Status.SUCCEEDED for name in "abc")
        if disk.moves < number:
            break
    assert number > 5


# ---- kills of the next head too, and without end -------------------------------------------------------------


def test_a_head_that_is_killed_while_it_takes_over_is_made_good(folder: Path) -> None:
    """The first one is killed before each of its operations, and for each of these the second one before each operation
    of its takeover."""
    for what, stage in cuts(folder, plain):
        second = Mortal()
        stage.mend = lambda second=second: second
        plain(stage)
        for number in range(1, takeover(second) + 1):
            again = Stage(folder / f"second-{number}", Mortal(stage.first.at, stage.first.whole))
            lives = iter([Mortal(number)])
            again.mend = lambda lives=lives: next(lives, Disk())
            try:
                plain(again)
                again.audit()
                assert again.killed == 2
            except BaseException as error:
                error.add_note(f"{what}; the next one before operation {number}: {second.done[number - 1]}")
                raise
            shutil.rmtree(again.spool.root)


def takeover(disk: Mortal) -> int:
    """How many operations a head made until it looked at pending/ for the first time, or wrote assigned.json."""
    return next((n for n, what in enumerate(disk.done) if what.startswith("publish nodes/")), len(disk.done))


@pytest.mark.parametrize("first", range(1, 11))
def test_heads_that_are_killed_again_and_again_get_there(first: int, folder: Path) -> None:
    lives = itertools.count(first)

    def next_life() -> Disk:
        return Mortal(next(lives))

    stage = Stage(folder, next_life())
    stage.mend = next_life
    plain(stage)
    stage.run()
    assert stage.killed > 3
    stage.audit()
    assert all(stage.job(name).status is Status.SUCCEEDED for name in "abc")


# ---- heads that go on after they were deposed ----------------------------------------------------------------


def look(term: Term) -> None:
    """As a head does until nothing is left to do."""
    for _ in range(LOOKS):
        if not term.tick() and term.again != 0.0:
            return


def begin(s: Stage) -> None:
    """a runs, b waits, c waits too."""
    s.node("n1", gpus=1)
    for name in "abc":
        s.drop(name)
        s.look()
    s.run()


def at_an_acceptance(s: Stage) -> None:
    s.drop("d", CPU)
    s.drop("e")
    s.bad("x", "one")


def at_a_start(s: Stage) -> None:
    s.nodes["n1"].over.add("a")
    s.nodes["n1"].step()


def at_a_cancellation(s: Stage) -> None:
    s.request("cancel: b")
    s.request("cancel: a", "other.yaml")


def at_a_return(s: Stage) -> None:
    s.edit("b")
    at_a_start(s)


def at_a_deletion(s: Stage) -> None:
    s.delete("b")
    at_a_start(s)


MOMENTS = [at_an_acceptance, at_a_start, at_a_cancellation, at_a_return, at_a_deletion]


def late_heads(
    folder: Path, moment: Callable[[Stage], None], act: Callable[[Term], object]
) -> Iterator[tuple[str, Stage]]:
    """A stage for each operation of a head before which it was paused while a second one took over and worked; the
    first one then went on to its end."""
    for number in itertools.count(1):
        late = Late()
        stage = Stage(folder / str(number), late.disk)
        begin(stage)
        moment(stage)
        old = stage.term
        assert old is not None
        if not late.start(functools.partial(act, old), number):
            return late.go_on()
        stage.term, stage.disk = None, Disk()
        stage.run()
        for name in "abd":  # the names that the late head may still have in mind
            stage.drop(name, CPU)
        late.go_on()
        stage.each_file_once()
        yield f"went on before {late.before}", stage


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_a_deposed_head_that_goes_on_does_no_harm(moment: Callable[[Stage], None], folder: Path) -> None:
    moments = 0
    for what, stage in late_heads(folder, moment, look):
        try:
            stage.run()
            stage.finish(*"abcde")
            stage.audit()
            moments += 1
        except BaseException as error:
            error.add_note(f"{moment.__name__}: {what}")
            raise
    assert moments > 3


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_a_head_that_goes_on_after_the_next_one_sealed_it_off_does_no_harm(
    moment: Callable[[Stage], None], folder: Path
) -> None:
    """The first head is paused before each of its operations; the second one when it has sealed the first
    one's events; the first goes on to its end, and the nodes act on what it says; then the second one goes on."""
    moments = 0
    for number in itertools.count(1):
        old, new = Late(), Late()
        stage = Stage(folder / str(number), old.disk)
        begin(stage)
        moment(stage)
        assert stage.term is not None
        if not old.start(functools.partial(look, stage.term), number):
            old.go_on()
            break
        new.disk.trap = lambda what: what.startswith(("move", "remove_dir", "publish nodes"))
        assert new.start(functools.partial(lead_and_look, stage, new.disk))
        old.go_on()
        for node in stage.nodes.values():
            node.step()
        try:
            new.go_on()
            stage.each_file_once()
            stage.run()
            stage.finish(*"abcde")
            stage.audit()
            moments += 1
        except BaseException as error:
            error.add_note(f"{moment.__name__}: went on before {old.before}")
            raise
    assert moments > 3


def lead_and_look(s: Stage, disk: Disk) -> None:
    """What a head does that takes over."""
    s.term, s.disk = s.lead(disk), disk
    look(s.term)


def test_a_file_that_a_deposed_head_still_moves_to_running_comes_to_its_end(folder: Path) -> None:
    """It was accepted and started at once, and then somebody wrote on; the next head meets it in the claim directory,
    and before it moves anything, the first one goes on."""
    old, new = Late(), Late()
    stage = Stage(folder, old.disk)
    stage.node("n1")
    stage.look()
    stage.drop("a")
    old.disk.trap = lambda what: what.startswith("move claims/")
    assert stage.term is not None and old.start(functools.partial(look, stage.term))
    write_on(stage)
    new.disk.trap = lambda what: what.startswith("move claims/")
    assert new.start(functools.partial(lead_and_look, stage, new.disk))
    old.go_on()
    new.go_on()
    stage.run()
    stage.finish("a")
    stage.audit()
    assert stage.job("a").reason == "its file is not what was accepted"


def look_and_keep(term: Term) -> None:
    """As a head does that then is idle."""
    look(term)
    term.keeper.write()


def test_a_deposed_head_that_goes_on_writing_its_ledger_does_no_harm(folder: Path) -> None:
    moments = 0
    for what, stage in late_heads(folder, at_a_start, look_and_keep):
        try:
            stage.write_ledger()
            stage.run()
            stage.memory_is_the_disk()
            stage.term = None  # a third head begins from what the two left
            stage.run()
            stage.finish(*"abcde")
            stage.audit()
            moments += 1
        except BaseException as error:
            error.add_note(what)
            raise
    assert moments > 5


def test_a_head_that_was_deposed_while_it_took_over_does_no_harm(folder: Path) -> None:
    """The first head is killed with files in its claim directory; the second is paused before each operation of its
    takeover; the third leads."""
    moments = 0
    for number in itertools.count(1):
        late = Late()
        stage = Stage(folder / str(number), Mortal())
        begin(stage)
        kill_with_claims(stage)
        if not late.start(lambda stage=stage, late=late: look(stage.lead(late.disk)), number):
            late.go_on()
            break
        try:
            stage.run()
            stage.term = None  # a fourth one, which packs away the epoch that the second wanted or had
            stage.run()
            stage.write_ledger()
            late.go_on()
            stage.each_file_once()
            stage.run()
            stage.finish(*"abcde")
            stage.audit()
            moments += 1
        except BaseException as error:
            error.add_note(f"went on before {late.before}")
            raise
    assert moments > 10


def kill_with_claims(s: Stage) -> None:
    """Let the head that leads be killed when it has committed what it claimed, and moved nothing of it."""
    at_an_acceptance(s)
    at_a_start(s)
    assert isinstance(s.disk, Mortal) and s.term is not None
    s.disk.trap = lambda what: what.startswith("move claims/")
    with pytest.raises(Killed):
        look(s.term)
    assert len(os.listdir(s.term.epoch.claims)) == 3
    s.term, s.disk = None, Disk()
