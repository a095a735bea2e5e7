"""What the spool's own account could make of root on a node, if it were taken over: orders that no runner writes.

The runner is stopped; in its place, and with its rights, a test writes what it likes into the node's local state.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spool_layout import history
from spool_layout.paths import Spool
from spoold.local import boot_id
from spoold.node.containment import stat_fields
from spoold.node.workplace import boot_time, start_time
from tests.users.accounts import Accounts
from tests.users.shared import Shared, shared
from tests.users.test_multi import below

TEXT = b"run: |\n  id -un; echo the accepted text\n...\n"
# Runs as the account. What it is told: the attempt's directory, its files, and the line to write.
WRITE = """
import json, os, sys
os.umask(0o022)
folder, files, orders, line = json.loads(sys.argv[1])
os.makedirs(folder, exist_ok=True)
os.chmod(folder, 0o771)
for name, text in files.items():
    open(os.path.join(folder, name), "w").write(text)
open(orders, "w").write(line)
"""


class Forger:
    """Writes with the account's rights."""

    def __init__(self, spool: Shared) -> None:
        self.spool, self.count = spool, 900
        (self.place,) = (spool.folder / "state").glob("*/node-n1")

    def folder(self, key: str) -> Path:
        return self.place / "attempts" / key

    def write(self, key: str, files: dict[str, str], line: str) -> Path:
        told = json.dumps([str(self.folder(key)), files, str(self.place / "orders"), f"{line}\n"])
        owner = self.spool.accounts.owner
        done = self.spool.does(owner, self.spool.accounts.python, "-c", WRITE, told)
        assert done.returncode == 0, done.stderr
        return self.folder(key)

    def order(
        self, uid: int, file: str = "", digest: str = "", scripts: tuple[str, ...] = ("run",), **more: object
    ) -> Path:
        """An order for a job of a user, and the line for the starter. Its attempt's directory.

        The time rule is kept as by the runner, however long a test takes.
        """
        self.count += 1
        renewed = self.place / "renewed"
        kept = json.loads(renewed.read_text()) | {"at": boot_time()}
        renewed.write_text(json.dumps(kept))
        key = f"{self.count}.1"
        assignment = {
            "id": self.count, "attempt": 1, "want": "run", "file": file, "digest": digest or history.digest(TEXT),
            "name": "forged", "user": "x", "uid": uid, "rank": 0, "nodes": ["n1"], "addresses": ["127.0.0.1"],
            "gpus": [], "milli": 0, "cpus_milli": 500, "memory_mb": 0, "go": True,
        }  # fmt: skip
        host = {"node": "n1", "cluster": "c", "spool": "/evil", "spool_id": "s1", "indices": {}, "by_uuid": False}
        host |= {"wrappers": "/evil", "attempt_dir": "/evil"}
        evil = "echo evil; id -un\n"
        order: dict[str, Any] = {
            "version": [1, 1], "lapses": kept["lapses"], "node": "n1",
            "spool_id": "s1", "shell": "plain", "rcfile": "/evil", "restartable": False, "uid": uid,
            "run_log": os.path.join(self.spool.spool.log_dir(self.count), "run.log"), "assignment": assignment,
            "host": host, "max_file": 1 << 20, "scripts": dict.fromkeys(scripts, evil), **more,
        }  # fmt: skip
        return self.write(key, {"bashrc": evil, "order.json": json.dumps(order)}, key)

    def said(self, attempt: Path) -> str:
        """Why an attempt could not begin; waits for its end."""
        exit_file = attempt / "run.exit"
        self.spool.eventually(exit_file.exists)
        text = (attempt / "fail").read_text()
        return str(json.loads(text)["reason"]) if text else ""


@pytest.fixture(scope="module")
def forger(people: Accounts) -> Iterator[Forger]:
    with shared(people) as spool:
        spool.head().node("n1", cpus=64).ready()
        assert spool.ended(spool.submits(people.alice, "run: 'true'\n")) == ["SUCCEEDED"]
        spool.kill("head", signal.SIGTERM)
        (runner,) = below(spool.processes["n1"].pid)
        os.kill(runner, signal.SIGSTOP)
        yield Forger(spool)
        os.kill(runner, signal.SIGCONT)


def put(spool: Spool, name: str, uid: int, text: bytes = TEXT) -> str:
    """A file of a user's in running/."""
    path = Path(spool.started(name))
    path.write_bytes(text)
    os.chown(path, uid, -1)
    path.chmod(0o640)
    return name


