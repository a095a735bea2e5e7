"""The power fails at every moment of every step of the protocol: what was promised is there, and nothing happens twice.

See power.py for what a power loss may leave, machine.py for how it is recovered and judged.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from skyspool.verbs import init
from spool_layout.events import AnyEvent, Ended, Going, Lost, Returned
from spool_layout.leadership import HeadLock
from spool_layout.records import Job
from spool_layout.states import Status
from spoold.fsck import restoring
from spoold.fsck.mending import mend
from spoold.fsck.restoring import reports, went_back
from spoold.restored import WentBack
from tests.faults.chance import chance
from tests.faults.looks import Look, Looks, agrees, answers
from tests.faults.machine import (
    AGAIN,
    CPU,
    DAY,
    GANG,
    GPU,
    Facts,
    Machine,
    again,
    clock,
    judge,
    reboot,
    rebuilt,
    run_out,
    stand_in,
    wake,
    word,
)
from tests.faults.power import SPOOL, STATE, Found, Tape

Story = Callable[[Machine], None]
# States of one story that are recovered: where there are more, each second or third one, in their order, and the first
# one of each moment. KILLS=every (make test-faults KILLS=every): all of them, which takes twice as long.
MOST = None if os.environ.get("KILLS") == "every" else 4_000


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in memory, where inodes are not used again and fsync costs nothing."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    made = Path(os.path.realpath(tempfile.mkdtemp(prefix="power-", dir=memory)))
    stand_in(monkeypatch)
    yield made
    shutil.rmtree(made)


def record(root: Path, story: Story) -> Tape:
    """Tell a story once, and gather the states in which the power may have left it."""
    reboot("the first boot")
    chance.begin("before the loss")
    Machine.make(root)
    machine = Machine(root)
    tape = Tape(str(root))
    machine.tape = tape
    with tape:
        try:
            story(machine)
        finally:
            machine.close()
    return tape


def check(
    root: Path, tape: Tape, states: list[Found], before: Story = lambda machine: None, every: bool = False
) -> None:
    """Recover from these states, and judge. before: what is done before head and runner are started again.

    Where nothing moves any more, and all is as it was then after an earlier loss, the rest of it is known. A state that
    answers all that was looked at as an earlier one did is passed over; every: it comes to the same, as is seen."""
    assert states
    known = dict[Hashable, set[Look]]()  # where nothing moves any more -> what is looked at from there on
    ends = defaultdict[Hashable, list[tuple[dict[Look, object], Hashable]]](list)
    looks = Looks(str(root), STATE)
    for found in states:
        facts = Facts(tape, found.moment)
        for runner_first in (False, True) if found.part == SPOOL else (True,):
            same = ends[found.world, found.spool, facts.count, runner_first]
            alike = [end for told, end in same if agrees(found.state, told)]
            if alike and not every:
                continue
            machine = rebuilt(root, found)
            try:
                looks.begin()
                with looks:
                    before(machine)
                    wake(machine, runner_first, facts)
                end = machine.shown(), tuple(machine.started)
                assert not alike or end == alike[0], "a state that is passed over comes to another end"
                if (told := word(machine, facts)) not in known:
                    first, looks.found = looks.found, set()
                    with looks:
                        run_out(machine)
                        wrong = [*judge(machine, facts), *again(machine)]
                    assert not wrong, "\n".join(wrong)
                    known[told], looks.found = looks.found, first
                same.append((answers(found.state, looks.found | known[told]), end))
            except BaseException as error:
                begins = "the runner" if runner_first else "the head"
                error.add_note(
                    f"{found.world}, after {found.moment} operations (the last: {found.said}); {begins} first"
                )
                error.add_note("left was:\n  " + "\n  ".join(sorted(found.state)))
                raise
            finally:
                machine.close()


def submit(m: Machine) -> None:
    """One job is submitted, and no head is there."""
    m.submit("a")


def first(m: Machine) -> None:
    """The spool's first head and first node, and the first job."""
    m.join()
    m.submit("a", GPU)
    m.rest()


def start(m: Machine) -> None:
    """One job is accepted and starts at once."""
    m.up()
    m.submit("a", GPU)
    m.rest()


def one_waits(m: Machine) -> None:
    """a runs and b waits for its GPU; all that was written is durable."""
    m.up()
    m.submit("a", GPU)
    m.rest()
    m.submit("b", GPU)
    m.rest()
    m.settle()


def start_waiting(m: Machine) -> None:
    """One runs and one waits; the first one ends, and the second one starts."""
    one_waits(m)
    m.end()
    m.rest()


def wait(m: Machine) -> None:
    """Two are accepted by one look; the second one has to wait."""
    m.up()
    m.submit("a", GPU)
    m.submit("b", GPU)
    m.rest()


