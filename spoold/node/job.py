"""In the forked child: turning into the job's process, or saying why not.

Everything here may touch the spool and hang with it; the supervisor waits for this process as for any job. What goes
wrong before the commands begin is a failed setup: the reason, with node and path, stands in the log and in the
attempt's file `fail`.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import re
import signal
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from spoold.node import gitlogin
from spoold.node.rcfile import RCFILE
from spoold.node.rights import may_raise, raised
from spoold.node.unfit import Unfit
from spoold.node.workplace import Attempt, write

PR_SET_PDEATHSIG = 1  # linux/prctl.h
SHIELD = "/proc/self/oom_score_adj"  # proc(5)
MAX_ARG_STRLEN = 131072  # linux/binfmts.h: 32 pages
KILLED = 137  # 128 + SIGKILL: what a stage counts as that its own node ended, or never let begin
CANNOT_START = 70  # EX_SOFTWARE: what a child ends with that could not become the job
LEAST_HIDDEN = 4  # characters: shorter values are no secrets, and stand in many words


def become(
    attempt: Attempt, stage: str, order: dict[str, Any], may_begin: Callable[[], bool], supervisor: int
) -> NoReturn:
    """In the forked child: turn into the job's process, or say why not. supervisor: the pid of who forked it.

    Whatever takes long here (a file server that hangs) may outlast the supervisor or the time rule: a child whose
    supervisor was killed dies with it, and the rule (may_begin) is asked once more as the last act before the exec.

    Of several users' jobs it becomes the owner before it does anything of the job (owner.py).
    """
    failure = Failure(attempt)
    others = may_raise()
    if others:
        from spoold.node import owner
    try:
        _leave_parent()
        log = (
            owner.turn(attempt, order, stage)
            if others
            else _open_log(order[f"{stage}_log"], bool(order.get("log_modes")))
        )
        os.dup2(log, 1)
        os.dup2(log, 2)
        if others:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # who becomes another user loses it
        try:
            order = owner.complete(attempt, order) if others else order
            _settle(order, stage)
            _check_variables(order[f"{stage}_env"])
        except (OSError, Unfit) as error:
            _give_up(failure, order, log, told(error))
        words = _bash(stage, order)
        if os.getppid() != supervisor or not may_begin():
            os._exit(KILLED)
        prctl(PR_SET_PDEATHSIG, 0)
        os.execve("/bin/bash", words, order[f"{stage}_env"])
    except BaseException as error:
        failure.say(f"node {order.get('node')}: {told(error)}")
    finally:
        os._exit(CANNOT_START)


def prctl(option: int, value: int | bytes) -> None:
    """prctl(2) with one argument."""
    _PRCTL(option, value, 0, 0, 0)


_PRCTL = ctypes.CDLL(None).prctl


class Failure:
    """The attempt's file `fail`. A child that becomes another user opens it before, and leaves it empty where all goes
    well: the runner takes an empty one for none."""

    def __init__(self, attempt: Attempt) -> None:
        self.path = attempt.file("fail")
        self.file = -1
        if may_raise():
            self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def say(self, reason: str) -> None:
        """Write down why the job could not begin."""
        if self.file < 0:
            write(self.path, {"reason": reason})
        else:
            os.write(self.file, json.dumps({"reason": reason}).encode())


def told(error: BaseException) -> str:
    """An error as a reason: what, and which path."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def reset_signals() -> None:
    """No signal blocked, none ignored, none handled: what a login would give."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if signal.getsignal(number) is not signal.SIG_DFL:  # what was ignored from the start it knows, too
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _leave_parent() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # all that a supervisor has set (supervisor.py); asking for each of
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the others costs a fresh fork half a millisecond of copied pages
    os.setsid()
    _be_killable()
    os.umask(0o022)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)


def _be_killable() -> None:
    """A daemon may be kept from the kernel's out-of-memory killer; its jobs may not."""
    if is_shielded():
        with suppress(OSError), raised(), open(SHIELD, "w", encoding="ascii") as file:
            file.write("0")


@functools.cache
def is_shielded() -> bool:
    """Whether the kernel's out-of-memory killer is kept from this process; so are those that it forks."""
    try:
        with raised(), open(SHIELD, encoding="ascii") as file:
            return int(file.read()) < 0
    except OSError:
        return False  # no such kernel


def _open_log(path: str, as_given: bool = False) -> int:
    """The log, in a directory of its own below logs/, which has to be there: else the spool is not mounted. No link
    is followed. as_given: what is made below logs/ has the mode with which it is made."""
    folder, name = os.path.split(path)
    if (log := _open_first_log(folder, path, as_given)) is not None:
        return log
    for directory in _made(folder):
        try:
            os.mkdir(directory, 0o750)
        except FileExistsError:
            pass
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    _give_mode(opened, 0o750)
    try:
        log = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o640, dir_fd=opened)
    except OSError as error:
        raise Unfit(f"{error.strerror}: {path}") from error
    _give_mode(log, 0o640)
    return log


