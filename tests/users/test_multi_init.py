"""Making a spool of several users, mending it, and starting what may not start."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from spool_layout import modes
from spool_layout.paths import Spool
from spoold.account import WrongUser
from spoold.node import keeper
from tests.users.accounts import Accounts, environment
from tests.users.shared import Shared, shared


@pytest.fixture
def made(people: Accounts, request: pytest.FixtureRequest) -> Iterator[Shared]:
    folder = people.folder / request.node.name[5:40]
    folder.mkdir(mode=0o755)
    with shared(people._replace(folder=folder)) as spool:
        yield spool


def standing(spool: Spool) -> dict[str, tuple[int, int]]:
    """Mode and owner of each directory."""
    found = {place: os.lstat(Path(spool.root, place)) for place in modes.wanted(spool, "multi")}
    return {place: (stat.S_IMODE(info.st_mode), info.st_uid) for place, info in found.items()}


def test_init_makes_modes_and_owners_right_and_a_second_one_mends_them(made: Shared) -> None:
    owner = made.accounts.owner.uid
    right = {place: (mode, owner) for place, mode in modes.wanted(made.spool, "multi").items()}
    assert standing(made.spool) == right
    assert os.lstat(made.spool.settings).st_uid == owner
    os.chmod(made.spool.requests, 0o777)
    Path(made.spool.new_logs).rmdir()
    assert "was there" in made.root_says("init", made.spool.root).stdout
    assert standing(made.spool) == right


def test_the_account_itself_makes_one_without_root(people: Accounts) -> None:
    folder = people.folder / "accounts"
    folder.mkdir(mode=0o755)
    os.chown(folder, people.owner.uid, people.owner.gid)
    words = [people.python, "-m", "skyspool", "init", str(folder / "spool"), "--users", "multi"]
    more = {"user": people.owner.uid, "group": people.owner.gid, "extra_groups": [people.owner.gid]}
    done = subprocess.run(words, capture_output=True, text=True, cwd="/", env={"HOME": str(folder)}, **more)  # type: ignore
    assert done.returncode == 0, done.stderr
    spool = Spool(folder / "spool")
    assert {owner for _, owner in standing(spool).values()} == {people.owner.uid}


def test_what_cannot_be_a_spool_of_several_users_is_refused(people: Accounts, tmp_path: Path) -> None:
    def refused(*words: str, user: int = 0) -> str:
        done = subprocess.run(
            [people.python, "-m", "skyspool", "init", *words],
            capture_output=True,
            text=True,
            user=user,
            env={"HOME": str(people.alice.home if user else tmp_path)},
            cwd="/",
        )
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stderr

    there = str(people.folder / "refused")
    assert "useradd --system" in refused(there, "--users", "multi", "--owner", "nobody-of-that-name")
    assert "cannot belong to root" in refused(there, "--users", "multi", "--owner", "root")
    assert "--owner is for spools of several users" in refused(there, "--owner", people.owner.name)
    assert "made by root, or by the account" in refused(
        str(people.alice.home / "s"), "--users", "multi", "--owner", people.owner.name, user=people.alice.uid
    )
    assert not Path(there).exists()


def test_daemons_refuse_a_spool_of_several_users_that_is_roots(made: Shared) -> None:
    os.chown(made.spool.root, 0, 0)
    told = " ".join(made.root_says("doctor", made.spool.root, check=1).stdout.split())
    assert " unsafe users multi, as root: it belongs to root, and no head or node starts; " in told
    for daemon in ("head", "node"):
        done = subprocess.run(made.spoold(daemon, "--once"), capture_output=True, text=True, timeout=60)
        assert done.returncode == 78 and "belongs to root" in done.stderr, done.stderr


def test_root_refuses_somebody_elses_spool_that_says_it_is_one_users(made: Shared) -> None:
    text = Path(made.spool.settings).read_text()
    Path(made.spool.settings).write_text(text.replace("users: multi", "users: single"))
    for daemon in ("head", "node", "fsck"):
        words = [made.accounts.python, "-m", "spoold", daemon, made.spool.root]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert done.returncode == 78 and "could make root run anything" in done.stderr, done.stderr


PROGRAMS = {
    "a user's program": ("program", "program", "owner"),
    "a program that a group may write": ("program", "program", 0o775),
    "a program that everybody may write": ("program", "program", 0o757),
    "in a user's directory": ("program", ".", "owner"),
    "in a directory that everybody may write": ("program", ".", 0o777),
    "below a user's directory": ("program", "..", "owner"),
    "a link to a user's program": ("linked", "far/program", "owner"),
    "a link to a program in a user's directory": ("linked", "far", "owner"),
    "a module in a user's directory": ("module.py", ".", "owner"),
    "a module below a directory that a group may write": ("module.py", "..", 0o775),
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_root_starts_no_node_from_what_somebody_else_could_change(
    what: str, people: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's alone is fine, also in /tmp, where everybody may write and nobody replaces what is another's."""
    place = Path(tempfile.mkdtemp(dir=people.folder)) / "bin"
    (place / "far").mkdir(parents=True)
    place.parent.chmod(0o755)
    for program in (place / "program", place / "far/program"):
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    (place / "linked").symlink_to("far/program")
    started, where, how = PROGRAMS[what]
    monkeypatch.setattr(*((click, "__file__") if started == "module.py" else (sys, "executable")), str(place / started))
    keeper.must_be_roots()
    if isinstance(how, int):
        (place / where).chmod(how)
    else:
        os.chown(place / where, people.alice.uid, -1)
    with pytest.raises(WrongUser, match=f"{re.escape(str(place.parent))}[a-z/]* is not root's alone"):
        keeper.must_be_roots()


