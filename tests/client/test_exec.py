from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from skyspool import task
from skyspool.task import emit
from spool_layout.paths import is_handle, without_ending
from spool_layout.states import Status
from spool_layout.taskfile import is_complete, parse_task
from tests.client.builders import Head, Scene
from tests.client.conftest import Run

TASK = """\
name: train
num_nodes: 2
resources:
  accelerators: H100:4
envs:
  LR: 1e-3
  SEED: 7
  TOKEN:
secrets:
  KEY: from the file
setup: |
  pip install torch
file_mounts:
  /data: ./data
run: |
  python train.py
"""


@pytest.fixture
def taskfile(home: Path) -> Path:
    path = home / "task.yaml"
    path.write_text(TASK)
    return path


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits a second for an ID that nobody gives."""
    monkeypatch.setattr("skyspool.submission.ID_PATIENCE", 0.1)
    monkeypatch.setattr("skyspool.accepting.PAUSE", 0.02)


def submitted(scene: Scene) -> dict[str, Any]:
    """What the only file in pending/ says."""
    [name] = scene.files("pending")
    text = Path(scene.spool.dropped(name)).read_bytes()
    assert is_complete(text)
    parse_task(text, require_absolute_workdir=True)  # the head would take it
    read: dict[str, Any] = yaml.safe_load(text)
    return read


# ---- what is submitted


def test_a_command_is_a_task_that_is_complete_in_itself(scene: Scene, sky: Run, home: Path) -> None:
    ran = sky("exec", "-d", "--", "python", "train.py", "--lr", "1e-3")
    [name] = scene.files("pending")
    path = Path(scene.spool.dropped(name))
    assert path.read_text() == f"name: sky-cmd\nrun: python train.py --lr 1e-3\nworkdir: {home}\n...\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert name.startswith("sky-cmd@") and is_handle(without_ending(name))
    assert (ran.code, ran.out) == (0, f"Job submitted, handle: {without_ending(name)}\n")
    assert scene.files("tmp") == []


def test_the_reference_texts_command_lines(scene: Scene, sky: Run, taskfile: Path) -> None:
    directory = scene.spool.root
    assert sky("exec", directory, "--gpus", "H100:0.5", "-d", "--", "python", "train.py", "--lr", "1e-3").code == 0
    assert submitted(scene)["resources"] == {"accelerators": "H100:0.5"}
    os.unlink(scene.spool.dropped(scene.files("pending")[0]))
    sky("exec", directory, "task.yaml", "-d", "-n", "job2", "--gpus=H100:1", "--env", "TOKEN=x")
    assert (submitted(scene)["name"], submitted(scene)["resources"]) == ("job2", {"accelerators": "H100:1"})


def test_options_stand_over_the_file(scene: Scene, sky: Run, taskfile: Path, home: Path) -> None:
    words = "--num-nodes 1 --gpus h100:8 --cpus 4+ --memory 16 --env TOKEN=t --secret KEY=k --workdir . -n mine"
    sky("exec", "task.yaml", "-d", *words.split())
    assert submitted(scene) == {
        "name": "mine",
        "num_nodes": 1,
        "resources": {"accelerators": "h100:8", "cpus": "4+", "memory": "16"},
        "envs": {"LR": "1e-3", "SEED": 7, "TOKEN": "t"},
        "secrets": {"KEY": "k"},
        "run": "python train.py\n",
        "workdir": str(home),
    }


def test_setup_and_file_mounts_are_left_out_and_that_is_told(scene: Scene, sky: Run, taskfile: Path) -> None:
    ran = sky("exec", "task.yaml", "-d", "--env", "TOKEN=x")
    assert not {"setup", "file_mounts"} & submitted(scene).keys()
    assert "note: skipped: setup and file_mounts, which only `skyspool launch` heeds\n" in ran.err


def test_a_task_is_named_in_its_file_by_an_option_or_after_its_file(scene: Scene, sky: Run, home: Path) -> None:
    (home / "nameless.yaml").write_text("run: hostname\n")
    with Head(scene):
        sky("exec", "nameless.yaml", "-d")
        sky("exec", "nameless.yaml", "-d", "-n", "better")
    assert [job.name for job in scene.state.known()] == ["nameless", "better"]


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ("none", {"cpus": 2, "any_of": [{"memory": 8}]}),
        ("A100", {"cpus": 2, "any_of": [{"memory": 8}], "accelerators": "A100"}),
    ],
)
def test_gpus_replace_what_the_file_asks_for_everywhere(
    scene: Scene, sky: Run, home: Path, asked: str, left: dict[str, Any]
) -> None:
    rows = [{"accelerators": "H100:8"}, {"gpus": "A100:8", "memory": 8}]
    (home / "task.yaml").write_text(yaml.safe_dump({"run": "x", "resources": {"cpus": 2, "any_of": rows}}))
    sky("exec", "task.yaml", "-d", "--gpus", asked)
    assert submitted(scene)["resources"] == left


@pytest.mark.parametrize(
    ("written", "meant"),
    [("code", "{home}/code"), ("~/code", "{home}/code"), ("/srv/$WHERE", "/srv/here"), (None, "{cwd}")],
)
def test_workdir_is_made_absolute_from_the_callers_directory(
    scene: Scene, sky: Run, home: Path, tmp_path: Path, written: str | None, meant: str
) -> None:
    path = tmp_path / "elsewhere.yaml"
    path.write_text(yaml.safe_dump({"run": "x", "workdir": written, "envs": {"WHERE": "here"}}))
    sky("exec", str(path), "-d")
    assert submitted(scene)["workdir"] == meant.format(home=home, cwd=os.getcwd())


def test_a_workdir_that_is_not_here_may_be_where_the_job_runs(scene: Scene, sky: Run, home: Path) -> None:
    (home / "task.yaml").write_text("run: x\nworkdir: /nowhere\n")
    ran = sky("exec", "task.yaml", "-d")
    assert ran.code == 0 and "note: /nowhere is not a directory here" in ran.err
    ran = sky("exec", "task.yaml", "-d", "--workdir", "/nowhere")
    assert (ran.code, ran.err) == (2, "error: --workdir /nowhere: there is no such directory\n")


def test_a_repository_to_clone(scene: Scene, sky: Run) -> None:
    sky("exec", "-d", "--git-url", "https://example.org/x.git", "--git-ref", "v1", "--", "make")
    assert submitted(scene)["workdir"] == {"url": "https://example.org/x.git", "ref": "v1"}
    assert sky("exec", "-d", "--git-url", "x", "--workdir", ".", "--", "make").code == 2
    assert sky("exec", "-d", "--git-ref", "v1", "--", "make").code == 2


@pytest.mark.parametrize(
    ("options", "envs", "secrets"),
    [
        ([], {"A": "yaml", "B": "yaml"}, {"S": "yaml", "T": "yaml"}),
        (["--env-file", "e"], {"A": "file", "B": "yaml", "N": "file"}, {"S": "file", "T": "yaml"}),
        (["--env-file", "e", "--env", "A=cli"], {"A": "cli", "B": "yaml", "N": "file"}, {"S": "file", "T": "yaml"}),
        (["--env-file", "e", "--secret-file", "s"], {"A": "file", "B": "yaml", "N": "file"}, {"S": "hid", "T": "hid"}),
        (["--secret-file", "s", "--secret", "S=cli"], {"A": "yaml", "B": "yaml"}, {"S": "cli", "T": "hid"}),
        (["--env", "HERE"], {"A": "yaml", "B": "yaml", "HERE": "from the caller"}, {"S": "yaml", "T": "yaml"}),
    ],
)
def test_who_wins_among_envs_and_secrets(
    scene: Scene,
    sky: Run,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    envs: dict[str, str],
    secrets: dict[str, str],
) -> None:
    monkeypatch.setenv("HERE", "from the caller")
    (home / "task.yaml").write_text("run: x\nenvs: {A: yaml, B: yaml}\nsecrets: {S: yaml, T: yaml}\n")
    (home / "e").write_text("A=file\nS=file\nN=file\n")
    (home / "s").write_text("S=hid\nT=hid\n")
    sky("exec", "task.yaml", "-d", *options)
    assert (submitted(scene)["envs"], submitted(scene)["secrets"]) == (envs, secrets)


def test_a_name_that_is_both_is_a_secret(scene: Scene, sky: Run) -> None:
    sky("exec", "-d", "--env", "K=open", "--secret", "K=hidden", "--", "env")
    spec = parse_task(Path(scene.spool.dropped(scene.files("pending")[0])).read_bytes())
    assert {**spec.envs, **spec.secrets}["K"] == "hidden"


def test_a_value_that_is_left_open_must_be_given(scene: Scene, sky: Run, taskfile: Path) -> None:
    ran = sky("exec", "task.yaml", "-d")
    assert ran.code == 1
    assert "task.yaml:8:3: envs.TOKEN: has no value (give one: --env TOKEN=" in ran.err
    assert ran.err.endswith("hint: skyspool lint task.yaml\n")
    assert scene.files("pending") == []


def test_dryrun_shows_the_task_and_no_secret(scene: Scene, sky: Run, taskfile: Path) -> None:
    ran = sky("exec", "task.yaml", "--dryrun", "--env", "TOKEN=x", "--secret", "MORE=s3cret")
    shown = yaml.safe_load(ran.out)
    assert shown["secrets"] == {"KEY": "<redacted>", "MORE": "<redacted>"}
    assert shown["run"] == "python train.py\n"
    assert "s3cret" not in ran.out + ran.err and "from the file" not in ran.out + ran.err
    assert scene.files("pending") == []


@given(st.dictionaries(st.sampled_from("ABC"), st.text().filter(lambda t: "\0" not in t)), st.text(min_size=1))
def test_what_is_written_reads_back_the_same(envs: dict[str, str], run: str) -> None:
    if "\0" in run:
        run = run.replace("\0", "")
    try:
        run.encode()
        "".join(envs.values()).encode()
    except UnicodeEncodeError:
        return
    spec = parse_task(emit({"run": run, "envs": envs}))
    assert (spec.run, spec.envs) == (run, envs)


def test_a_script_of_200_000_lines(scene: Scene, sky: Run, home: Path) -> None:
    script = "".join(f"echo {number}\n" for number in range(200_000))
    (home / "task.yaml").write_bytes(emit({"run": script}))
    assert sky("exec", "task.yaml", "-d").code == 0
    assert submitted(scene)["run"] == script


# ---- what the words mean


def test_what_the_words_mean(home: Path) -> None:
    (home / "task.yaml").write_text(TASK)
    (home / "noending").write_text(TASK)
    (home / "script.sh").write_text("#!/bin/sh\necho hi\n")
    (home / "program").write_bytes(bytes(range(256)) * 100)
    (home / "two words.yaml").write_text(TASK)

    def path(*words: str, quoted: bool = False) -> str:
        return task.entry(words, quoted).path

    assert path("task.yaml") == path("task.yaml", quoted=True) == "task.yaml"
    assert path("noending") == "noending"
    assert path("two", "words.yaml") == path("two words.yaml") == "two words.yaml"
    assert task.entry(("./script.sh",)).command == "./script.sh"
    assert task.entry(("./program",)).command == "./program"
    assert task.entry(("python", "train.py", "--config", "cfg.yaml")).command == "python train.py --config cfg.yaml"
    assert task.entry(("cfg.yaml",), quoted=True).command == "cfg.yaml"


def test_a_task_file_that_is_not_there(scene: Scene, sky: Run) -> None:
    ran = sky("exec", "nope.yaml", "-d")
    assert (ran.code, ran.err) == (
        2,
        "error: there is no task file nope.yaml\nhint: skyspool exec -- nope.yaml      # if it is a command\n",
    )
    sky("exec", "-d", "--", "nope.yaml")
    assert submitted(scene)["run"] == "nope.yaml"


@pytest.mark.parametrize(
    ("words", "told", "hint"),
    [
        (
            ["task.yaml", "mycluster", "-d", "--env", "A=b c"],
            "'task.yaml' was taken for the task, and 'mycluster' for more of it: the cluster comes first",
            "skyspool exec mycluster task.yaml -d --env 'A=b c'\n",
        ),
        (
            ["mycluster", "task.yaml", "more", "of it"],
            "'task.yaml' is a task file, and nothing can be done with what follows it: 'more', 'of it'",
            "skyspool exec mycluster task.yaml      # values for its envs: --env KEY=VALUE\n"
            "  or: skyspool exec mycluster -- task.yaml more 'of it'      # if it is a command\n",
        ),
        (
            ["task.yaml", "--", "more"],
            "'task.yaml' is a task file, and nothing can be done with what follows it: 'more'",
            "skyspool exec task.yaml      # values for its envs: --env KEY=VALUE\n"
            "  or: skyspool exec -- task.yaml more      # if it is a command\n",
        ),
        (["-c", "mycluster", "noending", "mycluster"], "'noending' is a task file, and", ""),
        (
            ["nope.yaml", "mycluster"],
            "there is no task file nope.yaml",
            "skyspool exec -- nope.yaml mycluster      # if it is a command\n",
        ),
    ],
)
def test_words_behind_a_task_file_are_an_error_and_not_a_command(
    scene: Scene, sky: Run, taskfile: Path, home: Path, words: list[str], told: str, hint: str
) -> None:
    (home / "noending").write_text("run: hostname\n")
    sky("use", scene.spool.root)
    ran = sky("exec", *words)
    assert ran.code == 2 and f"error: {told}" in ran.err
    assert hint in ran.err
    assert scene.files("pending") == []


def test_what_may_be_a_command_stays_one(scene: Scene, sky: Run, home: Path, taskfile: Path) -> None:
    (home / "run.yaml").write_text("#!/bin/sh\n")
    os.chmod(home / "run.yaml", 0o755)
    for words in (["--", "task.yaml", "more"], ["./run.yaml", "more"], ["cat", "task.yaml"], ["python", "a.yaml"]):
        ran = sky("exec", "-d", *words)
        assert ran.code == 0 and f"Command to run: {' '.join(words).removeprefix('-- ')}\n" in ran.err


@pytest.mark.parametrize("words", [["k12.sh"], ["--", "./k12.sh", "3"], ["k12.sh 3"]])
def test_a_script_that_bash_would_not_find_is_submitted_and_how_it_is_run_is_told(
    scene: Scene, sky: Run, home: Path, words: list[str]
) -> None:
    (home / "k12.sh").write_text("echo hi\n")
    ran = sky("exec", "-d", *words)
    command = " ".join(words).removeprefix("-- ")
    assert f"note: {command.split()[0]} is a file here, but no program that bash finds and may run\n" in ran.err
    assert f"hint: skyspool exec -- bash {command}      # runs it as a script\n" in ran.err
    assert submitted(scene)["run"] == command


@pytest.mark.parametrize("words", [["./k12.sh"], ["bash", "k12.sh"], ["--workdir", "/", "k12.sh"]])
def test_where_it_would_find_it_nothing_is_told(scene: Scene, sky: Run, home: Path, words: list[str]) -> None:
    (home / "k12.sh").write_text("echo hi\n")
    os.chmod(home / "k12.sh", 0o755)
    assert "is a file here" not in sky("exec", "-d", *words).err


def test_dash_c_takes_all_words_for_the_task(scene: Scene, sky: Run) -> None:
    sky("exec", "-c", scene.spool.root, "-d", "echo", "hi")
    assert submitted(scene)["run"] == "echo hi"


def test_nothing_to_run(scene: Scene, sky: Run, home: Path) -> None:
    ran = sky("exec", "-d")
    assert ran.code == 2 and "there is nothing to run" in ran.err
    (home / "empty.yaml").write_text("name: nothing\nsetup: echo\n")
    ran = sky("exec", "empty.yaml")
    assert (ran.code, ran.out) == (0, "")
    assert "the task has nothing to run; no job was made" in ran.err
    assert scene.files("pending") == []


@pytest.mark.parametrize("words", [("nope", "task.yaml"), ("nope", "--", "ls"), ("-c", "nope", "ls")])
def test_an_unknown_cluster_names_the_commands_that_make_one(
    scene: Scene, sky: Run, taskfile: Path, words: tuple[str, ...]
) -> None:
    ran = sky("exec", "-d", *words)
    assert ran.code == 1
    assert ran.err.startswith("error: no cluster is called 'nope'")
    assert "skyspool up " in ran.err and "skyspool init DIR --name NAME" in ran.err
    assert scene.files("pending") == []


def test_several_tasks_are_no_cluster_job(scene: Scene, sky: Run, home: Path) -> None:
    (home / "task.yaml").write_text("run: a\n---\nrun: b\n")
    ran = sky("exec", "task.yaml", "-d")
    assert ran.code == 1 and "several tasks" in ran.err


def test_options_of_clouds_are_taken_and_told_once(scene: Scene, sky: Run) -> None:
    ran = sky("exec", "-d", "--infra", "aws", "--use-spot", "-t", "p5", "--config", "x=1", "-y", "--", "ls")
    assert ran.code == 0
    assert (
        "note: ignored, since nothing is made in a cloud: --infra, --instance-type, --config, --use-spot\n" in ran.err
    )


@pytest.mark.parametrize("spelling", ["-d", "--detach-run", "--detach", "--async"])
def test_spellings_of_detach(scene: Scene, sky: Run, spelling: str) -> None:
    assert sky("exec", spelling, "--", "ls").out.startswith("Job submitted, handle: ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--gpus", "H100:1.5"], "resources.accelerators: "),
        (["--gpus", "H100:x"], "resources.accelerators: "),
        (["--cpus", "none of them"], "resources.cpus: "),
        (["-n", "a/b"], "name: "),
        (["--env", "1A=x"], "--env 1A=x: "),
        (["--env", "NOT_SET_HERE"], "--env NOT_SET_HERE: it is not set here"),
        (["--env-file", "nope"], "nope: No such file"),
        (["--num-nodes", "0"], "invalid value for '--num-nodes'"),
        (["--lr", "3"], "no such option '--lr'"),
    ],
)
def test_options_that_cannot_be(scene: Scene, sky: Run, words: list[str], told: str) -> None:
    ran = sky("exec", "-d", *words, "--", "ls")
    assert ran.code in (1, 2)
    assert told in ran.err.splitlines()[0]
    assert (ran.out, scene.files("pending")) == ("", [])


# ---- what could never be served


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["--gpus", "H100:8"], "1x[H100:8]"),
        (["--gpus", "A100:1"], "1x[A100:1]"),
        (["--gpus", "H100:4", "--num-nodes", "3"], "3x[H100:4]"),
        (["--cpus", "9"], "1x[CPU:9]"),
        (["--gpus", "H100", "--memory", "65"], "1x[H100:1, 65 GiB]"),
    ],
)
def test_what_the_known_nodes_could_never_serve_is_refused_at_once(
    scene: Scene, sky: Run, words: list[str], asked: str
) -> None:
    scene.node("n1", "H100:4")
    scene.node("n2", "H100:4", state="down")
    ran = sky("exec", "-d", *words, "--", "ls")
    assert ran.code == 1
    assert (
        f"error: mycluster could never serve this: it asks for {asked}, "
        "and there is: 2 nodes with H100:4, 8 CPUs, 64 GiB\n" in ran.err
    )
    assert "--wait" in ran.err.splitlines()[-1]
    assert scene.files("pending") == []
    assert sky("exec", "-d", *words, "--wait", "--", "ls").code == 0
    assert len(scene.files("pending")) == 1


def test_a_slip_in_an_accelerators_name_is_told(scene: Scene, sky: Run) -> None:
    ran = sky("exec", "-d", "--gpus", "H10O", "--", "ls")
    assert ran.code == 0 and "whether the job fits, the head will tell; did you mean H100?\n" in ran.err
    scene.node("n1", "MyGPU:4")
    assert "; did you mean MyGPU?\n" in sky("exec", "-d", "--gpus", "MyGPUs", "--", "ls").err
    assert "did you mean" not in sky("exec", "-d", "--gpus", "H100", "--", "ls").err


@pytest.mark.parametrize(("given", "told"), [("2", "such as H100:2"), ("0.5", "such as H100:0.5")])
def test_a_count_without_a_name_is_told_to_lack_it(scene: Scene, sky: Run, given: str, told: str) -> None:
    ran = sky("exec", "-d", "--gpus", given, "--", "ls")
    assert ran.code == 1
    assert f"'{given}' is a number, not the name of an accelerator (write the name too, {told})" in ran.err


def test_what_only_waits_is_taken(scene: Scene, sky: Run) -> None:
    scene.node("n1", "H100:4", state="down")
    scene.node("n2", "H100:4")
    scene.started("hog", "H100:4")
    assert sky("exec", "-d", "--gpus", "H100:4", "--num-nodes", "2", "--", "ls").code == 0


def test_where_no_node_is_known_the_head_will_tell(scene: Scene, sky: Run) -> None:
    assert "no node of mycluster is known yet" in sky("exec", "-d", "--gpus", "H100:8", "--", "ls").err


def test_submitting_needs_nothing_but_pending(scene: Scene, sky: Run) -> None:
    Path(scene.spool.ledger).write_text("{")
    ran = sky("exec", "-d", "--", "ls")
    assert ran.code == 0 and "the head will tell" in ran.err
    assert len(scene.files("pending")) == 1


# ---- the ID


def test_a_head_that_is_alive_gives_the_id(scene: Scene, sky: Run) -> None:
    with Head(scene):
        assert sky("exec", "-d", "--", "ls").out == "Job submitted, ID: 1\n"
        assert sky("exec", "-d", "--", "ls").out == "Job submitted, ID: 2\n"


def test_a_head_that_is_slow_is_waited_for_a_second_at_most(
    scene: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyspool.submission.ID_PATIENCE", 1.0)
    scene.head()
    began = time.monotonic()
    ran = sky("exec", "-d", "--", "ls")
    assert 1.0 <= time.monotonic() - began < 2.0
    assert ran.code == 0 and ran.out.startswith("Job submitted, handle: sky-cmd@")
    assert "no head has taken it yet" in ran.err


def test_a_head_that_has_to_look_by_itself_is_given_the_time_to(
    scene: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(scene.spool.settings, "a") as file:
        file.write("idle_poll: 400ms\n")
    monkeypatch.setattr("skyspool.submission.is_network", lambda path: path == scene.spool.root)
    scene.head()
    began = time.monotonic()
    assert sky("exec", "-d", "--", "ls").out.startswith("Job submitted, handle: sky-cmd@")
    assert time.monotonic() - began >= 0.5


def test_no_wait_does_not_wait(scene: Scene, sky: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyspool.submission.await_id", lambda *_: pytest.fail("waited"))
    scene.head()
    assert sky("exec", "-d", "--no-wait", "--", "ls").out.startswith("Job submitted, handle: sky-cmd@")


def test_without_a_head_it_is_submitted_and_told_since_when(scene: Scene, sky: Run) -> None:
    ran = sky("exec", "-d", "--", "ls")
    assert ran.code == 0 and len(scene.files("pending")) == 1
    assert "note: no head is alive on mycluster: the last sign of one was a few secs ago (" in ran.err
    assert f"hint: skyspool up {scene.spool.root}" in ran.err


def test_where_no_head_has_ever_run(sky: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sky("init", "spool")
    ran = sky("exec", "-d", "--", "ls")
    assert ran.code == 0 and "no head is alive on spool: none has run yet" in ran.err


def test_what_the_head_refuses_is_an_error(scene: Scene, sky: Run) -> None:
    with Head(scene, refuses="belongs to nobody"):
        ran = sky("exec", "-d", "--", "ls")
    assert (ran.code, ran.out) == (1, "")
    assert "error: the head refused it: belongs to nobody\n" in ran.err


# ---- attached


@pytest.mark.parametrize(
    ("status", "codes", "code"),
    [(Status.SUCCEEDED, (0,), 0), (Status.FAILED, (3,), 100), (Status.CANCELLED, (143,), 103)],
)
def test_attached_it_ends_as_the_job_ends(
    scene: Scene, sky: Run, status: Status, codes: tuple[int, ...], code: int
) -> None:
    scene.node("n1")
    with Head(scene, prints="hello\n", ends=status, codes=codes):
        ran = sky("exec", "--", "hostname")
    assert (ran.code, ran.out) == (code, "Job submitted, ID: 1\nhello\n")
    assert ran.err.endswith(f"Job finished (status: {status}).\n")


def test_attached_without_a_head_it_follows_when_one_comes(scene: Scene) -> None:
    scene.node("n1")
    started = subprocess.Popen(
        [sys.executable, "-m", "skyspool", "exec", "--", "hostname"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for_a_file(scene)
    head = Head(scene, prints="hello\n", ends=Status.SUCCEEDED)
    head.seen.clear()
    with head:
        out, err = started.communicate(timeout=10)
    assert started.returncode == 0
    assert out.decode().splitlines()[1:] == ["hello"]
    assert "Job submitted, ID: 1" in err.decode()


def wait_for_a_file(scene: Scene, seconds: float = 10) -> None:
    """Until something stands in pending/."""
    end = time.monotonic() + seconds
    while not scene.files("pending"):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_is_taken_back_before_it_is_accepted_ends_the_following(scene: Scene, sky: Run) -> None:
    started = subprocess.Popen(
        [sys.executable, "-m", "skyspool", "exec", "--", "hostname"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for_a_file(scene)
    assert sky("cancel", "sky-cmd").out.startswith("Cancelled before it was accepted: sky-cmd@")
    _, err = started.communicate(timeout=10)
    assert started.returncode == 103
    assert err.decode().endswith("was taken back before a head accepted it.\n")


@pytest.mark.parametrize("verb", ["exec", "launch"])
def test_attached_it_tells_what_the_job_waits_for(scene: Scene, verb: str) -> None:
    scene.node("n1", "H100:1")
    scene.started("hog", "H100:1", ago=60)
    with Head(scene):
        started = subprocess.Popen(
            [sys.executable, "-m", "skyspool", verb, "--gpus", "H100", "--", "hostname"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert started.stderr is not None
        told = next(line for line in started.stderr if line.startswith("job "))
        scene.ended(2, Status.CANCELLED)
        started.communicate(timeout=10)
    assert told == "job 2 waits for 1 H100 on one node: n1 has 0 free; job 1 holds 1 (RUNNING for 1 min)\n"
    assert started.returncode == 103


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(scene: Scene) -> None:
    scene.node("n1")
    with Head(scene, prints="hello\n"):
        started = subprocess.Popen(
            [sys.executable, "-m", "skyspool", "exec", "--", "hostname"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert started.stdout is not None
        assert [started.stdout.readline(), started.stdout.readline()] == [b"Job submitted, ID: 1\n", b"hello\n"]
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=10)
    assert started.returncode == 130
    assert err.decode().endswith(
        f"No longer following; the job goes on.\nhint: skyspool logs {scene.spool.root} 1      # follow it again\n"
        f"  or: skyspool cancel {scene.spool.root} 1\n"
    )
    assert scene.files("requests") == []
    assert scene.state.jobs[1].live


def test_a_killed_follower_does_no_harm(scene: Scene, sky: Run) -> None:
    scene.node("n1")
    before = scene.files(".")
    with Head(scene, prints="hello\n"):
        started = subprocess.Popen(
            [sys.executable, "-m", "skyspool", "exec", "--", "hostname"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert started.stdout is not None
        assert [started.stdout.readline(), started.stdout.readline()] == [b"Job submitted, ID: 1\n", b"hello\n"]
        started.kill()
        started.communicate()
    assert scene.files(".") == before
    assert (scene.files("requests"), scene.files("tmp")) == ([], [])
    assert sky("logs", "1", "--status").out == "Job 1: RUNNING\n"
