"""The supervisor of an attempt: a fork of the starter that outlives it and the runner, and says how the attempt ended.

    marked      the marker, put if absent, is the last act before anything of the job is spawned: at most one start
    setup       the setup commands, if there are any
    ready       setup ended with 0: waits for `go` (all ranks are so far), or for `stop`
    run         the run commands
    leftovers   the job's own process is gone; what it left behind is waited for
    gone        no process of the attempt is left; then it rests, until the starter has another one for it (resting.py);
                one of several users' jobs whose workdir came from git by a login removes that, and ends

It has one attempt at a time, and is a subreaper: whatever the job starts, however it hides (sessions of its own, double
forks, a cleared environment), stays below it, so that its descendants are the attempt's processes, all of them and
nothing else. Where cgroups can be made (cgroups.py) they are in one of their own, too, and nothing is left when both
are empty. One whose attempt was to be stopped takes no other: whoever stops an attempt writes that down before it looks
who is below its supervisor, and a supervisor that is done looks for that after it said so.

It never touches the spool itself: opening the log, changing into workdir and cloning happen in the forked child
(job.py), so that a file server that hangs holds up that child alone. What it has to say it writes to the attempt's
directory on the local disk, again and again until that works (a full disk), and rings the runner's bell. What it reads
there once its attempt is marked it reads once more where that fails: by then nobody else begins it.

Time rule: it spawns nothing once the runner's last renewal is beyond its limit, or has been since this attempt was
ordered: the head may have given it up. One that waits between setup and run goes on waiting then, until the runner says
`go` anew, which it does when the head has confirmed the attempt. One that may run again elsewhere is killed at that
moment.

Killing is done from here, too, when the runner says so (the file `kill`): only who reaps is woken as often as a job
forks that goes on by forking and ending.

Killed with -9 anywhere: before the marker, nothing happened and another one does it. After it, the runner sees a marker
whose supervisor is dead, ends what is left, and reports the attempt lost.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from spoold.node import cgroups, containment
from spoold.node.cgroups import Group
from spoold.node.job import KILLED, PR_SET_PDEATHSIG, become, exit_code, is_shielded, prctl, reset_signals
from spoold.node.resting import next_attempt
from spoold.node.rights import may_raise
from spoold.node.workplace import Attempt, Workplace, ring, start_time

T = TypeVar("T")
PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36  # linux/prctl.h
STOPPED = 143  # 128 + SIGTERM: what run counts as that was stopped before it began
LOOK = 1.0  # seconds between two looks at the time rule, where something may have to be ended or is waited for
HEEDED = (signal.SIGCHLD, signal.SIGUSR1)  # a child changed; the runner says: look (`go`, `stop`)
SHORT = 0.05  # seconds in which a job that ends is told once, by its end, and not by its beginning as well
SETTLED = 0.02  # seconds within which a cgroup is empty when the last of it has been reaped
# Blocked, so that one that comes between a fork and the child's own settings still reaches the child.
KEPT = (*HEEDED, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def supervise(place: Workplace, key: str, bell: int, rest: socket.socket) -> None:
    """The whole life of one attempt, and of those that are given later, in a process of its own. rest: see resting.py.
    Returns when nothing is left of the last one."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_NAME, containment.SUPERVISOR.encode())
    os.setsid()
    reset_signals()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, KEPT)
    is_shielded()  # asked once, for all that are forked here
    gc.disable()  # it would touch, and so copy, what is shared with the starter and with each child
    while key and Supervisor(place, place.attempt(key), bell).run():
        key = next_attempt(rest)


