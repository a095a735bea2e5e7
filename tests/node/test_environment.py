"""What a job finds in its environment, to the letter."""

from __future__ import annotations

import json

import pytest

from spool_layout.records import Assignment
from spool_layout.taskfile import TaskSpec, parse_task
from spoold.node.environment import Host, Owner, run_environment, setup_environment, visible, whole_gpus

OWNER = Owner(1000, "anna", "/home/anna", "/bin/zsh")
HOST = Host(
    node="n2",
    cluster="mycluster",
    spool="/shared/spool",
    spool_id="5p001",
    indices={"GPU-a": 0, "GPU-b": 1, "GPU-c": 2, "GPU-d": 3},
    by_uuid=False,
    wrappers="/opt/wrappers",
    attempt_dir="/var/lib/skyspool/5p001/node-n2/attempts/17.2",
)


def assignment(gpus: list[str], milli: int = 0, rank: int = 0, **more: object) -> Assignment:
    fields: dict[str, object] = {
        "id": 17,
        "attempt": 2,
        "want": "run",
        "file": "17.train.yaml",
        "digest": "",
        "name": "train",
        "user": "anna",
        "uid": 1000,
        "rank": rank,
        "nodes": ["n1", "n2"],
        "addresses": ["10.0.0.1", "10.0.0.2"],
        "gpus": gpus,
        "milli": milli,
        "cpus_milli": 500,
        "memory_mb": 0,
        "task_id": "sky-2026-01-02-03-04-05-678901_mycluster_17",
    }
    return Assignment(**{**fields, **more})  # type: ignore[arg-type]


def task(text: str = "") -> TaskSpec:
    return parse_task(f"{text}\nrun: echo\n".encode())


def run(text: str = "", gpus: list[str] | None = None, milli: int = 2000, rank: int = 1) -> dict[str, str]:
    """The environment of the run commands of a rank."""
    return run_environment(
        assignment(["GPU-b", "GPU-d"] if gpus is None else gpus, milli, rank), task(text), OWNER, HOST
    )


def test_everything_that_a_run_command_finds() -> None:
    assert run("envs: {LR: '0.1'}\nsecrets: {TOKEN: s3cret}") == {
        "HOME": "/home/anna",
        "USER": "anna",
        "LOGNAME": "anna",
        "SHELL": "/bin/zsh",
        "PATH": "/opt/wrappers:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "LR": "0.1",
        "TOKEN": "s3cret",
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NUM_GPUS_PER_NODE": "2",
        "SKYPILOT_TASK_ID": "sky-2026-01-02-03-04-05-678901_mycluster_17",
        "SKYPILOT_CLUSTER_INFO": '{"cluster_name": "mycluster", "cloud": "Skyspool", "region": null, "zone": null}',
        "SKYPILOT_USER": "anna",
        "SKYPILOT_INTERNAL_JOB_ID": "17",
        "CUDA_VISIBLE_DEVICES": "1,3",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "SKYSPOOL_ATTEMPT": "17.2",
        "SKYSPOOL_ATTEMPT_DIR": "/var/lib/skyspool/5p001/node-n2/attempts/17.2",
        "SKYSPOOL_JOB_ID": "17",
        "SKYSPOOL_SPOOL_ID": "5p001",
        "SKYSPOOL_DIR": "/shared/spool",
        "SKYSPOOL_GPU_UUIDS": "GPU-b,GPU-d",
        "SKYSPOOL_WRAPPERS": "/opt/wrappers",
    }


def test_setup_has_names_of_its_own_and_no_gpus_to_see() -> None:
    found = setup_environment(assignment(["GPU-b"], 1000, 1), task("setup: echo"), OWNER, HOST)
    assert found["SKYPILOT_SETUP_NODE_IPS"] == "10.0.0.1\n10.0.0.2"
    assert (found["SKYPILOT_SETUP_NODE_RANK"], found["SKYPILOT_SETUP_NUM_GPUS_PER_NODE"]) == ("1", "1")
    assert not found.keys() & {"CUDA_VISIBLE_DEVICES", "SKYPILOT_NODE_RANK", "SKYPILOT_NODE_IPS"}
    assert found["SKYSPOOL_ATTEMPT_DIR"] == HOST.attempt_dir  # leftovers of setup are found by it too


