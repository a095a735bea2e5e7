"""What a job finds in its environment. Pure.

A clean login environment of its owner, never the daemon's; SkyPilot's variables with SkyPilot's exact formats; then the
task's envs and secrets. Which of SkyPilot's variables a task may set itself follows SkyPilot 0.14.1: TASK_ID is kept,
NODE_IPS and NUM_NODES may be shadowed, the others not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from spool_layout.records import WHOLE, Assignment
from spool_layout.taskfile import TaskSpec

LOGIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Owner(NamedTuple):
    """The user whom a job runs as, as the password database knows them."""

    uid: int
    name: str
    home: str
    shell: str


class Host(NamedTuple):
    """What jobs are told of the node and the spool. indices: UUID -> position in PCI order."""

    node: str
    cluster: str
    spool: str
    spool_id: str
    indices: Mapping[str, int]
    by_uuid: bool  # CUDA_VISIBLE_DEVICES holds UUIDs
    wrappers: str  # directory of the container wrappers, ahead on PATH
    attempt_dir: str
    lang: str = "C.UTF-8"


def login(owner: Owner, host: Host) -> dict[str, str]:
    """What a login gives."""
    return {
        "HOME": owner.home,
        "USER": owner.name,
        "LOGNAME": owner.name,
        "SHELL": owner.shell or "/bin/bash",
        "PATH": f"{host.wrappers}:{LOGIN_PATH}" if host.wrappers else LOGIN_PATH,
        "LANG": host.lang,
        "PYTHONUNBUFFERED": "1",
    }


def ours(a: Assignment, host: Host) -> dict[str, str]:
    """By which jobs, their containers and their leftovers are known."""
    return {
        "SKYSPOOL_ATTEMPT": f"{a.id}.{a.attempt}",
        "SKYSPOOL_ATTEMPT_DIR": host.attempt_dir,
        "SKYSPOOL_JOB_ID": str(a.id),
        "SKYSPOOL_SPOOL_ID": host.spool_id,
        "SKYSPOOL_DIR": host.spool,
        "SKYSPOOL_GPU_UUIDS": ",".join(a.gpus),
        "SKYSPOOL_WRAPPERS": host.wrappers,
    }


def run_environment(a: Assignment, task: TaskSpec, owner: Owner, host: Host) -> dict[str, str]:
    """Of the run commands of one rank."""
    return {
        **login(owner, host),
        "SKYPILOT_NODE_IPS": "\n".join(a.addresses),
        "SKYPILOT_NUM_NODES": str(len(a.nodes)),
        "SKYPILOT_TASK_ID": a.task_id,
        **task.envs,
        **task.secrets,
        "SKYPILOT_NODE_RANK": str(a.rank),
        "SKYPILOT_NUM_GPUS_PER_NODE": str(whole_gpus(a.milli)),
        **common(a, host),
        "CUDA_VISIBLE_DEVICES": visible(a.gpus, host),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        **ours(a, host),
    }


def setup_environment(a: Assignment, task: TaskSpec, owner: Owner, host: Host) -> dict[str, str]:
    """Of the setup commands: no CUDA_VISIBLE_DEVICES, as under SkyPilot."""
    return {
        **login(owner, host),
        "SKYPILOT_SETUP_NODE_IPS": "\n".join(a.addresses),
        "SKYPILOT_NUM_NODES": str(len(a.nodes)),
        "SKYPILOT_TASK_ID": a.task_id,
        **task.envs,
        **task.secrets,
        "SKYPILOT_SETUP_NODE_RANK": str(a.rank),
        "SKYPILOT_SETUP_NUM_GPUS_PER_NODE": str(whole_gpus(a.milli)),
        **common(a, host),
        **ours(a, host),
    }


def common(a: Assignment, host: Host) -> dict[str, str]:
    """Variables of SkyPilot that a task cannot set itself."""
    cluster = {"cluster_name": host.cluster, "cloud": "Skyspool", "region": None, "zone": None}
    return {
        "SKYPILOT_CLUSTER_INFO": json.dumps(cluster),
        "SKYPILOT_USER": a.user,
        "SKYPILOT_INTERNAL_JOB_ID": str(a.id),
    }


def whole_gpus(milli: int) -> int:
    """SKYPILOT_NUM_GPUS_PER_NODE: the count rounded up; 0.5 -> 1, none -> 0."""
    return -(-milli // WHOLE)


def visible(uuids: Sequence[str], host: Host) -> str:
    """CUDA_VISIBLE_DEVICES: exactly what was granted; empty for a CPU job, which hides every GPU.

    An entry that CUDA does not know hides all that follow it, so MIG devices are always named by their UUIDs.
    """
    by_uuid = host.by_uuid or any(uuid.startswith("MIG-") or uuid not in host.indices for uuid in uuids)
    return ",".join(uuid if by_uuid else str(host.indices[uuid]) for uuid in uuids)
