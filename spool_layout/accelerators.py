"""Accelerators by the names that SkyPilot gives them.

A name is matched whatever its case; one that is not in the table is kept as it is written, since clusters have GPUs
that nobody has listed. `from_nvml` turns what the driver calls a device into the same names.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Kind(NamedTuple):
    """A well-known accelerator. memory_gb: of one device; 0: not known or not one size."""

    name: str
    memory_gb: int
    maker: str = "nvidia"


# SkyPilot's catalog spelling; memory from the makers' data sheets.
KINDS: tuple[Kind, ...] = (
    Kind("GB300", 288),
    Kind("B300", 288),
    Kind("GB200", 186),
    Kind("B200", 180),
    Kind("GH200", 96),
    Kind("H200", 141),
    Kind("H100", 80),
    Kind("H100-MEGA", 80),
    Kind("H100-NVL", 94),
    Kind("H800", 80),
    Kind("H20", 96),
    Kind("A100-80GB", 80),
    Kind("A100", 40),
    Kind("A800", 80),
    Kind("A40", 48),
    Kind("A30", 24),
    Kind("A16", 16),
    Kind("A10G", 24),
    Kind("A10", 24),
    Kind("A2", 16),
    Kind("L40S", 48),
    Kind("L40", 48),
    Kind("L20", 48),
    Kind("L4", 24),
    Kind("L2", 24),
    Kind("V100", 16),
    Kind("V100-32GB", 32),
    Kind("P100", 16),
    Kind("P40", 24),
    Kind("P4", 8),
    Kind("T4", 16),
    Kind("K80", 12),
    Kind("M60", 8),
    Kind("M4000", 8),
    Kind("RTXPRO6000", 96),
    Kind("RTX6000-Ada", 48),
    Kind("RTX5000-Ada", 32),
    Kind("RTX4000-Ada", 20),
    Kind("RTXA6000", 48),
    Kind("RTXA5000", 24),
    Kind("RTXA4500", 20),
    Kind("RTXA4000", 16),
    Kind("RTXA2000", 12),
    Kind("RTX6000", 24),
    Kind("RTX5000", 16),
    Kind("RTX4000", 8),
    Kind("RTX5090", 32),
    Kind("RTX5080", 16),
    Kind("RTX4090", 24),
    Kind("RTX4080", 16),
    Kind("RTX4070", 12),
    Kind("RTX4060", 8),
    Kind("RTX3090", 24),
    Kind("RTX3080", 10),
    Kind("RTX3070", 8),
    Kind("RTX3060", 12),
    Kind("RTX2080Ti", 11),
    Kind("GTX1080Ti", 11),
    Kind("MI355X", 288, "amd"),
    Kind("MI350X", 288, "amd"),
    Kind("MI325X", 256, "amd"),
    Kind("MI300X", 192, "amd"),
    Kind("MI300A", 128, "amd"),
    Kind("MI250X", 128, "amd"),
    Kind("MI250", 128, "amd"),
    Kind("MI210", 64, "amd"),
    Kind("MI100", 32, "amd"),
    Kind("Gaudi3", 128, "intel"),
    Kind("Gaudi2", 96, "intel"),
    Kind("Gaudi HL-205", 32, "intel"),
    Kind("Trainium2", 96, "amazon"),
    Kind("Trainium", 32, "amazon"),
    Kind("Inferentia2", 32, "amazon"),
    Kind("Inferentia", 8, "amazon"),
)
_BY_NAME = {kind.name.lower(): kind for kind in KINDS}
_MEMORY = re.compile(r"(?:(?P<maker>[a-z]+):)?(?P<gb>\d+(?:\.\d+)?)\s*GB(?P<more>\+?)\Z", re.IGNORECASE)


def canonical(name: str) -> str:
    """SkyPilot's spelling: h100 -> H100, a100-80gb -> A100-80GB; tpu-* in lower case; others as they are written."""
    bare = name.strip()
    if bare.lower().startswith("tpu-"):
        return bare.lower()
    kind = _BY_NAME.get(bare.lower())
    return kind.name if kind else bare


def same(one: str, other: str) -> bool:
    """Whether two names mean one accelerator."""
    return one.strip().lower() == other.strip().lower()


def is_memory_request(name: str) -> bool:
    """Whether a word asks by memory: 80GB, 80GB+, nvidia:80GB."""
    return bool(_MEMORY.match(name.strip()))


def resolve(name: str) -> list[str]:
    """The accelerators that a word means: one by name, or all of a size (`80GB`), or of at least one (`80GB+`).

    Smaller ones come first, so that a job that needs little does not take the largest.
    """
    match = _MEMORY.match(name.strip())
    if not match:
        return [canonical(name)]
    wanted, maker = float(match["gb"]), (match["maker"] or "").lower()
    fitting = [
        kind
        for kind in KINDS
        if (not maker or kind.maker == maker)
        and (kind.memory_gb >= wanted if match["more"] else kind.memory_gb == wanted)
    ]
    return [kind.name for kind in sorted(fitting, key=lambda kind: kind.memory_gb)] or [canonical(name)]


def from_nvml(product: str, memory_mib: int) -> str:
    """The name for what NVML calls a device: `NVIDIA H100 80GB HBM3` -> H100, `NVIDIA A100-SXM4-80GB` -> A100-80GB.

    memory_mib tells apart what NVML's words do not (0: not known).
    """
    words = (
        re.sub(
            r"\b(nvidia|tesla|quadro|geforce|graphics device|generation|laptop gpu|gpu)\b",
            " ",
            product,
            flags=re.IGNORECASE,
        )
        .replace("-", " ")
        .split()
    )
    text = "".join(words).lower()
    large = memory_mib > 60_000 or "80gb" in text
    if text.startswith("a100"):
        return "A100-80GB" if large else "A100"
    if text.startswith("v100"):
        return "V100-32GB" if memory_mib > 20_000 or "32gb" in text else "V100"
    if "rtx6000ada" in text or "rtx5000ada" in text or "rtx4000ada" in text:
        return f"RTX{re.search(r'[654]000', text)[0]}-Ada"  # type: ignore[index]
    if "rtxpro6000" in text:
        return "RTXPRO6000"
    if text.startswith("h100nvl"):
        return "H100-NVL"
    for kind in sorted(KINDS, key=lambda kind: -len(kind.name)):
        if text.startswith(kind.name.lower().replace("-", "")):
            return kind.name
    return "-".join(words) or product