def _open_first_log(folder: str, path: str, as_given: bool) -> int | None:
    """The log in a directory that this makes: it is ours then, and no link. None: all is to be looked at, since it is
    there already, or what is made below logs/ has not the mode and the group that are asked for."""
    if len(_made(folder)) > 1:
        return None
    try:
        os.mkdir(folder, 0o750)
        alone = os.O_EXCL if as_given else 0  # costs a file server a call
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | alone, 0o640)
    except (FileExistsError, PermissionError):
        return None
    if as_given:
        return log
    made = os.fstat(log)
    if stat.S_IMODE(made.st_mode) == 0o640 and made.st_gid == os.getegid():
        return log
    os.close(log)
    return None


def _give_mode(descriptor: int, mode: int) -> None:
    """The mode that it was to be made with, where the directory above or an earlier hand gave it another one."""
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:  # costs a file server a call less
        os.fchmod(descriptor, mode)


def _made(folder: str) -> list[str]:
    """logs/ID, and logs/ID/attempt-N below it."""
    return [folder] if os.path.basename(folder).isdigit() else [os.path.dirname(folder), folder]


def _settle(order: dict[str, Any], stage: str) -> None:
    """Working directory, mounts and clones. Any error here is a failed setup that names node and path."""
    first = stage == "setup" or "setup_log" not in order
    if order.get("git") and first:
        _clone(order["git"], order["workdir"], order[f"{stage}_env"])
    os.chdir(order["workdir"])
    for target, source in order.get("file_mounts", {}).items() if first else ():
        _mount(os.path.join(order["workdir"], target), os.path.join(order["workdir"], source))


def _mount(target: str, source: str) -> None:
    """A link at target, where nothing is yet. Other ranks may make the same one at the same time."""
    if os.path.lexists(target):
        return
    if not os.path.lexists(source):
        raise Unfit(f"file_mounts: there is no {source}")
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(source, target)
    except OSError as error:
        if not os.path.islink(target):
            raise Unfit(f"file_mounts: {target} cannot be made: {error.strerror}") from error


def _clone(git: dict[str, str], target: str, env: dict[str, str]) -> None:
    """git clone into a directory of its own; a clone that an earlier try left half done is not reused."""
    os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
    seen = gitlogin.hide(git["url"], git["login"])
    commands = [["git", "clone", "--quiet", *seen.options, seen.url, target]]
    if git.get("ref"):
        commands.append(["git", "-C", target, "checkout", "--quiet", git["ref"]])
    for words in commands:
        pid = os.posix_spawnp("git", words, {**env, "GIT_TERMINAL_PROMPT": "0"})
        if (code := exit_code(os.waitpid(pid, 0)[1])) != 0:
            gitlogin.forget(git["login"])
            raise Unfit(f"`git {words[1] if words[1] != '-C' else 'checkout'}` of {bare(git['url'])} ended with {code}")


def bare(url: str) -> str:
    """An address without a name and password in it: reasons are for everybody to read."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url)


def _check_variables(env: dict[str, str]) -> None:
    """execve(2) takes no string of more than 128 KiB, and says of none which one it was."""
    for name, value in env.items():
        if len(os.fsencode(name)) + len(os.fsencode(value)) + 2 > MAX_ARG_STRLEN:
            raise Unfit(f"variable {name} has more than {MAX_ARG_STRLEN} bytes, which no process can be given")


def _give_up(failure: Failure, order: dict[str, Any], log: int, reason: str) -> NoReturn:
    node = order.get("node", "?")
    os.write(log, f"skyspool: node {node}: {reason}\n".encode())
    failure.say(f"node {node}: {for_everybody(order, reason)}")
    os._exit(CANNOT_START)


def for_everybody(order: dict[str, Any], reason: str) -> str:
    """A reason without the values of the job's own variables, which are filled into its paths: its log tells them."""
    values = {name: order.get("run_env", {}).get(name, "") for name in order.get("own", ())}
    for name, value in sorted(values.items(), key=lambda item: -len(item[1])):
        if len(value) >= LEAST_HIDDEN:
            reason = reason.replace(value, f"${name}")
    return reason


def _bash(stage: str, order: dict[str, Any]) -> list[str]:
    """The words of bash. A login job's bash is interactive, as under SkyPilot, so that ~/.bashrc is read in full.

    Without a terminal such a bash says twice that it has no job control. It starts with its errors going nowhere; the
    first thing that its rc file does is to send them to the log again, where its output goes. (A further descriptor of
    the log would have to be closed, and for NFS each close is a flush.)

    It gets the commands in memory: a script that it cannot look at it takes for an empty one, which succeeds.
    """
    script = in_memory(as_bytes(order["scripts"][stage]))
    if order["shell"] == "plain":
        return ["bash", script]
    null = os.open("/dev/null", os.O_WRONLY)
    os.dup2(null, 2)
    return ["bash", "--rcfile", order.get("rcfile") or in_memory(as_bytes(RCFILE)), "-i", script]


def as_bytes(text: str) -> bytes:
    """What of a task is no UTF-8 is kept as it is."""
    return text.encode("utf-8", "surrogateescape")


def in_memory(text: bytes) -> str:
    """A path under which bash reads this text, which nobody else can have changed. The first thing that it does is to
    close the descriptor, which the job's processes would inherit; on the first line, so that lines count as they did.
    """
    file = os.memfd_create("job", 0)
    data = f"exec {file}<&-; ".encode() + text
    while data:
        data = data[os.write(file, data) :]
    return f"/proc/self/fd/{file}"


def exit_code(status: int) -> int:
    """The exit code of a wait status; 128 + N for signal N, as shells tell it."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