def test_nothing_of_the_daemons_own_environment_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the daemon's")
    monkeypatch.setenv("LD_PRELOAD", "/evil.so")
    assert not run().keys() & {"AWS_SECRET_ACCESS_KEY", "LD_PRELOAD"}


@pytest.mark.parametrize(
    "name", ["SKYPILOT_TASK_ID", "SKYPILOT_NODE_IPS", "SKYPILOT_NUM_NODES", "PATH", "HOME", "LANG"]
)
def test_what_a_task_may_set_itself(name: str) -> None:
    assert run(f"envs: {{{name}: mine}}")[name] == "mine"


@pytest.mark.parametrize(
    "name",
    [
        "SKYPILOT_NODE_RANK",
        "SKYPILOT_NUM_GPUS_PER_NODE",
        "SKYPILOT_CLUSTER_INFO",
        "SKYPILOT_INTERNAL_JOB_ID",
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "SKYSPOOL_ATTEMPT_DIR",
        "SKYSPOOL_GPU_UUIDS",
        "SKYSPOOL_SPOOL_ID",
    ],
)
def test_what_a_task_cannot_set_itself(name: str) -> None:
    assert run(f"envs: {{{name}: mine}}\nsecrets: {{{name}: mine}}")[name] != "mine"


def test_the_cluster_info_is_json_that_skypilots_users_can_read() -> None:
    assert json.loads(run()["SKYPILOT_CLUSTER_INFO"])["cluster_name"] == "mycluster"


@pytest.mark.parametrize(("milli", "count"), [(0, 0), (1, 1), (125, 1), (500, 1), (1000, 1), (1001, 2), (8000, 8)])
def test_a_share_counts_as_one_gpu(milli: int, count: int) -> None:
    assert whole_gpus(milli) == count
    assert run(milli=milli)["SKYPILOT_NUM_GPUS_PER_NODE"] == str(count)


@pytest.mark.parametrize(
    ("gpus", "shown"),
    [
        ([], ""),  # hides every GPU; an unset variable would show all
        (["GPU-c"], "2"),
        (["GPU-d", "GPU-a"], "3,0"),  # in the order in which they were granted
        (["GPU-a", "GPU-x"], "GPU-a,GPU-x"),  # one that has no index here would hide what follows it
        (["MIG-1"], "MIG-1"),
        (["GPU-a", "MIG-1"], "GPU-a,MIG-1"),
    ],
)
def test_which_gpus_cuda_is_shown(gpus: list[str], shown: str) -> None:
    assert visible(gpus, HOST) == shown
    assert run(gpus=gpus)["CUDA_VISIBLE_DEVICES"] == shown


def test_all_by_uuid_where_the_spool_says_so() -> None:
    assert visible(["GPU-b", "GPU-d"], HOST._replace(by_uuid=True)) == "GPU-b,GPU-d"


def test_values_arrive_as_they_were_written() -> None:
    found = run('envs: {LINES: "a\\nb\\n", QUOTES: "it\'s \\"so\\"", DOLLAR: "$HOME", EMPTY: "", WIDE: "ä€"}')
    assert [found[name] for name in ("LINES", "QUOTES", "DOLLAR", "EMPTY", "WIDE")] == [
        "a\nb\n",
        'it\'s "so"',
        "$HOME",
        "",
        "ä€",
    ]


def test_an_owner_without_a_shell_has_bash() -> None:
    assert run_environment(assignment([]), task(), OWNER._replace(shell=""), HOST)["SHELL"] == "/bin/bash"
