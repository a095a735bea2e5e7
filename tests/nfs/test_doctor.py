"""The doctor on real NFS: two hosts meet and measure, what they found is kept, and a head goes by it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from tests.nfs.bench import MOUNT, Bench, Command, eventually
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
    assert command.out, command.err
    return list(json.loads(command.out)["findings"])


def is_soft(site: Site) -> bool:
    return "soft" in site.bench.options


def test_both_hosts_find_the_same_of_what_they_measured_together(
    diagnoses: Diagnoses,
) -> None:
    a, b = ({(f["check"], f["verdict"]) for f in found if f["check"] != "clock"} for found in diagnoses.values())
    assert len(a) >= 10
    assert a == b


def test_a_soft_mount_is_unsafe_and_everything_else_works(site: Site, diagnoses: Diagnoses) -> None:
    unsafe = {f["text"].split(":")[0] for found in diagnoses.values() for f in found if f["verdict"] == "unsafe"}
    assert unsafe == ({"soft"} if is_soft(site) else set()), diagnoses


def test_a_clock_that_is_off_is_told_and_harms_nothing(diagnoses: Diagnoses) -> None:
    clocks = {host: [f for f in found if f["check"] == "clock"] for host, found in diagnoses.items()}
    assert [f["verdict"] for f in clocks["a"]] == ["fine"]
    assert any(re.search(r"[6-9]\.\d s .*behind this host's", f["text"]) for f in clocks["b"]), clocks
    assert {f["verdict"] for f in clocks["b"]} <= {"fine", "slow"}


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
