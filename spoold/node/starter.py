"""The starter: one small process for each node that spawns attempts, outlives the runner, and says how they ended.

    python -m spoold.node.starter DIRECTORY

It is told by a line "KEY" in the FIFO `orders` to look at attempts/KEY, and does what is due there: make the marker
(put if absent) and spawn, or spawn `run` when setup is over and `go` is there. An order for what is done already does
nothing, so the runner may repeat itself. Lost orders are repeated by the runner.

It never touches the spool itself: opening the log, changing into workdir and cloning happen in the forked child, so
that a file server that hangs holds up that child alone. It is a subreaper: what a job leaves behind becomes its child,
which is how leftovers are found. It holds no lock but its own, and ends by itself when it has no children and no
runner.

Cut anywhere: before the marker, nothing happened, and another starter does it. Between marker and exit file: the runner
sees a marker whose starter is dead, ends what is left of the attempt, and reports it lost.

Time rule: when the runner's last renewal is beyond its limit, nothing is spawned (the order is marked, and never run),
and attempts that may run again elsewhere are killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from typing import Any, NoReturn

from spoold.node import containment
from spoold.node.workplace import Attempt, Workplace, start_time, write

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
IDLE = 10.0  # seconds without children and runner after which it ends
FENCED = 137  # 128 + SIGKILL: what a stage counts as that its own node ended, or never began
CANNOT_START = 70  # EX_SOFTWARE: what a child ends with that could not become the job


class Starter:
    """The process."""

    def __init__(self, path: str) -> None:
        self.place = Workplace(path)
        self.children: dict[int, tuple[str, str]] = {}  # pid -> (key, stage)
        self.spawned: set[str] = set()  # keys of attempts of which something may still run
        self.orders = os.open(self.place.orders, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.bell = os.open(self.place.bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.woken, self.waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.rest = ""
        self.idle_since = time.monotonic()

    def run(self) -> None:
        """Until there is nothing to do and nobody to do it for."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        poll = select.poll()
        poll.register(self.orders, select.POLLIN)
        poll.register(self.woken, select.POLLIN)
        while not self.is_over():
            poll.poll(1000)
            drain(self.woken)
            self.reap()
            for key in self.read_orders():
                self.look_at(key)
            self.fence()

    def is_over(self) -> bool:
        """Whether it has been idle, without a runner, for long enough; or its directory is gone."""
        if not os.path.isdir(self.place.attempts):
            return True
        if self.children or self.place.has_runner():
            self.idle_since = time.monotonic()
            return False
        return time.monotonic() - self.idle_since > IDLE or self.place.was_left()

    # ---- orders

    def read_orders(self) -> list[str]:
        """The keys that were written to the FIFO, each once."""
        text = self.rest + drain(self.orders).decode("ascii", "replace")
        *lines, self.rest = text.split("\n")
        return list(dict.fromkeys(line for line in lines if line and "/" not in line))

    def look_at(self, key: str) -> None:
        """Do what is due for one attempt."""
        attempt = self.place.attempt(key)
        names = attempt.names()
        if "order.json" not in names or "outcome" in names:
            return
        if "marker" not in names:
            self.begin(attempt, names)
        elif self.is_set_up(attempt, names):
            self.go_on(attempt)

    @staticmethod
    def is_set_up(attempt: Attempt, names: set[str]) -> bool:
        """Whether setup ended well, run may begin, and has not."""
        wanted = names >= {"setup.exit", "run.sh", "go"} and not names & {"run.pid", "stop", "run.exit", "fail"}
        return wanted and attempt.read("setup.exit")["code"] == 0

    def begin(self, attempt: Attempt, names: set[str]) -> None:
        """The last act before a spawn is the marker; whoever finds it taken leaves the attempt alone."""
        keeps_time = self.place.keeps_time()
        if not attempt.mark("starter" if keeps_time else "runner"):
            return
        if keeps_time:
            self.spawn(attempt, "setup" if "setup.sh" in names else "run")
        else:
            attempt.write("outcome", {"phase": "never", "reason": "the node had lost contact when it was to start"})
            self.ring()

    def go_on(self, attempt: Attempt) -> None:
        """Spawn the run commands; beyond the limit they never are: the head may have given the attempt up."""
        if self.place.keeps_time():
            self.spawn(attempt, "run")
        else:
            attempt.write("fenced", {"at": time.time()})
            attempt.write("run.exit", {"code": FENCED, "at": time.time()})
            self.ring()

    def spawn(self, attempt: Attempt, stage: str) -> None:
        """Fork the job's process."""
        order = attempt.read("order.json")
        pid = os.fork()
        if pid == 0:
            become(attempt, stage, order)
        self.children[pid] = (attempt.key, stage)
        self.spawned.add(attempt.key)
        attempt.write(f"{stage}.pid", {"pid": pid, "start": start_time(pid), "at": time.time()})
        self.ring()

    def ring(self) -> None:
        """Wake the runner."""
        try:
            os.write(self.bell, b"!")
        except BlockingIOError:
            pass  # it has wake-ups enough

    # ---- ends

    def reap(self) -> None:
        """Write down how children ended. Orphans of jobs that were adopted end unnoticed."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self.children:
                self.ended(*self.children.pop(pid), exit_code(status))

    def ended(self, key: str, stage: str, code: int) -> None:
        """One stage of an attempt is over."""
        attempt = self.place.attempt(key)
        try:
            attempt.write(f"{stage}.exit", {"code": code, "at": time.time()})
        except FileNotFoundError:
            return  # its place was taken away
        if stage == "setup":
            self.look_at(key)
        self.ring()

    def fence(self) -> None:
        """Beyond the limit, end what may run again elsewhere, leftovers too: the head may give it up soon."""
        if not self.spawned or self.place.keeps_time():
            return
        for attempt in map(self.place.attempt, sorted(self.spawned)):
            names = attempt.names()
            if not names or "outcome" in names:
                self.spawned.discard(attempt.key)
            elif attempt.read("order.json").get("restartable"):
                self.end(attempt, names)

    def end(self, attempt: Attempt, names: set[str]) -> None:
        """Kill everything of an attempt."""
        if "fenced" not in names:
            attempt.write("fenced", {"at": time.time()})
        roots = [pid for pid, (key, _) in self.children.items() if key == attempt.key]
        for found in containment.of_attempt(attempt.path, roots, os.getpid()):
            containment.signal_process(found, signal.SIGKILL)


# ---- the child -----------------------------------------------------------------------------------------------


def become(attempt: Attempt, stage: str, order: dict[str, Any]) -> NoReturn:
    """In the forked child: turn into the job's process, or say why not."""
    try:
        _leave_parent()
        log = _open_log(order[f"{stage}_log"])
        try:
            _settle(order, stage, log)
        except OSError as error:
            _give_up(attempt, log, f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
        except Exception as error:
            _give_up(attempt, log, str(error))
        os.execve("/bin/bash", _bash(attempt, stage, order), order[f"{stage}_env"])
    except BaseException as error:
        write(attempt.file("fail"), {"reason": f"node {order.get('node')}: {error}"})
    finally:
        os._exit(CANNOT_START)


def _leave_parent() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    os.umask(0o022)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)


