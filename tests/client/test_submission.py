from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from skyspool import plain, submission
from skyspool.submission import NotDurable, PartlyDropped, Refused, await_id, drop, drop_many, mark, token
from spool_layout.errors import SpoolError
from spool_layout.paths import is_handle
from spool_layout.storage import Disk
from spool_layout.yamltext import read_mapping
from tests.client.builders import Scene

TEXT = b"run: hostname\n...\n"


class Recorder(Disk):
    """The real disk; notes what is made durable, and fails where it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[str] = []
        self.fails = fails

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call == self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO), call)

    def publish(self, path: str, data: bytes, mode: int = 0o644, durable: bool = True) -> None:
        self._note(f"publish {os.path.basename(os.path.dirname(path))}{'' if durable else ' (not durable)'}")
        super().publish(path, data, mode, durable)

    def move(self, source: str, target: str, inode: int | None = None) -> bool:
        self._note(f"move {os.path.basename(os.path.dirname(target))}")
        return super().move(source, target, inode)

    def sync(self, directory: str) -> None:
        self._note(f"sync {os.path.basename(directory)}")
        super().sync(directory)

    def sync_all(self, path: str) -> None:
        self._note(f"sync all of {os.path.basename(path)}")
        super().sync_all(path)


def test_a_drop_is_durable_file_and_name_before_it_returns(scene: Scene) -> None:
    disk = Recorder()
    dropped = drop(scene.spool, disk, "train", TEXT)
    assert disk.calls == ["publish tmp", "move pending", "sync pending"]
    path = Path(scene.spool.dropped(dropped.file))
    assert (path.read_bytes(), path.stat().st_ino, scene.files("tmp")) == (TEXT, dropped.inode, [])


@pytest.mark.parametrize("fails", ["publish tmp", "move pending"])
def test_where_it_fails_before_the_move_nothing_was_submitted(scene: Scene, fails: str) -> None:
    with pytest.raises(SpoolError, match=r"^nothing was submitted: .*Input/output error"):
        drop(scene.spool, Recorder(fails), "train", TEXT)
    assert scene.files("pending") == []


def test_where_only_the_name_could_not_be_made_durable_it_was_submitted(scene: Scene) -> None:
    with pytest.raises(NotDurable, match="was submitted, but could not be made durable") as raised:
        drop(scene.spool, Recorder("sync pending"), "train", TEXT)
    assert (raised.value.exit_code, len(scene.files("pending"))) == (3, 1)


def test_where_a_drop_box_hides_its_names_the_whole_file_system_is_made_durable(scene: Scene) -> None:
    class Hiding(Recorder):
        def sync(self, directory: str) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), directory)

        def sync_all(self, path: str) -> None:
            self._note(f"sync all of {os.path.basename(path)}")

    disk = Hiding()
    drop(scene.spool, disk, "train", TEXT)
    assert disk.calls[-2:] == ["move pending", "sync all of spool.yaml"]


MANY = [(f"train{number}", f"run: echo {number}\n...\n".encode()) for number in range(3)]
WRITTEN = ["publish tmp (not durable)"] * 3


def test_many_are_made_durable_together_before_and_after_they_are_moved(scene: Scene) -> None:
    disk = Recorder()
    dropped = drop_many(scene.spool, disk, MANY)
    assert disk.calls == [*WRITTEN, "sync all of spool.yaml", *["move pending"] * 3, "sync pending"]
    assert [Path(scene.spool.dropped(one.file)).read_bytes() for one in dropped] == [text for _, text in MANY]
    assert [Path(scene.spool.dropped(one.file)).stat().st_ino for one in dropped] == [one.inode for one in dropped]
    assert sorted(scene.files("pending"), key=lambda file: file.partition("@")[2]) == [one.file for one in dropped]
    assert [one.handle.partition("@")[0] for one in dropped] == [name for name, _ in MANY]
    assert scene.files("tmp") == []


@pytest.mark.parametrize("at", range(4))
def test_where_writing_many_fails_none_is_submitted(scene: Scene, at: int) -> None:
    with pytest.raises(SpoolError, match=r"^nothing was submitted: .*Input/output error"):
        drop_many(scene.spool, Failing(at), MANY)
    assert scene.files("pending") == scene.files("tmp") == []


@pytest.mark.parametrize("at", range(3))
def test_where_moving_many_fails_it_is_told_how_many_were_submitted(scene: Scene, at: int) -> None:
    with pytest.raises(SpoolError) as raised:
        drop_many(scene.spool, Failing(4 + at), MANY)
    assert len(scene.files("pending")) == at and len(scene.files("tmp")) == 1
    if at:
        assert isinstance(raised.value, PartlyDropped)
        assert raised.value.message.startswith(f"only {at} of 3 files were submitted: ")
        assert sorted(one.file for one in raised.value.dropped) == sorted(scene.files("pending"))
    else:
        assert raised.value.message.startswith("nothing was submitted: ")


def test_where_the_names_of_many_could_not_be_made_durable_they_were_submitted(scene: Scene) -> None:
    with pytest.raises(NotDurable, match=r"^3 files were submitted, but could not be made durable"):
        drop_many(scene.spool, Failing(7), MANY)
    assert len(scene.files("pending")) == 3


class Failing(Recorder):
    """Its n-th call fails, counted from 0."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def _note(self, call: str) -> None:
        if len(self.calls) == self.at:
            self.at = -1
            raise OSError(errno.EIO, os.strerror(errno.EIO), call)
        self.calls.append(call)


