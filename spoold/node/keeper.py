"""`spoold node` of a spool of several users: what stays of root, and what does not.

Root starts it. It forks the runner, which becomes the spool's account for good, and stays behind itself as the keeper:
it passes on signals, ends with the runner and as that does, and starts a starter whenever the runner asks for one, with
the rights that a starter needs and the runner has not. It reads nothing of the spool but spool.yaml, and of the pipe
between them only that something came. Killed, it takes the runner with it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable

import click

from spool_layout.becoming import Account, become
from spool_layout.paths import Spool
from spool_layout.users import user_name
from spoold.account import WrongUser, account, lowered, must_be_readable
from spoold.local import make_base
from spoold.node import cgroups
from spoold.node.job import PR_SET_PDEATHSIG, exit_code
from spoold.node.spawning import open_log, run
from spoold.node.workplace import Workplace, start_time

log = logging.getLogger("spoold.node")

PAUSE = 0.5  # seconds between two starters at least
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def keep(spool: Spool, place: str, state: str | None, run: Callable[[int], int]) -> int:
    """Run the runner as the spool's account, and keep its starter. run: called with the pipe to us. The exit code."""
    wanted = account(spool)
    if os.geteuid() != 0:
        raise WrongUser(
            f"{spool.root} serves several users: its nodes start as root, and become who a job belongs to",
            f"sudo spoold node {shlex.quote(spool.root)}",
        )
    must_be_roots()
    with lowered(wanted):
        must_be_readable(user_name(wanted.uid))
    make_base(state, wanted)
    os.umask(0o022)
    cgroups.here()  # as root, for the runner, which tells of it: remembered in the fork
    asked, ask = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    keeper, pid = os.getpid(), os.fork()
    if pid == 0:
        os.close(asked)
        be_runner(wanted, keeper)
        return run(ask)
    os.close(ask)
    return Keeper(spool, Workplace(place, shared=True), wanted, pid, asked).run()


def be_runner(wanted: Account, keeper: int) -> None:
    """In the fork: the account from here on, for good; ended by the kernel when the keeper is."""
    become(wanted)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != keeper:
        os._exit(1)
    if not can_see(keeper):
        raise WrongUser(
            f"{user_name(wanted.uid)} cannot see others' processes in /proc (hidepid): jobs would be taken for dead",
            f"mount -o remount,hidepid=0 /proc      # or gid={wanted.gid}",
        )


def can_see(pid: int) -> bool:
    """Whether /proc shows somebody else's process to us."""
    try:
        return start_time(pid) is not None
    except PermissionError:
        return False


def must_be_roots() -> None:
    """WrongUser where somebody else could change what root is about to run."""
    modules = (os.__file__, __file__, click.__file__)
    for program in (sys.executable, *map(os.path.dirname, modules)):
        for path in {above for one in (program, os.path.realpath(program)) for above in _with_parents(one)}:
            info = os.stat(path)
            sticky = stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_ISVTX
            if info.st_uid != 0 or (info.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky):
                raise WrongUser(
                    f"{path} is not root's alone: who can change it would be root here",
                    "install skyspool as root, for instance with PREFIX=/usr/local",
                )


def _with_parents(path: str) -> list[str]:
    """A path and every directory above it."""
    found = [path]
    while (above := os.path.dirname(found[-1])) != found[-1]:
        found.append(above)
    return found


class Keeper:
    """What stays of root."""

    def __init__(self, spool: Spool, place: Workplace, wanted: Account, runner: int, asked: int) -> None:
        self.spool, self.place, self.account, self.runner, self.asked = spool, place, wanted, runner, asked

    def run(self) -> int:
        """Until the runner ends; its exit code."""
        for number in PASSED_ON:
            signal.signal(number, lambda number, _: self.pass_on(number))
        ended = os.pidfd_open(self.runner)
        poll = select.poll()
        poll.register(self.asked, select.POLLIN)
        poll.register(ended, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if ended in ready:
                return exit_code(os.waitpid(self.runner, 0)[1])
            if self.asked in ready:
                self.answer()

    def pass_on(self, number: int) -> None:
        """A signal that was meant for the runner."""
        try:
            os.kill(self.runner, number)
        except ProcessLookupError:
            pass

    def answer(self) -> None:
        """Start a starter. One that finds another alive ends by itself."""
        os.read(self.asked, 4096)
        words = (self.spool.root, str(self.account.uid), str(self.account.gid))
        try:
            with lowered(self.account):
                errors = open_log(self.place)
            with errors:
                run(self.place, errors, *words, isolated=True)
        except (OSError, subprocess.SubprocessError) as error:
            log.error("no starter can be started: %s", error)
        time.sleep(PAUSE)
