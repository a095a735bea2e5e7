from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from skyspool.doctor import examination, judging, probes, replacing, telling
from skyspool.doctor.experiments import Listed, Missing, Tally, Together, offset_of
from skyspool.doctor.locking import BOTH, EXCLUDES, STUCK
from skyspool.doctor.meeting import Guest, workroom
from skyspool.doctor.probes import Alone, Offset, Room
from skyspool.doctor.replacing import Reader, Reads
from spool_layout import diagnosis, mounts
from spool_layout.diagnosis import Diagnosis, Finding
from spool_layout.mounts import Mount
from spool_layout.storage import Disk
from tests.client.builders import Scene
from tests.client.conftest import Run, fits, unprivileged
from tests.client.pseudo import on_terminal
from tests.manual import items, marked, page

LOCAL = Mount("ext4", "rw,relatime", "/dev/sda1", "/")
NFS = Mount("nfs4", "rw,relatime,vers=4.2,hard,proto=tcp", "server:/export", "/nfs")
GIB = 1 << 30
WELL = Alone(
    exclusive="",
    links="",
    listing="",
    locks="",
    replaced=Reads(100),
    durable=[0.001] * 20,
    commit=[0.003] * 20,
    clock=Offset(0.002, 0.01),
    uid=1000,
    owner=1000,
    room=Room(100 * GIB, 200 * GIB, 10**6, 2 * 10**6),
)
WELL_TOGETHER = Together(
    other=Guest("h2", "another boot"),
    one_kernel=False,
    offset=Offset(0.001, 0.002),
    races={"create": Tally(30), "link": Tally(30)},
    reads=[Reads(100), Reads(120)],
    listed=[Listed(20, 0, 0.004), Listed(20, 0, 0.005)],
    missing=[Missing(0.01, True), Missing(None, True)],
    locks={"flock": EXCLUDES, "fcntl": EXCLUDES},
    head_lock=EXCLUDES,
)


def verdicts(found: list[Finding]) -> dict[str, str]:
    """What was found that is not fine: check -> verdict."""
    return {finding.check: finding.verdict for finding in found if finding.verdict != "fine"}


# ---- judging: numbers that were never measured


