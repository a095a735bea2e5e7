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
from spoold.node.workplace import start_time
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

    def order(self, uid: int, file: str = "", digest: str = "", **more: object) -> Path:
        """An order for a job of a user, and the line for the starter. Its attempt's directory."""
        self.count += 1
        key = f"{self.count}.1"
        assignment = {
            "id": self.count, "attempt": 1, "want": "run", "file": file, "digest": digest or history.digest(TEXT),
            "name": "forged", "user": "x", "uid": uid, "rank": 0, "nodes": ["n1"], "addresses": ["127.0.0.1"],
            "gpus": [], "milli": 0, "cpus_milli": 500, "memory_mb": 0, "go": True,
        }  # fmt: skip
        host = {"node": "n1", "cluster": "c", "spool": "/evil", "spool_id": "s1", "indices": {}, "by_uuid": False}
        host |= {"wrappers": "/evil", "attempt_dir": "/evil"}
        order: dict[str, Any] = {
            "version": [1, 1], "lapses": json.loads((self.place / "renewed").read_text())["lapses"], "node": "n1",
            "spool_id": "s1", "shell": "plain", "rcfile": "/evil", "restartable": False, "uid": uid,
            "run_log": os.path.join(self.spool.spool.log_dir(self.count), "run.log"), "assignment": assignment,
            "host": host, "max_file": 1 << 20, **more,
        }  # fmt: skip
        evil = "echo evil; id -un\n"
        return self.write(key, {"run.sh": evil, "bashrc": evil, "order.json": json.dumps(order)}, key)

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
