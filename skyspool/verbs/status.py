"""status: the head, the nodes, every GPU with who holds which share of it, and what room the spool takes."""

from __future__ import annotations

import os
import shlex
import time
from typing import Any, NamedTuple

import click

from skyspool import daemons, heads, jobs, room
from skyspool.ages import ago, iso, lasted, shorter
from skyspool.clusters import Cluster, ask_each
from skyspool.enforced import enforced_data, enforced_lines
from skyspool.present import look
from skyspool.say import hint, show_json, tell
from skyspool.tables import Table, show
from spool_layout import diagnosis, reserve, settings
from spool_layout.diagnosis import WARNINGS, Diagnosis, Finding
from spool_layout.fit import number
from spool_layout.paths import parse_attempt_key
from spool_layout.records import GpuSlot, Job, Node
from spool_layout.replay import State
from spool_layout.storage import Disk
from spool_layout.users import user_name

NODES_NARROWING = (
    lambda t: t.changed("SINCE", shorter),
    *((lambda t, h=heading: t.without(h)) for heading in ("ADDRESS", "SINCE", "FREE MEMORY")),
)
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
        show_json({view.cluster.name: view.data() for view in views})
        return
    for position, view in enumerate(views):
        click.echo("\n" * bool(position), nl=False)
        view.show()


class _View:
    """One spool."""

    def __init__(self, cluster: Cluster) -> None:
        disk = Disk()
        self.cluster, self.now = cluster, time.time()
        self.users = settings.load(cluster.spool, disk).users
        owner = disk.stat(os.path.realpath(cluster.spool.root))
        self.account = user_name(owner.st_uid) if owner else "nobody"
        listed = jobs.pending_files(cluster.spool, disk)
        self.present = look(cluster, disk)
        self.state = self.present.state
        self.new = len(jobs.unaccepted(cluster.spool, listed, self.state))
        self.lacks = reserve.lack(disk.room(cluster.spool.root))
        self.server_now = heads.server_now(cluster.spool, disk)
        self.heads = heads.heads(cluster, disk, self.server_now)
        self.room = room.measure(cluster.spool, disk)
        self.warnings = warnings_of(diagnosis.kept(cluster.spool, disk))
        statuses = [status for status, _ in daemons.node_statuses(cluster, disk)]
        self.notes = {status.node: status.notes for status in statuses}
        self.enforced = {status.node: status.enforced for status in statuses}

    # ---- for people

    def show(self) -> None:
        """Print everything."""
        click.echo(f"Cluster {self.cluster.name}: {self.cluster.spool.root}")
        click.echo(f"Users: {self.users}{f', as {self.account}' if self.users == 'multi' else ''}")
        for line in (*self._head_lines(), self._job_line(), *room_lines(self.room), *self._warning_lines()):
            tell(line)
        if not self.state.nodes:
            click.echo("Nodes: none is known yet")
            hint(f"spoold node {shlex.quote(self.cluster.spool.root)}      # on each host that is to run jobs")
            return
        click.echo()
        show(node_table(self.state, self.now), NODES_NARROWING)
        for line in enforced_lines(self.enforced):
            tell(line)
        for name, told in self.notes.items():
            for line in told:
                tell(f" {name}: {line}")
        if any(node.gpus for node in self.state.nodes.values()):
            click.echo()
            shorter_tables = (lambda t: t.without("UUID"), lambda _: gpu_table(self.state, brief=True).without("UUID"))
            show(gpu_table(self.state), shorter_tables)

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
        new = f"; {self.new} file{'s' * (self.new > 1)} in pending/ that no head has accepted yet" if self.new else ""
        return f"Jobs: {live}; {self.state.finished} ended{new}"

    def _warning_lines(self) -> list[str]:
        """That nothing can be submitted; and what the doctor found amiss on each host, and when."""
        full = [f"Warning: the spool is full, nothing new is accepted: {self.lacks}"] if self.lacks else []
        return full + [
            f"Warning: {w.host}{f' with {w.met}' if w.met else ''}, {w.finding.check} {w.finding.verdict} "
            f"({ago(w.at, self.server_now)}): {w.finding.line}"
            for w in self.warnings
        ]

    # ---- for programs

    def data(self) -> dict[str, Any]:
        """For -o json."""
        return {
            "directory": self.cluster.spool.root,
            "users": self.users,
            "owner": self.account,
            "epoch": self.present.epoch,
            "head_alive": heads.is_served(self.heads),
            "heads": [_head_data(head) for head in self.heads],
            "news_at": iso(self.present.written),
            "nodes": [
                {
                    **node_data(self.state, node, self.notes.get(node.name, [])),
                    "enforced": enforced_data(self.enforced.get(node.name)),
                }
                for node in self.state.nodes.values()
            ],
            "jobs": {"live": len(self.state.jobs), "ended": self.state.finished, "unaccepted": self.new},
            "room": self.room._asdict(),
            "full": self.lacks or None,
            "warnings": [_warning_data(warning) for warning in self.warnings],
        }