@pytest.mark.parametrize("mount", [LOCAL, NFS])
def test_where_all_is_well_each_finding_is_fine(mount: Mount) -> None:
    assert verdicts(judging.alone(mount, WELL)) == {}
    assert verdicts(judging.together(NFS, WELL_TOGETHER)) == {}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"exclusive": "a file was made twice with O_EXCL"}, {"create": "unsafe"}),
        ({"links": "EPERM, operation not permitted"}, {"link": "unsafe"}),
        ({"listing": "a file just made is not in the listing"}, {"listing": "unsafe"}),
        ({"locks": "flock: ENOLCK, no locks available"}, {"locks": "slow"}),
        ({"replaced": "EACCES, permission denied"}, {"replace": "unsafe"}),
        ({"replaced": Reads(100, torn=1)}, {"replace": "unsafe"}),
        ({"replaced": Reads(100, missing=1)}, {"replace": "unsafe"}),
        ({"replaced": Reads(100, older=1)}, {"replace": "unsafe"}),
        ({"replaced": Reads(100, stale=3)}, {}),
        ({"durable": "EINVAL, invalid argument"}, {"fsync": "unsafe"}),
        ({"commit": "ENOSPC, no space left on device"}, {"fsync": "unsafe"}),
        ({"durable": [20e-6] * 20}, {"fsync": "unsafe"}),
        ({"durable": [100e-6] * 20}, {"fsync": "slow"}),
        ({"commit": [0.3] * 20}, {"fsync": "slow"}),
        ({"clock": Offset(-30.0, 0.01)}, {"clock": "slow"}),
        ({"clock": Offset(3.0, 2.0)}, {}),
        ({"clock": "EPERM, operation not permitted"}, {"clock": "unsafe"}),
        ({"owner": 65534}, {"owner": "unsafe"}),
        ({"uid": 0, "owner": 65534}, {"owner": "slow"}),
        ({"uid": 0, "owner": 0}, {}),
        ({"owner": "EROFS, read-only file system"}, {"owner": "unsafe"}),
        ({"room": Room(GIB // 2, 200 * GIB, 10**6, 2 * 10**6)}, {"room": "slow"}),
        ({"room": Room(GIB // 2, GIB, 10**6, 2 * 10**6)}, {}),
        ({"room": Room(1024, 200 * GIB, 10**6, 2 * 10**6)}, {"room": "unsafe"}),
        ({"room": Room(100 * GIB, 200 * GIB, 5000, 2 * 10**6)}, {"inodes": "slow"}),
        ({"room": Room(100 * GIB, 200 * GIB, 10, 2 * 10**6)}, {"inodes": "unsafe"}),
        ({"room": Room(100 * GIB, 200 * GIB, 0, 0)}, {}),
    ],
)
def test_what_one_host_measured_is_judged(changed: dict[str, Any], told: dict[str, str]) -> None:
    found = judging.alone(NFS, WELL._replace(**changed))
    assert verdicts(found) == told
    assert all(finding.change for finding in found if finding.verdict != "fine")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"one_kernel": True}, {"hosts": "left out"}),
        ({"races": {"create": Tally(30, both=1)}}, {"create": "unsafe"}),
        ({"races": {"mkdir": Tally(30, nobody=1)}}, {"mkdir": "slow"}),
        ({"races": {"link": Tally(30, miscounted=1)}}, {"link": "unsafe"}),
        ({"reads": [Reads(100), Reads(100, torn=1)]}, {"replace": "unsafe"}),
        ({"reads": [Reads(100, older=1), Reads(100)]}, {"replace": "unsafe"}),
        ({"listed": [Listed(20, 0, 0.004), Listed(20, 2, 0.004)]}, {"listing": "slow"}),
        ({"missing": [Missing(None, True), Missing(None, False)]}, {"missing": "unsafe"}),
        ({"locks": {"flock": BOTH}}, {"flock": "slow"}),
        ({"locks": {"fcntl": STUCK}}, {"fcntl": "slow"}),
        ({"head_lock": BOTH}, {"head lock": "unsafe"}),
        ({"head_lock": STUCK}, {"head lock": "unsafe"}),
        ({"head_lock": "EPERM, operation not permitted"}, {"head lock": "unsafe"}),
        ({"offset": Offset(5.0, 0.1)}, {"clock": "slow"}),
    ],
)
def test_what_two_hosts_measured_is_judged(changed: dict[str, Any], told: dict[str, str]) -> None:
    found = judging.together(NFS, WELL_TOGETHER._replace(**changed))
    assert verdicts(found) == told
    assert all(finding.change for finding in found if finding.verdict != "fine")


@pytest.mark.parametrize("error", ["ENOSPC, no space left on device", "EDQUOT, disk quota exceeded"])
def test_where_no_room_is_left_each_finding_says_to_make_room(error: str) -> None:
    for check in ("links", "replaced", "durable"):
        [found] = [f for f in judging.alone(NFS, WELL._replace(**{check: error})) if f.verdict == "unsafe"]
        assert error in found.text and found.change == "make room: skyspool prune"
    [left, *_] = judging.cannot_write(error, WELL.room)
    assert (left.verdict, left.change) == ("left out", "make room: skyspool prune")
    [left, *_] = judging.cannot_write("EACCES, permission denied", WELL.room)
    assert left.change == "run it as the user whom the spool belongs to"


# ---- judging: whom a spool serves

SYS = NFS._replace(options=f"{NFS.options},sec=sys")
SQUASHED = (
    "root is uid 65534 there (root_squash), which a spool of several users allows for; whether files of users are "
    "theirs was not looked at"
)