class Supervisor:
    """One attempt's."""

    def __init__(self, place: Workplace, attempt: Attempt, bell: int) -> None:
        self.place, self.attempt, self.bell = place, attempt, bell
        self.order: dict[str, Any] = attempt.read("order.json") or {}
        self.codes: dict[int, int] = {}  # pid -> exit code, of reaped children that were asked for
        self.childless = True
        self.gone = False  # whether that was said: that nothing is left
        self.fenced = False
        self.group = Group()
        self.killed_for_memory = 0  # processes, before the present stage
        self.sweeper = 0  # pid of the child that stops containers

    def run(self) -> bool:
        """Mark, spawn, wait, until nothing is left. Whether another attempt may be supervised by this process."""
        names = self.attempt.names()
        if "marker" in names or not self.order:
            return True
        if not self.place.keeps_time(self.order["lapses"], first=True):
            if self.attempt.mark("runner"):
                self.say("outcome", {"phase": "never", "reason": "the node had lost contact when it was to start"})
            return True
        group = cgroups.here().group(self.attempt.path, self.order.get("memory_mb", 0))
        if not self.attempt.mark("supervisor", cgroups=group._asdict()):
            return True
        self.group = group.make()
        stages = self.order["scripts"]
        if "setup" not in stages or self.set_up("run" in stages):
            self.stage("run")
        if not self.gone:
            self.wait_for_leftovers()
            self.say("gone", {"at": time.time()})
        self.group.remove()
        if self.order.get("login"):
            from spoold.node.owner import forget_login

            forget_login(self.attempt, self.order)
            return False  # it is the owner now
        names = self.attempt.names()
        return bool(names) and "stop" not in names

    # ---- stages

    def set_up(self, has_run: bool) -> bool:
        """The setup commands; whether the run commands are to follow."""
        if self.stage("setup") != 0 or not has_run:
            return False
        while not self.is_over():
            if self.may_go():
                return True
            self.wait(LOOK)
            self.reap()
        return False

    def may_go(self) -> bool:
        """Whether the runner said that run may begin, and has kept the time rule since."""
        said = once_more(lambda: self.attempt.read("go")) or self.order.get("go")
        return said is not None and self.keeps_time(said["lapses"])

    def is_over(self) -> bool:
        """Whether run will never begin, since it was stopped, or fenced; then that is written."""
        stopped = self.attempt.has("stop")
        if not stopped and (self.keeps_time() or not self.order.get("restartable")):
            return False
        self.fenced = not stopped
        self.write_exit("run", STOPPED if stopped else KILLED)
        return True

    def stage(self, stage: str) -> int:
        """Spawn one stage and wait for its end: the exit code, 128 + N for signal N."""
        self.gone = False  # what the stage before said is past
        self.killed_for_memory = self.group.killed_for_memory()
        supervisor = os.getpid()
        try:
            pid, outside = self.group.fork()
        except OSError as error:
            self.say("fail", {"reason": f"node {self.order['node']}: cannot start a process: {error.strerror}"})
            return KILLED
        if pid == 0:
            die_with(supervisor)  # first: what follows may take a while on a busy host
            outside.enter()
            goes_on = stage == "run" and "setup_log" in self.order
            become(self.attempt, stage, self.order, self.may_go if goes_on else self.keeps_time, supervisor)
        self.codes[pid] = -1
        self.childless = False
        self.note(f"{stage}.pid", {"pid": pid, "start": start_time(pid), "at": time.time()})
        if self.attempt.has("stop"):  # it came just before
            self.signal_all(signal.SIGTERM)
        self.wait(SHORT)
        self.reap()
        if self.codes[pid] < 0:
            ring(self.bell, self.attempt.key)
            self.end_if_due()
        while self.codes[pid] < 0:
            self.wait(LOOK if self.order.get("restartable") else None)
            self.reap()
            if self.codes[pid] < 0:
                self.end_if_due()
        self.write_exit(stage, self.codes[pid])
        return self.codes[pid]

    def wait_for_leftovers(self) -> None:
        """What the job left behind: the runner ends it when that is due."""
        while not self.nothing_left():
            self.wait(LOOK if self.order.get("restartable") or self.childless else None)
            self.reap()
            self.end_if_due()

    def write_exit(self, stage: str, code: int) -> None:
        """How a stage ended. gone: nothing of the attempt is left, and there will be nothing more."""
        late = code == KILLED and bool(self.order.get("restartable")) and not self.keeps_time()
        told: dict[str, object] = {"code": code, "at": time.time(), "fenced": self.fenced or late}
        told["gone"] = self.gone = self.nothing_left()
        if code and self.group.killed_for_memory() > self.killed_for_memory:
            told["reason"] = self.group.why_killed()
        self.say(f"{stage}.exit", told)

    def nothing_left(self) -> bool:
        """Whether no child is left, which all that the job started becomes when its parents end, and nobody in its
        cgroup. A cgroup may take a moment to notice."""
        end = time.monotonic() + SETTLED
        while self.childless:
            if self.group.is_empty():
                return True
            if time.monotonic() > end:
                break
            time.sleep(0.001)
        return False

    # ---- children

    def wait(self, seconds: float | None = None) -> None:
        """Until a child changes, the runner says to look, or so long."""
        if seconds is None:
            signal.sigwaitinfo(HEEDED)
        else:
            signal.sigtimedwait(HEEDED, seconds)

    def reap(self) -> None:
        """Take in every child that has ended, orphans of the job too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.childless = True
                return
            if not pid:
                return
            if pid in self.codes:
                self.codes[pid] = exit_code(status)

    def end_if_due(self) -> None:
        """Kill what is left where the runner says so; and, beyond the limit, what may run again elsewhere: the head may
        give it up soon."""
        if self.attempt.has("kill"):
            self.kill_all()
        elif self.order.get("restartable") and not self.keeps_time():
            self.fenced = True
            if self.attempt.calls_engines():
                self.fence_containers()
            self.kill_all()

    def kill_all(self) -> None:
        """SIGKILL to all that is left, but for what stops containers. What goes on by forking and ending may outrun a
        list of processes; but each of its ends wakes us, and so we kill again, at its own pace."""
        self.group.kill()
        self.signal_all(signal.SIGKILL)

    def fence_containers(self) -> None:
        """Kill its containers, which are no children of ours, in a child that is waited for; again if it fails."""
        if self.sweeper and self.codes[self.sweeper] <= 0:
            return
        try:
            self.sweeper = os.fork()
        except OSError:
            return  # the next round tries again
        self.codes[self.sweeper] = -1
        self.childless = False
        if self.sweeper == 0:
            sweep(self.attempt, self.order)

    def signal_all(self, number: int) -> None:
        """Signal everything below us, but for what stops containers."""
        for process in containment.below(os.getpid(), but=self.sweeper):
            containment.signal_process(process, number)

    def keeps_time(self, lapses: int | None = None) -> bool:
        """Whether the time rule lets this attempt go on. lapses: how many there were when that was last confirmed; by
        default, when it was ordered."""
        since = self.order["lapses"] if lapses is None else lapses
        return once_more(lambda: self.place.keeps_time(since))

    # ---- saying

    def say(self, name: str, value: object) -> None:
        """Write a file of the attempt, whatever it takes, and wake the runner."""
        persist(lambda: self.attempt.write(name, value))
        ring(self.bell, self.attempt.key)

    def note(self, name: str, value: object) -> None:
        """Write what may be missing: a full disk must not keep us from the time rule."""
        try:
            self.attempt.write(name, value)
        except OSError:
            pass


def die_with(supervisor: int) -> None:
    """In a child: be killed when the supervisor is, or has been by now."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(KILLED)


def sweep(attempt: Attempt, order: dict[str, Any]) -> NoReturn:
    """In a child: stop the containers of an attempt. Ends with 0 if all have stopped."""
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        from spoold.node.containers import stop_all

        if may_raise():
            from spoold.node.owner import become_owner

            become_owner(order)
        code = 0 if stop_all(attempt.key, order["spool_id"], 0.0, attempt.path) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def once_more(read: Callable[[], T]) -> T:
    """Read from the local disk, a second time where it fails (EIO; ESTALE, of a file that was replaced meanwhile)."""
    try:
        return read()
    except OSError:
        return read()


def persist(write: Callable[[], None]) -> None:
    """Write to the local disk, again until it works (ENOSPC, EIO). An attempt whose directory is gone is forgotten.

    Nothing is said of it: what is said goes to a file on the same disk.
    """
    while True:
        try:
            write()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(LOOK)
