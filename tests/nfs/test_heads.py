"""Several heads on real NFS: one leads, and when its host is gone another does; the old one wakes and does no harm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.history.checker import faults
from tests.nfs.bench import Bench
from tests.nfs.site import QUICK, Site, heads, running

THRESHOLD, TICK = 4.0, 2.0  # seconds: lock_threshold of QUICK; a poll for the lock and taking over, on machines at rest
VERSIONS = [
    pytest.param("4.2", marks=pytest.mark.xdist_group("heads-4.2")),
    pytest.param("3", marks=pytest.mark.xdist_group("heads-3")),
]
Harm = Callable[[str], AbstractContextManager[None]]


@pytest.fixture(scope="module", params=VERSIONS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with Bench.up(clients=("a", "b", "c"), version=request.param) as bench:
        yield bench


@pytest.fixture
def site(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A leading head on a, another head on b, a node on c. What happened is judged at the end."""
    name = f"heads{time.monotonic_ns()}"
    with running(bench, name, **QUICK) as site:
        site.head("a").leads("a")
        site.head("b").node("c", gpus="H100:4").is_ready("c")
        yield site
        assert faults(site.history()) == []


def works(site: Site, name: str) -> None:
    """A new job comes to its end."""
    site.record("c", name)
    site.eventually(lambda: ended(site, name) == "SUCCEEDED", 30)


def allowed(site: Site) -> float:
    """Seconds within which the next head leads, on machines that are as slow as now."""
    return THRESHOLD + TICK * site.bench.slowness(site.leader()[0])


def ended(site: Site, name: str) -> str:
    account = site.account()
    return next((account.over.get(job, "") for job, r in account.accepted.items() if r["name"] == name), "")


@pytest.mark.parametrize("harm", ["off", "frozen", "cut_off"])
def test_another_head_leads_within_the_threshold_when_the_leaders_host_is(site: Site, harm: str) -> None:
    """The harm comes while it has its hands full; when it is undone, the old head stands by or is gone."""
    writer = site.write("c", "mv", "busy", 30, spread=6)
    site.eventually(lambda: len(site.account().accepted) > 3)
    before = site.leader()[1]
    with getattr(site.bench, harm)("a"):
        took = site.leads("b")
        works(site, "without")
    print(f"b led {took:.1f} s after a was {harm}")
    assert took <= allowed(site)
    assert site.leader() == ("b", before + 1)
    if harm != "off":
        site.eventually(lambda: [h["role"] for h in heads(site).values() if h["host"] == "a"] == ["standby"], 40)
    assert writer.wait(60) == 0, writer.err
    assert site.over(31) == {"SUCCEEDED": 31}
    assert site.leader() == ("b", before + 1)


def test_a_stopped_head_that_wakes_up_after_it_was_deposed_writes_nothing_that_counts(site: Site) -> None:
    """The process alone is stopped, five times, each time at another moment of its work; the lead goes to and fro."""
    writer = site.write("c", "mv", "busy", 40, spread=25)
    site.eventually(lambda: len(site.account().accepted) > 1)
    for number in range(4):
        leader, other = ("a", "b") if site.leader()[0] == "a" else ("b", "a")
        time.sleep(0.13 * number)
        site.stop(f"head-{leader}")
        took = site.leads(other)
        assert took <= allowed(site)
        site.go_on(f"head-{leader}")
    assert writer.wait(60) == 0, writer.err
    works(site, "at-last")
    assert site.over(41) == {"SUCCEEDED": 41}
    assert site.leader()[1] >= 5


def test_of_three_heads_one_leads_and_any_two_may_be_killed(site: Site) -> None:
    site.head("c").head("b", key="second-on-b")
    site.eventually(lambda: sorted(h["role"] for h in heads(site).values()) == ["leading", *["standby"] * 3], 30)
    site.kill("head-a")
    took = site.leads("b", "c")
    assert took <= allowed(site)
    works(site, "one-less")
    site.kill("head-c" if site.leader()[0] == "c" else "second-on-b")
    works(site, "two-less")


def test_heads_that_start_at_the_same_moment_agree_who_leads(bench: Bench) -> None:
    with running(bench, f"race{time.monotonic_ns()}", **QUICK) as site:
        for machine in ("a", "b", "c"):
            site.head(machine)
        site.eventually(lambda: sorted(h["role"] for h in heads(site).values()) == ["leading", "standby", "standby"])
        site.node("c", gpus="H100:4").is_ready("c")
        works(site, "first")
        assert site.leader()[1] == 1
        assert faults(site.history()) == []


def test_when_the_leader_is_told_to_end_another_leads_at_once(site: Site) -> None:
    site.kill("head-a", 15)
    assert site.leads("b") <= allowed(site) - THRESHOLD
    works(site, "after")
