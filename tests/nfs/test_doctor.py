"""The doctor on real NFS: two hosts meet and measure, what they found is kept, and a head goes by it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from tests.nfs.bench import MOUNT, SERVER, Bench, Command, eventually
from tests.nfs.site import Site, running

VARIANTS = [
    pytest.param(("4.2", ""), marks=pytest.mark.xdist_group("doctor-4.2"), id="4.2"),
    pytest.param(("3", "soft,nolock"), marks=pytest.mark.xdist_group("doctor-3"), id="3-soft-nolock"),
]

Diagnoses = dict[str, list[dict[str, str]]]  # host -> findings


@pytest.fixture(scope="module", params=VARIANTS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    version, options = request.param
    bench_of = Bench.up(clients=("a", "b"), version=version, options=options, skew={"b": 7})
    with bench_of as bench, running(bench, "doctor") as site:
        yield site


@pytest.fixture(scope="module")
def diagnoses(site: Site) -> Diagnoses:
    """What both hosts found when they met. b's clock is some seconds ahead."""
    waiting = site.bench.begin("a", *site.client("doctor", site.root, "--with", "b", "-o", "json"))
    eventually(lambda: re.search(r"--meet \S+", waiting.err), 60, lambda: waiting.err)
    word = re.search(r"--meet (\S+)", waiting.err)
    assert word
    other = site.bench.begin("b", *site.client("doctor", site.root, "--meet", word[1], "-o", "json"))
    for command in (waiting, other):
        command.wait(120)
    return {"a": findings(waiting), "b": findings(other)}


def findings(command: Command) -> list[dict[str, str]]:
    """What a host found by itself, and what it found with the other one."""
    assert command.out, command.err
    told = json.loads(command.out)
    assert told["together"], command.err
    return [*told["findings"], *told["together"]]


def line(said: str, check: str) -> str:
    """The one line that the doctor printed of what it looked at."""
    [found] = re.findall(rf"^ ((?:fine|slow|unsafe|left out) +{check}  .*)$", said, re.MULTILINE)
    return " ".join(found.split())


def is_soft(site: Site) -> bool:
    return "soft" in site.bench.options


def test_both_hosts_find_the_same_of_what_they_measured_together(
    diagnoses: Diagnoses,
) -> None:
    a, b = ({(f["check"], f["verdict"]) for f in found if f["check"] != "clock"} for found in diagnoses.values())
    assert {check for check, _ in a} >= {"fsync", "owner", "mkdir", "missing", "head lock", "flock", "fcntl"}
    assert a == b


def test_locks_that_keep_to_their_host_are_told_as_slow_and_the_lock_of_the_heads_works(
    site: Site, diagnoses: Diagnoses
) -> None:
    works = ("fine", "excludes the other host, and changes hands", None)
    told, mount = works, []
    if "nolock" in site.bench.options:
        jobs = "the spool needs no such lock, but jobs may (SQLite, HDF5)"
        told = ("slow", f"both hosts have it at once; {jobs}", "mount it without nolock, on both hosts")
        mount = [("slow", f"nolock: locks keep to this host; {jobs}", "mount it without nolock")]
    for found in diagnoses.values():
        said = [(f["check"], (f["verdict"], f["text"], f["change"])) for f in found]
        assert dict(said)["flock"] == dict(said)["fcntl"] == told
        assert dict(said)["head lock"] == works
        assert [finding for check, finding in said if check == "mount" and "lock" in finding[1]] == mount


def test_a_soft_mount_is_unsafe_and_everything_else_works(site: Site, diagnoses: Diagnoses) -> None:
    unsafe = {f["text"].split(":")[0] for found in diagnoses.values() for f in found if f["verdict"] == "unsafe"}
    assert unsafe == ({"soft"} if is_soft(site) else set()), diagnoses


def test_a_clock_that_is_off_is_told_and_harms_nothing(diagnoses: Diagnoses) -> None:
    """Of the file server each host judges by itself, of the other host both."""
    (server_a, b), (server_b, a) = (
        [f["verdict"] + ": " + f["text"] for f in found if f["check"] == "clock"] for found in diagnoses.values()
    )
    assert server_a.startswith("fine: the file server's clock is ")
    assert re.match(r"slow: the file server's clock is [6-9]\.\d s .*behind this host's", server_b)
    assert re.match(r"slow: the clock of b is [6-9]\.\d s .*ahead of this host's", b)
    assert re.match(r"slow: the clock of a is [6-9]\.\d s .*behind this host's", a)