def test_root_that_is_nobody_on_the_server_harms_several_users_not_and_does_not_see_whose_their_files_are() -> None:
    found = judging.ownership(NFS, 0, 65534, "multi")
    assert found == Finding("owner", "left out", SQUASHED, "run it as one of them too")
    assert judging.ownership(NFS, 1000, 65534, "multi").verdict == "unsafe"
    assert judging.ownership(NFS, 0, 0, "multi").text.endswith("root of any client may do all (no_root_squash)")


@pytest.mark.parametrize(
    ("users", "troubles", "links", "mount", "verdict", "text"),
    [
        ("single", [], False, SYS, "fine", "single: modes and owners are right"),
        ("single", ["tmp/ is missing"], True, SYS, "slow", "single: tmp/ is missing"),
        ("multi", ["tmp/ is missing"], False, SYS, "unsafe", "multi, as skyspool: tmp/ is missing"),
        (
            "multi", [], False, LOCAL, "unsafe",
            "multi, as skyspool: on this host anybody can link others' files, and submit them "
            "(fs.protected_hardlinks = 0)",
        ),
        ("multi", [], True, LOCAL, "fine", "multi, as skyspool: modes and owners are right"),
        (
            "multi", [], True, SYS, "fine",
            "multi, as skyspool: modes and owners are right; root of any host that mounts it can be any user (sec=sys)",
        ),
        ("multi", [], True, NFS._replace(options="rw,sec=krb5"), "fine",
         "multi, as skyspool: modes and owners are right"),
    ],
)  # fmt: skip
def test_whom_a_spool_serves_is_judged(
    users: str, troubles: list[str], links: bool, mount: Mount, verdict: str, text: str
) -> None:
    found = judging.whom(users, "skyspool", troubles, links, mount)
    assert (found.verdict, found.text) == (verdict, text)
    assert bool(found.change) == (verdict != "fine")
    assert diagnosed([found]).refusals == []  # it is other hosts' and other users' matter: the head goes on


def test_a_file_system_that_two_hosts_share_and_that_is_taken_for_a_local_disk_is_told() -> None:
    assert verdicts(judging.together(Mount("fuse.new", "rw", "x", "/"), WELL_TOGETHER)) == {"hosts": "slow"}


@pytest.mark.parametrize(
    ("mount", "seconds", "verdict"),
    [
        (LOCAL, 20e-6, "fine"),  # persistent memory is as fast
        (LOCAL, 5e-6, "slow"),
        (Mount("tmpfs", "rw", "tmpfs", "/tmp"), 5e-6, "fine"),  # told by the mount's line
    ],
)
def test_how_fast_fsync_may_be_depends_on_what_has_to_be_waited_for(mount: Mount, seconds: float, verdict: str) -> None:
    assert judging.durability(mount, [seconds], [0.003]).verdict == verdict


def test_the_other_clock_is_bounded_by_the_quickest_exchange() -> None:
    trips = [(100.0, 135.0, 102.0), (200.0, 230.1, 200.2), (300.0, 331.0, 301.0)]
    offset = offset_of(trips)
    assert offset.seconds == pytest.approx(30.0) and offset.bound == pytest.approx(0.1)


# ---- mounts


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("nfs4", "rw,vers=4.2,hard", []),
        ("nfs4", "rw,vers=4.2,soft", ["unsafe"]),
        ("nfs4", "rw,vers=4.2,softerr", ["unsafe"]),
        ("nfs", "rw,vers=3,hard,nocto", ["unsafe"]),
        ("nfs", "rw,vers=3,hard,proto=udp", ["unsafe"]),
        ("nfs", "rw,vers=3,hard,nolock,local_lock=all", ["slow"]),
        ("nfs4", "rw,sync,vers=4.2,hard,noac", ["slow"]),
        ("nfs4", "rw,vers=4.2,hard,softreval", ["slow"]),
        ("nfs4", "ro,rw,vers=4.2,soft", ["unsafe", "unsafe"]),
        ("cifs", "rw,cache=loose,hard", ["unsafe"]),
        ("ext4", "rw,relatime", []),
        ("ext4", "ro", ["unsafe"]),
        ("xfs", "rw,nobarrier", ["slow"]),
        ("overlay", "rw,lowerdir=/a,upperdir=/b,volatile", ["slow"]),
        ("tmpfs", "rw", ["slow"]),
        ("", "", ["slow"]),
    ],
)
def test_a_mount_is_judged_by_its_type_and_options(kind: str, options: str, told: list[str]) -> None:
    found = mounts.judge(Mount(kind, options, "source", "/point"))
    assert [finding.verdict for finding in found] == (told or ["fine"])


