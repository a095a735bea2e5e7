"""Where a job runs: directories in place, clones, links; and which of setup and run a way of submitting runs."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node; the owner's home is the test's own."""
    with running(tmp_path_factory.mktemp("workdir")) as cluster:
        cluster.owner_at_home()
        yield cluster.head().node("n1").ready().warm()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository: `two` on main, `one` at the tag v1, `side` on branch side."""
    place = tmp_path_factory.mktemp("git") / "repo"
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]

    def git(*words: str) -> None:
        subprocess.run(["git", *author, "-C", str(place), *words], check=True, capture_output=True)

    place.mkdir()
    git("init", "--quiet", "--initial-branch=main")
    for text, tag in (("one", "v1"), ("two", "v2")):
        (place / "file").write_text(f"{text}\n")
        git("add", "file")
        git("commit", "--quiet", "-m", text)
        git("tag", tag)
    git("checkout", "--quiet", "-b", "side", "v1")
    (place / "file").write_text("side\n")
    git("commit", "--quiet", "-am", "side")
    git("checkout", "--quiet", "main")
    return place


def printed(cluster: Cluster, text: str) -> str:
    """What the run commands of a dropped task print."""
    ident = cluster.add("task.yaml", text)
    assert cluster.ended(ident) == ["SUCCEEDED"], cluster.reason(ident)
    return cluster.log(ident)


# ---- in place


def test_a_dropped_task_runs_in_its_absolute_directory_or_the_owners_home(shared: Cluster) -> None:
    place = shared.home / "project"
    place.mkdir()
    assert printed(shared, f"workdir: {place}\nrun: pwd; touch made\n...\n") == f"{place}\n"
    assert printed(shared, "workdir: ~/project\nrun: pwd; ls\n...\n") == f"{place}\nmade\n"
    assert printed(shared, "workdir: ~\nrun: pwd\n...\n") == f"{shared.home}\n"
    assert printed(shared, "run: pwd\n...\n") == f"{shared.home}\n"
    assert printed(shared, f"envs: {{P: project}}\nworkdir: {shared.home}/$P\nrun: pwd\n...\n") == f"{place}\n"


def test_a_relative_directory_in_a_dropped_file_is_rejected_with_that_reason(shared: Cluster) -> None:
    shared.drop("relative.yaml", "workdir: project\nrun: pwd\n...\n")
    reason = Path(shared.spool.rejected, "relative.error")
    shared.eventually(reason.exists)
    assert "workdir: 'project' must be absolute" in reason.read_text()


def test_the_client_writes_its_own_directory_or_makes_a_relative_one_absolute(shared: Cluster) -> None:
    place = shared.folder / "caller/inner"
    place.mkdir(parents=True)
    (place.parent / "task.yaml").write_text("workdir: inner\nrun: pwd\n")
    cases = [
        (("--", "pwd"), place.parent),
        (("--workdir", "inner", "--", "pwd"), place),
        (("task.yaml",), place),
        (("--workdir", ".", "task.yaml"), place.parent),
        (("--workdir", "~", "--", "pwd"), shared.home),
    ]
    for words, where in cases:
        assert shared.sky("exec", "mycluster", *words, cwd=place.parent).stdout.splitlines()[-1] == str(where)
    shared.sky("exec", "--workdir", "nowhere", "--", "pwd", cwd=place, check=2)
    relative = shared.sky(
        "exec", "mycluster", "../task.yaml", "-d", cwd=place
    )  # relative to the caller, not to the file
    assert f"{place}/inner is not a directory here" in relative.stderr


def test_a_directory_that_the_node_does_not_see_fails_setup_naming_node_and_path(shared: Cluster) -> None:
    (shared.folder / "file").write_text("")
    for path, why in (("/nowhere/at/all", "No such file or directory"), (f"{shared.folder}/file", "Not a directory")):
        for setup in ("", "setup: echo SETUP\n"):
            ident = shared.add("gone.yaml", f"workdir: {path}\n{setup}run: echo RAN\n...\n")
            assert shared.ended(ident) == ["FAILED_SETUP"]
            assert shared.reason(ident) == f"node n1: {why}: {path}"
    ended = shared.sky("logs", str(ident), check=100)
    assert f"node n1: Not a directory: {shared.folder}/file" in ended.stdout + ended.stderr
    assert "RAN" not in ended.stdout
    assert "SETUP" not in ended.stdout


# ---- clones


def test_a_repository_is_cloned_below_the_log_directory_at_the_ref(shared: Cluster, repository: Path) -> None:
    first = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "v1"], capture_output=True, text=True, check=True
    )
    where = {"": "two", ", ref: v1": "one", ", ref: side": "side", f", ref: {first.stdout.strip()}": "one"}
    for ref, content in where.items():
        ident = shared.add(
            "clone.yaml", f"workdir: {{url: 'file://{repository}'{ref}}}\nsetup: cat file\nrun: pwd\n...\n"
        )
        assert shared.ended(ident) == ["SUCCEEDED"], shared.reason(ident)
        assert shared.log(ident, "setup.log") == f"{content}\n"
        assert shared.log(ident).startswith(f"{shared.spool.log_dir(ident)}/")
    done = shared.sky("exec", "mycluster", "--git-url", str(repository), "--git-ref", "side", "--", "cat file")
    assert done.stdout.endswith("side\n")


def test_a_clone_that_fails_fails_setup_with_gits_own_words_in_the_log(shared: Cluster, repository: Path) -> None:
    for url, ref, words in (("/nowhere", "v1", "does not exist"), (str(repository), "nosuchref", "nosuchref")):
        ident = shared.add("bad.yaml", f"workdir: {{url: {url}, ref: {ref}}}\nrun: echo RAN\n...\n")
        assert shared.ended(ident) == ["FAILED_SETUP"]
        assert "node n1: `git" in shared.reason(ident)
        assert words in shared.log(ident)
        assert "RAN" not in shared.log(ident)


# ---- links


def test_file_mounts_become_links_where_nothing_stands(shared: Cluster) -> None:
    (shared.folder / "data").mkdir()
    (shared.folder / "data/x").write_text("content\n")
    (shared.home / "taken").write_text("mine\n")
    mounts = f"{{~/deep/data: {shared.folder}/data, ~/taken: {shared.folder}/data/x, /cloud: 's3://bucket/x'}}"
    (shared.folder / "mounts.yaml").write_text(f"file_mounts: {mounts}\nrun: cat ~/deep/data/x ~/taken\n")
    done = shared.sky("launch", "-c", "mycluster", "mounts.yaml")
    assert done.stdout.endswith("content\nmine\n")
    assert "ignored" in done.stderr
    assert "file_mounts./cloud" in done.stderr
    assert os.readlink(shared.home / "deep/data") == f"{shared.folder}/data"
    assert not Path("/cloud").exists()
    os.unlink(shared.home / "deep/data")
    assert re.search(r"skip.*file_mounts", shared.sky("exec", "mycluster", "mounts.yaml", check=100).stderr)
    assert printed(shared, f"file_mounts: {mounts}\nrun: cat ~/deep/data/x\n...\n") == "content\n"


# ---- setup and run


def test_a_dropped_file_runs_both_launch_too_and_exec_skips_setup(shared: Cluster) -> None:
    text = "setup: echo in setup\nrun: echo in run\n"
    ident = shared.add("both.yaml", f"{text}...\n")
    assert shared.ended(ident) == ["SUCCEEDED"]
    assert (shared.log(ident, "setup.log"), shared.log(ident)) == ("in setup\n", "in run\n")
    (shared.folder / "both.yaml").write_text(text)
    launched = shared.sky("launch", "-c", "mycluster", "both.yaml")
    assert [line.split(") ")[-1] for line in launched.stdout.splitlines()[1:]] == ["in setup", "in run"]
    skipped = shared.sky("exec", "mycluster", "both.yaml")
    assert skipped.stdout.splitlines()[1:] == ["in run"]
    assert re.search(r"skip.*setup", skipped.stderr)


def test_a_task_with_only_setup_succeeds_and_an_empty_one_makes_no_job(shared: Cluster) -> None:
    (shared.folder / "only.yaml").write_text("setup: echo only setup\n")
    told = shared.sky("launch", "-c", "mycluster", "only.yaml")
    assert told.stdout.endswith("only setup\n")
    assert "Job finished (status: SUCCEEDED)." in told.stderr
    before = shared.state().next_id
    (shared.folder / "empty.yaml").write_text("name: nothing\n")
    for verb, file in (("exec", "only.yaml"), ("exec", "empty.yaml"), ("launch", "empty.yaml")):
        none = shared.sky(verb, "mycluster", file)
        assert (none.stdout, "no job was made" in none.stderr) == ("", True)
    assert shared.state().next_id == before


def test_setup_that_fails_keeps_run_from_starting(shared: Cluster) -> None:
    ident = shared.add("bad.yaml", "setup: echo no; exit 3\nrun: echo RAN\n...\n")
    assert shared.ended(ident) == ["FAILED_SETUP"]
    assert shared.reason(ident) == "setup ended with exit code 3"
    assert not Path(shared.spool.log_dir(ident), "run.log").exists()
