"""The GPUs of a node: found through the real NVML bindings, or declared."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spool_layout.accelerators import from_nvml
from spool_layout.errors import UsageError
from spool_layout.records import Gpu
from spool_layout.taskfile import parse_task
from spoold.node.gpus import detect, parse_spec
from tests.node.conftest import Nvml

H100 = "gpu uuid=GPU-{0} pci={1} memory=81559 name=NVIDIA H100 80GB HBM3"
A100 = "gpu uuid=GPU-a pci=07 memory=40960 name=NVIDIA A100-SXM4-40GB"

# ---- found


def test_a_machine_without_the_library_has_no_gpus_and_nothing_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    found = detect()
    if found.gpus:
        pytest.skip("this machine has a real NVML")
    assert (found.gpus, found.notes) == ([], [])


def test_a_gpu_is_told_with_everything_that_is_known_of_it(nvml: Nvml) -> None:
    nvml("gpu uuid=GPU-1 pci=3b memory=81559 name=NVIDIA H100 80GB HBM3")
    found = detect()
    assert found.gpus == [Gpu("GPU-1", 0, "H100", 81559, "00000000:3B:00.0", "NVIDIA H100 80GB HBM3")]
    assert found.notes == [] and found.indexed


def test_indices_follow_the_pci_addresses_not_nvmls_order(nvml: Nvml) -> None:
    nvml(H100.format("late", "d8"), H100.format("early", "1b"))
    assert [(gpu.index, gpu.uuid) for gpu in detect().gpus] == [(0, "GPU-early"), (1, "GPU-late")]


def test_a_library_without_a_driver_means_no_gpus_and_a_note(nvml: Nvml) -> None:
    nvml("init=9", H100.format(0, "1b"))
    found = detect()
    assert found.gpus == []
    assert found.notes == [
        "NVML: Driver Not Loaded: no GPUs are offered. To declare them: spoold node --gpus, or `nodes:` in spool.yaml"
    ]


@pytest.mark.parametrize("sick", ["handle=!15", "uuid=!15", "name=!999", "pci=!15", "mig=!15"])
def test_a_lost_gpu_is_left_out_with_a_note_and_the_others_are_offered(nvml: Nvml, sick: str) -> None:
    sound = {"uuid": "GPU-0", "pci": "1b", "memory": "81559", "name": "NVIDIA H100 80GB HBM3"}
    said = sound | dict([sick.split("=")])
    nvml(
        "gpu " + " ".join(f"{key}={value}" for key, value in sorted(said.items(), key=lambda item: item[0] == "name")),
        H100.format(1, "3b"),
    )
    found = detect()
    assert [(gpu.index, gpu.uuid) for gpu in found.gpus] == [(0, "GPU-1")]
    why = "Unknown Error" if "999" in sick else "GPU is lost"
    assert len(found.notes) == 1 and found.notes[0].endswith(f" is not offered: {why}")
    assert not found.indexed, "nobody knows how CUDA counts now: jobs must be told UUIDs"


def test_a_name_that_is_no_text_costs_that_gpu_only(nvml: Nvml) -> None:
    nvml("gpu uuid=GPU-0 pci=1b memory=1 name=NVIDIA \xff", H100.format(1, "3b"))
    found = detect()
    assert [gpu.uuid for gpu in found.gpus] == ["GPU-1"]
    assert len(found.notes) == 1


def test_a_gpu_that_cannot_tell_its_memory_is_offered(nvml: Nvml) -> None:
    nvml("gpu uuid=GPU-0 pci=1b memory=!3 name=NVIDIA GB10")
    found = detect()
    assert [(gpu.name, gpu.memory_mb) for gpu in found.gpus] == [("GB10", 0)]
    assert found.notes == []


def test_an_unknown_product_gets_a_name_that_task_files_can_ask_for(nvml: Nvml) -> None:
    nvml("gpu uuid=GPU-0 pci=1b memory=100 name=NVIDIA Foo Bar (rev 2)")
    (gpu,) = detect().gpus
    assert gpu.name == "Foo-Bar-rev-2"
    assert asked_for(gpu.name) == "Foo-Bar-rev-2"


def test_mig_devices_take_the_place_of_their_board(nvml: Nvml) -> None:
    nvml(
        H100.format("whole", "3b"),
        A100,
        "mig uuid=MIG-1 memory=19968 name=NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "hole",
        "mig uuid=MIG-2 memory=4864 name=NVIDIA A100-SXM4-40GB MIG 1g.5gb+me",
        "mig uuid=MIG-3 memory=4864 slices=1 name=NVIDIA A100-SXM4-40GB",
    )
    found = detect()
    assert [(gpu.index, gpu.uuid, gpu.name, gpu.memory_mb) for gpu in found.gpus] == [
        (0, "MIG-1", "A100-MIG-3g.20gb", 19968),
        (1, "MIG-2", "A100-MIG-1g.5gb.me", 4864),
        (2, "MIG-3", "A100-MIG-1g.5gb", 4864),
        (3, "GPU-whole", "H100", 81559),
    ]
    assert {gpu.pci for gpu in found.gpus[:3]} == {"00000000:07:00.0"}
    assert found.notes == []
    assert not found.indexed, "CUDA does not count whole GPUs beside MIG devices"
    assert [asked_for(gpu.name) for gpu in found.gpus] == [gpu.name for gpu in found.gpus]


def test_a_lost_mig_device_does_not_hide_its_neighbours(nvml: Nvml) -> None:
    nvml(A100, "mig uuid=MIG-1 handle=!15 name=x", "mig uuid=MIG-2 memory=4864 name=NVIDIA A100-SXM4-40GB MIG 1g.5gb")
    found = detect()
    assert [gpu.uuid for gpu in found.gpus] == ["MIG-2"]
    assert found.notes == ["MIG device 0 of A100 at 00000000:07:00.0 is not offered: GPU is lost"]


def test_mig_mode_without_devices_offers_nothing_and_says_so(nvml: Nvml) -> None:
    nvml("gpu uuid=GPU-a pci=07 memory=40960 mig=on name=NVIDIA A100-SXM4-40GB")
    found = detect()
    assert found.gpus == []
    assert found.notes == ["A100 at 00000000:07:00.0 is in MIG mode and has no MIG device to offer"]


def test_a_library_from_before_mig_is_enough(nvml: Nvml, build_nvml: Callable[..., Path]) -> None:
    nvml(H100.format(0, "1b"), folder=build_nvml("-DOLD"))
    found = detect()
    assert [gpu.name for gpu in found.gpus] == ["H100"]
    assert found.notes == []


def test_a_driver_that_hangs_costs_the_gpus_not_the_node(nvml: Nvml) -> None:
    nvml("hang")
    before = time.monotonic()
    found = detect(patience=0.5)
    assert time.monotonic() - before < 5
    assert found.gpus == []
    assert found.notes[0].startswith("NVML gave no answer within 0.5 s")


def test_a_driver_that_crashes_costs_the_gpus_not_the_node(nvml: Nvml) -> None:
    nvml("crash")
    found = detect()
    assert found.gpus == []
    assert found.notes[0].startswith("NVML ended the process that asked it (SIGSEGV)")


def test_bindings_that_cannot_be_imported_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pynvml.py").write_text("raise ImportError('not the bindings that were meant')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = detect()
    assert found.gpus == []
    assert found.notes[0].startswith("NVML could not be asked (ImportError: not the bindings that were meant)")


@pytest.mark.parametrize(
    ("product", "memory_mib", "name"),
    [
        ("NVIDIA H100 80GB HBM3", 81559, "H100"),
        ("NVIDIA H100 PCIe", 81559, "H100"),
        ("NVIDIA H100 NVL", 95830, "H100-NVL"),
        ("NVIDIA H200", 143771, "H200"),
        ("NVIDIA H20", 97871, "H20"),
        ("NVIDIA GH200 480GB", 97871, "GH200"),
        ("NVIDIA B200", 183359, "B200"),
        ("NVIDIA A100-SXM4-40GB", 40960, "A100"),
        ("NVIDIA A100-SXM4-80GB", 81920, "A100-80GB"),
        ("NVIDIA A100 80GB PCIe", 0, "A100-80GB"),
        ("A100-PCIE-40GB", 0, "A100"),
        ("NVIDIA A100-SXM-64GB", 65536, "A100"),
        ("GRID A100-10C", 10240, "A100-10C"),
        ("NVIDIA A10G", 23028, "A10G"),
        ("NVIDIA A10", 23028, "A10"),
        ("NVIDIA A2", 15356, "A2"),
        ("NVIDIA L4", 23034, "L4"),
        ("NVIDIA L40S", 46068, "L40S"),
        ("Tesla T4", 15360, "T4"),
        ("NVIDIA T400 4GB", 4096, "T400"),
        ("Tesla P40", 24451, "P40"),
        ("Quadro P4000", 8192, "P4000"),
        ("Quadro M6000 24GB", 24478, "M6000"),
        ("Tesla V100-SXM2-16GB", 16160, "V100"),
        ("Tesla V100S-PCIE-32GB", 32510, "V100-32GB"),
        ("Quadro RTX 6000", 24220, "RTX6000"),
        ("NVIDIA RTX 6000 Ada Generation", 49140, "RTX6000-Ada"),
        ("NVIDIA RTX 4000 SFF Ada Generation", 20475, "RTX4000-Ada"),
        ("NVIDIA RTX A6000", 49140, "RTXA6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "RTXPRO6000"),
        ("NVIDIA GeForce RTX 4090", 24564, "RTX4090"),
        ("NVIDIA GeForce RTX 4070 Ti", 12282, "RTX4070Ti"),
        ("NVIDIA GeForce RTX 2080 Ti", 11264, "RTX2080Ti"),
        ("NVIDIA TITAN V", 12288, "TITAN-V"),
        ("NVIDIA Graphics Device", 0, "NVIDIA-Graphics-Device"),
        ("", 0, "GPU"),
    ],
)
def test_products_have_the_names_that_users_ask_for(product: str, memory_mib: int, name: str) -> None:
    assert from_nvml(product, memory_mib) == name


# ---- declared


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("H100:8", ["H100"] * 8),
        ("H100", ["H100"]),
        ("A100:2,L4:1", ["A100", "A100", "L4"]),
        (" a100-80gb : 2 , l4 ", ["A100-80GB", "A100-80GB", "L4"]),
        ("MyGPU:1", ["MyGPU"]),
        ("A100-MIG-1g.5gb:2", ["A100-MIG-1g.5gb"] * 2),
        ("none", []),
        ("None", []),
        ("H100\n", ["H100"]),
    ],
)
def test_a_spec_declares_gpus_by_their_canonical_names(spec: str, names: list[str]) -> None:
    gpus = parse_spec(spec, "n1")
    assert [gpu.name for gpu in gpus] == names
    assert [gpu.index for gpu in gpus] == list(range(len(names)))
    assert len({gpu.uuid for gpu in gpus}) == len(names)
    assert [asked_for(name) for name in names] == names


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("H100:0", "'0' is no count"),
        ("H100:-1", "'-1' is no count"),
        ("H100:0.5", "'0.5' is no count"),
        ("H100:1.0", "'1.0' is no count"),
        ("H100:", "'' is no count"),
        ("H100:x", "'x' is no count"),
        ("H100:1:2", "'1:2' is no count"),
        ("H100:²", "'²' is no count"),
        ("H100:1025", "'1025' is no count"),
        ("H100:99999999999999999999", "is no count"),
        ("H100:8,", "nothing beside a comma"),
        (",H100:8", "nothing beside a comma"),
        ("H100:8,none", "'none' is no name"),
        ("8", "'8' is no name"),
        (":8", "'' is no name"),
        ("8xH100", "'8xH100' is no name"),
        ("80GB:2", "'80GB' is no name"),
        ("nvidia:80GB", "is no count"),
        ("{H100: 8}", "'{H100' is no name"),
        ("H100 8", "'H100 8' is no name"),
    ],
)
def test_what_is_no_spec_is_refused_with_what_where_and_a_hint(spec: str, named: str) -> None:
    with pytest.raises(UsageError) as told:
        parse_spec(spec, "n1", "--gpus")
    assert named in told.value.message
    assert told.value.message.startswith("--gpus")
    assert "H100:8" in told.value.hint or "task file" in told.value.hint


def test_declared_gpus_keep_their_uuids() -> None:
    def uuids(spec: str, node: str = "n1") -> dict[str, list[str]]:
        gpus = parse_spec(spec, node)
        return {name: [gpu.uuid for gpu in gpus if gpu.name == name] for name in {gpu.name for gpu in gpus}}

    before = uuids("A100:2,L4:1")
    assert uuids("A100:2,L4:1") == before, "after a restart"
    assert uuids("a100:2,l4") == before, "however they are written"
    assert uuids("L4:1,A100:3")["L4"] == before["L4"], "when others come"
    assert uuids("L4:1,A100:3")["A100"][:2] == before["A100"], "when more come"
    assert not set(uuids("A100:2", "n2")["A100"]) & set(before["A100"]), "another node has others"
    assert before["L4"] == ["GPU-74b0fd74-c5a5-58b7-b19d-4ee41933fd47"], "after an upgrade"


def asked_for(name: str) -> str:
    """What a job that asks for an accelerator by name is given."""
    (demand,) = parse_task(f"resources: {{accelerators: {name}}}\nrun: x\n".encode()).demands
    return demand.accelerator