def test_nobody_becomes_root_a_system_account_or_the_spools_own(forger: Forger) -> None:
    own = forger.spool.accounts.owner.uid
    attempts = [forger.order(uid, put(forger.spool.spool, f"{uid}.x.yaml", uid)) for uid in (0, 2, 65534, own)]
    for attempt in attempts:
        assert "no job runs as user" in forger.said(attempt)
        assert not Path(forger.spool.spool.logs, attempt.name.partition(".")[0]).exists()


def test_only_the_owners_own_and_accepted_text_runs(forger: Forger) -> None:
    alice, bob = forger.spool.accounts.alice, forger.spool.accounts.bob
    spool = forger.spool.spool
    put(spool, "5.bobs.yaml", bob.uid)
    put(spool, "6.accounts.yaml", forger.spool.accounts.owner.uid)
    put(spool, "7.changed.yaml", alice.uid, TEXT + b"# more\n")
    put(spool, "8.alices.yaml", alice.uid)
    os.symlink(spool.started("8.alices.yaml"), spool.started("9.link.yaml"))
    reasons = {
        file: forger.said(forger.order(alice.uid, file))
        for file in ("5.bobs.yaml", "6.accounts.yaml", "7.changed.yaml", "9.link.yaml", "../running/8.alices.yaml")
    }
    assert "Permission denied" in reasons["5.bobs.yaml"] and "Permission denied" in reasons["6.accounts.yaml"]
    assert "changed after it was accepted" in reasons["7.changed.yaml"]
    assert "not a regular file" in reasons["9.link.yaml"] and "no name" in reasons["../running/8.alices.yaml"]
    Path(spool.started("5.bobs.yaml")).chmod(0o644)
    assert "somebody else's" in forger.said(forger.order(alice.uid, "5.bobs.yaml"))


@pytest.mark.parametrize("shell", ["plain", "login"])
def test_what_the_account_wrote_beside_an_order_is_not_run(forger: Forger, shell: str) -> None:
    alice = forger.spool.accounts.alice
    put(forger.spool.spool, "10.alices.yaml", alice.uid)
    attempt = forger.order(
        alice.uid,
        "10.alices.yaml",
        shell=shell,
        rcfile=str(forger.place / "attempts" / f"{forger.count + 1}.1" / "bashrc"),
        run_env={"PATH": "/evil"},
        workdir="/evil",
        scripts={"run": "echo evil"},
    )
    assert forger.said(attempt) == ""
    log = Path(forger.spool.spool.logs, attempt.name.partition(".")[0], "run.log")
    assert log.read_text() == f"{alice.name}\nthe accepted text\n"


def test_what_an_order_says_of_a_setup_or_a_clone_that_the_text_has_not_is_not_done(forger: Forger) -> None:
    """A variable of bash's would name a script to run; a login's place, a file of the owner's to write over."""
    alice = forger.spool.accounts.alice
    put(forger.spool.spool, "12.alices.yaml", alice.uid)
    evil, kept = forger.spool.folder / "evil.sh", alice.home / ".profile-kept"
    evil.write_text("echo evil; id -un\n")
    evil.chmod(0o755)
    kept.write_text("precious\n")
    os.chown(kept, alice.uid, alice.gid)
    log = os.path.join(forger.spool.spool.log_dir(forger.count + 1), "setup.log")
    setup = forger.order(
        alice.uid, "12.alices.yaml", scripts=("setup",), setup_env={"BASH_ENV": str(evil)}, setup_log=log
    )
    forger.spool.eventually((setup / "setup.exit").exists)
    assert (setup / "fail").read_text() and Path(log).read_text() == ""
    clone = forger.order(
        alice.uid, "12.alices.yaml", git={"url": "https://$(id):x@127.0.0.1:1/x", "login": str(kept)}, own=["x"]
    )
    assert forger.said(clone) == ""
    log = os.path.join(forger.spool.spool.log_dir(forger.count), "run.log")
    assert Path(log).read_text() == f"{alice.name}\nthe accepted text\n"
    assert kept.read_text() == "precious\n" and not Path(f"{kept}.password").exists()