def _open_log(path: str) -> int:
    folder = os.path.dirname(path)
    os.makedirs(folder, 0o750, exist_ok=True)
    os.chmod(folder, 0o750)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o640)
    os.fchmod(log, 0o640)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return log


def _settle(order: dict[str, Any], stage: str, log: int) -> None:
    """Working directory, mounts and clones. Any error here is a failed setup that names node and path."""
    first = stage == "setup" or "setup_log" not in order
    if order.get("git") and first:
        _clone(order["git"], order["workdir"], order[f"{stage}_env"])
    for target, source in order.get("file_mounts", {}).items():
        if first and not os.path.lexists(target):
            os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
            os.symlink(source, target)
    os.chdir(order["workdir"])


def _clone(git: dict[str, str], target: str, env: dict[str, str]) -> None:
    """git clone into the log directory; a clone that an earlier try left half done is not reused."""
    for words in (
        ["git", "clone", "--quiet", git["url"], target],
        *([["git", "-C", target, "checkout", "--quiet", git["ref"]]] if git.get("ref") else []),
    ):
        pid = os.posix_spawnp("git", words, {**env, "GIT_TERMINAL_PROMPT": "0"})
        if (code := exit_code(os.waitpid(pid, 0)[1])) != 0:
            raise RuntimeError(f"`{' '.join(words)}` ended with {code}")


def _give_up(attempt: Attempt, log: int, reason: str) -> NoReturn:
    node = (attempt.read("order.json") or {}).get("node", "?")
    os.write(log, f"skyspool: node {node}: {reason}\n".encode())
    write(attempt.file("fail"), {"reason": f"node {node}: {reason}"})
    os._exit(CANNOT_START)


def _bash(attempt: Attempt, stage: str, order: dict[str, Any]) -> list[str]:
    """The words of bash. A login job's bash is interactive, as under SkyPilot, so that ~/.bashrc is read in full.

    Without a terminal such a bash says twice that it has no job control. It starts with its errors going nowhere, the
    log as descriptor 9; the first thing that its rc file does is to send errors to the log again.
    """
    script = attempt.file(f"{stage}.sh")
    if order["shell"] == "plain":
        return ["bash", script]
    os.dup2(1, 9)
    null = os.open("/dev/null", os.O_WRONLY)
    os.dup2(null, 2)
    return ["bash", "--rcfile", order["rcfile"], "-i", script]


# An interactive bash ignores SIGTERM: without the trap a cancelled job would go on with its next line. What it starts
# does not inherit the trap, and waits are cut by the same signal, which goes to every process of the job.
RCFILE = """exec 2>&9 9>&-
trap 'exit 143' TERM
if [ -f ~/.bashrc ]; then . ~/.bashrc; fi
"""


def exit_code(status: int) -> int:
    """The exit code of a wait status; 128 + N for signal N, as shells tell it."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def drain(descriptor: int) -> bytes:
    """All that can be read from a non-blocking descriptor."""
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts)


def main(path: str) -> None:
    """Hold the starter's lock and work, if no other starter does."""
    place = Workplace(path)
    lock = place.lock_starter()
    if lock is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.ftruncate(lock, 0)
    os.write(lock, json.dumps({"pid": os.getpid(), "start": start_time(os.getpid())}).encode())
    Starter(path).run()


if __name__ == "__main__":
    main(sys.argv[1])