def finish(m: Machine) -> None:
    """One that runs ends; node and head forget it."""
    m.up()
    m.submit("a", GPU)
    m.rest()
    m.settle()
    m.end()
    m.rest()


def live(m: Machine) -> None:
    """A whole life within the seconds in which a disk keeps names to itself; then the ledger forgets it."""
    m.up()
    m.submit("a", GPU)
    m.submit("b", GPU)
    m.rest()
    m.end()
    m.rest()
    m.end()
    m.rest()
    m.write_ledger()
    m.submit("c", GPU)
    m.rest()


def cancel(m: Machine) -> None:
    """One that runs and one that waits are cancelled; others of their names come after."""
    m.up()
    m.submit("a", GPU)
    m.submit("b", GPU)
    m.rest()
    m.settle()
    m.cancel("b")
    m.look()
    m.submit("b", GPU)
    m.cancel("a")
    m.rest()
    m.end(143)
    m.rest()


def reject(m: Machine) -> None:
    """A file that is no task is set aside, with its reason."""
    m.up()
    m.submit("a", "- MARK\n...\n")
    m.look()


def keep_ledger(m: Machine) -> None:
    """Generations are written; the second head packs away what the first one left."""
    m.up()
    m.submit("a", CPU)
    m.rest()
    m.end()
    m.rest()
    m.settle()
    m.write_ledger()
    m.term = None
    m.submit("b", CPU)
    m.rest()
    m.write_ledger()


def take_over(m: Machine) -> None:
    """A head is killed with files in its claim directory, and the next one takes over."""
    m.up()
    m.submit("a", GPU)
    m.submit("b", CPU)
    m.term.observer.look()
    m.term = None
    m.rest()


def edit(m: Machine) -> None:
    """A waiting file is written anew, twice; then its job starts."""
    one_waits(m)
    m.edit("b")
    m.rest()
    m.edit("b")
    m.rest()
    m.end()
    m.rest()


def edit_at_the_start(m: Machine) -> None:
    """A waiting file is written anew just when it is to start: its job is returned, and starts as edited."""
    one_waits(m)
    assert m.term is not None
    projector = m.term.projector
    start = projector.start_waiting  # an owner cannot be made to hit this moment from outside

    def start_edited(job: Job) -> AnyEvent | None:
        projector.start_waiting = start  # type: ignore[method-assign]
        m.edit("b")
        return start(job)

    projector.start_waiting = start_edited  # type: ignore[method-assign]
    m.end()
    m.rest()
    assert any(isinstance(event, Returned) and not event.in_running for event in m.events())


def delete(m: Machine) -> None:
    """Waiting files are removed, one of them just when it is to start; another of the name comes after."""
    m.up()
    for name in "abc":
        m.submit(name, GPU)
        m.rest()
    m.settle()
    m.delete("b")
    m.rest()
    m.submit("b", GPU)
    m.end()
    for runner in m.runners.values():
        runner.step()
    m.delete("c")
    m.rest()
    reasons = [event.reason for event in m.events() if isinstance(event, Ended)]
    assert sum("deleted" in reason for reason in reasons) == 2, reasons


def leave(m: Machine) -> None:
    """A runner is stopped on purpose when one job runs and one is ordered and not begun; the next runner hands that one
    back, and it starts anew."""
    m.join(gpus=2)
    m.rest()
    m.submit("a", GPU)
    m.rest()
    m.settle()
    m.hands()[0].deaf = True
    m.submit("b", GPU)
    m.rest()
    m.runners["n1"].leave()
    m.drop("n1")
    m.rest()
    m.join(gpus=2)
    m.rest()
    assert [event.id for event in m.events() if isinstance(event, Returned)] == [2]
    m.end()
    m.rest()


def lose_a_node(m: Machine) -> None:
    """A node is lost with two jobs: one fails, one asked to run again and does so elsewhere; the node comes back."""
    m.join("n2", gpus=2)
    m.rest()
    m.submit("a", GPU)
    m.submit("b", AGAIN)
    m.rest()
    m.join("n1")
    m.rest()
    m.settle()
    m.drop("n2")
    m.hearsay["n2"] = "down"
    m.rest()
    assert sorted(event.id for event in m.events() if isinstance(event, Lost)) == [1, 2]
    m.end()
    m.rest()
    m.hearsay.clear()
    m.join("n2", gpus=2)
    m.rest()
    m.end()
    m.rest()


def gang(m: Machine) -> None:
    """Two ranks on two nodes, which wait for each other when they are set up; a second one waits for both."""
    m.join("n1")
    m.join("n2")
    m.rest()
    m.settle()
    m.submit("a", GANG)
    m.rest()
    m.submit("b", GANG)
    m.rest()
    m.end()
    m.rest()
    assert [event.id for event in m.events() if isinstance(event, Going) and event.start_at is None] == [1, 2]