def test_the_mount_under_a_path_is_the_one_that_the_kernel_lists() -> None:
    assert mounts.mount_of("/proc/self").kind == "proc"
    assert mounts.mount_of("/proc/self/..").point == "/proc"


def test_blanks_in_a_mount_point_are_understood() -> None:
    mount = mounts._parsed(r"34 24 0:30 / /mnt/a\040b\134c rw,relatime shared:1 - nfs4 s:/x\040y rw,vers=4.2,hard")
    assert mount == Mount("nfs4", "rw,relatime,vers=4.2,hard", "s:/x y", r"/mnt/a b\c")


# ---- probes: they can fail


def test_a_reader_tells_torn_missing_and_older_content(tmp_path: Path) -> None:
    file = tmp_path / "file"
    reader = Reader(str(file))
    reader.look()
    replacing.replace(str(file), 2)
    reader.look()
    replacing.replace(str(file), 1)
    reader.look()
    file.write_bytes(b"%08d\n" % 3 * 399)
    reader.look()
    assert reader.seen == Reads(3, torn=1, missing=1, older=1)


def test_a_file_system_without_hard_links_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is replaced: a file system without hard links (vfat, some FUSE) cannot be had on every machine."""

    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    found = probes.measure(str(tmp_path))
    assert found.links == "EPERM, operation not permitted"
    assert found.exclusive == ""


def test_links_that_are_counted_wrongly_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no hard links may copy instead."""
    monkeypatch.setattr(os, "link", lambda first, second: Path(second).write_bytes(Path(first).read_bytes()))
    assert "counts 1 links, not 2" in probes.links(str(tmp_path))


@pytest.mark.parametrize("name", list(probes.KERNEL_LOCKS))
def test_a_lock_that_somebody_holds_is_told_as_busy(tmp_path: Path, name: str) -> None:
    code = (
        "import sys; from skyspool.doctor.probes import locked\n"
        f"with locked({str(tmp_path)!r}, {name!r}) as trouble: print(repr(trouble), flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"''\n"
    with probes.locked(str(tmp_path), name) as trouble:
        assert trouble == probes.BUSY
    holder.communicate()
    with probes.locked(str(tmp_path), name) as trouble:
        assert trouble == ""


# ---- the verb, on one host


def test_a_directory_is_measured_and_left_as_it_was(sky: Run, tmp_path: Path) -> None:
    ran = sky("doctor", str(tmp_path))
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == f"Directory: {tmp_path}"
    assert lines[1].endswith(f" on {socket.gethostname()}")
    told = [line.split()[:2] for line in lines if line.startswith(" ")]
    checks = ["mount", "create", "link", "replace", "listing", "locks", "fsync", "clock", "owner", "room", "inodes"]
    assert [check for _, check in told] == checks
    assert ran.err == "note: not kept: there is no spool yet\n"
    assert not any(name.startswith((".doctor", "doctor", "spool")) for name in os.listdir(tmp_path))


def test_in_a_spool_the_findings_are_kept(scene: Scene, sky: Run) -> None:
    ran = sky("doctor", scene.spool.root)
    [found] = diagnosis.kept(scene.spool, Disk())
    assert found.host == socket.gethostname() and abs(found.at - time.time()) < 60
    assert {finding.check for finding in found.findings} >= {"mount", "fsync", "room"}
    assert f"note: kept in {scene.spool.diagnosis(found.host)}, " in ran.err
    assert scene.files("tmp") == []


def test_json_fits_the_schema(scene: Scene, sky: Run) -> None:
    told = json.loads(sky("doctor", scene.spool.root, "-o", "json").out)
    fits(told, "doctor")
    assert told["kept"] == scene.spool.diagnosis(socket.gethostname())
    assert told["options"] == mounts.mount_of(scene.spool.root).options.split(",")


def test_where_nothing_may_be_written_it_says_what_is_left_out(scene: Scene, process: Run) -> None:
    for path in (scene.spool.tmp, scene.spool.doctor):
        os.chmod(path, 0o555)
    words = [*unprivileged(), sys.executable, "-m", "skyspool", "doctor", scene.spool.root]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"^ left out  writing  EACCES, permission denied: create, link, ", ran.stdout, re.MULTILINE)
    assert re.search(r"^ \w+ +room +[\d.]+ \w+ of ", ran.stdout, re.MULTILINE)
    assert ran.stderr == "note: not kept: may not be written there\n"