def test_what_was_found_is_kept_and_the_head_refuses_an_unsafe_mount_unless_forced(
    site: Site, diagnoses: Diagnoses
) -> None:
    assert sorted(site.files("doctor")) == ["a.json", "b.json"]
    site.head("a")
    if not is_soft(site):
        site.leads("a")
        return
    refused = site.daemons.pop("head-a")
    assert refused.wait() not in (0, 1)
    assert "soft" in refused.err and "--force" in refused.err
    site.start("forced", "a", "head", "--force").leads("a")
    time.sleep(1)
    assert "soft" in site.sky("b", "status", site.name)


def test_a_directory_that_is_no_spool_yet_is_measured_too(site: Site) -> None:
    site.shell("a", f"mkdir -p {MOUNT}/bare")
    said = site.sky("a", "doctor", f"{MOUNT}/bare", check=None)
    assert re.search(r"^ (fine|slow|unsafe) +mount ", said, re.MULTILINE), said
    assert site.shell("a", f"find {MOUNT}/bare").split() == [f"{MOUNT}/bare"]


def test_a_disk_that_gets_full_is_told_in_one_line_with_what_to_change(site: Site) -> None:
    """The server's own disk: first nearly full, then down to the last MiB, then without a byte for anybody."""

    def fill(leave: int) -> str:
        count = f"$(($(stat -f -c '%a * %S' /mnt/disk) - {leave}))"
        site.shell(SERVER, f"fallocate -l {count} $(mktemp /mnt/disk/filler.XXXXXX); sync")
        return site.sky("a", "doctor", f"{MOUNT}/bare", check=None)

    site.shell("a", f"mkdir -p {MOUNT}/bare")
    try:
        change = "To do: make room: skyspool prune"
        assert re.fullmatch(rf"slow room \d\d\.\d MiB of \S+ MiB free. {change}", line(fill(24 << 20), "room"))
        assert re.fullmatch(rf"unsafe room \d\.\d MiB of \S+ MiB free. {change}", line(fill(8 << 20), "room"))
        site.shell(SERVER, "cat /dev/zero >/mnt/disk/filler.all || true; sync")
        said = site.sky("a", "doctor", f"{MOUNT}/bare", check=None)
        assert re.fullmatch(rf"unsafe room 0 B of \S+ MiB free. {change}", line(said, "room"))
        assert line(said, "writing").endswith(f" were not looked at. {change}")
    finally:
        site.shell(SERVER, "rm -f /mnt/disk/filler.*; sync")
    assert line(site.sky("a", "doctor", f"{MOUNT}/bare", check=None), "room").startswith("fine ")


def test_a_disk_without_inodes_is_told_in_one_line_with_what_to_change(site: Site) -> None:
    """A small file system of the server's, which has an export of its own."""
    small, there = f"{MOUNT}/small", "/mnt/small"
    made = f"mount -t tmpfs -o nr_inodes=12000 none {small}"
    site.shell(SERVER, f"mkdir -p {small} && {made} && exportfs -o rw,sync,no_root_squash,fsid=7 '*:{small}'")
    version, options = site.bench.version, site.bench.options
    source = small if version == "3" else "/small"
    mount = f"mount -t nfs -o {','.join(filter(None, [f'vers={version}', options]))} server:{source} {there}"
    site.shell("a", f"mkdir -p {there} && {mount}")

    def use(count: int) -> str:
        site.shell(SERVER, f"cd {small} && seq {count} | xargs touch || true")
        return site.sky("a", "doctor", there, check=None)

    change = "To do: remove small files: skyspool prune"
    assert re.fullmatch(r"fine inodes 11,9\d\d of 12,000 free", line(use(1), "inodes"))
    assert re.fullmatch(rf"slow inodes 1,0\d\d of 12,000 free. {change}", line(use(10_910), "inodes"))
    assert re.fullmatch(rf"unsafe inodes \d\d of 12,000 free. {change}", line(use(11_900), "inodes"))
    said = use(12_000)
    assert line(said, "inodes") == f"unsafe inodes 0 of 12,000 free. {change}"
    left = line(said, "writing")
    assert left.startswith("left out writing ENOSPC, no space left on device: create, link, ")
    assert left.endswith(" were not looked at. To do: make room: skyspool prune")
