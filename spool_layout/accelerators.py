"""Accelerators by the names that SkyPilot gives them.

A name is matched whatever its case, a part of one known name stands for it, and one that is not known is kept as it is
written, since clusters have GPUs that nobody has listed. SkyPilot also cuts numbers (P400 is P4000 there), and its
catalog gives 80 GB to some GPUs that have more. `from_nvml` turns what the driver calls a device into the same names.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple


class Kind(NamedTuple):
    """A well-known accelerator. memory_gb: of one device. catalog: SkyPilot's catalog names it."""

    name: str
    memory_gb: int
    maker: str = "nvidia"
    catalog: bool = True


# SkyPilot's catalog spelling; memory from the makers' data sheets.
KINDS: tuple[Kind, ...] = (
    Kind("GB300", 288, catalog=False),
    Kind("B300", 288, catalog=False),
    Kind("GB200", 186, catalog=False),
    Kind("B200", 180),
    Kind("GH200", 96),
    Kind("H200", 141),
    Kind("H100", 80),
    Kind("H100-MEGA", 80),
    Kind("H100-NVL", 94),
    Kind("H800", 80, catalog=False),
    Kind("H20", 96, catalog=False),
    Kind("A100-80GB", 80),
    Kind("A100", 40),
    Kind("A800", 80),
    Kind("A40", 48),
    Kind("A30", 24),
    Kind("A16", 16, catalog=False),
    Kind("A10G", 24),
    Kind("A10", 24),
    Kind("A2", 16, catalog=False),
    Kind("L40S", 48),
    Kind("L40", 48),
    Kind("L20", 48, catalog=False),
    Kind("L4", 24),
    Kind("L2", 24, catalog=False),
    Kind("V100", 16),
    Kind("V100-32GB", 32),
    Kind("P100", 16),
    Kind("P40", 24, catalog=False),
    Kind("P4", 8),
    Kind("T4", 16),
    Kind("K80", 12),
    Kind("M60", 8),
    Kind("M4000", 8),
    Kind("RTXPRO6000", 96, catalog=False),
    Kind("RTX6000-Ada", 48),
    Kind("RTX5000-Ada", 32, catalog=False),
    Kind("RTX4000-Ada", 20),
    Kind("RTXA6000", 48),
    Kind("RTXA5000", 24),
    Kind("RTXA4500", 20),
    Kind("RTXA4000", 16),
    Kind("RTXA2000", 12, catalog=False),
    Kind("RTX6000", 24),
    Kind("RTX5000", 16, catalog=False),
    Kind("RTX4000", 8, catalog=False),
    Kind("RTX5090", 32),
    Kind("RTX5080", 16, catalog=False),
    Kind("RTX4090", 24),
    Kind("RTX4080", 16, catalog=False),
    Kind("RTX4070", 12, catalog=False),
    Kind("RTX4060", 8, catalog=False),
    Kind("RTX3090", 24),
    Kind("RTX3080", 10),
    Kind("RTX3070", 8),
    Kind("RTX3060", 12),
    Kind("RTX2080Ti", 11, catalog=False),
    Kind("GTX1080Ti", 11, catalog=False),
    Kind("MI355X", 288, "amd", catalog=False),
    Kind("MI350X", 288, "amd", catalog=False),
    Kind("MI325X", 256, "amd", catalog=False),
    Kind("MI300X", 192, "amd"),
    Kind("MI300A", 128, "amd", catalog=False),
    Kind("MI250X", 128, "amd", catalog=False),
    Kind("MI250", 128, "amd", catalog=False),
    Kind("MI210", 64, "amd", catalog=False),
    Kind("MI100", 32, "amd", catalog=False),
    Kind("Gaudi3", 128, "intel", catalog=False),
    Kind("Gaudi2", 96, "intel", catalog=False),
    Kind("Gaudi HL-205", 32, "intel"),
    Kind("Trainium2", 96, "amazon", catalog=False),
    Kind("Trainium", 32, "amazon", catalog=False),
    Kind("Inferentia2", 32, "amazon", catalog=False),
    Kind("Inferentia", 8, "amazon", catalog=False),
)
# More spellings of SkyPilot's catalog: sellers' names for some of the above and for a few that nobody sells any more.
# They are names of their own, as there: a job that asks for an A6000 does not get an RTXA6000.
SPELLINGS: tuple[Kind, ...] = (
    Kind("H200-SXM", 141),
    Kind("H100-SXM", 80),
    Kind("H100-NVLINK", 80),
    Kind("A100-80GB-SXM", 80),
    Kind("A6000", 48),
    Kind("A4000", 16),
    Kind("P4000", 8),
    Kind("T4g", 16),
    Kind("RTXPRO6000S", 96),
    Kind("RTXPRO6000WS", 96),
    Kind("RTX8000", 48),
    Kind("RTX6000Ada", 48),
    Kind("RTX5060", 8),
    Kind("GTX1660S", 6),
    Kind("Radeon MI25", 16, "amd"),
    Kind("Radeon Pro V520", 8, "amd"),
)
_KNOWN = {kind.name.lower(): kind for kind in (*KINDS, *SPELLINGS)}
_MEMORY = re.compile(r"(?:(?P<maker>[^:]+):)?(?P<size>\d+)(?P<unit>[GMT])B(?P<more>\+?)\Z", re.IGNORECASE)
_GIGABYTES = {"M": 1 / 1024, "G": 1.0, "T": 1024.0}
LONGEST = 64  # characters of a name
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+()/-]*\Z")


def canonical(name: str) -> str:
    """SkyPilot's spelling: h100 -> H100, a100-80gb -> A100-80GB; tpu-* in lower case; others as they are written.

    A part of one known name stands for it: 4090 -> RTX4090. One that is part of several stays as it is.
    """
    found = [] if is_memory_request(name) else resolve(name)
    return found[0] if len(found) == 1 else name.strip()