def test_what_may_be_written_no_more_while_it_is_measured_is_told_as_well(tmp_path: Path) -> None:
    """The last block of a full disk was there for the first directory, and is not for the next."""

    class Full(Disk):
        def make_dir(self, path: str, mode: int = 0o755) -> bool:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    where = examination.place(str(tmp_path))
    found = examination.examine(where, examination.Wanted(), Full(), print).found
    assert "writing" in {finding.check for finding in found.findings if finding.verdict == "left out"}
    assert [f.change for f in found.findings if f.check == "writing"] == ["make room: skyspool prune"]


def test_what_is_no_directory_is_told(sky: Run, tmp_path: Path) -> None:
    ran = sky("doctor", f"{tmp_path}/none")
    assert (ran.code, ran.err) == (
        2,
        f"error: {tmp_path}/none is no directory\nhint: mkdir -p {tmp_path}/none\n",
    )


def test_a_spool_of_a_newer_format_is_left_alone(scene: Scene, sky: Run) -> None:
    path = Path(scene.spool.settings)
    path.write_text(path.read_text().replace("format: 1", "format: 2"))
    assert sky("doctor", scene.spool.root).code == 78
    assert scene.files("doctor") == []


def test_what_killed_doctors_left_is_removed_after_an_hour(sky: Run, tmp_path: Path) -> None:
    for name, age in ((".doctor-00000a", 3700), (".doctor-00000b", 60), (".doctor-not-ours", 3700)):
        (tmp_path / name / "talk").mkdir(parents=True)
        (tmp_path / name / "talk" / "a.here").write_text("{}")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    assert sky("doctor", str(tmp_path)).code == 0
    left = {path.name for path in tmp_path.glob(".doctor-*")}
    assert left == {".doctor-00000b", ".doctor-not-ours"}


# ---- on a terminal


@pytest.mark.parametrize("width", [40, 80])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    bad = judging.alone(NFS, WELL._replace(links="EPERM, operation not permitted", uid=0, owner=0))
    found = diagnosed([*mounts.judge(NFS._replace(options="rw,soft")), *bad])
    lines = telling.lines(found, "/nfs/queue", width)
    assert max(len(line) for line in lines) <= width
    assert [line for line in lines if line.startswith(" unsafe ")] != []
    plain = telling.lines(found, "/nfs/queue", None)
    assert " ".join(" ".join(lines).split()) == " ".join(" ".join(plain).split())


def test_on_a_terminal_lines_are_folded_and_the_verdict_has_a_colour(scene: Scene) -> None:
    diagnosis.keep(scene.spool, Disk(), diagnosed([]))  # nothing of this host
    shown = on_terminal("doctor", scene.spool.root, columns=80)
    assert shown.code == 0 and max(len(line) for line in shown.lines) <= 80
    assert b"\n \x1b[32mfine\x1b[0m      replace  " in shown.out
    plain = on_terminal("doctor", scene.spool.root, columns=80, NO_COLOR="1")
    assert b"\n fine      replace  " in plain.out and b"\x1b" not in plain.out


# ---- two hosts: here, two processes of one