def test_and_says_so(made: Shared) -> None:
    place = made.folder / "pythons"
    python = environment(place, os.path.realpath(made.accounts.python))
    node = [python, *made.spoold("node", "--once", "--gpus", "none")[1:]]
    assert subprocess.run(node, capture_output=True, text=True, timeout=60).returncode == 0
    os.chown(place / "bin", made.accounts.alice.uid, -1)
    done = subprocess.run(node, capture_output=True, text=True, timeout=60)
    assert done.returncode == 78 and f"{place}/bin is not root's alone" in done.stderr, done.stderr
    made.end_starters()


def test_a_node_refuses_a_proc_that_hides_jobs_from_its_runner(made: Shared) -> None:
    hides = ["unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh"]
    done = subprocess.run([*hides, *made.spoold("node", "--once")], capture_output=True, text=True, timeout=60)
    if "mount:" in done.stderr:
        pytest.skip("NOT TESTED: /proc cannot be mounted here")
    assert done.returncode == 78 and "hidepid" in done.stderr, done.stderr


def test_by_cron_alone(made: Shared) -> None:
    alice = made.accounts.alice
    handle = made.says(alice, "exec", "-d", "--no-wait", "--", "id", "-un").stdout.split("handle: ")[1].strip()
    assert handle
    for _ in range(6):
        for words in (("head",), ("node", "--name", "n1", "--gpus", "none", "--cpus", "4")):
            done = made.once(*words)
            assert done.returncode == 0, done.stderr
        if made.state().ended:
            break
    assert made.output(1) == f"{alice.name}\n"
    made.end_starters()


def test_repair_mends_modes_as_the_account(made: Shared) -> None:
    made.head().node("n1").ready()
    made.kill("head", 15)
    os.chmod(made.spool.claims, 0o755)
    Path(made.spool.new_logs).rmdir()
    words = [made.accounts.python, "-m", "spoold", "fsck", made.spool.root, "--repair"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert standing(made.spool)["claims"] == (0o700, made.accounts.owner.uid)
    assert standing(made.spool)["logs/.new"] == (modes.DROP, made.accounts.owner.uid)
    assert {entry.stat().st_uid for entry in os.scandir(made.spool.events)} == {made.accounts.owner.uid}
