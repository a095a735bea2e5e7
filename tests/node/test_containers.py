"""What runs of a job in docker and podman is stopped when the job is over, within bounds."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from spool_layout.settings import load
from spoold.node import containers
from spoold.node.containers import LABEL, NOTES, PATIENCE, Engine, Sweep, called, stop_all
from tests.e2e.cluster import Cluster, running
from tests.node.engines import IMAGE, LOGIN_PATH, WRAPPERS
from tests.node.engines import Engine as RealEngine

pytest_plugins = ["tests.node.engine_fixtures"]

OURS = f"{LABEL}=spool7/3.1"
LABELLED = ("--label", OURS)


def note(engine: RealEngine, folder: Path, *flags: str) -> None:
    """What the wrapper notes of a call."""
    noted = {"engine": engine.name, "path": engine.path, "flags": flags, "cwd": "", "env": environment(engine)}
    with (folder / NOTES).open("a") as file:
        file.write(json.dumps(noted) + "\n")


def environment(engine: RealEngine) -> dict[str, str]:
    return {"PATH": LOGIN_PATH, "HOME": "/nonexistent", **engine.env}


def sweep(folder: Path, grace: float = 0, patience: float = PATIENCE) -> bool:
    return stop_all("3.1", "spool7", grace, str(folder), patience)


def eventually(holds: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def state(engine: RealEngine, ident: str) -> str:
    return engine("inspect", "--format={{.State.Status}}", ident)


# ---- with the engines


def test_what_carries_the_label_is_stopped_and_nothing_else(engine: RealEngine, tmp_path: Path) -> None:
    note(engine, tmp_path)
    others = {engine.start("--label", "mine=1"), engine.start("--label", f"{OURS}0")}
    stubborn, removed = engine.start(*LABELLED), engine.start(*LABELLED, "--rm")
    made = engine("create", *LABELLED, IMAGE, "sleep", "1000")
    heeds = engine("run", "--detach", *LABELLED, IMAGE, "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.01; done")
    assert sweep(tmp_path, grace=1)
    assert set(engine.running()) == others
    code = engine("inspect", "--format={{.State.ExitCode}}", stubborn, heeds).split()
    assert code == ["137", "5"]
    eventually(lambda: removed not in engine("ps", "--all", "--quiet", "--no-trunc"))
    assert state(engine, made) == "created"


def test_a_paused_container_heeds_the_signal_too(engine: RealEngine, tmp_path: Path) -> None:
    note(engine, tmp_path)
    ident = engine("run", "--detach", *LABELLED, IMAGE, "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.01; done")
    engine("pause", ident)
    assert sweep(tmp_path, grace=5)
    assert engine("inspect", "--format={{.State.Status}} {{.State.ExitCode}}", ident) == "exited 5"


def test_docker_does_not_start_it_again(docker: RealEngine, tmp_path: Path) -> None:
    note(docker, tmp_path)
    always = docker.start(*LABELLED, "--restart=always")
    loops = docker("run", "--detach", *LABELLED, "--restart=on-failure", IMAGE, "sh", "-c", "exit 1")
    eventually(lambda: int(docker("inspect", "--format={{.RestartCount}}", loops)) > 1)
    assert sweep(tmp_path)
    assert docker("inspect", "--format={{.HostConfig.RestartPolicy.Name}}", always) == "no"
    assert docker.running() == []


def test_a_podman_container_whose_monitor_was_killed_is_stopped(podman: RealEngine, tmp_path: Path) -> None:
    note(podman, tmp_path)
    ident = podman.start(*LABELLED)
    monitor, pid = podman("inspect", "--format={{.State.ConmonPid}} {{.State.Pid}}", ident).split()
    os.kill(int(monitor), 9)
    assert sweep(tmp_path)
    assert not Path(f"/proc/{pid}/exe").exists()


def test_a_container_that_starts_after_a_look_at_it_is_stopped(
    engine: RealEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a `docker run` was cut between create and start, and its daemon goes on."""
    monkeypatch.setattr(containers, "SETTLE", 15.0)  # a start may take long on a busy machine
    note(engine, tmp_path)
    made = [engine("create", *LABELLED, IMAGE, "sleep", "1000") for _ in range(2)]
    looked = threading.Event()
    find = Sweep.find

    def look(sweep: Sweep) -> dict[str, containers.Container]:
        found = find(sweep)
        looked.set()
        return found

    def start() -> None:
        looked.wait(20)
        engine("start", *made)

    monkeypatch.setattr(Sweep, "find", look)
    late = threading.Thread(target=start)
    late.start()
    done = sweep(tmp_path)
    late.join()
    assert (done, engine.running()) == (True, [])
    assert {state(engine, ident) for ident in made} == {"exited"}


