"""The GPUs that a node offers: what the driver tells (`detect`), as far as the environment lets the node use it
(`allowed`), or what somebody declared (`parse_spec`).

`detect` asks NVML in a process of its own (spoold/node/nvml.py), since a driver may hang, crash or take half a minute:
the runner starts all the same, without GPUs, and says why. What goes wrong is never an error, always a note in words:
a GPU that is lost or cannot be asked is left out, the others are offered.

A declared GPU has a UUID made from the node, its name and its position among those of that name, so that it is the same
after each start, and stays the same when GPUs of another name come or go.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import uuid

import msgspec

from spool_layout import accelerators
from spool_layout.errors import UsageError
from spool_layout.records import Gpu

PATIENCE = 60.0  # seconds: without persistence mode a driver wakes each GPU first, 2 s or more for each
MOST = 1024  # GPUs of one name on one node
EXAMPLE = "write what the node offers, such as H100:8 or A100:2,L4:1, or none"
_DECLARED = uuid.UUID("a1e2e47f-9f0b-5b0c-8a1e-5d7f6a9c2b34")  # the name space of declared GPUs
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._+-]*\Z")


class Found(msgspec.Struct, frozen=True):
    """The GPUs of a node, in PCI order, and what a person should know about them.

    indexed: whether CUDA counts them as `index` does. Where it may not, jobs must be told UUIDs: a CUDA that sees MIG
    devices does not count the other GPUs, and nobody says how it counts where one is lost.
    """

    gpus: list[Gpu] = []
    notes: list[str] = []
    indexed: bool = True


# ---- found


def detect(patience: float = PATIENCE) -> Found:
    """What NVML tells; nothing where there is no NVIDIA driver. patience: seconds to wait for it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "spoold.node.nvml", f"{patience:g}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
    )
    try:
        said, complaint = child.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        abandon(child)
        return nothing(f"NVML gave no answer within {patience:g} s (does the driver hang?)")
    if child.returncode < 0:
        return nothing(f"NVML ended the process that asked it ({signal.Signals(-child.returncode).name})")
    if child.returncode:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        return nothing(f"NVML could not be asked ({last or f'exit code {child.returncode}'})")
    return msgspec.json.decode(said, type=Found)


def nothing(why: str) -> Found:
    """No GPUs, and why."""
    return Found(notes=[f"{why}: no GPUs are offered. To declare them: spoold node --gpus, or `nodes:` in spool.yaml"])


def abandon(child: subprocess.Popen[bytes]) -> None:
    """Kill a child and do not wait for its end: in the kernel of a driver that hangs it may never come."""
    child.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(1)
    for pipe in (child.stdout, child.stderr):
        if pipe:
            pipe.close()


# ---- allowed


def allowed(found: Found, visible: str | None) -> Found:
    """What CUDA_VISIBLE_DEVICES lets this process use of the GPUs that were found, and a note that says so.

    visible: its value, as a batch system sets it for what it starts; None: it is not set. Its entries are indices, or
    UUIDs of which an unmistakable beginning is enough. As CUDA reads it (CUDA C++ Programming Guide, "CUDA Environment
    Variables"), the first entry that names no GPU ends the list: -1, or Slurm's NoDevFiles. An index names none where
    nobody knows how CUDA counts (Found.indexed). A GPU keeps the index that it has among all.
    """
    if visible is None or not found.gpus:
        return found
    chosen: set[str] = set()
    for word in visible.split(","):
        gpu = _named(found, word.strip())
        if gpu is None:
            break
        chosen.add(gpu.uuid)
    kept = [gpu for gpu in found.gpus if gpu.uuid in chosen]
    if len(kept) == len(found.gpus):
        return found
    note = (
        f"CUDA_VISIBLE_DEVICES={visible[:200]!r} where the node was started: offers {len(kept)} of the "
        f"{len(found.gpus)} GPUs here; unset it to offer all"
    )
    return msgspec.structs.replace(found, gpus=kept, notes=[*found.notes, note])


def _named(found: Found, word: str) -> Gpu | None:
    """The GPU that an entry of CUDA_VISIBLE_DEVICES names."""
    if word.isascii() and word.isdigit():
        fit = [gpu for gpu in found.gpus if found.indexed and gpu.index == int(word[:9])]
    else:
        fit = [gpu for gpu in found.gpus if word.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(word)]
    return fit[0] if len(fit) == 1 else None


# ---- declared


def parse_spec(spec: str, node: str, where: str = "--gpus") -> list[Gpu]:
    """The GPUs that `H100:8`, `A100:2,L4:1`, `H100` (one) or `none` declares for a node.

    UsageError for anything else. where: what the spec was given to, as errors name it.
    """
    if spec.strip().lower() == "none":
        return []
    if not spec.strip():
        raise UsageError(f"{where} is empty", EXAMPLE)
    found: list[Gpu] = []
    for name in (name for item in spec.split(",") for name in _names(item.strip(), f"{where} {spec!r}")):
        position = sum(gpu.name == name for gpu in found)
        found.append(Gpu(f"GPU-{uuid.uuid5(_DECLARED, f'{node}/{name}/{position}')}", len(found), name))
    return found


def _names(item: str, where: str) -> list[str]:
    """`H100:2` -> [H100, H100]."""
    name, colon, count = (word.strip() for word in item.partition(":"))
    if not item:
        raise UsageError(f"{where}: there is nothing beside a comma", EXAMPLE)
    if accelerators.is_memory_request(name) or not _NAME.match(name) or name.lower() == "none":
        raise UsageError(f"{where}: {name!r} is no name of a GPU", EXAMPLE)
    meant = accelerators.resolve(name)
    if len(meant) > 1:  # a job that asks for it would be refused as ambiguous
        raise UsageError(f"{where}: {name!r} may mean {', '.join(meant[:4])}; which is it?", EXAMPLE)
    if not colon:
        return meant
    if not (count.isascii() and count.isdigit() and len(count) < 9 and 0 < int(count) <= MOST):
        raise UsageError(
            f"{where}: {count!r} is no count of GPUs, which is a whole number from 1 to {MOST}",
            "a node offers whole GPUs; what share of one a job takes is in its task file"
            if re.fullmatch(r"\d*\.\d+", count)
            else EXAMPLE,
        )
    return meant * int(count)