def test_where_the_spool_may_not_be_written_to(scene: Scene) -> None:
    os.rmdir(scene.spool.tmp)
    with pytest.raises(SpoolError, match=r"^nothing was submitted: .*No such file") as raised:
        drop(scene.spool, Disk(), "train", TEXT)
    assert raised.value.hint == f"ls -ld {scene.spool.tmp} {scene.spool.pending}"


def test_names_sort_in_order_of_submission_and_none_comes_twice() -> None:
    tokens = [token(1_700_000_000 + second / 1e6) for second in range(1000)]
    assert tokens == sorted(tokens)
    assert len({token(1_700_000_000) for _ in range(100)}) > 90
    assert all(is_handle(f"x@{made}") for made in tokens)


def test_an_id_is_found_in_what_was_appended_since(scene: Scene) -> None:
    scene.pending("other", drop="other@00000000000000.yaml")
    since = mark(scene.spool, scene.disk)
    dropped = drop(scene.spool, scene.disk, "train", TEXT)
    assert await_id(scene.spool, scene.disk, dropped.file, since, 0) is None
    scene.accepted(dropped.file)
    assert await_id(scene.spool, scene.disk, dropped.file, since, 0) == 2
    assert await_id(scene.spool, scene.disk, "other@00000000000000.yaml", since, 0) is None  # it stands before the mark


def test_a_rejection_is_found_too(scene: Scene) -> None:
    since = mark(scene.spool, scene.disk)
    dropped = drop(scene.spool, scene.disk, "train", TEXT)
    scene.rejected(dropped.file, "no task")
    with pytest.raises(Refused, match="the head refused it: no task"):
        await_id(scene.spool, scene.disk, dropped.file, since, 0)


def test_where_no_head_has_ever_run_there_is_no_mark(tmp_path: Path) -> None:
    from skyspool.verbs import init

    init.make(str(tmp_path / "spool"), "one")
    from spool_layout.paths import Spool

    assert mark(Spool(tmp_path / "spool"), Disk()) == (0, 0)
    assert submission.await_id(Spool(tmp_path / "spool"), Disk(), "x.yaml", submission.Mark(0, 0), 0) is None


@pytest.mark.parametrize(
    ("text", "simple"),
    [
        ("a: b\nc: 4s   # comment\n# more\n\nd: /a/b-c.d\n", True),
        ("a:\n  b: /x\n  c: d e\nf: g\n", True),
        ("a: ~/spool\n", True),
        ("a: 'b'\n", False),
        ("a: [b]\n", False),
        ("a: b: c\n", False),
        ("a: ~\n", False),
        ("a:\n    b: c\n", False),
        ("a: b\na: c\n", False),
        ("a: &b c\n", False),
        ("\ta: b\n", False),
        ("a: |\n  b\n", False),
        ("- a\n", False),
        ("\xff", False),
    ],
)
def test_the_reader_of_simple_yaml_is_never_wrong_it_only_gives_up(text: str, simple: bool) -> None:
    found = plain.read(text.encode("latin-1"))
    assert (found is not None) is simple
    if found is not None:
        real = read_mapping(text.encode())
        assert {key: value if isinstance(value, dict) else str(value) for key, value in real.items()} == found
