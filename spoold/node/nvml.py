"""`python -m spoold.node.nvml SECONDS`: asks NVML which GPUs there are, and prints a Found as JSON.

A process of its own, for gpus.detect: a driver that hangs or crashes takes only this one with it, and after SECONDS it
ends itself. NVML is never shut down, since the process ends anyway and that call may hang as well.

The index of a GPU is its position by PCI address, as CUDA counts under CUDA_DEVICE_ORDER=PCI_BUS_ID; NVML's own order
is not promised to be that one. Where MIG mode is on, the board itself is not offered; each of its MIG devices is one
GPU with its own `MIG-…` UUID, after the board's place. It is named after its board and its profile, A100-MIG-1g.5gb:
the board's name as SkyPilot writes it, the rest as NVIDIA's Kubernetes labels do (nvidia.com/gpu.product), `+me`
becoming `.me` as there. So a job that asks for A100 never gets a slice of one, and `accelerators: A100-MIG-1g.5gb:2`
means what it says.

What NVML is known for: a library without a driver; a lost GPU that answers nothing while the others do; calls that an
old library does not have; memory that a GPU cannot tell (Jetson, GB10); holes between the MIG devices of a board.
"""

from __future__ import annotations

import math
import re
import signal
import sys
from typing import Any, NamedTuple

import msgspec
import pynvml

from spool_layout.accelerators import from_nvml
from spool_layout.records import Gpu
from spoold.node.gpus import Found, nothing

# A binding that is newer than the library raises the second, which is no NVMLError; names may hold any bytes.
TROUBLE = (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError, UnicodeError)
# Of calls about what a GPU, or an old library, does not have.
HAS_NOT = (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound)


class Answers(NamedTuple):
    """What was learned so far. gpus: (place, GPU without its index); a place sorts by PCI, then MIG device."""

    gpus: list[tuple[tuple[int, ...], Gpu]]
    notes: list[str]


def ask() -> Found:
    """Every GPU that answers."""
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError_LibraryNotFound:
        return Found()
    except TROUBLE as error:
        return nothing(f"NVML: {error}")
    answers = Answers([], [])
    for number in range(count):
        examine(number, answers)
    gpus = [gpu for _, gpu in sorted(answers.gpus, key=lambda answer: answer[0])]
    return Found(
        gpus=[msgspec.structs.replace(gpu, index=index) for index, gpu in enumerate(gpus)],
        notes=answers.notes,
        indexed=not answers.notes and not any(gpu.uuid.startswith("MIG-") for gpu in gpus),
    )


def examine(number: int, answers: Answers) -> None:
    """Learn what NVML's GPU `number` is."""
    what = f"the GPU that NVML counts as {number}"
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(number)
        pci = pynvml.nvmlDeviceGetPciInfo(handle)
        board = describe(handle, pci.busId)
        what = f"{board.name} at {board.pci}"
        place = (pci.domain, pci.bus, pci.device)
        if has_mig(handle):
            examine_mig(handle, board, place, answers)
        else:
            answers.gpus.append((place, board))
    except TROUBLE as error:
        answers.notes.append(f"{what} is not offered: {error}")


def describe(handle: Any, pci: str) -> Gpu:
    """A board or a MIG device, without its index. pci: as nvidia-smi prints it, 00000000:3B:00.0."""
    product, memory = pynvml.nvmlDeviceGetName(handle), memory_of(handle)
    return Gpu(pynvml.nvmlDeviceGetUUID(handle), 0, from_nvml(product, memory), memory, pci, product)


def memory_of(handle: Any) -> int:
    """MiB; 0 where the GPU cannot tell."""
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) >> 20
    except HAS_NOT:
        return 0


# ---- MIG


def has_mig(handle: Any) -> bool:
    """Whether MIG mode is on now (it may be pending until a reset)."""
    try:
        return bool(pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE)
    except HAS_NOT:
        return False


def examine_mig(handle: Any, board: Gpu, place: tuple[int, ...], answers: Answers) -> None:
    """Learn which MIG devices a board has."""
    before = len(answers.gpus)
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            answers.gpus.append(((*place, number), mig_device(device, board)))
        except pynvml.NVMLError_NotFound:
            continue  # a hole: devices come and go
        except TROUBLE as error:
            answers.notes.append(f"MIG device {number} of {board.name} at {board.pci} is not offered: {error}")
    if len(answers.gpus) == before:
        answers.notes.append(f"{board.name} at {board.pci} is in MIG mode and has no MIG device to offer")


def mig_device(device: Any, board: Gpu) -> Gpu:
    """A MIG device, named after its board and its profile."""
    raw = describe(device, board.pci)
    return msgspec.structs.replace(raw, name=f"{board.name}-MIG-{profile(device, raw)}")


def profile(device: Any, raw: Gpu) -> str:
    """`1g.5gb`: from the product's name (`NVIDIA A100-SXM4-40GB MIG 1g.5gb`), else from slices and memory."""
    if told := re.search(r"\bMIG\s+(\S+)", raw.product):
        return told[1].replace("+", ".")
    slices = pynvml.nvmlDeviceGetAttributes(device).gpuInstanceSliceCount
    return f"{slices}g.{math.ceil(raw.memory_mb / 1024)}gb"


def main() -> None:
    """Answer on stdout."""
    signal.alarm(math.ceil(float(sys.argv[1])) + 1)  # whoever asked may have been killed meanwhile
    sys.stdout.buffer.write(msgspec.json.encode(ask()))


if __name__ == "__main__":
    main()