def test_a_clone_goes_to_its_owners_home_whatever_an_order_calls_the_spool(forger: Forger) -> None:
    alice, place = forger.spool.accounts.alice, forger.spool.folder / "accounts-own"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    forger.spool.script(alice, "git init -q forged; cd forged; echo cloned > file; git add file")
    forger.spool.script(alice, "cd forged; git -c user.name=a -c user.email=a@b commit -qm first")
    text = f"workdir: {{url: 'file://{alice.home}/forged'}}\nrun: cat file; pwd\n".encode()
    put(forger.spool.spool, "13.alices.yaml", alice.uid, text)
    host = {"node": "n1", "cluster": "c", "spool": "/evil", "spool_id": str(place), "indices": {}, "by_uuid": False}
    host |= {"wrappers": "/evil", "attempt_dir": "/evil"}
    attempt = forger.order(alice.uid, "13.alices.yaml", history.digest(text), host=host)
    assert forger.said(attempt) == ""
    log = Path(forger.spool.spool.logs, attempt.name.partition(".")[0], "run.log")
    said, where = log.read_text().splitlines()
    assert said == "cloned" and where.startswith(f"{alice.home}/.skyspool/{forger.place.parent.name}/")
    assert list(place.iterdir()) == []


def test_nothing_is_signalled_on_the_accounts_word(forger: Forger) -> None:
    with subprocess.Popen(["sleep", "300"]) as roots:
        me = {"pid": roots.pid, "start": start_time(roots.pid), "boot": boot_id(), "at": 0.0}
        files = {"order.json": "{}", "marker": json.dumps({"by": "supervisor", **me}), "run.pid": json.dumps(me)}
        attempt = forger.write("800.1", files, "800.1 poke\n800.1 end 0")
        forger.spool.eventually((attempt / "gone").exists)
        assert roots.poll() is None and (stat_fields(roots.pid) or "Z")[0] == "S"
        roots.kill()


def test_container_engines_are_called_as_the_owner_by_the_owners_own_notes(forger: Forger) -> None:
    alice, called = forger.spool.accounts.alice, forger.spool.accounts.alice.home / "called"
    engine = forger.spool.folder / "engine.sh"
    engine.write_text(f"#!/bin/sh\nid -un >> {called}\n")
    engine.chmod(0o755)
    note = json.dumps({"engine": "docker", "path": str(engine), "flags": [], "cwd": "/", "env": {}})
    files = {"order.json": json.dumps({"uid": alice.uid}), "containers": f"{note}\n"}
    attempt = forger.write("801.1", files, "801.1 end 0")
    forger.spool.eventually((attempt / "swept").exists)
    assert "may still run" in (attempt / "swept").read_text()
    assert not called.exists()
    attempt = forger.write("802.1", files, "")
    os.chown(attempt / "containers", alice.uid, -1)  # as a job's wrapper writes it
    forger.write("803.1", {}, "802.1 end 0")
    forger.spool.eventually((attempt / "swept").exists)
    assert set(called.read_text().split()) == {alice.name}


def test_a_log_that_stands_there_is_not_written_to(forger: Forger) -> None:
    alice = forger.spool.accounts.alice
    put(forger.spool.spool, "11.alices.yaml", alice.uid)
    there = Path(forger.spool.spool.logs, str(forger.count + 1), "run.log")
    owner = forger.spool.accounts.owner
    forger.spool.does(owner, "sh", "-c", f"mkdir -p {there.parent}; ln -s /etc/hostname {there}")
    assert "is there already" in forger.said(forger.order(alice.uid, "11.alices.yaml"))


@pytest.mark.parametrize("whose", ["bob", "root", "alice"])
@pytest.mark.parametrize("again", [False, True], ids=["first attempt", "second attempt"])
def test_a_directory_of_logs_that_is_a_link_to_somebodys_is_not_written_to(
    forger: Forger, whose: str, again: bool
) -> None:
    """By nobody: not by root, not by whose the directory is, and not by the job's owner, who may write there."""
    spool, alice = forger.spool, forger.spool.accounts.alice
    put(spool.spool, "14.alices.yaml", alice.uid)
    there = spool.folder / f"{whose}s-{again}"
    there.mkdir()
    there.chmod(0o777)
    os.chown(there, {"bob": spool.accounts.bob.uid, "root": 0, "alice": alice.uid}[whose], -1)
    folder = Path(spool.spool.log_dir(forger.count + 1))
    spool.does(spool.accounts.owner, "ln", "-s", str(there), str(folder))
    log = folder / "attempt-2" / "run.log" if again else folder / "run.log"
    assert "is not a directory of the spool's own" in forger.said(
        forger.order(alice.uid, "14.alices.yaml", run_log=str(log))
    )
    assert list(there.iterdir()) == [] and folder.is_symlink()
