"""spool-submit.sh: a drop from a host without Python is as good as one of the client's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from skyspool.submission import token
from spool_layout import paths
from spool_layout.taskfile import is_complete
from tests.e2e.cluster import running

SCRIPT = Path(__file__).parents[2] / "contrib" / "spool-submit.sh"
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"], "ksh": ["ksh"]}
TASK = "run: echo hi\n...\n"


class Drop:
    """A spool's directory, and the script run on it by a shell."""

    def __init__(self, folder: Path, shell: str = "sh") -> None:
        self.root, self.shell = folder / "spool", SHELLS.get(shell, [shell])
        for name in ("tmp", "pending"):
            (self.root / name).mkdir(parents=True)
        (self.root / "spool.yaml").write_text(f"format: {paths.FORMAT}\nid: 0123\nname: c\n")
        self.task = folder / "train.yaml"
        self.task.write_text(TASK)
        self.tools = folder / "tools"
        self.tools.mkdir()

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run it; self.tools comes first on its PATH."""
        return subprocess.run(
            [*self.shell, str(SCRIPT), *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "PATH": f"{self.tools}:{os.environ['PATH']}"},
        )

    def submit(self, *words: str, stdin: str = "") -> Path:
        """Submit; the file in pending/, which the printed handle names."""
        ended = self.run(str(self.root), *(words or [str(self.task)]), stdin=stdin)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert self.left_in_tmp() == []
        return self.root / "pending" / f"{ended.stdout.removesuffix(chr(10))}.yaml"

    def left_in_tmp(self) -> list[str]:
        return os.listdir(self.root / "tmp")

    def pending(self) -> list[str]:
        return os.listdir(self.root / "pending")

    def tool(self, name: str, script: str) -> None:
        """Put a program of the test's own before the real one."""
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    return Drop(tmp_path)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_drop_is_named_marked_and_private_in_every_shell(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: NOT tested with it")
    drop = Drop(tmp_path, shell)
    if shell == "busybox":
        for tool in ("cat", "date", "mv", "sync"):
            (drop.tools / tool).symlink_to(str(shutil.which("busybox")))
    drop.task.write_text("run: echo hi\n")
    file = drop.submit()
    assert re.fullmatch(r"train@[0-9a-v]{14}\.yaml", file.name)
    assert paths.is_handle(file.stem)
    assert file.read_text() == TASK
    assert file.stat().st_mode & 0o7777 == 0o600


def test_names_sort_by_time_together_with_those_of_the_client(drop: Drop) -> None:
    names = []
    for _ in range(3):
        names += [f"train@{token()}.yaml", drop.submit().name]
        time.sleep(0.000002)
    assert names == sorted(names)


def test_two_drops_in_the_same_microsecond_have_different_names(drop: Drop) -> None:
    drop.tool("date", "echo 1700000000123456789")
    names = {drop.submit().name for _ in range(5)}
    assert len(names) == 5
    assert {name[: len("train@") + 11] for name in names} == {f"train@{token(1700000000.123456)[:11]}"}


@pytest.mark.parametrize("answer", ["1700000000N", "1700000000%N", "1700000000"])
def test_a_date_that_knows_seconds_only_is_enough(drop: Drop, answer: str) -> None:
    drop.tool("date", f"case $1 in *N) echo {answer} ;; *) echo 1700000000 ;; esac")
    assert drop.submit().name.startswith(f"train@{token(1700000000)[:11]}")


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("run: x\n...\n", "run: x\n...\n"),
        ("run: x\n...", "run: x\n...\n"),
        ("run: x\n", "run: x\n...\n"),
        ("run: x", "run: x\n...\n"),
        ("run: x...\n", "run: x...\n...\n"),
        ("run: x\n ...\n", "run: x\n ...\n...\n"),
        ("....\n", "....\n...\n"),
        ("x", "x\n...\n"),
        ("...", "...\n"),
    ],
)
def test_the_end_mark_is_added_where_it_is_missing(drop: Drop, text: str, dropped: str) -> None:
    drop.task.write_text(text)
    file = drop.submit()
    assert file.read_text() == dropped
    assert is_complete(file.read_bytes())