class Warned(NamedTuple):
    """Something that the doctor found amiss. met: the other host, where two found it together; at: when."""

    host: str
    met: str
    at: float
    finding: Finding


def warnings_of(found: list[Diagnosis]) -> list[Warned]:
    """What is amiss on any host, the worst first."""
    told = [Warned(d.host, "", d.at, finding) for d in found for finding in d.findings]
    told += [Warned(d.host, d.met, d.met_at, finding) for d in found for finding in d.together]
    return [warned for verdict in WARNINGS for warned in told if warned.finding.verdict == verdict]


def _warning_data(warned: Warned) -> dict[str, Any]:
    return {"host": warned.host, "met": warned.met or None, "at": iso(warned.at), **warned.finding.data}


def _head_words(head: heads.Head, now: float) -> str:
    status = head.status
    epoch = f" (epoch {status.epoch})" if status.role == "leading" else ""
    return (
        f"{ROLES.get(status.role, status.role)}{epoch}, on {status.host} (pid {status.pid}), "
        f"for {lasted(status.since, now)}"
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
    """One row a node. What is free is told as FREE/ALL."""
    headings = ("NODE", "STATE", "SINCE", "FREE GPUS", "FREE CPUS", "FREE MEMORY", "ADDRESS")
    return Table(headings, [_node_row(node, now) for node in state.nodes.values()])


def _node_row(node: Node, now: float) -> tuple[str, ...]:
    cpus = node.cpus_milli - sum(share.cpus_milli for share in node.shares.values())
    memory = node.memory_mb - sum(share.memory_mb for share in node.shares.values())
    state = "stopped" if node.left else "awaited" if node.awaited and node.state == "up" else node.state
    return (
        node.name,
        state,
        ago(node.since, now),
        _gpu_words(node.gpus),
        f"{number(cpus)}/{number(node.cpus_milli)}",
        f"{memory // 1024}/{node.memory_mb // 1024} GiB",
        node.address or "-",
    )


def _gpu_words(slots: list[GpuSlot]) -> str:
    kinds: dict[str, list[GpuSlot]] = {}
    for slot in slots:
        kinds.setdefault(slot.gpu.name, []).append(slot)
    words = [f"{number(sum(s.free for s in kind))}/{len(kind)} {name}" for name, kind in kinds.items()]
    return ", ".join(words) or "-"


def gpu_table(state: State, brief: bool = False) -> Table:
    """One row a GPU, with its holders. brief: these by their jobs' IDs only."""
    rows: list[tuple[str, ...]] = [
        (node.name, str(slot.gpu.index), slot.gpu.name, number(slot.free), _holders(state, slot, brief), slot.gpu.uuid)
        for node in state.nodes.values()
        for slot in node.gpus
    ]
    return Table(("NODE", "GPU", "NAME", "FREE", "HELD BY", "UUID"), rows)


def _holders(state: State, slot: GpuSlot, brief: bool) -> str:
    words = [f"{_holder(state, key, brief)}: {number(milli)}" for key, milli in slot.holders.items()]
    return ", ".join(words if slot.present else [*words, "not reported by its node"]) or "-"


def _holder(state: State, key: str, brief: bool) -> str:
    job = holder(state, key)
    who = f"job {parse_attempt_key(key)[0]}"
    if job is None:
        return f"{who} (given up)" if brief else f"{who} (given up; not yet reported gone)"
    return who if brief else f"{who} {job.name} ({job.user})".replace("  ", " ")


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
