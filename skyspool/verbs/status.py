"""status: the head, the nodes, every GPU with who holds which share of it, and what room the spool takes."""

from __future__ import annotations

import shlex
import time
from typing import Any

import click

from skyspool import daemons, heads, room
from skyspool.ages import ago, iso
from skyspool.clusters import Cluster, ask_each
from skyspool.present import look
from skyspool.say import hint
from skyspool.tables import Table, show
from spool_layout.fit import number
from spool_layout.paths import parse_attempt_key
from spool_layout.records import GpuSlot, Job, Node
from spool_layout.replay import State
from spool_layout.storage import Disk

NODES_NARROWING = tuple((lambda t, h=heading: t.without(h)) for heading in ("ADDRESS", "SINCE", "MEMORY"))
ROLES = {"leading": "alive, leads", "standby": "alive, stands by", "once": "run by cron"}


@click.command("status")
@click.argument("clusters", nargs=-1, metavar="[CLUSTER]...")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How to print.")
@click.option("-r", "--refresh", is_flag=True, hidden=True)
@click.option("-u", "--all-users", is_flag=True, hidden=True)
@click.option("-v", "--verbose", is_flag=True, hidden=True)
def command(clusters: tuple[str, ...], output: str, **_: bool) -> None:
    """Show how the CLUSTERs are; all that are configured where none is named."""
    views = ask_each(clusters, _View)
    if output == "json":
        import json

        click.echo(json.dumps({view.cluster.name: view.data() for view in views}, indent=2))
        return
    for position, view in enumerate(views):
        click.echo("\n" * bool(position), nl=False)
        view.show()


class _View:
    """One spool."""

    def __init__(self, cluster: Cluster) -> None:
        disk = Disk()
        self.cluster, self.now = cluster, time.time()
        self.present = look(cluster, disk)
        self.state = self.present.state
        self.server_now = heads.server_now(cluster.spool, disk)
        self.heads = heads.heads(cluster, disk, self.server_now)
        self.room = room.measure(cluster.spool, disk)
        self.notes = {status.node: status.notes for status, _ in daemons.node_statuses(cluster, disk)}

    # ---- for people

    def show(self) -> None:
        """Print everything."""
        click.echo(f"Cluster {self.cluster.name}: {self.cluster.spool.root}")
        for line in (*self._head_lines(), self._job_line(), *room_lines(self.room)):
            click.echo(line)
        if not self.state.nodes:
            click.echo("Nodes: none is known yet")
            hint(f"spoold node {shlex.quote(self.cluster.spool.root)}      # on each host that is to run jobs")
            return
        click.echo()
        show(node_table(self.state, self.now), NODES_NARROWING)
        for name, told in self.notes.items():
            for line in told:
                click.echo(f" {name}: {line}")
        if any(node.gpus for node in self.state.nodes.values()):
            click.echo()
            show(gpu_table(self.state), (lambda t: t.without("UUID"),))

    def _head_lines(self) -> list[str]:
        leading = [head for head in self.heads if head.alive and head.status.role != "standby"]
        standby = [head for head in self.heads if head.alive and head.status.role == "standby"]
        lines = [f"Head: {_head_words(head, self.now)}" for head in leading] or self._headless()
        return lines + [f"Head: {_head_words(head, self.now)}" for head in standby]

    def _headless(self) -> list[str]:
        told = heads.last_sign(self.heads, self.present.written, self.server_now)
        leader = self.present.state.leader
        then = (
            [f"      it led on {leader.host} (pid {leader.pid}); what follows is as it was then"] if leader.host else []
        )
        return [f"Head: none is alive; {told}", *then]

    def _job_line(self) -> str:
        counts: dict[str, int] = {}
        for job in self.state.jobs.values():
            counts[str(job.status)] = counts.get(str(job.status), 0) + 1
        live = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none live"
        return f"Jobs: {live}; {self.state.finished} ended"

    # ---- for programs

    def data(self) -> dict[str, Any]:
        """For -o json."""
        return {
            "directory": self.cluster.spool.root,
            "epoch": self.present.epoch,
            "head_alive": heads.is_served(self.heads),
            "heads": [_head_data(head) for head in self.heads],
            "news_at": iso(self.present.written),
            "nodes": [node_data(self.state, node, self.notes.get(node.name, [])) for node in self.state.nodes.values()],
            "jobs": {"live": len(self.state.jobs), "ended": self.state.finished},
            "room": self.room._asdict(),
        }


