"""strace(1): what one process does to some directories, call by call; killing it at one of these calls, or failing it.

    calls = listing(forked(act), places)      # a fork carries out `act`: its calls on what lies below `places`
    killed_at(forked(act), calls[7])          # another one gets SIGKILL before this call takes effect
    failed_at(forked(act), calls[7], "EIO")   # the call says EIO instead of taking effect

`act` is a function without arguments; the process that forks has everything imported that it needs. Only the thread
that carries out `act` is traced; no other threads and no children.

A call is named by its name and a number, since strace counts the calls of each name separately, and counts those that
pass its filter. What a process does elsewhere (the password database, other processes in /proc) is not the same each
time. So the filter is the paths that the listing saw, given to strace one by one (-P), and names that are made by
chance have to be made alike in each run: chance.py.

Where a run goes another way than the listed one did, the wrong call would be hit, or none: Astray. Every run is asked
which call it was.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple, NoReturn

from spool_layout.errors import SpoolError

Act = Callable[[], object]
Start = Callable[[], tuple[int, int]]  # begins a process that waits: its pid, and a pipe by which it is told to go on

DONE, GAVE_UP, BROKE = 0, 75, 97  # how a fork ends: carried out; an error that the act may end with; any other error
LONGEST = 30.0  # seconds of one act
PR_SET_PTRACER, ANYBODY = 0x59616D61, ctypes.c_ulong(-1)  # linux/prctl.h, where Yama lets only parents trace
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
LINE = re.compile(r"^(\w+)\((.*?)(?:\) += .*)?$")
OWN = frozenset({"lseek", "ioctl", "dup2"})  # of a process's own descriptors: no file is touched
# What leaves every file, name and directory as it is. A lock goes with its process; an fsync matters to power only.
LOOKING = re.compile(
    "access|close|faccessat2|f?getxattr|fdatasync|flock|fsync|getdents64|inotify_add_watch|newfstatat|pread64|read"
    "|readlink|readlinkat|[fl]?stat|statfs|statx"
)
OTHERS = re.compile("clone3?|v?fork|kill|tgkill|pidfd_send_signal|(send|write).*")  # what others see of a process
FIFOS = re.compile("/(orders|bell)>")  # what is read from them is gone
PATH = re.compile(r'"(/[^"]*)"|(?<!AT_FDCWD)<(/[^<>]*)>')
TAMPERED = "(INJECTED)"


class Call(NamedTuple):
    """One call. number: how many of that name there were so far. paths: what it is about. among: the filter.

    changes: whether it, or what the process does before its next call, may leave something else than there was: on the
    disk, of other processes, in a FIFO."""

    name: str
    number: int
    paths: tuple[str, ...]
    among: tuple[str, ...] = ()
    changes: bool = True

    def __str__(self) -> str:
        ends = ["/".join(path.split("/")[-2:]) for path in self.paths]
        return f"{self.name} #{self.number}: {' -> '.join(ends)}"


class Fate(NamedTuple):
    """What became of a fork. code: DONE, GAVE_UP, BROKE, or -N where signal N ended it. hit: calls that failed."""

    code: int
    hit: int


class Astray(Exception):
    """A run did not come to the call at which it was to be hit."""


@functools.cache
def why_not() -> str:
    """Why nothing can be traced here; "" where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    try:
        found = listing(forked(lambda: os.stat("/etc")), ["/etc"])
    except (OSError, Astray) as error:
        return f"strace is not installed so that it can trace: {error}"
    return "" if found else "strace is not installed so that it can trace: it sees nothing"


# ---- three kinds of runs


def listing(start: Start, places: Iterable[str]) -> list[Call]:
    """Every call that touches one of the places or what is below it."""
    fate, text = _run(start, [])
    if fate.code != DONE:
        raise Astray(f"ends with {fate.code} while it is only watched: {text[-500:]}")
    among = tuple(places)
    calls = _calls(text, lambda path: any(path == place or path.startswith(f"{place}/") for place in among))
    paths = tuple(dict.fromkeys(path for call in calls for path in call.paths))
    return [call._replace(among=paths) for call in calls]


def killed_at(start: Start, call: Call) -> Fate:
    """SIGKILL at this call. Astray: it was not killed, or elsewhere."""
    fate, calls = _tampered(start, call, f"signal=KILL:when={call.number}")
    if fate.code != -signal.SIGKILL:
        raise Astray(f"was not killed at {call}: ends with {fate.code}")
    if len(calls) != call.number:
        raise Astray(f"was killed at its call {len(calls)} instead of {call}")
    return fate


def failed_at(start: Start, call: Call, error: str, forever: bool = False) -> Fate:
    """This error in place of the call. forever: in place of all of that name from there on."""
    fate, _ = _tampered(start, call, f"error={error}:when={call.number}{'+' if forever else ''}")
    if not fate.hit:
        raise Astray(f"nothing failed at {call}")
    return fate


