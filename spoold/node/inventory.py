"""What this node has to offer: GPUs, CPUs, memory, an address; and what it holds jobs to.

Each from the first that says something: the command line, spool.yaml's `nodes:`, the machine itself; of the machine's
GPUs, those that CUDA_VISIBLE_DEVICES names where it is set, as it is in a job of Slurm's.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import NamedTuple

from spool_layout.errors import BadSettings, UsageError
from spool_layout.records import Enforced, Gpu
from spool_layout.settings import DeclaredNode
from spoold.node import cgroups, gpus

MOST = 1_000_000  # CPUs, or GB

log = logging.getLogger("spoold.node")


class Inventory(NamedTuple):
    """What status.json says of the node. Memory in MiB.

    notes: what is wrong with its GPUs, in words. indexed: whether CUDA counts them as their `index` says; where it may
    not, jobs are to be told UUIDs.
    """

    gpus: list[Gpu]
    cpus_milli: int
    memory_mb: int
    address: str
    notes: list[str]
    indexed: bool


def take(node: str, flags: DeclaredNode, declared: DeclaredNode) -> Inventory:
    """The node's inventory. UsageError where a flag says what cannot be, BadSettings where spool.yaml does."""
    cpus = amount(node, "cpus", flags.cpus, declared.cpus)
    memory = amount(node, "memory", flags.memory, declared.memory)
    found = offered_gpus(node, flags, declared)
    return Inventory(
        gpus=found.gpus,
        cpus_milli=int(cpus * 1000) if cpus else 1000 * len(os.sched_getaffinity(0)),
        memory_mb=int(memory * 1024) if memory else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        address=flags.address or declared.address or own_address(),
        notes=found.notes,
        indexed=found.indexed,
    )


def enforced(limits: bool) -> Enforced:
    """What jobs are held to here, and by what. limits: whether memory is to be limited."""
    place = cgroups.here()
    processes = "cgroup v2" if place.processes else "/proc"
    if not limits:
        return Enforced(processes, "", "spool.yaml says `memory: counted`")
    memory = "" if not place.memory else "cgroup v2" if place.memory == place.processes else "cgroup v1"
    return Enforced(processes, memory, place.why)


def offered_gpus(node: str, flags: DeclaredNode, declared: DeclaredNode) -> gpus.Found:
    """What the command line declares, else what spool.yaml does, else what NVML finds and this process may use."""
    if flags.gpus is not None:
        return gpus.Found(gpus.parse_spec(flags.gpus, node))
    if declared.gpus is not None:
        try:
            return gpus.Found(gpus.parse_spec(declared.gpus, node, f"spool.yaml: nodes.{node}.gpus"))
        except UsageError as error:
            raise BadSettings(error.message, error.hint) from error
    found = gpus.allowed(gpus.detect(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    for note in found.notes:
        log.warning("%s", note)
    return found


def amount(node: str, what: str, flag: float | None, declared: float | None) -> float | None:
    """CPUs or GB as they are declared; None: not declared."""
    said = declared if flag is None else flag
    if said is None or 0 < said <= MOST:
        return said
    message = f"{said:g} is no amount to offer: it must be above 0 and at most {MOST:,}"
    hint = "leave it out, and the node offers all that it has"
    if flag is None:
        raise BadSettings(f"spool.yaml: nodes.{node}.{what}: {message}", hint)
    raise UsageError(f"--{what}: {message}", hint)


def own_address() -> str:
    """The address by which this host would reach others; no packet is sent. 127.0.0.1 where it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): only asks the routing table
            return str(probe.getsockname()[0])
        except OSError:
            pass
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"