def test_standard_input_is_a_task(drop: Drop) -> None:
    assert drop.submit("-", stdin="run: x\n").read_text() == "run: x\n...\n"
    assert drop.submit("-", "mine", stdin="run: x\n").name.startswith("mine@")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("train", "train"),
        ("train.yaml", "train"),
        ("train.yml", "train"),
        ("4.train.FAILED.yaml", "train"),
        ("12.3.train", "train"),
        ("v1.2", "v1.2"),
        ("train@0123456789abcd", "train"),
        ("me@home", "me@home"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\nb\tc", "a_b_c"),
        ("#note", "note"),
        (".hidden", "hidden"),
        ("-n", "-n"),
        ("två sjö", "två sjö"),
        ("...", "job"),
        ("7.", "job"),
        ("*", "*"),
        ("a\\tb", "a\\tb"),
        ("x" * 300, "x" * 160),
    ],
)
def test_a_name_becomes_a_label_that_means_nothing_to_the_spool(drop: Drop, name: str, label: str) -> None:
    file = drop.submit(str(drop.task), name)
    assert file.name.rpartition("@")[0] == label
    assert drop.pending() == [file.name]
    assert paths.id_of(file.name) is None and not paths.is_passing(file.name)
    assert paths.label(file.name) == label


def test_the_text_is_durable_before_the_rename_and_the_name_after_it(drop: Drop, tmp_path: Path) -> None:
    drop.tool("sync", f'echo "$1 $(ls {drop.root}/pending | wc -l)" >>{tmp_path}/synced')
    file = drop.submit()
    assert (tmp_path / "synced").read_text().splitlines() == [
        f"{drop.root}/tmp/{file.name} 0",
        f"{drop.root}/pending 1",
    ]


def test_a_text_that_cannot_be_made_durable_is_not_submitted(drop: Drop) -> None:
    drop.tool("sync", "echo sync: error syncing: Input/output error >&2; exit 1")
    ended = drop.run(str(drop.root), str(drop.task))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "nothing was submitted" in ended.stderr and "Input/output error" in ended.stderr
    assert (drop.pending(), drop.left_in_tmp()) == ([], [])


def test_a_name_that_cannot_be_made_durable_has_a_code_of_its_own(drop: Drop) -> None:
    drop.tool("sync", "case $1 in */pending) exit 1 ;; esac")
    ended = drop.run(str(drop.root), str(drop.task))
    assert ended.returncode == 3
    assert drop.pending() == [f"{ended.stdout.strip()}.yaml"]
    assert "submitted, but" in ended.stderr


def test_a_rename_that_is_reported_as_failed_though_it_took_place_is_a_success(drop: Drop) -> None:
    drop.tool("mv", 'PATH=${PATH#*:}; mv "$@"; echo "mv: cannot stat: No such file or directory" >&2; exit 1')
    ended = drop.run(str(drop.root), str(drop.task))
    assert ended.returncode == 0
    assert drop.pending() == [f"{ended.stdout.strip()}.yaml"]


def test_a_rename_that_fails_submits_nothing(drop: Drop) -> None:
    drop.tool("mv", "echo mv: Disk quota exceeded >&2; exit 1")
    ended = drop.run(str(drop.root), str(drop.task))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "nothing was submitted" in ended.stderr
    assert (drop.pending(), drop.left_in_tmp()) == ([], [])