def test_an_engine_is_asked_as_the_job_called_it(docker: RealEngine, tmp_path: Path) -> None:
    """Through a flag that only the notes know, while the environment leads nowhere."""
    host = docker.env["DOCKER_HOST"]
    note(docker._replace(env={"DOCKER_HOST": "unix:///nonexistent"}), tmp_path, "--host", host)
    docker.start(*LABELLED)
    assert sweep(tmp_path)
    assert docker.running() == []


def test_without_notes_the_engines_of_this_process_are_asked(
    docker: RealEngine, podman: RealEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**docker.env, **podman.env}.items():
        monkeypatch.setenv(name, value)
    for engine in (docker, podman):
        engine.start(*LABELLED)
    assert stop_all("3.1", "spool7", 0)
    assert docker.running() == podman.running() == []
    (tmp_path / NOTES).write_text('{"engine": "docker", "pa')
    docker.start(*LABELLED)
    assert sweep(tmp_path)
    assert docker.running() == []


# ---- engines that fail


def stand_in(folder: Path, script: str) -> None:
    """A note that names a program of the test's as the engine."""
    path = folder / "engine"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    note(RealEngine("docker", str(path), {}), folder)


LISTS = 'case $1 in ps) echo c1;; inspect) echo "c1 running 1 no";; {} esac'


@pytest.mark.parametrize(
    "script",
    [
        "sleep 1000",
        LISTS.format("*) sleep 1000;;"),
        "sleep 1000 & sleep 1000",
        LISTS.format("*) :;;"),
        "echo; echo c1 c2",
    ],
    ids=["hangs", "hangs when it shall stop", "hangs with a child", "stops nothing", "talks nonsense"],
)
def test_an_engine_that_hangs_is_given_up(tmp_path: Path, script: str, caplog: pytest.LogCaptureFixture) -> None:
    stand_in(tmp_path, script)
    began = time.monotonic()
    assert not sweep(tmp_path, grace=0.2, patience=0.3)
    assert time.monotonic() - began < 6
    assert "is given up; containers labelled skyspool.attempt=spool7/3.1 may still run" in caplog.text


def test_a_hanging_engine_does_not_keep_the_other_from_being_swept(docker: RealEngine, tmp_path: Path) -> None:
    stand_in(tmp_path, "sleep 1000")
    note(docker, tmp_path)
    docker.start(*LABELLED)
    assert not sweep(tmp_path, patience=2)
    assert docker.running() == []


def test_an_engine_that_only_fails_is_given_up_early(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "RETRY", 0.1)
    stand_in(tmp_path, f"echo x >>{tmp_path}/calls; echo 'Is the docker daemon running?' >&2; exit 1")
    began = time.monotonic()
    assert not sweep(tmp_path, grace=20)
    assert time.monotonic() - began < 10
    assert (tmp_path / "calls").read_text() == "x\n" * 5
    assert "may still run: Is the docker daemon running?" in caplog.text


def test_an_engine_that_comes_back_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "RETRY", 0.1)
    stand_in(tmp_path, f"test -e {tmp_path}/up || {{ touch {tmp_path}/up; exit 1; }}")
    assert sweep(tmp_path)
    assert (tmp_path / "up").exists()


