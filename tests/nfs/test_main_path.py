"""The whole main path over three client machines: files dropped on one, the head on another, jobs on a third."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.history.checker import faults
from tests.nfs.bench import MOUNT, Bench
from tests.nfs.site import Site, heads, running

# Variants of a version share its machines, which take longer to boot than all but the longest tests here.
VARIANTS = [
    pytest.param(version, options, marks=pytest.mark.xdist_group(f"main-{version}"))
    for version, options in (("4.2", ""), ("4.2", "actimeo=0"), ("3", ""), ("3", "noac"), ("3", "nolock"))
]
pytestmark = pytest.mark.parametrize(("bench", "site"), VARIANTS, indirect=True, scope="module")
LOCK = {"lock_heartbeat": "1s", "lock_threshold": "4s"}  # else a take-over lasts for 30 s


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with Bench.up(clients=("a", "b", "c"), version=request.param) as bench:
        yield bench


@pytest.fixture(scope="module")
def site(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A head on b, nodes on c and a, on a mount with these options. What happened on it is judged at its end."""
    if request.param:
        bench.mount_again(request.param)
    with running(bench, f"main-{request.param.partition('=')[0] or 'plain'}", **LOCK) as site:
        site.head("b").node("c", gpus="H100:4").node("a", gpus="H100:4").is_ready("a", "c")
        yield site
        site.over(len(site.account().accepted))
        assert faults(site.history("sky-cmd", "talking")) == []


def finished(site: Site, name: str) -> str:
    """The status of the job that was dropped under a name, "" while it is not over."""
    account = site.account()
    ids = [job for job, record in account.accepted.items() if record["name"] == name]
    return account.over.get(ids[0], "") if ids else ""


def ident(site: Site, name: str) -> int:
    return next((job for job, record in site.account().accepted.items() if record["name"] == name), 0)


def test_a_file_dropped_on_one_host_becomes_a_job_on_another(site: Site) -> None:
    site.record("a", "dropped", share=4)
    site.eventually(lambda: finished(site, "dropped") == "SUCCEEDED")
    log = site.sky("c", "logs", site.name, str(ident(site, "dropped")), "--no-follow")
    assert "ended " in log


def test_the_client_shows_the_output_of_a_job_on_another_host_until_its_end(site: Site) -> None:
    said = site.sky("b", "exec", site.name, "echo from $(hostname)")
    assert "from a" in said or "from c" in said


def test_a_gang_runs_on_both_nodes_at_once(site: Site) -> None:
    site.record("b", "gang", share=4, num_nodes=2, work='echo "$SKYPILOT_NODE_RANK of $SKYPILOT_NODE_IPS"')
    site.eventually(lambda: finished(site, "gang") == "SUCCEEDED")
    logs = [text for name, text in site.files("logs").items() if name.startswith(f"{ident(site, 'gang')}/")]
    assert len(logs) == 2
    assert all(site.bench.address("a") in text and site.bench.address("c") in text for text in logs)


def test_a_running_job_is_cancelled_from_another_host(site: Site) -> None:
    site.submit("a", "endless", run="exec sleep 1000", share=1)
    site.eventually(lambda: ident(site, "endless") in site.account().running)
    site.sky("b", "cancel", site.name, str(ident(site, "endless")), "-y")
    site.eventually(lambda: finished(site, "endless") == "CANCELLED")


def test_output_of_a_running_job_is_seen_on_another_host_soon(site: Site) -> None:
    site.submit("a", "talking", run="echo said; read -rt 20 <>/tmp/never || :", share=1)
    site.eventually(lambda: ident(site, "talking") in site.account().running)
    site.eventually(lambda: talking(site), 8)


def talking(site: Site) -> bool:
    """Whether the server has what the job said while it runs."""
    return any("said" in text for text in site.files("logs").values())


def test_every_host_sees_the_same_queue(site: Site) -> None:
    site.record("a", "seen")
    site.eventually(lambda: finished(site, "seen") == "SUCCEEDED")
    site.over(len(site.account().accepted))  # of one that runs the duration is shown
    lists = [site.sky(machine, "queue", site.name, "-o", "json") for machine in ("a", "b", "c")]
    assert '"seen"' in lists[0]
    assert len(set(lists)) == 1


def test_the_head_and_the_nodes_are_shown_as_alive(site: Site) -> None:
    said = site.sky("a", "status")
    assert "alive, leads (epoch 1), on b" in said
    assert [head["role"] for head in heads(site).values()] == ["leading"]


def test_files_come_by_mv_and_cp_and_slow_writers_and_none_runs_half_written(site: Site) -> None:
    before = len(site.account().accepted)
    writers = [site.write("c", way, f"{way}-", 8) for way in ("mv", "cp", "slow")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0], [writer.err for writer in writers]
    site.over(before + 24)
    names = {record["name"] for record in site.account().accepted.values()}
    assert {f"{way}-{number}" for way in ("mv", "cp", "slow") for number in range(8)} <= names
    assert len(names) == len(site.account().accepted) == before + 24
    assert site.names("rejected") == []
    dropped = {name for name in names if name.partition("-")[0] in ("mv", "cp", "slow")}
    assert {finished(site, name) for name in dropped} == {"SUCCEEDED"}


def test_the_mount_is_what_this_variant_is_about(site: Site) -> None:
    """Some of the options are written otherwise in /proc/mounts."""
    shown = {"actimeo=0": "acdirmax=0", "noac": "noac", "nolock": "nolock", "": "rw"}[site.bench.options]
    for machine in site.bench.clients:
        line = next(line for line in site.shell(machine, "cat /proc/mounts").splitlines() if f" {MOUNT} " in line)
        assert {shown, f"vers={site.bench.version}"} <= set(line.split()[3].split(",")), line


def test_another_head_leads_when_the_heads_host_is_frozen_and_the_path_goes_on(site: Site) -> None:
    """The last one here: it leaves the lead on c."""
    site.head("c").eventually(lambda: sorted(str(h["role"]) for h in heads(site).values()) == ["leading", "standby"])
    with site.bench.frozen("b"):
        site.record("a", "across")
        site.leads("c")
        site.eventually(lambda: finished(site, "across") == "SUCCEEDED")
    site.eventually(lambda: {h["host"]: h["role"] for h in heads(site).values()} == {"b": "standby", "c": "leading"})