def test_a_disk_that_is_full_submits_nothing(drop: Drop) -> None:
    drop.task.write_text("run: echo " + "x" * 5000)  # of which 512 bytes find room: a write that is cut short, for real
    ended = subprocess.run(
        ["sh", "-c", 'trap "" XFSZ; ulimit -f 1; exec sh "$@"', "sh", str(SCRIPT), str(drop.root), str(drop.task)],
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "File too large" in ended.stderr and "nothing was submitted" in ended.stderr
    assert (drop.pending(), drop.left_in_tmp()) == ([], [])


def test_a_task_that_cannot_be_read_to_its_end_is_not_submitted(drop: Drop) -> None:
    drop.tool("cat", "printf 'run: ec'; echo cat: read error: Input/output error >&2; exit 1")
    ended = drop.run(str(drop.root), str(drop.task))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Input/output error" in ended.stderr and "could not be read" in ended.stderr
    assert (drop.pending(), drop.left_in_tmp()) == ([], [])


def test_interrupted_it_submits_nothing_and_leaves_nothing(drop: Drop) -> None:
    drop.tool("sync", "kill -TERM $PPID")
    ended = drop.run(str(drop.root), str(drop.task))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "interrupted" in ended.stderr
    assert (drop.pending(), drop.left_in_tmp()) == ([], [])


def test_a_large_task_is_submitted_whole(drop: Drop) -> None:
    text = "run: |\n" + "".join(f"  echo 'line {n} \\n % $HOME'\n" for n in range(30_000))
    drop.task.write_text(text)
    assert drop.submit().read_text() == text + "...\n"


def test_a_name_in_tmp_that_is_taken_is_not_overwritten(drop: Drop) -> None:
    drop.tool("date", "echo 1700000000123456789")
    outside = drop.root.parent / "victim"
    outside.write_text("mine")
    text = SCRIPT.read_text().replace('append "${chance:-$$}" 3', "append 0 3")
    fixed = drop.root.parent / "fixed.sh"
    fixed.write_text(text)
    name = f"train@{token(1700000000.123456)[:11]}000.yaml"
    (drop.root / "tmp" / name).symlink_to(outside)
    ended = subprocess.run(
        ["sh", str(fixed), str(drop.root), str(drop.task)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{drop.tools}:{os.environ['PATH']}"},
    )
    assert ended.returncode == 1
    assert outside.read_text() == "mine"
    assert (drop.pending(), drop.left_in_tmp()) == ([], [name])


def refusal(drop: Drop, *words: str, code: int = 1) -> str:
    ended = drop.run(*words)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert (drop.left_in_tmp() if (drop.root / "tmp").is_dir() else []) == []
    return ended.stderr


def test_what_cannot_be_submitted_is_told_with_a_hint(drop: Drop, tmp_path: Path) -> None:
    root, task = str(drop.root), str(drop.task)
    assert "usage: spool-submit.sh" in refusal(drop, code=2)
    assert "usage: spool-submit.sh" in refusal(drop, root, task, "name", "more", code=2)
    assert "nowhere holds no spool.yaml" in refusal(drop, str(tmp_path / "nowhere"), task)
    assert "no.yaml: no such file" in refusal(drop, root, str(tmp_path / "no.yaml"))
    assert "is a directory" in refusal(drop, root, str(tmp_path))
    drop.task.write_text("")
    assert "the task is empty" in refusal(drop, root, task)
    drop.task.write_text(TASK)
    (drop.root / "spool.yaml").write_text(f"name: c\nformat: {paths.FORMAT + 1}  # later\n")
    told = refusal(drop, root, task, code=78)
    assert f"has format {paths.FORMAT + 1}" in told and "hint: " in told
    (drop.root / "spool.yaml").write_text("format: 1\n")
    (drop.root / "pending").rmdir()
    told = refusal(drop, root, task)
    assert "pending is no directory" in told and "hint: " in told


def test_it_knows_the_format_that_this_program_writes() -> None:
    assert f"\nFORMAT={paths.FORMAT} " in SCRIPT.read_text()


def test_help_is_no_error(drop: Drop) -> None:
    ended = drop.run("--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "usage: spool-submit.sh DIR TASK.yaml [NAME]" in ended.stdout


def test_it_passes_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: spool-submit.sh is NOT checked by it")
    ended = subprocess.run(["shellcheck", "--shell=sh", str(SCRIPT)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout


def test_a_head_runs_what_it_drops(tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text(f"workdir: {tmp_path}\nrun: echo from the shell")
    with running(tmp_path) as cluster:
        cluster.head().node().ready()
        submitted = subprocess.run(
            ["sh", str(SCRIPT), cluster.spool.root, str(tmp_path / "hello.yaml")],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        cluster.eventually(lambda: cluster.job(1))
        assert cluster.ended(1) == ["SUCCEEDED"]
        job = cluster.job(1)
        assert job is not None and job.drop == f"{submitted.stdout.strip()}.yaml"
        assert cluster.log(1) == "from the shell\n"