def test_an_engine_that_is_not_installed_has_no_containers(tmp_path: Path) -> None:
    note(RealEngine("docker", "/nonexistent/docker", {}), tmp_path)
    assert sweep(tmp_path)


def test_it_says_what_it_stops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    listing = 'case $1 in ps) test -e stopped || echo 0123456789abcdef;; inspect) echo "0123456789abcdef running 1 ";;'
    stand_in(tmp_path, f"cd {tmp_path}; {listing} stop) echo $* >stopped;; esac")
    assert sweep(tmp_path, grace=7)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/engine: stops 0123456789ab, labelled {OURS}"
    ]
    assert (tmp_path / "stopped").read_text() == "stop -t 6 0123456789abcdef\n"


def test_notes_may_hold_anything(tmp_path: Path) -> None:
    lines: Sequence[object] = [
        {"engine": "docker", "path": "/d", "flags": ["a\nb"], "cwd": "", "env": {"X": "\x01"}},
        {"engine": "docker", "path": "/d", "flags": ["a\nb"], "cwd": "", "env": {"X": "\x01"}},
        {"engine": "docker", "path": ["/d"]},
        [1],
        {"env": 3},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (tmp_path / NOTES).write_bytes(text.encode() + b"\n\xff\x00{\n")
    found = called(str(tmp_path))
    assert found[0] == Engine("docker", "/d", ("a\nb",), "", (("X", "\x01"),))
    assert [engine.path for engine in found].count("/d") == 1


# ---- with head and node


@pytest.fixture
def cluster(tmp_path: Path, engine: RealEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A node with two GPUs whose jobs find the engine's containers by their environment."""
    for name, value in engine.env.items():
        monkeypatch.setenv(name, value)
    with running(tmp_path) as made:
        yield made.head().node("n1", "H100:2").ready()


def add(cluster: Cluster, engine: RealEngine, then: str) -> int:
    """A job that starts a container which would outlive it by far; its ID, when the container runs."""
    lines = [f"command -v {engine.name}", f"{engine.name} run --detach {IMAGE} sleep 1000", "echo it runs", then]
    script = "".join(f"\n  {line}" for line in lines)
    text = f"resources: {{accelerators: H100:1}}\nenvs: {json.dumps(dict(engine.env))}\nrun: |{script}\n...\n"
    return cluster.add(f"{engine.name}.yaml", text)


def of_job(cluster: Cluster, engine: RealEngine, ident: int) -> list[str]:
    spool_id = load(cluster.spool, cluster.disk).id
    return engine.running(f"label={LABEL}={spool_id}/{ident}.1")


def test_containers_end_with_their_job_and_then_its_slot_is_free(cluster: Cluster, engine: RealEngine) -> None:
    others = [engine.start()]
    gate = cluster.gate()
    ends, cancelled = add(cluster, engine, str(gate)), add(cluster, engine, "sleep 1000")
    cluster.runs(ends, cancelled)
    cluster.eventually(lambda: of_job(cluster, engine, ends) and of_job(cluster, engine, cancelled))
    assert cluster.log(ends).startswith(f"{WRAPPERS / engine.name}\n")
    gate.open()
    Path(cluster.spool.tmp, "request").write_text(f"cancel: {cancelled}\n...\n")
    Path(cluster.spool.tmp, "request").rename(Path(cluster.spool.requests, "cancel.yaml"))
    for ident, status in ((ends, "SUCCEEDED"), (cancelled, "CANCELLED")):
        cluster.eventually(lambda ident=ident: holds_nothing(cluster, ident))  # type: ignore[misc]
        assert of_job(cluster, engine, ident) == []  # its sleep does not heed SIGTERM: it would run for a while yet
        assert cluster.ended(ident) == [status]
    assert engine.running() == others
    cluster.sound()


def holds_nothing(cluster: Cluster, ident: int) -> bool:
    return not any(f"{ident}.1" in gpu.holders for gpu in cluster.state().nodes["n1"].gpus)
