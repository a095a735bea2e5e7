"""The starter, supervisors, and the children that become jobs, with an error at each of their calls to a file system.

Each is a fork of this process, as all but the first are forks of the starter, and has a port (port.py) in place of what
its modules take for `os`: it alone meets what goes wrong, in the node's local directory and in its log. Then the real
runner goes on: what was not begun another supervisor begins, what was begun and has no supervisor is ended. However it
went, a job has run once or not at all; what says that it succeeded ran to its end; what was lost had lost its
supervisor, and on a disk that is merely full nothing is; of what is told as gone no process lives; and at last all of
it is forgotten.

Every call meets every fault, once; those that differ in what can still be done last as well, from each call on. Many
attempts go on at a time, and what the runner does comes after all of them: so one costs little more than its processes.
"""

from __future__ import annotations

import errno
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from spool_layout.records import GONE, Phase
from spoold.node import cgroups, job, starter, supervisor, workplace
from spoold.node.supervisor import Supervisor
from tests.faults import brief
from tests.faults.port import FAULTS, Fault, LocalPort
from tests.faults.tracing import BROKE, DONE, GAVE_UP
from tests.node.site import Site, living, running

# These tests fork a process of pytest's, which may have threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

PATIENCE = 3  # naps of a supervisor that cannot write, or starters in a row, after which a lasting fault is lifted
LATE = 30.0  # seconds
AT_ONCE = 24  # attempts
LAST = {"EIO", "ENOSPC", "short write", "done, says ENOENT or EEXIST"}  # as in test_errors.py
REPLY_LOST = next(fault for fault in FAULTS if fault.done and not fault.number)
FULL = {errno.ENOSPC, errno.EDQUOT, 0}
SETUP, RUN = 1, 2  # a supervisor's children, by number


class Plan(NamedTuple):
    """Which call meets what, as Port.plan; of which process: the one that is forked here, or its child of a number."""

    fault: Fault | None = None
    at: int = 0
    lasting: bool = False
    child: int = 0

    def __str__(self) -> str:
        lasting, of = " for ever" * self.lasting, f" of child {self.child}" * bool(self.child)
        return f"{self.fault.name if self.fault else 'nothing'}{lasting} at call {self.at}{of}"


class Told(NamedTuple):
    """What became of a process that was hit. code: its exit code; calls: (pid, whether it was struck, call)."""

    code: int
    calls: list[tuple[str, bool, str]]

    @property
    def struck(self) -> list[str]:
        return [call for _, struck, call in self.calls if struck]

    def of_child(self, number: int) -> list[str]:
        """The names of the calls of the process itself (0), or of one of its children."""
        pids = list(dict.fromkeys(pid for pid, _, _ in self.calls))
        return [call.split()[1] for pid, _, call in self.calls if pid == pids[number]]