def _head_words(head: heads.Head, now: float) -> str:
    status = head.status
    return (
        f"{ROLES.get(status.role, status.role)}, on {status.host} (pid {status.pid}), started {ago(status.since, now)}"
    )


def _head_data(head: heads.Head) -> dict[str, Any]:
    status = head.status
    return {
        "host": status.host,
        "pid": status.pid,
        "role": status.role,
        "alive": head.alive,
        "epoch": status.epoch,
        "since": iso(status.since),
        "seen": iso(head.seen),
        "version": status.version,
    }


def room_lines(found: room.Room) -> tuple[str, str]:
    """What the spool takes, and what its file system has left."""
    least = "" if found.whole else "at least "
    return (
        f"Room: the spool takes {least}{room.amount(found.taken)} (logs: {room.amount(found.logs)}) in "
        f"{found.files} file{'s' if found.files != 1 else ''}",
        f"Free: {room.amount(found.free)} of {room.amount(found.total)}",
    )


# ---- nodes and GPUs


def node_table(state: State, now: float) -> Table:
    """One row a node."""
    headings = ("NODE", "STATE", "SINCE", "GPUS", "CPUS", "MEMORY", "ADDRESS")
    return Table(headings, [_node_row(node, now) for node in state.nodes.values()])


def _node_row(node: Node, now: float) -> tuple[str, ...]:
    cpus = node.cpus_milli - sum(share.cpus_milli for share in node.shares.values())
    memory = node.memory_mb - sum(share.memory_mb for share in node.shares.values())
    state = "stopped" if node.left else node.state
    return (
        node.name,
        state,
        ago(node.since, now),
        _gpu_words(node.gpus),
        f"{number(cpus)} of {number(node.cpus_milli)} free",
        f"{memory // 1024} of {node.memory_mb // 1024} GiB free",
        node.address or "-",
    )


def _gpu_words(slots: list[GpuSlot]) -> str:
    kinds: dict[str, list[GpuSlot]] = {}
    for slot in slots:
        kinds.setdefault(slot.gpu.name, []).append(slot)
    words = [f"{number(sum(s.free for s in kind))} of {len(kind)} {name} free" for name, kind in kinds.items()]
    return ", ".join(words) or "-"


def gpu_table(state: State) -> Table:
    """One row a GPU, with its holders."""
    rows: list[tuple[str, ...]] = [
        (node.name, str(slot.gpu.index), slot.gpu.name, number(slot.free), _holders(state, slot), slot.gpu.uuid)
        for node in state.nodes.values()
        for slot in node.gpus
    ]
    return Table(("NODE", "GPU", "NAME", "FREE", "HELD BY", "UUID"), rows)


def _holders(state: State, slot: GpuSlot) -> str:
    words = [_holder(state, key, milli) for key, milli in slot.holders.items()]
    return ", ".join(words if slot.present else [*words, "not reported by its node"]) or "-"


def _holder(state: State, key: str, milli: int) -> str:
    job = holder(state, key)
    ident = parse_attempt_key(key)[0]
    if job is None:
        return f"{number(milli)} job {ident} (given up; not yet reported gone)"
    return f"{number(milli)} job {ident} {job.name} ({job.user})".replace("  ", " ")


def holder(state: State, key: str) -> Job | None:
    """The live job whose present attempt has this key."""
    ident, attempt = parse_attempt_key(key)
    job = state.jobs.get(ident)
    return job if job is not None and job.attempt == attempt else None


def node_data(state: State, node: Node, notes: list[str]) -> dict[str, Any]:
    """One node for -o json. notes: what it says of itself, such as a GPU that it does not offer."""
    return {
        "name": node.name,
        "host": node.host,
        "address": node.address,
        "state": node.state,
        "since": iso(node.since),
        "cpus": node.cpus_milli / 1000,
        "memory_gb": node.memory_mb / 1024,
        "shares": [
            {"job_id": parse_attempt_key(key)[0], "cpus": s.cpus_milli / 1000, "memory_gb": s.memory_mb / 1024}
            for key, s in node.shares.items()
        ],
        "gpus": [gpu_data(state, slot) for slot in node.gpus],
        "notes": notes,
    }


def gpu_data(state: State, slot: GpuSlot) -> dict[str, Any]:
    """One GPU for -o json."""
    gpu = slot.gpu
    holders = [
        {"job_id": parse_attempt_key(key)[0], "share": milli / 1000, "live": holder(state, key) is not None}
        for key, milli in slot.holders.items()
    ]
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "free": slot.free / 1000,
        "present": slot.present,
        "holders": holders,
    }
