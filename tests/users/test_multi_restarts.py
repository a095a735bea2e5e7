"""Several users' jobs while head and node come and go: each test has a spool of its own."""

from __future__ import annotations

import json
from pathlib import Path

from tests.users.shared import Shared, start


def test_a_job_outlives_the_node_and_a_starter_that_was_killed_comes_again(own: Shared) -> None:
    ident = start(own, own.accounts.alice, "sleep 300", "outlives")
    own.kill("n1")
    own.end_starters()
    own.node("n1", "H100:4", cpus=64)
    assert own.ended(own.submits(own.accounts.bob, "run: echo again\n")) == ["SUCCEEDED"]
    assert own.job(ident).status == "RUNNING"  # type: ignore[union-attr]
    own.says(own.accounts.alice, "cancel", str(ident))
    assert own.ended(ident) == ["CANCELLED"]
    own.ready()


def test_the_client_finds_its_own_file_where_it_may_list_nothing(own: Shared) -> None:
    alice = own.accounts.alice
    own.kill("head", 15)
    submitted = own.says(alice, "exec", "-d", "--no-wait", "--", "echo", "later")
    handle = submitted.stdout.split("handle: ")[1].strip()
    assert handle.split("@")[0] in own.says(alice, "why", handle, check=None).stdout
    assert own.says(alice, "cancel", handle).stdout == f"Cancelled before it was accepted: {handle}\n"
    again = own.says(alice, "exec", "-d", "--no-wait", "--", "echo", "later").stdout.split("handle: ")[1].strip()
    own.says(alice, "queue")
    own.head().ready()
    assert "later" in own.says(alice, "logs", again).stdout


def test_a_gang_of_several_users_starts_together_and_ends_together(own: Shared) -> None:
    own.node("n2", cpus=64).ready()
    alice = own.accounts.alice
    path = alice.home / "gang.yaml"
    path.write_text("num_nodes: 2\nsetup: echo ready\nrun: echo rank $SKYPILOT_NODE_RANK of $(id -un); sleep 300\n")
    ident = int(own.says(alice, "launch", "-d", str(path)).stdout.rpartition("ID: ")[2])
    own.runs(ident)
    logs = [Path(own.spool.log_dir(ident), f"{rank}-n{node}.log") for rank in (0, 1) for node in (1, 2)]
    own.eventually(lambda: sum(log.exists() and f"of {alice.name}" in log.read_text() for log in logs) == 2)
    own.says(alice, "cancel", str(ident))
    assert own.ended(ident) == ["CANCELLED"]


def test_containers_are_stopped_as_the_jobs_owner(own: Shared) -> None:
    """With what the engine needs of the job's variables, not with those that would make a shell run something; and the
    wrapper reads words as it always does."""
    hostile = {"IFS": "/:o ", "BASH_ENV": "/nowhere/evil.sh", "PYTHONPATH": "/nowhere/evil"}
    alice = own.accounts.alice
    engine = alice.home / "bin/docker"
    engine.parent.mkdir()
    engine.write_text('#!/bin/sh\necho "$(id -un) $1" >> ~/called; env > ~/env-$1\n')
    engine.chmod(0o755)
    commands = "PATH=$SKYSPOOL_WRAPPERS:~/bin:$PATH\n  docker run --rm busybox\n  sleep 300"
    ident = own.submits(alice, f"envs: {json.dumps(hostile)}\nrun: |\n  {commands}\n")
    own.runs(ident)
    called = alice.home / "called"
    own.eventually(called.exists)
    own.says(alice, "cancel", str(ident))
    assert own.ended(ident) == ["CANCELLED"]
    assert own.reason(ident) == f"cancelled by {alice.name}"
    assert {f"{alice.name} run", f"{alice.name} ps"} == set(called.read_text().splitlines())
    given = {word: (alice.home / f"env-{word}").read_text() for word in ("run", "ps")}
    assert {name for name in hostile if f"\n{name}=" in f"\n{given['run']}"} == set(hostile)
    assert {name for name in hostile if f"\n{name}=" in f"\n{given['ps']}"} == set()
