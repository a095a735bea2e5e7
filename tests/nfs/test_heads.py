"""Several heads on real NFS: one leads, and when its host is gone another does; the old one wakes and does no harm."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from skyspool.ages import lasted
from tests.history.checker import faults
from tests.nfs.bench import HERE, Bench
from tests.nfs.site import QUICK, Site, heads, running

THRESHOLD, TICK = 4.0, 2.0  # seconds: lock_threshold of QUICK; a poll for the lock and taking over, on machines at rest
RECOVERY = 1.0  # seconds from a head's seal until it says that it leads, on machines at rest
VERSIONS = [
    pytest.param("4.2", marks=pytest.mark.xdist_group("heads-4.2")),
    pytest.param("3", marks=pytest.mark.xdist_group("heads-3")),
]
Harm = Callable[[str], AbstractContextManager[None]]
# A moment of halting.py -> what comes of the write of a stale head. What it claims, and what it claimed, the next head
# has taken out of its reach; what it writes into files stands there, and counts for nobody.
STALE = {"claim": "False", "append": "done", "place": "False", "assign": "done"}


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


def halting_head(site: Site, machine: str, *moments: str) -> Site:
    """Start a head that stops itself just before a write, of one kind in each of its terms."""
    return site.start(f"head-{machine}", machine, "head", program=(str(HERE / "halting.py"), ",".join(moments)))


def says(site: Site, machine: str, words: str) -> None:
    """Wait until a machine's head has said this."""
    site.eventually(lambda: words in site.daemons[f"head-{machine}"].err)


def roles(site: Site) -> dict[str, object]:
    """Machine -> what its head says that it does."""
    return {str(head["host"]): head["role"] for head in heads(site).values()}


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


def test_a_stale_head_that_writes_after_it_was_deposed_does_no_harm(bench: Bench) -> None:
    """It stops just before a write of each kind. Let go on when another one leads, that write is what it does next."""
    with running(bench, f"stale{time.monotonic_ns()}", **QUICK) as site:
        halting_head(site, "a", "claim", "place").leads("a")
        halting_head(site, "b", "append", "assign").node("c", gpus="H100:4").is_ready("c")
        for number, (moment, comes) in enumerate(STALE.items()):
            stale, other = ("a", "b") if number % 2 == 0 else ("b", "a")
            writer = site.write("c", "mv", f"{moment}-", 5, spread=2)
            says(site, stale, f"halts before {moment}: ")
            epoch = site.leader()[1]
            took = site.leads(other)
            assert took <= allowed(site)
            says(site, other, f"leads, epoch {epoch + 1}\n")  # it has cleared up after the heads before it
            site.go_on(f"head-{stale}")
            says(site, stale, f"went on with {moment}: {comes}\n")
            if moment == "append":
                end = site.seal()["seals"][str(epoch)]
                site.eventually(lambda epoch=epoch, end=end: len(site.event_files()[epoch]) > end)
            site.eventually(lambda stale=stale: roles(site)[stale] == "standby")
            assert writer.wait() == 0, writer.err
        assert site.over(5 * len(STALE)) == {"SUCCEEDED": 5 * len(STALE)}
        assert site.leader() == ("a", 5)
        assert faults(site.history()) == []


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


def test_when_the_leader_is_told_to_end_another_leads_at_once_and_status_tells_who_and_since_when(site: Site) -> None:
    site.eventually(lambda: roles(site) == {"a": "leading", "b": "standby"})
    assert told(site) == ["alive, leads (epoch 1), on a", "alive, stands by, on b"]
    site.kill("head-a", 15)
    assert site.leads("b") <= allowed(site) - THRESHOLD
    works(site, "after")
    site.head("a").eventually(lambda: roles(site) == {"a": "standby", "b": "leading"})
    assert told(site) == ["alive, leads (epoch 2), on b", "alive, stands by, on a"]


HEAD = re.compile(r"Head: (alive, .*), on (\w+) \(pid (\d+)\), for (.*)")


def told(site: Site) -> list[str]:
    """What `skyspool status` on a machine without a head tells of the heads, the leading one first.

    Their pids are those of their own files. The leader's is that of its seal, and it leads since then, by the server's
    clock; the word for that time fits.
    """
    asked = site.clock()
    said = site.sky("c", "status", site.name)
    seconds = range(int(site.clock() - asked) + 2)
    shown = [HEAD.fullmatch(line) for line in said.splitlines() if line.startswith("Head:")]
    known = {str(head["host"]): head for head in heads(site).values()}
    for line in shown:
        assert line, said
        head = known[line[2]]
        assert int(line[3]) == head["pid"], said
        assert line[4] in {lasted(float(str(head["since"])), asked + second) for second in seconds}, (said, known)
    leader, seal = known[site.leader()[0]], site.seal()
    assert (leader["pid"], leader["epoch"]) == (seal["leader"]["pid"], seal["epoch"]), (leader, seal)
    assert -0.1 < float(str(leader["since"])) - seal["at"] < RECOVERY * site.bench.slowness("c"), (leader, seal)
    return [f"{line[1]}, on {line[2]}" for line in shown if line]