def _tampered(start: Start, call: Call, how: str) -> tuple[Fate, list[Call]]:
    limits = [word for path in call.among for word in ("-P", path)]
    fate, text = _run(start, [*limits, "-e", f"trace={call.name}", "-e", f"inject={call.name}:{how}"])
    calls = _calls(text, call.among.__contains__)
    hit = calls[call.number - 1] if len(calls) >= call.number else None
    if hit is None or hit.paths != call.paths:
        raise Astray(f"came to {hit or f'{len(calls)} calls'} instead of {call}; ends with {fate.code}")
    return fate, calls


# ---- a process under strace


def forked(act: Act) -> Start:
    """A fork of this process that carries out `act`."""
    return lambda: _fork(act)


def _fork(act: Act) -> tuple[int, int]:
    begin, go = os.pipe()
    ready, say = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        os.close(ready)
        _be_traced(act, say, begin)
    os.close(begin)
    os.close(say)
    os.read(ready, 1)
    os.close(ready)
    return pid, go


def _be_traced(act: Act, say: int, begin: int) -> NoReturn:
    """In the fork: get ready, wait until it is traced, act, end."""
    code = BROKE
    try:
        be_traceable()
        os.write(say, b"!")
        os.close(say)
        select.select([begin], [], [])
        act()
        code = DONE
    except (OSError, SpoolError):  # a daemon begins anew then
        code = GAVE_UP
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def be_traceable() -> None:
    """Let strace, which is no parent of ours, trace us also where Yama restricts that."""
    if os.path.exists("/proc/sys/kernel/yama/ptrace_scope"):
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANYBODY, 0, 0, 0)


def alone(start: Start) -> int:
    """Without strace; the exit code, DONE for a process that is not ours to wait for."""
    pid, go = start()
    os.write(go, b"!")
    os.close(go)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return DONE


def _run(start: Start, options: list[str]) -> tuple[Fate, str]:
    """What became of a process under strace, and what strace says."""
    pid, go = start()
    with tempfile.NamedTemporaryFile(prefix="strace-", dir=MEMORY) as told:
        words = ["strace", "-o", told.name, "-y", "-s0", *options, "-p", str(pid)]
        tracer = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _await_attached(tracer)
            os.write(go, b"!")
            if not _ends(tracer):
                raise Astray(f"still goes on after {LONGEST:g} s: {told.read().decode()[-300:]}")
        finally:
            os.close(go)
            _end(pid, tracer)
        text = told.read().decode()
    return Fate(_code(text), text.count(TAMPERED)), text


def _await_attached(tracer: subprocess.Popen[bytes]) -> None:
    assert tracer.stderr is not None
    said = []
    for line in tracer.stderr:
        if b" attached" in line:
            return
        said.append(line.decode().strip())
    raise Astray("; ".join(said) or "strace has ended")


def _ends(tracer: subprocess.Popen[bytes]) -> bool:
    """Wait for the end of its errors, which is its own: Popen.wait with a timeout polls, and sleeps too long."""
    assert tracer.stderr is not None
    end = time.monotonic() + LONGEST
    while select.select([tracer.stderr], [], [], max(0.0, end - time.monotonic()))[0]:
        if not os.read(tracer.stderr.fileno(), 4096):
            tracer.wait()
            return True
    return False


def _end(pid: int, tracer: subprocess.Popen[bytes]) -> None:
    if tracer.poll() is None:
        os.kill(pid, signal.SIGKILL)
    tracer.wait()
    assert tracer.stderr is not None
    tracer.stderr.close()
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # a child of another process


def _code(text: str) -> int:
    """Exit code, or -N for signal N."""
    for how, what in re.findall(r"^\+\+\+ (exited with|killed by) (\w+)", text, re.MULTILINE):
        return int(what) if how == "exited with" else -signal.Signals[what]
    raise Astray(f"strace does not say how it ended: {text[-300:]}")


# ---- what strace says


def _calls(text: str, ours: Callable[[str], bool]) -> list[Call]:
    """The calls on paths that are ours, numbered by name."""
    count: Counter[str] = Counter()
    found = []
    for match in filter(None, map(LINE.match, text.splitlines())):
        named = [
            (quoted or of_descriptor).removesuffix(" (deleted)") for quoted, of_descriptor in PATH.findall(match[2])
        ]
        if (paths := tuple(path for path in named if ours(path))) and match[1] not in OWN:
            count[match[1]] += 1
            found.append(Call(match[1], count[match[1]], paths, changes=_changes(match[1], match[2])))
        elif found and OTHERS.fullmatch(match[1]):
            found[-1] = found[-1]._replace(changes=True)
    return found


def _changes(name: str, told: str) -> bool:
    """Whether a call of this name and with these arguments may change something."""
    if name in ("open", "openat"):
        return "O_CREAT" in told or "O_TRUNC" in told
    if name == "read":
        return FIFOS.search(told) is not None
    return not LOOKING.fullmatch(name)
