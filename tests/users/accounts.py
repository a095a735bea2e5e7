"""Real accounts, and a Python that they can run: two users, and the account that a spool belongs to.

useradd with names that no other run has; userdel afterwards. Needs root. alice is in a second group, and root's daemons
are in one that no user is in.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

NOT_TESTED = "NOT TESTED: several users need root and useradd"


class User(NamedTuple):
    """An account of this run."""

    name: str
    uid: int
    gid: int
    home: Path


class Accounts(NamedTuple):
    """alice and bob submit, the spool belongs to owner. python: an interpreter that all of them can run.

    lab: alice's second group; roots: one for root's daemons alone.
    """

    alice: User
    bob: User
    owner: User
    python: str
    folder: Path  # everybody may pass it; root's
    lab: int
    roots: int


@contextlib.contextmanager
def accounts() -> Iterator[Accounts]:
    """Three accounts, removed afterwards with everything that they own in the folder."""
    if os.getuid() != 0:
        pytest.skip(NOT_TESTED)
    if shutil.which("useradd") is None:
        pytest.skip(f"useradd is not installed: {NOT_TESTED}")
    folder = Path(tempfile.mkdtemp(prefix="skyusers-", dir="/tmp"))
    folder.chmod(0o755)
    made: list[str] = []
    groups: list[str] = []
    try:
        python = interpreter(folder)
        users = []
        for label, more in (("a", ["-m"]), ("b", ["-m"]), ("o", ["--system", "-M"])):
            name = f"sky{label}{os.urandom(4).hex()}"
            home = folder / "home" / name
            home.parent.mkdir(exist_ok=True)
            words = ["useradd", *more, "--user-group", "--shell", "/bin/bash", "-K", "HOME_MODE=0700", "-d", str(home)]
            with alone():
                subprocess.run([*words, name], check=True, capture_output=True)
            made.append(name)
            entry = pwd.getpwnam(name)
            users.append(User(name, entry.pw_uid, entry.pw_gid, home))
        for label, members in (("l", [users[0].name]), ("r", [])):
            name = f"sky{label}{os.urandom(4).hex()}"
            with alone():
                subprocess.run(["groupadd", name], check=True, capture_output=True)
                groups.append(name)
                for member in members:
                    subprocess.run(["usermod", "-aG", name, member], check=True, capture_output=True)
        for path in ("/etc/passwd", "/etc/group"):
            os.chmod(path, 0o644)  # as everywhere; some images keep them from all but root
        yield Accounts(*users, python, folder, *(grp.getgrnam(name).gr_gid for name in groups))
    finally:
        for name in made:
            with alone():
                subprocess.run(["userdel", "-f", name], capture_output=True)
        for name in groups:
            with alone():
                subprocess.run(["groupdel", name], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """While no other run of these tests changes /etc/passwd: useradd waits for nobody."""
    with open("/tmp/.skyspool-tests-accounts", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def interpreter(folder: Path) -> str:
    """A Python that everybody may run and that finds this project: our own, or one of the system's of this version."""
    base = Path(sysconfig.get_paths()["stdlib"])
    if all(parent.stat().st_mode & 0o005 == 0o005 for parent in base.parents):
        return sys.executable
    system = f"/usr/bin/python3.{sys.version_info.minor}"
    if not os.path.exists(system):
        pytest.skip(f"NOT TESTED: other users may not run {base}, and there is no {system}")
    return environment(folder / "python", system)


def environment(here: Path, program: str) -> str:
    """A virtual environment that finds this project, as small as can be. Its Python."""
    packages = here / f"lib/python3.{sys.version_info.minor}/site-packages"
    packages.mkdir(parents=True)
    (here / "bin").mkdir()
    (here / "bin/python").symlink_to(program)
    (here / "pyvenv.cfg").write_text(f"home = {Path(program).parent}\ninclude-system-site-packages = false\n")
    root = Path(__file__).parents[2]
    (packages / "project.pth").write_text(f"{root}\n{sysconfig.get_paths()['purelib']}\n")
    return str(here / "bin/python")