class Jobs:
    """A node, and hands of ours in place of its starter. Attempts are numbered; each waits in setup and in run until
    its supervisor waits for it, so that all supervisors make the same calls."""

    def __init__(self, site: Site) -> None:
        self.site, self.number = site, 0
        self.pids: dict[str, int] = {}  # supervisors by attempt, of those that go on after what was hit
        self.plans: list[Plan] = []  # of starters that are started, the next one last; none: supervisors are
        self.deaf = False  # whether nobody reads orders
        self.runner = site.start()
        self.orders, self.trouble = self.runner.starters.orders, ""
        self.runner.starters = self  # type: ignore[assignment]  # forks in place of new interpreters
        self.log = os.open(site.folder / "errors", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        cgroups.here()  # asked once, for all that are forked here
        site.step()

    # ---- in place of the runner's Starters

    def look(self) -> None:
        """Once a pass."""

    def order(self, key: str) -> None:
        """A supervisor for what has none and was never begun; or a starter, where one was hit."""
        if self.deaf or (key in self.pids and self.code(self.pids[key], os.WNOHANG) is None):
            return
        if self.plans:
            self.pids[key] = self.start(key, self.plans.pop())
        else:
            self.pids[key] = self.supervise(key, Plan())

    # ---- processes

    def assign(self, count: int) -> list[str]:
        """So many attempts that are ordered, and which nobody has begun. Their keys."""
        keys = []
        for _ in range(count):
            self.number += 1
            gate, proof = self.file("gate"), self.file("proof")
            os.mkfifo(gate)
            setup = f"read -r _ < {gate}"
            run = f"echo began >> {proof}; read -r _ < {gate}; echo ended >> {proof}"
            keys.append(self.site.task(self.number, f"setup: {setup}\nrun: {run}\n"))
        self.site.assign()
        self.deaf = True
        self.site.step()
        assert {self.site.phase(key) for key in keys} == {"starting"}
        return keys

    def file(self, kind: str, key: str = "") -> Path:
        """A file of an attempt's, by default of the latest one."""
        return self.site.folder / f"{key.split('.')[0] or self.number}.{kind}"

    def supervise(self, key: str, plan: Plan) -> int:
        """A supervisor; its pid."""
        return self.fork(key, plan, lambda port: be_supervisor(self.site, key, port, self.file("gate", key)))

    def start(self, key: str, plan: Plan) -> int:
        """A starter that looks at an order, then ends; its pid."""
        os.write(self.orders, f"{key} poke\n{key}\n".encode())
        return self.fork(key, plan, lambda port: be_starter(self.site, port, self.file("gate", key)))

    def fork(self, key: str, plan: Plan, work: Callable[[LocalPort], None]) -> int:
        """A process that meets what is planned."""
        pid = os.fork()
        if pid:
            return pid
        code = BROKE
        try:
            os.dup2(self.log, 2)
            told = os.open(self.file("told", key), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
            port = LocalPort((str(self.site.place.path), str(self.site.spool.logs)), told)
            # These write to the local disk, past the one port; in this fork alone each of their calls can fail.
            for module in (workplace, starter, job):
                module.os = port  # type: ignore[attr-defined]
            workplace.open = job.open = port.opened  # type: ignore[attr-defined]
            plan_in(port, plan)
            with port:
                work(port)
            code = DONE
        except OSError:
            code = GAVE_UP
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def code(self, pid: int, how: int = 0) -> int | None:
        """The exit code of a process that has ended; None: it has not."""
        ended, status = os.waitpid(pid, how)
        return os.waitstatus_to_exitcode(status) if ended else None

    def told(self, key: str, pid: int) -> Told:
        """Wait for a process that was hit."""
        end = time.monotonic() + LATE
        while (code := self.code(pid, os.WNOHANG)) is None:
            assert time.monotonic() < end, f"{key} never ends: {self.file('told', key).read_text()}"
            time.sleep(0.002)  # one waits for many here, each with a time of its own
        lines = [line.split(" ", 2) for line in self.file("told", key).read_text().splitlines()]
        return Told(code, [(pid, mark == "!", call) for pid, mark, call in lines])

    # ---- afterwards

    def go_on(self, keys: list[str]) -> dict[str, Phase]:
        """Until all is over; how that is reported."""
        self.deaf = False
        self.site.until(lambda: all(self.site.phase(key) in GONE for key in keys), LATE)
        phases = self.site.status().attempts
        if any(phase.phase == "lost" for phase in phases.values()):  # where nobody waited for its end
            assert living(self.site.place) == []
        for pid in self.pids.values():
            self.code(pid)
        self.pids.clear()
        return phases

    def forget(self) -> None:
        """The head names them no more."""
        assert living(self.site.place) == []
        self.site.wanted.clear()
        self.site.assign()
        self.site.until(lambda: os.listdir(self.site.place.attempts) == [])

    def is_sound(self, key: str, phase: Phase, plan: Plan, told: Told) -> None:
        """What is promised of an attempt."""
        proof = self.file("proof", key)
        words = proof.read_text().split() if proof.exists() else []
        assert words in ([], ["began"], ["began", "ended"]), f"it ran twice: {words}"
        succeeded = (phase.phase, phase.code) == ("ended", 0)
        assert not succeeded or words == ["began", "ended"], f"is told as a success, and wrote {words}"
        assert told.code in (DONE, GAVE_UP), Path(self.site.folder, "errors").read_text()
        if plan.child:
            says_why = plan.lasting or (
                phase.stage == "setup" and phase.reason
            )  # a disk that stays full takes no reason
            assert succeeded or (phase.code and says_why and not words), phase
        elif told.code == DONE or (plan.fault and plan.fault.number in FULL):
            assert succeeded, phase
        else:
            assert succeeded or phase.phase == "lost", phase


def plan_in(port: LocalPort, plan: Plan) -> None:
    """In a fork: it meets what is planned, its children nothing; or the other way round."""
    forks: list[None] = []

    def begin() -> None:
        port.plan(plan.fault if plan.child == len(forks) else None, plan.at, plan.lasting)

    os.register_at_fork(before=lambda: forks.append(None), after_in_child=begin)
    begin()


def be_supervisor(site: Site, key: str, port: LocalPort, gate: Path) -> None:
    """In a fork: a supervisor's life."""
    let_no_time_pass(port, gate)
    assert site.runner is not None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.send(b"")  # there is no other attempt for it
    supervisor.supervise(site.place, key, os.dup(site.runner.bell), theirs)


def be_starter(site: Site, port: LocalPort, gate: Path) -> None:
    """In a fork: a starter's life, until it has looked at an attempt."""
    let_no_time_pass(port, gate)
    brief.live(site.place.path)


def let_no_time_pass(port: LocalPort, gate: Path) -> None:
    """In a fork: not before a supervisor waits for its job, which ends then, nor when it cannot write."""
    go = os.open(gate, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    wait, naps = Supervisor.wait, list[float]()

    def end_and_wait(self: Supervisor, seconds: float | None = None) -> None:
        if seconds is None:
            os.write(go, b"\n")
        wait(self, seconds)

    def nap(seconds: float) -> None:
        if seconds < supervisor.LOOK:
            return time.sleep(seconds)  # it waits for the kernel, to empty a cgroup: that takes its real time
        naps.append(seconds)
        if len(naps) >= PATIENCE:
            port.lift()

    # In this fork alone: each pause of a second would be waited out at each of hundreds of calls.
    supervisor.SHORT = 0.0
    supervisor.time = SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=nap)  # type: ignore[assignment]
    Supervisor.wait = end_and_wait  # type: ignore[method-assign]


@pytest.fixture
def jobs(folder: Path) -> Iterator[Jobs]:
    with running(folder) as site:
        yield Jobs(site)


def calls_of(told: Told, plan: Plan) -> int:
    """How many calls of the process that is to be hit may meet the fault."""
    assert plan.fault is not None
    return sum(name in plan.fault.calls for name in told.of_child(plan.child))


by_fault = pytest.mark.parametrize(
    ("fault", "lasting"),
    [(fault, lasting) for fault in FAULTS for lasting in (False, True) if not lasting or fault.name in LAST],
    ids=lambda value: value.name if isinstance(value, Fault) else "lasting" if value else "once",
)


def all_go_well(jobs: Jobs, plan: Plan) -> None:
    """Attempts whose supervisors, or children of theirs, meet a fault at one call after the other."""
    [key] = jobs.assign(1)
    told = jobs.told(key, jobs.supervise(key, Plan()))
    numbers = range(1, 1 + calls_of(told, plan))
    jobs.is_sound(key, jobs.go_on([key])[key], Plan(), told)
    for first in range(0, len(numbers), AT_ONCE):
        plans = [plan._replace(at=at) for at in numbers[first : first + AT_ONCE]]
        keys = jobs.assign(len(plans))
        pids = [jobs.supervise(key, plan) for key, plan in zip(keys, plans, strict=True)]
        all_told = [jobs.told(key, pid) for key, pid in zip(keys, pids, strict=True)]
        phases = jobs.go_on(keys)
        for key, plan, told in zip(keys, plans, all_told, strict=True):
            with explained(plan, told):
                assert told.struck
                jobs.is_sound(key, phases[key], plan, told)
    jobs.forget()


@contextmanager
def explained(plan: Plan, told: Told) -> Iterator[None]:
    """A failure tells what went wrong before."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{plan}: {told.struck[:5]}; ended with {told.code}")
        raise


@pytest.mark.faults
@by_fault
def test_a_supervisor_tells_truly_how_its_job_went_whatever_goes_wrong(jobs: Jobs, fault: Fault, lasting: bool) -> None:
    all_go_well(jobs, Plan(fault, 0, lasting))


def test_a_supervisor_tells_truly_how_its_job_went_where_a_reply_is_lost(jobs: Jobs) -> None:
    """Those of the tests above that is told by its own."""
    all_go_well(jobs, Plan(REPLY_LOST))


@pytest.mark.faults
@pytest.mark.parametrize("child", [SETUP, RUN], ids=["setup", "run"])
@by_fault
def test_a_child_becomes_its_job_or_says_why_not(jobs: Jobs, fault: Fault, lasting: bool, child: int) -> None:
    all_go_well(jobs, Plan(fault, 0, lasting, child))


@pytest.mark.faults
@by_fault
def test_a_starter_or_the_next_one_begins_each_job_once_whatever_goes_wrong(
    jobs: Jobs, fault: Fault, lasting: bool
) -> None:
    [key] = jobs.assign(1)
    told = jobs.told(key, jobs.start(key, Plan()))
    numbers = range(1, 1 + calls_of(told, Plan(fault)))
    jobs.go_on([key])
    for at in numbers:
        [key] = jobs.assign(1)
        plan = Plan(fault, at, lasting)
        told = jobs.told(key, jobs.start(key, plan))
        jobs.plans = [Plan(), *[plan] * (PATIENCE * lasting)]
        phases = jobs.go_on([key])
        with explained(plan, told):
            assert told.struck
            jobs.is_sound(key, phases[key], Plan(), told)
    jobs.forget()
