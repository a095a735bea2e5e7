"""What this node has to offer: GPUs, CPUs, memory, an address.

Each from the first that says something: the command line, spool.yaml's `nodes:`, the machine itself.
"""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

from spool_layout.records import Gpu
from spool_layout.settings import DeclaredNode
from spoold.node import gpus


class Inventory(NamedTuple):
    """What status.json says of the node. Memory in MiB."""

    gpus: list[Gpu]
    cpus_milli: int
    memory_mb: int
    address: str


def take(node: str, flags: DeclaredNode, declared: DeclaredNode) -> Inventory:
    """The node's inventory. SpoolError where --gpus or spool.yaml cannot be read."""
    spec = flags.gpus if flags.gpus is not None else declared.gpus
    cpus = flags.cpus or declared.cpus
    memory = flags.memory or declared.memory
    return Inventory(
        gpus=gpus.parse_spec(spec, node) if spec is not None else gpus.detect(),
        cpus_milli=int(cpus * 1000) if cpus else 1000 * len(os.sched_getaffinity(0)),
        memory_mb=int(memory * 1024) if memory else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        address=flags.address or declared.address or own_address(),
    )


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
