"""The power fails at every moment of every step of the protocol: what was promised is there, and nothing happens twice.

See power.py for what a power loss may leave, machine.py for how it is recovered and judged.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

import pytest

from skyspool.verbs import init
from spool_layout.states import Status
from spoold.fsck.mending import mend
from tests.faults.chance import chance
from tests.faults.machine import CPU, GPU, Facts, Machine, again, judge, reboot, rebuilt, run_out, stand_in, wake, word
from tests.faults.power import SPOOL, Found, Tape

Story = Callable[[Machine], None]


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


def check(root: Path, tape: Tape, states: list[Found], before: Story = lambda machine: None) -> None:
    """Recover from these states, and judge. before: what is done before head and runner are started again.

    Where nothing moves any more, and all is as it was then after an earlier loss, the rest of it is known."""
    assert states
    known = set[Hashable]()
    for found in states:
        facts = Facts(tape, found.moment)
        for runner_first in (False, True) if found.part == SPOOL else (True,):
            machine = rebuilt(root, found)
            try:
                before(machine)
                wake(machine, runner_first)
                if (told := word(machine, facts)) in known:
                    continue
                run_out(machine)
                wrong = [*judge(machine, facts), *again(machine)]
                assert not wrong, "\n".join(wrong)
                known.add(told)
            except BaseException as error:
                first = "the runner" if runner_first else "the head"
                error.add_note(
                    f"{found.world}, after {found.moment} operations (the last: {found.said}); {first} first"
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


def start_waiting(m: Machine) -> None:
    """One runs and one waits; the first one ends, and the second one starts."""
    m.up()
    m.submit("a", GPU)
    m.rest()
    m.submit("b", GPU)
    m.rest()
    m.settle()
    m.hand.end()
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
    m.hand.end()
    m.rest()


def live(m: Machine) -> None:
    """A whole life within the seconds in which a disk keeps names to itself; then the ledger forgets it."""
    m.up()
    m.submit("a", GPU)
    m.submit("b", GPU)
    m.rest()
    m.hand.end()
    m.rest()
    m.hand.end()
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
    m.hand.end(143)
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
    m.hand.end()
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


STORIES = [submit, first, start, start_waiting, wait, finish, live, cancel, reject, keep_ledger, take_over]


@pytest.mark.parametrize("story", [submit, start, finish, reject], ids=lambda story: story.__name__)
def test_what_a_power_loss_leaves_is_made_good(story: Story, root: Path) -> None:
    tape = record(root, story)
    check(root, tape, list(tape.found.values())[:: len(tape.found) // 40 + 1])


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("third", range(3))
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_whatever_a_power_loss_leaves_is_made_good(story: Story, third: int, root: Path) -> None:
    tape = record(root, story)
    check(root, tape, list(tape.found.values())[third::3])


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_repair_that_is_cut_by_a_power_loss_is_done_again(root: Path) -> None:
    tape = record(root, repair)
    check(root, tape, list(tape.found.values()), fsck)


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_an_init_that_is_cut_by_a_power_loss_is_done_again(root: Path) -> None:
    """And one that has returned needs no second one."""
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
            elif found.moment == tape.count:
                assert [path for path in machine.spool.directories if not os.path.isdir(path)] == []
            init.make_directories(where)
            machine.submit("a", CPU)
            wake(machine, runner_first=False)
            run_out(machine)
            assert [job.status for job in machine.term.state.ended.values()] == [Status.SUCCEEDED]
        finally:
            machine.close()
