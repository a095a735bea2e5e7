from __future__ import annotations

import os
from pathlib import Path

import pytest

from spool_layout import settings
from spool_layout.paths import Spool
from spool_layout.storage import Disk
from tests.client.conftest import Run


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else b"" for path in root.rglob("*")}


def test_a_spool_with_all_its_directories(sky: Run, home: Path) -> None:
    ran = sky("init", "here/spool", "--name", "mycluster")
    root = home / "here/spool"
    assert (ran.code, ran.out) == (0, f"Spool mycluster made: {root}\n")
    assert f"hint: spoold head {root}" in ran.err and f"spoold node {root}" in ran.err
    spool = Spool(root)
    assert settings.load(spool, Disk()).name == "mycluster"
    assert all(os.path.isdir(path) for path in spool.directories)
    for folder in ("tmp", "pending", "requests", "claims"):  # they hold task files, with their secrets
        assert os.stat(root / folder).st_mode & 0o777 == 0o700
    for folder in ("logs", "events", "nodes"):
        assert os.stat(root / folder).st_mode & 0o777 == 0o755


def test_the_first_one_becomes_the_default_cluster(sky: Run, home: Path) -> None:
    sky("init", "a", "--name", "one")
    sky("init", "b", "--name", "two")
    assert (home / ".config/skyspool/config.yaml").read_text() == (
        f"clusters:\n  one: {home}/a\n  two: {home}/b\ndefault: one\n"
    )


def test_a_second_time_it_changes_nothing(sky: Run, home: Path) -> None:
    sky("init", "spool", "--name", "one")
    before = contents(home)
    ran = sky("init", "spool", "--name", "one")
    assert ran.out == f"Spool one was there, nothing in it was changed: {home}/spool\n"
    assert sky("init", "spool").code == 0
    assert contents(home) == before


def test_what_is_missing_is_made(sky: Run, home: Path) -> None:
    sky("init", "spool")
    os.rmdir(home / "spool/requests")
    sky("init", "spool")
    assert (home / "spool/requests").is_dir()


def test_another_user_adds_a_spool_that_is_there(sky: Run, home: Path) -> None:
    sky("init", "spool", "--name", "one")
    (home / ".config/skyspool/config.yaml").unlink()
    sky("init", "spool", "--name", "mine")
    assert f"  mine: {home}/spool" in (home / ".config/skyspool/config.yaml").read_text()
    assert "name: one" in (home / "spool/spool.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["spool", "--name", "123"], "'123' is no name for a spool: digits are always a job's ID"),
        (["123"], "'123' is no name for a spool: give it one"),
        (["my spool"], "'my spool' is no name for a spool: give it one"),
        (["spool", "--name", "a/b"], "'a/b' is no name for a spool: begin with a letter"),
        (["spool", "--name", ""], "'' is no name for a spool: begin with a letter"),
    ],
)
def test_names_that_cannot_be(sky: Run, home: Path, words: list[str], told: str) -> None:
    ran = sky("init", *words)
    assert ran.code == 2
    assert ran.err.startswith(f"error: {told}")
    assert not (home / words[0]).exists()


def test_a_name_that_is_taken(sky: Run, home: Path) -> None:
    sky("init", "a", "--name", "one")
    ran = sky("init", "b", "--name", "one")
    assert (ran.code, ran.err) == (
        2,
        f"error: 'one' is already the name of {home}/a\nhint: skyspool init {home}/b --name OTHER\n",
    )
    assert not (home / "b").exists()


def test_where_nothing_can_be_made(sky: Run, home: Path) -> None:
    (home / "file").write_text("")
    ran = sky("init", "file")
    assert ran.code == 1
    assert ran.err == f"error: {home}/file/tmp: Not a directory\n"


def test_a_newer_spool_is_left_alone(sky: Run, home: Path) -> None:
    sky("init", "spool")
    path = home / "spool/spool.yaml"
    path.write_text(path.read_text().replace("format: 1", "format: 2"))
    ran = sky("init", "spool")
    assert ran.code == 78 and "formats up to 1" in ran.err