@contextmanager
def inviting(root: str, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A doctor that waits for h2, and its word."""
    command = [sys.executable, "-m", "skyspool", "doctor", root, "--with", "h2", *words]
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == "On h2, type:\n"
        waiting.stderr.readline()
        match = re.fullmatch(rf"    skyspool doctor {re.escape(root)} --meet (\w+)\n", waiting.stderr.readline())
        assert match
        yield waiting, match[1]
    finally:
        waiting.kill()
        waiting.communicate()


def test_two_meet_measure_and_leave_nothing_behind(scene: Scene, process: Run) -> None:
    with inviting(scene.spool.root) as (waiting, word):
        guest = process("doctor", scene.spool.root, "--meet", word, "-o", "json", timeout=100)
        out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, guest.code) == (0, 0), (err, guest.err)
    told = json.loads(guest.out)
    fits(told, "doctor")
    assert told["met"] == socket.gethostname()
    found = {finding["check"]: finding["verdict"] for finding in told["together"]}
    checks = ["create", "mkdir", "link", "rename", "replace", "listing", "missing", "flock", "fcntl", "clock"]
    assert found == {**dict.fromkeys(checks, "fine"), "head lock": "fine", "hosts": "left out"}
    assert f"\nWith {socket.gethostname()}:\n\n left out  hosts " in out
    assert scene.files("tmp") == []
    assert [d.met for d in diagnosis.kept(scene.spool, Disk())] == [socket.gethostname()]


def test_who_waits_in_vain_tells_what_it_found_itself_and_cleans_up(scene: Scene, process: Run) -> None:
    ran = process("doctor", scene.spool.root, "--with", "h2", "--patience", "0.3")
    assert ran.code == 1
    assert re.search(r"^error: h2 did not come within 0\.3 s\nhint: ", ran.err, re.MULTILINE)
    assert re.search(r"^ \w+ +fsync ", ran.out, re.MULTILINE)
    assert scene.files("tmp") == [] and len(diagnosis.kept(scene.spool, Disk())) == 1


def test_who_was_left_alone_half_way_ends_and_cleans_up_for_both(scene: Scene, process: Run) -> None:
    with inviting(scene.spool.root) as (waiting, word):
        waiting.kill()
        waiting.wait()
        ran = process("doctor", scene.spool.root, "--meet", word, "--patience", "1")
    assert ran.code == 1
    assert "error: the other host did not go on within 1 s (ping-0)\n" in ran.err
    assert re.search(r"^ \w+ +fsync ", ran.out, re.MULTILINE)
    assert f".doctor-{word}" not in scene.files("tmp")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_the_waiting_and_cleans_up(scene: Scene, number: signal.Signals, code: int) -> None:
    with inviting(scene.spool.root) as (waiting, _):
        waiting.send_signal(number)
        waiting.communicate(timeout=20)
    assert waiting.returncode == code
    assert scene.files("tmp") == []


def test_nothing_is_written_any_more_once_the_measuring_was_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a signal ends it, in the middle: what is removed then has to stay removed."""

    def ended(reader: replacing.Reader) -> None:
        raise SystemExit(129)

    before = threading.active_count()
    monkeypatch.setattr(replacing.Reader, "look", ended)
    with pytest.raises(SystemExit):
        replacing.replaced(str(tmp_path))
    assert threading.active_count() == before


def test_who_is_told_to_end_in_the_middle_of_cleaning_up_cleans_up_first(tmp_path: Path) -> None:
    class Interrupted(Disk):
        told = False

        def remove(self, path: str) -> None:
            if not self.told:
                self.told = True
                raise SystemExit(129)
            super().remove(path)

    disk = Interrupted()
    with pytest.raises(SystemExit), workroom(disk, str(tmp_path)) as word:
        (tmp_path / f".doctor-{word}" / "a").touch()
    assert disk.told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["000000", "../x", ""])
