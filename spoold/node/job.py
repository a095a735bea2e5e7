"""In the forked child: turning into the job's process, or saying why not.

Everything here may touch the spool and hang with it; the supervisor waits for this process as for any job. What goes
wrong before the commands begin is a failed setup: the reason, with node and path, stands in the log and in the
attempt's file `fail`.
"""

from __future__ import annotations

import os
import signal
from typing import Any, NoReturn

from spoold.node.workplace import Attempt, write

CANNOT_START = 70  # EX_SOFTWARE: what a child ends with that could not become the job


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


def reset_signals() -> None:
    """No signal blocked, none ignored, none handled: what a login would give."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except OSError:
            pass  # the C library keeps two for itself
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _leave_parent() -> None:
    reset_signals()
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
    os.chdir(order["workdir"])
    for target, source in order.get("file_mounts", {}).items() if first else ():
        _mount(os.path.join(order["workdir"], target), os.path.join(order["workdir"], source))


def _mount(target: str, source: str) -> None:
    """A link at target, where nothing is yet. Other ranks may make the same one at the same time."""
    if os.path.lexists(target):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.symlink(source, target)
    except FileExistsError:
        pass


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
# does not inherit the trap, and waits are cut by the same signal, which goes to every process of the job. It would also
# write ~/.bash_history at its end. A ~/.bashrc that sets PATH anew must not take the container wrappers from the front.
RCFILE = """exec 2>&9 9>&-
trap 'exit 143' TERM
if [ -f ~/.bashrc ]; then . ~/.bashrc; fi
unset HISTFILE
case ${SKYSPOOL_WRAPPERS-} in ?*) PATH=$SKYSPOOL_WRAPPERS:$PATH ;; esac
"""


def exit_code(status: int) -> int:
    """The exit code of a wait status; 128 + N for signal N, as shells tell it."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
