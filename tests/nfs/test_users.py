"""Several users on one real NFS, where root of the clients is nobody (root_squash): head on a, node on b."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.history.account import what_counts
from tests.history.checker import History, faults, outcomes
from tests.nfs.bench import MOUNT, PROJECT, SERVER, Bench, Command, eventually

ACCOUNT, ALICE, BOB = 5000, 5001, 5002
NAMES = {ACCOUNT: "skyspool", ALICE: "alice", BOB: "bob"}
ROOT = f"{MOUNT}/shared"
PYTHON = "/tmp/python/bin/python"
VERSIONS = [
    pytest.param("4.2", marks=pytest.mark.xdist_group("users-4.2")),
    pytest.param("3", marks=pytest.mark.xdist_group("users-3")),
]
QUICK = "settle: 0.5s\nlock_heartbeat: 1s\nlock_threshold: 4s\nheartbeat: 1s\ngrace: 3s\nshell: plain\n"


FORBIDDEN = (
    ("ls", "pending"), ("ls", "requests"), ("touch", "logs/99"), ("touch", "ledger.json"), ("mkdir", "nodes/x"),
)  # fmt: skip


class Shared:
    """The spool and its daemons."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.daemons: list[Command] = []
        self.export("root_squash")
        self.root(SERVER, f"mkdir -m 755 {ROOT} && chown {ACCOUNT}:{ACCOUNT} {ROOT}")
        for machine in ("a", "b"):
            self.furnish(machine)
        self.says(ACCOUNT, "a", "init", ROOT, "--name", "shared", "--users", "multi")
        edit = f"sed -i '/^lock_/d; /^heartbeat/d' {ROOT}/spool.yaml; printf '{QUICK}' >>{ROOT}/spool.yaml"
        self.does(ACCOUNT, "a", edit)

    def export(self, squash: str) -> None:
        """Whom root of the clients is for the server."""
        options = f"rw,sync,{squash},no_subtree_check,fsid=0"
        self.root(SERVER, f"echo '{MOUNT} *({options})' >/etc/exports && exportfs -ra")

    def furnish(self, machine: str) -> None:
        """Users, their homes, and a Python that they may run: what runs the tests may be in root's home."""
        for uid, name in NAMES.items():
            home = f"/tmp/{name}"
            self.root(machine, f"echo '{name}:x:{uid}:{uid}::{home}:/bin/bash' >>/etc/passwd")
            self.root(machine, f"mkdir -m 700 {home} && chown {uid}:{uid} {home}")
        minor = sys.version_info.minor
        packages = f"/tmp/python/lib/python3.{minor}/site-packages"
        paths = f"{PROJECT}\\n{sysconfig.get_paths()['purelib']}\\n"
        self.root(machine, f"mkdir -p {packages} /tmp/python/bin && ln -s /usr/bin/python3.{minor} {PYTHON}")
        self.root(machine, f"printf 'home = /usr/bin\\n' >/tmp/python/pyvenv.cfg; printf '{paths}' >{packages}/x.pth")

    def root(self, machine: str, script: str) -> str:
        return self.bench.run(machine, "sh", "-ec", script)

    def does(self, uid: int, machine: str, script: str, check: int | None = 0) -> str:
        """A shell script as a user."""
        words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "sh", "-c", f"cd; {script}"]
        return self.bench.run(machine, *words, check=check, HOME=f"/tmp/{NAMES[uid]}", SKYSPOOL_DIR=ROOT)

    def says(self, uid: int, machine: str, *words: str, check: int | None = 0) -> str:
        """The client as a user, its errors too."""
        return self.does(uid, machine, f"{PYTHON} -m skyspool {shlex.join(words)} 2>&1", check)

    def doctor(self, uid: int) -> str:
        """What it says on b, runs of blanks made one."""
        words = [PYTHON, "-m", "skyspool", "doctor", ROOT]
        said = self.says(uid, "b", "doctor", ROOT, check=None) if uid else self.bench.run("b", *words, check=None)
        return re.sub(" +", " ", said)

    def history(self) -> History:
        """What was written down so far; the jobs here leave no proofs."""
        events, logs = (json.loads(self.bench.run(SERVER, "files", f"{ROOT}/{part}")) for part in ("events", "logs"))
        told = {int(Path(n).stem): t.encode(errors="surrogateescape") for n, t in events.items() if n[-6:] == ".jsonl"}
        return History(told, {}, logs, frozenset(r["name"] for r in what_counts(told)[0] if r["event"] == "accepted"))

    def is_over(self) -> bool:
        """Whether nothing waits or runs any more."""
        history = self.history()
        return sum(outcomes(history).values()) == sum(r["event"] == "accepted" for r in what_counts(history.events)[0])

    def start(self, machine: str, *words: str) -> None:
        """A daemon, by root."""
        command = [PYTHON, "-m", "spoold", words[0], ROOT, "--state", "/tmp/state", *words[1:]]
        self.daemons.append(self.bench.begin(machine, *command))

    def eventually(self, holds: object) -> None:
        eventually(holds, 60, lambda: "\n".join(d.out + d.err for d in self.daemons), 0.25)  # type: ignore[arg-type]

    def submit(self, uid: int, *words: str) -> str:
        """A job's ID: `exec` tells a handle where the head has not taken it within a second."""
        said = self.says(uid, "a", "exec", "-d", "--", *words)
        _, known, word = said.rpartition("Job submitted, ")
        assert known, said
        word = word.partition(": ")[2].strip()
        self.eventually(lambda: self.ident(uid, word))
        return self.ident(uid, word)

    def ident(self, uid: int, word: str) -> str:
        """The ID of what an ID or a handle means; "" while it has none."""
        found = re.search(r"^Job (\d+): ", self.says(uid, "a", "logs", "--status", word, check=None), re.MULTILINE)
        return found[1] if found else ""