def test_a_word_under_which_nobody_waits(sky: Run, tmp_path: Path, word: str) -> None:
    ran = sky("doctor", str(tmp_path), "--meet", word)
    assert ran.code == 2
    assert ran.err.startswith(f"error: no doctor waits in {tmp_path} under the word {word!r}\n")


def test_inviting_and_coming_at_once_is_refused(sky: Run, tmp_path: Path) -> None:
    assert sky("doctor", str(tmp_path), "--with", "h2", "--meet", "000000").code == 2


# ---- what is kept, and who tells it


def diagnosed(findings: list[Finding], host: str = "h1", mount: Mount = NFS, ago: float = 7200) -> Diagnosis:
    return Diagnosis(1, host, time.time() - ago, mount.kind, mount.source, mount.options, findings)


SOFT = Finding("mount", "unsafe", "soft: a call gives up", "mount it with hard")
LATE = Finding("clock", "slow", "30.0 s behind", "keep both clocks with NTP")


def test_status_warns_of_what_is_not_fine_the_worst_first(scene: Scene, sky: Run) -> None:
    scene.head()
    diagnosis.keep(scene.spool, Disk(), diagnosed([Finding("link", "fine", "hard links work"), LATE]))
    both = replace(diagnosed([], "h2"), met="h1", met_at=time.time() - 90000, together=[SOFT])
    diagnosis.keep(scene.spool, Disk(), both)
    warnings = [line for line in sky("status").out.splitlines() if line.startswith("Warning")]
    assert warnings == [
        "Warning: h2 with h1, mount unsafe (1 day ago): soft: a call gives up. To do: mount it with hard",
        "Warning: h1, clock slow (2 hrs ago): 30.0 s behind. To do: keep both clocks with NTP",
    ]
    told = json.loads(sky("status", "-o", "json").out)
    fits(told, "status")
    assert [(w["host"], w["met"], w["check"]) for w in told["mycluster"]["warnings"]] == [
        ("h2", "h1", "mount"),
        ("h1", None, "clock"),
    ]


def test_status_goes_on_where_a_kept_record_is_damaged(scene: Scene, sky: Run) -> None:
    Path(scene.spool.diagnosis("h1")).write_text("{")
    Path(scene.spool.doctor, "README").write_text("not ours")
    ran = sky("status")
    assert ran.code == 0 and "Warning" not in ran.out


def test_a_round_alone_keeps_what_two_hosts_found_on_the_same_mount(scene: Scene, sky: Run) -> None:
    here, mount = socket.gethostname(), mounts.mount_of(scene.spool.root)
    met = replace(diagnosed([], here, mount), met="h2", met_at=time.time() - 7200, together=[LATE])
    diagnosis.keep(scene.spool, Disk(), met)
    assert "\nWith h2, 2 hrs ago:\n\n slow      clock" in sky("doctor", scene.spool.root).out
    diagnosis.keep(scene.spool, Disk(), replace(met, source="another:/export"))
    assert "\nWith h2" not in sky("doctor", scene.spool.root).out


def test_port_numbers_make_no_other_mount() -> None:
    found = diagnosed([], mount=NFS._replace(options="rw,vers=3,mountport=43292,clientaddr=10.0.0.2"))
    assert found.applies("nfs4", NFS.source, "rw,vers=3,mountport=1,clientaddr=10.0.0.3")
    assert not found.applies("nfs4", NFS.source, "rw,vers=3,soft")


@pytest.mark.parametrize("kind", [Diagnosis, Finding])
def test_every_field_of_what_is_kept_is_told_in_spool_5(kind: type[Diagnosis | Finding]) -> None:
    assert items(marked(page("spool.5"), f"fields: {kind.__name__}"), "Va") == list(kind.__struct_fields__)


@pytest.mark.parametrize(("host", "file"), [("a.b-c", "a.b-c.json"), ("../x", "_._x.json"), ("", "_.json")])
def test_a_host_of_any_name_has_a_file_in_the_directory(scene: Scene, host: str, file: str) -> None:
    assert os.path.relpath(scene.spool.diagnosis(host), scene.spool.doctor) == file
