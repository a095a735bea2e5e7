"""The starter, supervisors, and the children that become jobs, with an error at each of their calls to a file system.

Each is a fork of this process, as all but the first are forks of the starter, and has a port (port.py) in place of what
its modules take for `os`: it alone meets what goes wrong, in the node's local directory and in its log. Then the real
runner goes on: what was not begun another supervisor begins, what was begun and has no supervisor is ended. However it
went, a job has run once or not at all; what says that it succeeded ran to its end; what was lost had lost its
supervisor, and on a disk that is merely full, or fails once, nothing is; of what is told as gone no process lives; and
at last all of it is forgotten.

A supervisor also goes on to another attempt, or its job is stopped: while it runs, or when it waits to run. Its own
calls meet what goes wrong then; what its children do is the same in all these lives, and is told of a single job.

Every call meets every fault, once; those that differ in what can still be done last as well, from each call on. Many
attempts go on at a time, and what the runner does comes after all of them: so one costs little more than its processes.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
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
from spoold.node import cgroups, job, progress, starter, supervisor, workplace
from spoold.node.job import KILLED
from spoold.node.supervisor import Supervisor
from spoold.node.workplace import Attempt
from tests.faults import brief
from tests.faults.port import FAULTS, Fault, LocalPort
from tests.faults.tracing import BROKE, DONE, GAVE_UP
from tests.node.site import NODE, Site, living, running

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


class Life(NamedTuple):
    """What a supervisor goes through. setup: whether its job has setup commands; more: whether another attempt is there
    for it; go: whether run may begin after setup; stopped: whether its job is: where it may go, while it runs."""

    setup: bool = True
    more: bool = False
    go: bool = True
    stopped: bool = False

    @property
    def last_wait(self) -> float | None:
        """How long it waits for what ends its job."""
        return None if self.go else supervisor.LOOK


ALONE = Life()
GOES_ON = Life(setup=False, more=True)
STOPPED = Life(setup=False, more=True, stopped=True)
STOPPED_BETWEEN = Life(more=True, go=False, stopped=True)


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
        self.forks = set[int]()  # whose end was not seen yet
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

    def assign(self, count: int, life: Life = ALONE) -> list[str]:
        """So many attempts that are ordered, and which nobody has begun. Their keys."""
        keys = []
        for _ in range(count):
            self.number += 1
            gate, proof = self.file("gate"), self.file("proof")
            os.mkfifo(gate)
            setup = f"setup: read -r _ < {gate}\n" * life.setup
            run = f"run: echo began >> {proof}; read -r _ < {gate}; echo ended >> {proof}\n"
            nodes = [NODE] if life.go else [NODE, "n2"]
            keys.append(self.site.task(self.number, setup + run, go=life.go, nodes=nodes, addresses=nodes))
        self.site.assign()
        self.deaf = True
        self.site.step()
        assert {self.site.phase(key) for key in keys} == {"starting"}
        return keys

    def file(self, kind: str, key: str = "") -> Path:
        """A file of an attempt's, by default of the latest one."""
        return self.site.folder / f"{key.split('.')[0] or self.number}.{kind}"

    def supervise(self, key: str, plan: Plan, other: str = "", life: Life = ALONE) -> int:
        """A supervisor; its pid. other: an attempt that is there for it when its own is over."""
        keys = [key, *([other] if other else [])]
        gates = {key: self.file("gate", key) for key in keys}
        return self.fork(key, plan, lambda port: be_supervisor(self.site, gates, port, life))

    def start(self, key: str, plan: Plan) -> int:
        """A starter that looks at an order, then ends; its pid."""
        os.write(self.orders, f"{key} poke\n{key}\n".encode())
        return self.fork(key, plan, lambda port: be_starter(self.site, port, {key: self.file("gate", key)}))

    def fork(self, key: str, plan: Plan, work: Callable[[LocalPort], None]) -> int:
        """A process that meets what is planned."""
        pid = os.fork()
        if pid:
            self.forks.add(pid)
            return pid
        code = BROKE
        try:
            os.dup2(self.log, 2)
            told = os.open(self.file("told", key), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
            port = LocalPort((str(self.site.place.path), str(self.site.spool.logs)), told)
            # These write to the local disk, past the one port; in this fork alone each of their calls can fail.
            for module in (workplace, starter, job):
                module.os = port  # type: ignore[attr-defined]
            job.open = port.opened  # type: ignore[attr-defined]
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
        self.forks.discard(ended)
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

    def close(self) -> None:
        """End what goes on, as where a test failed: nothing tells that these are the site's."""
        for pid in [*self.forks]:
            os.kill(pid, signal.SIGKILL)
            self.code(pid)

    def forget(self) -> None:
        """The head names them no more."""
        assert living(self.site.place) == []
        self.site.wanted.clear()
        self.site.assign()
        self.site.until(lambda: os.listdir(self.site.place.attempts) == [])

    def are_stopped(self, keys: list[str]) -> None:
        """The head wants these to end, from the runner's next pass on."""
        for key in keys:
            self.site.change(key, want="stop")
        self.site.assign()

    def marker(self, key: str) -> int:
        """The pid of the supervisor that an attempt had."""
        return int(self.site.attempt(key).read("marker")["pid"])

    def wrote(self, key: str) -> list[str]:
        """What an attempt wrote: that it began, and that it ended by itself."""
        proof = self.file("proof", key)
        words = proof.read_text().split() if proof.exists() else []
        assert words in ([], ["began"], ["began", "ended"]), f"it ran twice: {words}"
        return words

    def is_soundly_stopped(self, key: str, phase: Phase, plan: Plan, told: Told, life: Life) -> None:
        """What is promised of an attempt that was stopped, at the place in its supervisor's life."""
        words = self.wrote(key)
        assert words in ([], ["began"] if life.go else []), f"was stopped, and wrote {words}"
        assert told.code in (DONE, GAVE_UP), Path(self.site.folder, "errors").read_text()
        end = "ended", "run", KILLED if life.go else supervisor.STOPPED
        if phase.phase == "never":
            assert told.code == GAVE_UP and not words, phase
        elif told.code == DONE or not plan.lasting or (plan.fault and plan.fault.number in FULL):
            assert (phase.phase, phase.stage, phase.code) == end, phase
        else:
            assert phase.phase == "lost" or (phase.phase, phase.stage, phase.code) == end, phase

    def is_sound(self, key: str, phase: Phase, plan: Plan, told: Told) -> None:
        """What is promised of an attempt."""
        words = self.wrote(key)
        succeeded = (phase.phase, phase.code) == ("ended", 0)
        assert not succeeded or words == ["began", "ended"], f"is told as a success, and wrote {words}"
        assert told.code in (DONE, GAVE_UP), Path(self.site.folder, "errors").read_text()
        if plan.child:
            says_why = plan.lasting or (
                phase.stage == "setup" and phase.reason
            )  # a disk that stays full takes no reason
            assert succeeded or (phase.code and says_why and not words), phase
        elif told.code == DONE or not plan.lasting or (plan.fault and plan.fault.number in FULL):
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


def be_supervisor(site: Site, gates: dict[str, Path], port: LocalPort, life: Life) -> None:
    """In a fork: a supervisor's life. gates: of its attempt, and of what is there for it then."""
    let_no_time_pass(port, gates, life)
    assert site.runner is not None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    key, *more = gates
    for other in (*more, ""):
        ours.send(other.encode())
    supervisor.supervise(site.place, key, os.dup(site.runner.bell), theirs)


def be_starter(site: Site, port: LocalPort, gates: dict[str, Path]) -> None:
    """In a fork: a starter's life, until it has looked at an attempt."""
    let_no_time_pass(port, gates)
    brief.live(site.place.path)


def let_no_time_pass(port: LocalPort, gates: dict[str, Path], life: Life = ALONE) -> None:
    """In a fork: not before a supervisor waits for its job, which ends or is stopped then, nor when it cannot write."""
    go = {key: os.open(gate, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC) for key, gate in gates.items()}
    wait, naps, first = Supervisor.wait, list[float](), next(iter(gates))
    stop = stopping(port) if life.stopped else None

    def end_and_wait(self: Supervisor, seconds: float | None = None) -> None:
        if stop and (self.attempt.key, seconds) == (first, life.last_wait):
            stop(self.attempt)
        elif seconds is None:
            os.write(go[self.attempt.key], b"\n")
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


def stopping(port: LocalPort) -> Callable[[Attempt], None]:
    """In a fork: what the runner does to stop an attempt, one pass each time that its supervisor comes to wait. It sees
    none of the job's processes, as if these ran ahead of it: so the supervisor is the one that kills, and makes the
    same calls each time. Once that was told it is left alone, as a runner leaves it between two passes, but where
    something went wrong: it may not have seen it."""
    progress.processes, progress.group = lambda attempt: [], lambda attempt: cgroups.Group()
    passes = itertools.count()

    def stop(attempt: Attempt) -> None:
        told = next(passes)
        if told >= 2 and not port.struck:
            return
        if told >= 2 + PATIENCE:
            port.lift()
        with port.aside():
            progress.Ending(0.0 if told else LATE).step(attempt)

    return stop


@pytest.fixture
def jobs(folder: Path) -> Iterator[Jobs]:
    with running(folder) as site:
        made = Jobs(site)
        yield made
        made.close()


def calls_of(told: Told, plan: Plan) -> int:
    """How many calls of the process that is to be hit may meet the fault."""
    assert plan.fault is not None
    return sum(name in plan.fault.calls for name in told.of_child(plan.child))


by_fault = pytest.mark.parametrize(
    ("fault", "lasting"),
    [(fault, lasting) for fault in FAULTS for lasting in (False, True) if not lasting or fault.name in LAST],
    ids=lambda value: value.name if isinstance(value, Fault) else "lasting" if value else "once",
)


def all_go_well(jobs: Jobs, plan: Plan, life: Life = ALONE) -> None:
    """Attempts whose supervisors, or children of theirs, meet a fault at one call after the other."""
    [told] = tell(jobs, [Plan()], life)
    numbers = range(1, 1 + calls_of(told, plan))
    for first in range(0, len(numbers), AT_ONCE):
        tell(jobs, [plan._replace(at=at) for at in numbers[first : first + AT_ONCE]], life)
    jobs.forget()


def tell(jobs: Jobs, plans: list[Plan], life: Life) -> list[Told]:
    """Such attempts to their end, one for each plan, and what is promised of each."""
    keys = jobs.assign(len(plans), life)
    others = jobs.assign(1 if life.stopped else len(plans), Life(setup=False)) if life.more else []
    given = others * (len(plans) // len(others)) if others else [""] * len(plans)
    pids = [jobs.supervise(key, plan, other, life) for key, plan, other in zip(keys, plans, given, strict=True)]
    all_told = [jobs.told(key, pid) for key, pid in zip(keys, pids, strict=True)]
    if life.stopped:
        jobs.are_stopped(keys)
        assert not jobs.site.attempt(others[0]).has("marker"), "the supervisor of what was stopped took another attempt"
    phases = jobs.go_on([*keys, *others])
    for key, plan, told, other, pid in zip(keys, plans, all_told, given, pids, strict=True):
        with explained(plan, told, life):
            assert told.struck or not plan.fault
            if life.stopped:
                jobs.is_soundly_stopped(key, phases[key], plan, told, life)
            else:
                jobs.is_sound(key, phases[key], plan, told)
            if other and not life.stopped:
                jobs.is_sound(other, phases[other], plan, told)
                assert "ended" in (phases[key].phase, phases[other].phase), "one supervisor lost two attempts"
                assert told.code != DONE or jobs.marker(key) == jobs.marker(other) == pid, "it did not go on"
    return all_told


@contextmanager
def explained(plan: Plan, told: Told, life: Life = ALONE) -> Iterator[None]:
    """A failure tells what went wrong before."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{life}, {plan}: {told.struck[:5]}; ended with {told.code}")
        raise


@pytest.mark.faults
@by_fault
def test_a_supervisor_tells_truly_how_its_job_went_whatever_goes_wrong(jobs: Jobs, fault: Fault, lasting: bool) -> None:
    all_go_well(jobs, Plan(fault, 0, lasting))


def test_a_supervisor_tells_truly_how_its_job_went_where_a_reply_is_lost(jobs: Jobs) -> None:
    """Those of the tests above that is told by its own."""
    all_go_well(jobs, Plan(REPLY_LOST))


@pytest.mark.faults
@by_fault
def test_a_supervisor_that_goes_on_or_is_stopped_tells_truly_how_it_went(
    jobs: Jobs, fault: Fault, lasting: bool
) -> None:
    for life in (GOES_ON, STOPPED, STOPPED_BETWEEN):
        all_go_well(jobs, Plan(fault, 0, lasting), life)


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