@pytest.fixture(scope="module", params=VERSIONS)
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    """What happened on it is judged at its end."""
    if not os.path.exists(f"/usr/bin/python3.{sys.version_info.minor}"):
        pytest.skip("NOT TESTED: there is no Python of this version that the machines' users may run")
    with Bench.up(clients=("a", "b"), version=request.param) as bench:
        made = Shared(bench)
        made.start("a", "head")
        address = bench.address("b")
        made.start("b", "node", "--name", "b", "--gpus", "none", "--cpus", "8", "--memory", "8", "--address", address)
        made.eventually(lambda: "\n b " in made.says(ALICE, "a", "status", check=None))
        yield made
        made.eventually(made.is_over)
        assert faults(made.history()) == []
        for daemon in made.daemons:
            daemon.kill()


def test_root_is_nobody_there(shared: Shared) -> None:
    for machine in ("a", "b"):
        assert "denied" in shared.bench.run(machine, "sh", "-c", f"touch {ROOT}/x 2>&1", check=None)


def test_a_job_runs_as_its_owner_on_another_host_and_only_the_owner_reads_its_log(shared: Shared) -> None:
    ident = shared.submit(ALICE, "id -un; pwd; touch made; stat -c %u made")
    said = shared.says(ALICE, "a", "logs", ident, check=None)
    assert f"alice\n/tmp/alice\n{ALICE}\n" in said, (ident, said)
    refused = shared.says(BOB, "a", "logs", ident, check=1)
    assert "is alice's" in refused and "/tmp/alice" not in refused
    stood = shared.root(SERVER, f"stat -c '%u %g %a' {ROOT}/logs/{ident}/run.log {ROOT}/logs/{ident}")
    assert stood.split("\n")[:2] == [f"{ALICE} {ACCOUNT} 640", f"{ACCOUNT} {ACCOUNT} 755"]


def test_only_the_owner_cancels(shared: Shared) -> None:
    ident = shared.submit(BOB, "echo $$; exec sleep 300")
    shared.eventually(lambda: "RUNNING" in shared.says(BOB, "a", "logs", ident, "--status", check=None))
    assert "not your jobs" in shared.says(ALICE, "b", "cancel", ident, "-y", check=1)
    shared.says(BOB, "b", "cancel", ident, "-y")
    shared.eventually(lambda: "CANCELLED" in shared.says(BOB, "a", "logs", ident, "--status", check=None))
    assert shared.root("b", "pgrep -xc sleep || true").strip() == "0"


def test_a_file_that_is_moved_there_by_hand_runs_and_nobody_elses_is_touched(shared: Shared) -> None:
    made = f"umask 022; printf 'run: id -un\\n...\\n' >t.yaml; mv t.yaml {ROOT}/pending/by-hand.yaml"
    shared.does(ALICE, "a", made)
    shared.eventually(lambda: "by-hand" in shared.says(ALICE, "a", "queue", "-u"))
    tried = "; ".join(f"{word} {ROOT}/{place}" for word, place in FORBIDDEN)
    assert shared.does(BOB, "b", f"({tried}) 2>&1 | grep -c denied").strip() == "5"


def test_the_doctor_finds_owners_and_modes_right_and_says_whom_the_server_believes(shared: Shared) -> None:
    found = shared.doctor(ALICE)
    believed = "root of any host that mounts it can be any user (sec=sys)"
    assert f"\n fine users multi, as skyspool: modes and owners are right; {believed}\n" in found
    assert "\n fine owner files belong to who made them\n" in found


def test_the_doctor_says_to_root_what_root_is_to_the_server(shared: Shared) -> None:
    """Nobody, which suffices: then root sees not whose a user's files are. Or root, as who writes what it likes."""
    found = shared.doctor(0)
    seen = "a spool of several users allows for; whether files of users are theirs was not looked at"
    assert (
        f"\n left out owner root is uid 65534 there (root_squash), which {seen}. To do: run it as one of them" in found
    )
    assert " unsafe " not in found
    shared.export("no_root_squash")
    try:
        found = shared.doctor(0)
    finally:
        shared.export("root_squash")
    own = "files belong to who made them; root of any client may do all (no_root_squash)"
    assert f"\n fine owner {own}\n" in found
    assert " unsafe " not in found


def test_a_kernel_that_lets_users_link_what_is_not_theirs_is_unsafe_and_the_sysctl_is_told(shared: Shared) -> None:
    shared.root("b", "echo 0 >/proc/sys/fs/protected_hardlinks")
    try:
        found = shared.doctor(ALICE)
    finally:
        shared.root("b", "echo 1 >/proc/sys/fs/protected_hardlinks")
    told = "on this host anybody can link others' files, and submit them (fs.protected_hardlinks = 0)"
    assert f"\n unsafe users multi, as skyspool: {told}. To do: sysctl fs.protected_hardlinks=1\n" in found