def prune(m: Machine) -> None:
    """What is older than the spool keeps is removed: jobs that are over, rejected files, logs."""
    clock.now -= 40 * DAY
    m.up()
    m.submit("a", CPU)
    m.submit("b", CPU)
    m.submit("x", "- MARK\n...\n")
    m.rest()
    m.end()
    m.rest()
    os.makedirs(m.spool.log_dir(1))
    for name in ("run.log", "setup.log"):
        Path(m.spool.log_dir(1), name).write_text("told\n")
    m.write_ledger()
    m.term = None
    m.rest()
    m.write_ledger()
    m.settle()
    clock.now += 40 * DAY
    m.prune()
    assert not os.listdir(m.spool.done) and not os.listdir(m.spool.rejected) and not os.listdir(m.spool.logs)
    m.submit("c", CPU)
    m.rest()


def repair(m: Machine) -> None:
    """spoold fsck --repair sets aside what belongs nowhere."""
    m.up()
    m.submit("a", CPU)
    m.rest()
    Path(m.spool.started("77.stray.yaml")).write_text(CPU)
    m.term = None
    m.settle()
    fsck(m)
    m.rest()


def fsck(m: Machine) -> None:
    mend(m.spool, m.disk, m.settings, damaged=False)


def go_back(m: Machine) -> None:
    """A spool is restored from a backup in which of three jobs one runs and one waits, and which knows nothing of the
    head that led last; its node says what it began since, and the spool is recovered."""
    m.up()
    m.submit("a", GPU)
    m.submit("b", GPU)
    m.rest()
    m.restore_after(lambda: go_on(m))
    m.drop("n1")
    recover(m)
    m.join()
    m.rest()


def go_on(m: Machine) -> None:
    m.term = None
    m.rest()
    m.end()
    m.submit("c", GPU)
    m.rest()


def recover(m: Machine) -> None:
    """What its owner does: starts each node once, so that it says what it ran; then spoold recover, if it is needed."""
    try:
        m.join()
    except WentBack:
        pass
    if went_back(m.spool, m.disk, m.kept):
        told = {name: status for name, status in reports(m.spool, m.disk).items() if status is not None}
        lock = SimpleNamespace(lost=False)
        restoring.recover(m.spool, m.disk, m.settings, cast(HeadLock, lock), m.kept, told)
    for name in list(m.runners):
        m.drop(name)


def chosen(tape: Tape) -> list[Found]:
    """The states that are recovered."""
    states = list(tape.found.values())
    if MOST is None or len(states) <= MOST:
        return states
    firsts = {found.moment: at for at, found in reversed([*enumerate(states)])}
    return [states[at] for at in sorted({*range(0, len(states), -(-len(states) // MOST)), *firsts.values()})]


STORIES = [
    submit,
    first,
    start,
    start_waiting,
    wait,
    finish,
    live,
    cancel,
    reject,
    keep_ledger,
    take_over,
    edit,
    edit_at_the_start,
    delete,
    leave,
    lose_a_node,
    gang,
    prune,
]


@pytest.mark.parametrize("story", [submit, start, finish, reject], ids=lambda story: story.__name__)
def test_what_a_power_loss_leaves_is_made_good(story: Story, root: Path) -> None:
    tape = record(root, story)
    check(root, tape, list(tape.found.values())[:: len(tape.found) // 40 + 1], every=True)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_whatever_a_power_loss_leaves_is_made_good(story: Story, root: Path) -> None:
    tape = record(root, story)
    check(root, tape, chosen(tape))


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_repair_that_is_cut_by_a_power_loss_is_done_again(root: Path) -> None:
    tape = record(root, repair)
    check(root, tape, chosen(tape), fsck)


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_recovery_that_is_cut_by_a_power_loss_is_done_again(root: Path) -> None:
    tape = record(root, go_back)
    check(root, tape, chosen(tape), recover)


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_an_init_that_is_cut_by_a_power_loss_is_done_again(root: Path) -> None:
    """One that says that there is a spool has made all of it, and one that has returned needs no second one."""
    tape, where = Tape(str(root)), str(root / SPOOL)
    with tape:
        init.make(where, "lab")
        tape.note("made", where)
    for found in tape.found.values():
        machine = rebuilt(root, found)
        try:
            if not os.path.exists(machine.spool.settings):
                assert found.moment < tape.count, "init had returned, and there is no spool"
                init.make(where, "lab")
            else:
                assert [path for path in machine.spool.directories if not os.path.isdir(path)] == []
            init.make_directories(where)
            machine.submit("a", CPU)
            wake(machine, False, Facts(tape, 0))
            run_out(machine)
            assert [job.status for job in machine.term.state.ended.values()] == [Status.SUCCEEDED]
        finally:
            machine.close()