def same(one: str, other: str) -> bool:
    """Whether two names mean one accelerator."""
    return one.strip().lower() == other.strip().lower()


def is_memory_request(name: str) -> bool:
    """Whether a word asks by memory: 80GB, 80GB+, nvidia:80GB."""
    return bool(_MEMORY.match(name.strip()))


def is_name(name: str) -> bool:
    """Whether a word can be an accelerator's name. Digits alone are one only as part of a known name."""
    bare = name.strip()
    return len(bare) <= LONGEST and bool(_NAME.match(bare)) and (not bare.isdigit() or resolve(bare) != [bare])


def resolve(name: str) -> list[str]:
    """The accelerators that a word may mean.

    `80GB`: all of a size; `80GB+`: all of at least one; smaller ones first, so that a job that needs little does not
    take the largest. Else one, or, where a word is part of several known names, all of those: it is ambiguous. A name
    that nobody knows is itself.
    """
    return list(_resolved(name.strip()))


def nearest(name: str, there: Collection[str] = ()) -> str:
    """The accelerator that somebody may have meant by a name that is none: H10O -> H100; else "".

    there: what the nodes have, besides what is known.
    """
    if not name or any(same(name, kind) for kind in (*there, *_KNOWN)):
        return ""
    import difflib  # here, since a name without faults does not need it

    names = {_as_seen(kind): kind for kind in (*(known.name for known in _KNOWN.values()), *there)}
    near = difflib.get_close_matches(_as_seen(name), names, 1, 0.7)
    return names[near[0]] if near else ""


def _as_seen(name: str) -> str:
    """A name with the letters and digits made one that look the same: O and 0, I, l and 1."""
    return name.strip().lower().translate(str.maketrans("oil", "011"))


@functools.lru_cache(1024)
def _resolved(bare: str) -> Sequence[str]:
    if match := _MEMORY.match(bare):
        return _by_memory(float(match["size"]) * _GIGABYTES[match["unit"].upper()], bool(match["more"]), match["maker"])
    if bare.lower().startswith("tpu-"):
        return [bare.lower()]
    if kind := _KNOWN.get(bare.lower()):
        return [kind.name]
    return _with_part(bare) or [bare]


def _by_memory(gigabytes: float, more: bool, maker: str | None) -> list[str]:
    fitting = [
        kind
        for kind in _KNOWN.values()
        if (maker is None or kind.maker == maker.strip().lower())
        and (kind.memory_gb >= gigabytes if more else kind.memory_gb == gigabytes)
    ]
    return [kind.name for kind in sorted(fitting, key=lambda kind: kind.memory_gb)]


def _with_part(part: str) -> list[str]:
    """Known names that hold a part: those of SkyPilot's catalog, else others.

    No number is cut in two, as SkyPilot would: the Quadro P400 is no P4000.
    """
    if not part:
        return []
    before, after = r"(?<!\d)" if part[0].isdigit() else "", r"(?!\d)" if part[-1].isdigit() else ""
    form = re.compile(before + re.escape(part) + after, re.IGNORECASE)
    found = [kind for kind in _KNOWN.values() if form.search(kind.name)]
    return [kind.name for kind in found if kind.catalog] or [kind.name for kind in found]


# Words of a product's name that say how it is built or sold, not which one it is.
_TRIMMINGS = re.compile(
    r"(nvidia|tesla|quadro|geforce|grid|graphics|device|generation|laptop|gpu|sxm\d*|pcie|hbm\w*|sff|\d+gb?"
    r"|blackwell|server|workstation|edition|with|max|q|design)\Z",
    re.IGNORECASE,
)
# What makes another product of the one named before it: 3080 Ti, 4070 SUPER, 4090 D; A100-10C is a slice (a vGPU).
_VARIANT = re.compile(r"(ti|super|d|\d+[abcq])\Z", re.IGNORECASE)
_BY_LETTERS = {re.sub(r"[- ]", "", kind.name.lower()): kind.name for kind in KINDS} | {"a100x": "A100", "v100s": "V100"}


def from_nvml(product: str, memory_mib: int) -> str:
    """The name for what NVML calls a device: `NVIDIA H100 80GB HBM3` -> H100, `NVIDIA A100-SXM4-80GB` -> A100-80GB.

    memory_mib tells apart what NVML's words do not (0: not known). A product that is not in the table gets its own
    words, in the catalog's manner: `NVIDIA GeForce RTX 4070 Ti` -> RTX4070Ti, `NVIDIA TITAN V` -> TITAN-V.
    """
    spoken = re.findall(r"[A-Za-z0-9.+]+", product)
    words = [word for word in spoken if not _TRIMMINGS.match(word)]
    name = _listed(words) or _unlisted(words) or "-".join(spoken) or "GPU"
    gigabytes = memory_mib / 1024 or max((int(g) for g in re.findall(r"(\d+)GB", product)), default=0)
    if name == "A100" and gigabytes > 68:  # there are some with 64, which must not be promised as 80
        return "A100-80GB"
    if name == "V100" and gigabytes > 20:
        return "V100-32GB"
    return name


def _listed(words: list[str]) -> str:
    """The longest name of the table that the words begin with, or ""."""
    for end in range(len(words), 0, -1):
        name = _BY_LETTERS.get("".join(words[:end]).lower())
        if name and not any(_VARIANT.match(word) for word in words[end:]):
            return name
    return ""


def _unlisted(words: list[str]) -> str:
    if words and words[0].upper() in ("RTX", "GTX"):
        return "".join(words).replace("Ada", "-Ada")
    return "-".join(words)
