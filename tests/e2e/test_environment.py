"""What a job finds: its variables with SkyPilot's formats, its shell, its input; and nothing of the daemon's."""

from __future__ import annotations

import getpass
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, running
from tests.node.engines import LOGIN_PATH, WRAPPERS

# A job's variables, save ours (SKYSPOOL_*), which are told in spool(5).
LOGIN = {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "PYTHONUNBUFFERED"}
BASH = {"PWD", "SHLVL", "_", "OLDPWD"}
ALWAYS = {
    "SKYPILOT_NUM_NODES",
    "SKYPILOT_TASK_ID",
    "SKYPILOT_CLUSTER_INFO",
    "SKYPILOT_USER",
    "SKYPILOT_INTERNAL_JOB_ID",
}
RUN = {
    "SKYPILOT_NODE_RANK",
    "SKYPILOT_NODE_IPS",
    "SKYPILOT_NUM_GPUS_PER_NODE",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
}
SETUP = {"SKYPILOT_SETUP_NODE_RANK", "SKYPILOT_SETUP_NODE_IPS", "SKYPILOT_SETUP_NUM_GPUS_PER_NODE"}
DAEMONS_OWN = {"CUDA_VISIBLE_DEVICES": "7", "SKYPILOT_TASK_ID": "x", "FOREIGN": "1", "BASH_ENV": "/nowhere"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """`shell: plain`, four L4s, and daemons with variables that no job may see."""
    with running(tmp_path_factory.mktemp("plain")) as cluster, pytest.MonkeyPatch.context() as patch:
        cluster.owner_at_home()
        (cluster.home / ".bashrc").write_text("echo THE RC FILE WAS READ; export FROM_BASHRC=1\n")
        for name, value in DAEMONS_OWN.items():
            patch.setenv(name, value)
        yield cluster.head().node("n1", "L4:4").ready().warm()


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """`shell: login`, and an owner who uses something like conda."""
    with running(tmp_path_factory.mktemp("login"), shell="login") as cluster:
        cluster.owner_at_home()
        yield cluster.head().node("n1").ready().warm()


def shown(cluster: Cluster, ident: int, file: str = "run.log") -> dict[str, str]:
    """The variables that a job printed by `env -0`."""
    return dict(pair.split("=", 1) for pair in cluster.log(ident, file).split("\0") if pair)


def said(cluster: Cluster, text: str, end: str = "SUCCEEDED") -> str:
    """What a dropped task printed in its run commands."""
    ident = cluster.add("task.yaml", text)
    assert cluster.ended(ident) == [end], cluster.reason(ident)
    return cluster.log(ident)


# ---- variables


def test_a_job_sees_a_clean_login_environment_and_what_skypilot_gives(plain: Cluster) -> None:
    text = "name: train\nresources: {accelerators: L4:2}\nsetup: env -0\nrun: env -0\n...\n"
    ident = plain.add("env.yaml", text)
    assert plain.ended(ident) == ["SUCCEEDED"]
    run, setup = shown(plain, ident), shown(plain, ident, "setup.log")
    assert {name for name in run if not name.startswith("SKYSPOOL_")} - BASH == LOGIN | ALWAYS | RUN
    assert {name for name in setup if not name.startswith("SKYSPOOL_")} - BASH == LOGIN | ALWAYS | SETUP
    assert (run["HOME"], run["USER"], run["LOGNAME"]) == (str(plain.home), getpass.getuser(), getpass.getuser())
    assert (run["SHELL"], run["PYTHONUNBUFFERED"]) == ("/bin/bash", "1")
    assert run["PATH"].endswith("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")


def test_skypilots_variables_have_skypilots_formats(plain: Cluster) -> None:
    ident = plain.add("env.yaml", "resources: {accelerators: L4:2}\nsetup: env -0\nrun: env -0\n...\n")
    assert plain.ended(ident) == ["SUCCEEDED"]
    run, setup = shown(plain, ident), shown(plain, ident, "setup.log")
    assert (run["SKYPILOT_NODE_RANK"], run["SKYPILOT_NODE_IPS"]) == ("0", "127.0.0.1")
    assert (run["SKYPILOT_NUM_NODES"], run["SKYPILOT_NUM_GPUS_PER_NODE"]) == ("1", "2")
    assert (setup["SKYPILOT_SETUP_NODE_RANK"], setup["SKYPILOT_SETUP_NODE_IPS"]) == ("0", "127.0.0.1")
    assert (setup["SKYPILOT_NUM_NODES"], setup["SKYPILOT_SETUP_NUM_GPUS_PER_NODE"]) == ("1", "2")
    for seen in (run, setup):
        task = rf"sky-\d{{4}}-\d\d-\d\d-\d\d-\d\d-\d\d-\d{{6}}_mycluster_{ident}"
        assert re.fullmatch(task, seen["SKYPILOT_TASK_ID"])
        info = json.loads(seen["SKYPILOT_CLUSTER_INFO"])
        assert (info["cluster_name"], [*info]) == ("mycluster", ["cluster_name", "cloud", "region", "zone"])
        assert (seen["SKYPILOT_INTERNAL_JOB_ID"], seen["SKYPILOT_USER"]) == (str(ident), getpass.getuser())
    assert (run["CUDA_VISIBLE_DEVICES"], run["CUDA_DEVICE_ORDER"]) == ("0,1", "PCI_BUS_ID")


def test_a_cpu_job_sees_no_gpu_and_a_share_counts_as_one(plain: Cluster) -> None:
    show = 'run: echo "[${CUDA_VISIBLE_DEVICES-unset}] $SKYPILOT_NUM_GPUS_PER_NODE"\n...\n'
    assert said(plain, show) == "[] 0\n"
    assert said(plain, f"resources: {{accelerators: L4:0.5}}\n{show}") == "[0] 1\n"
    assert said(plain, f"resources: {{accelerators: L4}}\n{show}") == "[0] 1\n"


def test_which_of_skypilots_variables_a_task_may_set_itself(plain: Cluster) -> None:
    names = ["TASK_ID", "NODE_IPS", "NUM_NODES", "NODE_RANK", "NUM_GPUS_PER_NODE", "INTERNAL_JOB_ID", "USER"]
    envs = {f"SKYPILOT_{name}": "mine" for name in names} | {"CUDA_VISIBLE_DEVICES": "9"}
    seen = said(plain, f"envs: {json.dumps(envs)}\nrun: env -0\n...\n")
    kept = {pair.split("=")[0].removeprefix("SKYPILOT_") for pair in seen.split("\0") if pair.endswith("=mine")}
    assert kept == {"TASK_ID", "NODE_IPS", "NUM_NODES"}
    assert "CUDA_VISIBLE_DEVICES=\0" in seen


def test_values_from_file_and_command_line_arrive_whole(plain: Cluster) -> None:
    (plain.folder / "envs.yaml").write_text(
        "envs: {A: 1, B: true, C: from file, D: null}\nsecrets: {TOKEN: 'old'}\n"
        'setup: echo "setup $A $C"\nrun: printf \'%s|\' "$A" "$B" "$C" "$D" "$E" "$TOKEN" "$F"\n'
    )
    (plain.folder / "vars").write_text("export E='from env-file'\nC=lower\n# a comment\nF=\"two\\nlines\"\n")
    words = ["--env", "C=hello world", "--env", "D", "--env-file", "vars", "--secret", "TOKEN=$new 'quoted' ü"]
    env = {"D": "caller's"}
    assert "field" not in plain.sky("exec", "mycluster", "envs.yaml", "-d", check=1, env=env).stderr
    for verb in ("exec", "launch"):
        done = plain.sky(verb, "mycluster", "envs.yaml", *words, env=env)
        assert "1|True|hello world|caller's|from env-file|$new 'quoted' ü|two\nlines|" in done.stdout
        assert ("setup 1 hello world" in done.stdout) == (verb == "launch")
    dry = plain.sky("exec", "mycluster", "envs.yaml", *words, "--dryrun", env=env)
    assert "quoted" not in dry.stdout + dry.stderr
    assert "quoted" not in plain.sky("queue", "-o", "json").stdout


def test_a_variable_without_a_value_is_refused_with_what_to_type(plain: Cluster) -> None:
    (plain.folder / "null.yaml").write_text("envs:\n  HF_TOKEN:\nrun: true && echo hi\n")
    refused = plain.sky("exec", "mycluster", "null.yaml", check=1).stderr
    assert "null.yaml:2:3: envs.HF_TOKEN: has no value (give one: --env HF_TOKEN=…" in refused
    plain.drop("null.yaml", "envs:\n  HF_TOKEN:\nrun: echo hi\n...\n")
    reason = Path(plain.spool.rejected, "null.error")
    plain.eventually(lambda: reason.exists() and "HF_TOKEN" in reason.read_text())
    assert "envs.HF_TOKEN" in plain.sky("queue").stdout  # the line below the table
    assert plain.sky("exec", "mycluster", "null.yaml", "--env", "HF_TOKEN=x").stdout.endswith("hi\n")


def test_gpus_are_named_by_uuid_where_the_spool_says_so(tmp_path: Path) -> None:
    with running(tmp_path, gpu_ids="uuid") as cluster:
        cluster.head().node("n1", "H100:2").ready()
        seen = said(cluster, "resources: {accelerators: H100:2}\nrun: echo $CUDA_VISIBLE_DEVICES\n...\n")
        assert seen.split() == [",".join(slot.gpu.uuid for slot in cluster.state().nodes["n1"].gpus)]
        assert seen.startswith("GPU-")


# ---- the shell


def test_a_plain_shell_reads_no_rc_file_and_input_is_empty(plain: Cluster) -> None:
    run = "readlink /proc/self/fd/0; wc -c; umask; echo ${FROM_BASHRC-unset} ${FOREIGN-unset}; echo ${-//[^i]/}"
    assert said(plain, f"run: '{run}'\n...\n") == "/dev/null\n0\n0022\nunset unset\n\n"


def test_nothing_of_the_daemon_is_open_in_a_job(plain: Cluster) -> None:
    seen = said(plain, 'run: for fd in /proc/$$/fd/*; do readlink "$fd"; done; true\n...\n')  # no pipe of its own
    assert {path.rpartition("/")[2] for path in seen.splitlines()} == {"null", "run.log", "memfd:job (deleted)"}


@pytest.fixture(params=["plain", "login"])
def either(request: pytest.FixtureRequest, plain: Cluster, login: Cluster) -> Cluster:
    """Both shells, one after the other."""
    return {"plain": plain, "login": login}[request.param]


def test_the_exit_code_is_that_of_the_last_command(either: Cluster) -> None:
    cluster = either
    ends = {
        "false; true": 0,
        "true; false": 1,
        "exit 42": 42,
        "kill -9 $$": 137,
        "kill -SEGV $$": 139,
        "nosuchprogram": 127,
    }
    ids = [cluster.add(f"{code}.yaml", f"run: {command}\n...\n") for command, code in ends.items()]
    assert cluster.ended(*ids) == ["FAILED" if code else "SUCCEEDED" for code in ends.values()]
    assert [job.exit_codes for i in ids if (job := cluster.job(i))] == [[code] for code in ends.values()]
    crashed = cluster.sky("logs", str(ids[4]), check=100).stderr
    assert f"ERROR: Job {ids[4]} failed with return code list: [139] (likely due to Segmentation Fault)" in crashed


def test_a_login_shell_reads_bashrc_as_an_interactive_one_without_a_word_about_job_control(login: Cluster) -> None:
    (login.home / "env/bin").mkdir(parents=True)
    (login.home / "env/bin/tool").write_text("#!/bin/sh\necho tool of the environment\n")
    (login.home / "env/bin/tool").chmod(0o755)
    (login.home / ".bashrc").write_text(
        "case $- in *i*) ;; *) return;; esac\n"
        "echo to stderr >&2\n"
        "export PATH=$HOME/env/bin:$PATH\n"
        "alias greet='echo hello from an alias'\n"
        "conda() { echo conda $1 $2; export CONDA_DEFAULT_ENV=$2; }\n"
    )
    lines = [
        "conda activate torch",
        "echo $CONDA_DEFAULT_ENV",
        "tool",
        "greet",
        "readlink /proc/self/fd/0",
        "echo e >&2",
    ]
    seen = said(login, "run: |\n" + "".join(f"  {line}\n" for line in lines) + "...\n")
    assert seen.splitlines() == [
        "to stderr",
        "conda activate torch",
        "torch",
        "tool of the environment",
        "hello from an alias",
        "/dev/null",
        "e",
    ]


@pytest.mark.parametrize(
    ("bashrc", "rest"),
    [
        ("", LOGIN_PATH),
        ('PATH="$HOME/env/bin:$PATH:"', f"~/env/bin:{LOGIN_PATH}:"),
        ("PATH=/opt/bin:/usr/bin:/bin", "/opt/bin:/usr/bin:/bin"),
    ],
    ids=["untouched", "extended", "set anew"],
)
def test_the_container_wrappers_stand_once_and_first_on_the_path(login: Cluster, bashrc: str, rest: str) -> None:
    (login.home / ".bashrc").write_text(f"{bashrc}\n")
    wrappers, _, left = said(login, "run: echo $PATH\n...\n").rstrip("\n").partition(":")
    assert wrappers == str(WRAPPERS) and left == rest.replace("~", str(login.home))


def test_what_setup_exports_in_bashrc_is_visible_in_run(login: Cluster) -> None:
    (login.home / ".bashrc").write_text("")
    (login.folder / "env_check.yaml").write_text(
        "setup: |\n  echo 'export FROM_SETUP=works' >> ~/.bashrc\n  echo [${CUDA_VISIBLE_DEVICES-unset}]\n"
        "run: echo $FROM_SETUP\n"
    )
    told = login.sky("launch", "-c", "mycluster", "env_check.yaml").stdout
    assert re.search(r"^\(setup.*\) \[unset\]$", told, re.MULTILINE)
    assert told.endswith("works\n")
    (login.home / ".bashrc").write_text("")
    assert login.sky("exec", "mycluster", "env_check.yaml").stdout.endswith("\n\n")  # exec skips setup


def test_a_login_job_whose_home_is_empty_says_nothing_of_its_own(login: Cluster) -> None:
    (login.home / ".bashrc").unlink(missing_ok=True)
    before = sorted(os.listdir(login.home))
    assert said(login, "run: echo hi\n...\n") == "hi\n"
    assert sorted(os.listdir(login.home)) == before
    assert ".bash_history" not in before
