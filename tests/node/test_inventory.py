"""What a node offers: the command line beats spool.yaml, which beats what the machine tells."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from spool_layout.errors import BadSettings, SpoolError, UsageError
from spool_layout.records import NodeStatus, decode
from spool_layout.settings import DeclaredNode
from spoold.node.inventory import take
from tests.e2e.cluster import Cluster, running
from tests.node.conftest import Nvml

L4 = "gpu uuid=GPU-l4 pci=3b memory=23034 name=NVIDIA L4"
LOST = "gpu uuid=GPU-no pci=1b handle=!15 name=NVIDIA L4"


def names(flags: DeclaredNode, declared: DeclaredNode) -> list[str]:
    return [gpu.name for gpu in take("n1", flags, declared).gpus]


def test_the_command_line_beats_spool_yaml_which_beats_nvml(nvml: Nvml) -> None:
    nvml(L4)
    nothing = DeclaredNode()
    assert names(nothing, nothing) == ["L4"]
    assert names(nothing, DeclaredNode(gpus="H100:2")) == ["H100", "H100"]
    assert names(nothing, DeclaredNode(gpus="none")) == []
    assert names(DeclaredNode(gpus="T4"), DeclaredNode(gpus="H100:2")) == ["T4"]
    assert names(DeclaredNode(gpus="none"), DeclaredNode(gpus="H100:2")) == []


def test_what_is_wrong_with_a_gpu_is_noted_and_logged(nvml: Nvml, caplog: pytest.LogCaptureFixture) -> None:
    nvml(LOST, L4)
    found = take("n1", DeclaredNode(), DeclaredNode())
    assert [gpu.uuid for gpu in found.gpus] == ["GPU-l4"]
    assert found.notes == ["the GPU that NVML counts as 0 is not offered: GPU is lost"]
    assert not found.indexed
    assert [record.getMessage() for record in caplog.records] == found.notes


@pytest.mark.parametrize(
    ("visible", "offered"),
    [
        ("2,0", ["GPU-a1", "GPU-c3"]),
        ("GPU-b2,1", ["GPU-b2"]),
        ("GPU-c", ["GPU-c3"]),
        ("GPU-", []),
        ("1,-1,2", ["GPU-b2"]),
        (" 1 , 2 ", ["GPU-b2", "GPU-c3"]),
        ("7", []),
        ("NoDevFiles", []),
        ("", []),
    ],
)
def test_a_node_offers_only_the_gpus_that_its_environment_lets_it_use_and_says_so(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, visible: str, offered: list[str]
) -> None:
    nvml(*(f"gpu uuid=GPU-{name} pci={name} memory=23034 name=NVIDIA L4" for name in ("a1", "b2", "c3")))
    everything = take("n1", DeclaredNode(), DeclaredNode()).gpus
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = take("n1", DeclaredNode(), DeclaredNode())
    assert found.gpus == [gpu for gpu in everything if gpu.uuid in offered]  # each with its index among all
    assert found.notes == [
        f"CUDA_VISIBLE_DEVICES={visible!r} where the node was started: offers {len(offered)} of the 3 GPUs here; "
        "unset it to offer all"
    ]
    assert [gpu.name for gpu in take("n1", DeclaredNode(gpus="T4"), DeclaredNode()).gpus] == ["T4"]


def test_an_environment_that_names_every_gpu_changes_nothing(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(L4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    found = take("n1", DeclaredNode(), DeclaredNode())
    assert ([gpu.uuid for gpu in found.gpus], found.notes) == (["GPU-l4"], [])


def test_an_index_names_no_gpu_where_nobody_knows_how_cuda_counts(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(LOST, L4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert take("n1", DeclaredNode(), DeclaredNode()).gpus == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-l4")
    assert [gpu.uuid for gpu in take("n1", DeclaredNode(), DeclaredNode()).gpus] == ["GPU-l4"]


def test_declared_gpus_have_no_notes_and_are_indexed() -> None:
    found = take("n1", DeclaredNode(gpus="H100:2"), DeclaredNode())
    assert (found.notes, found.indexed) == ([], True)


def test_cpus_and_memory_are_what_is_declared_or_all_of_the_machine() -> None:
    none = DeclaredNode(gpus="none")
    found = take("n1", DeclaredNode(gpus="none", cpus=1.5), DeclaredNode(cpus=9, memory=2))
    assert (found.cpus_milli, found.memory_mb) == (1500, 2048)
    found = take("n1", none, DeclaredNode())
    assert found.cpus_milli == 1000 * len(os.sched_getaffinity(0))
    told = Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]
    assert found.memory_mb == int(told) // 1024


@pytest.mark.parametrize(
    ("flags", "declared", "error", "message"),
    [
        (DeclaredNode(gpus="H100:0"), DeclaredNode(), UsageError, "--gpus 'H100:0': '0' is no count"),
        (DeclaredNode(), DeclaredNode(gpus="H100:0"), BadSettings, "spool.yaml: nodes.n1.gpus 'H100:0': '0' is no"),
        (DeclaredNode(cpus=0), DeclaredNode(), UsageError, "--cpus: 0 is no amount"),
        (DeclaredNode(cpus=float("nan")), DeclaredNode(), UsageError, "--cpus: nan is no amount"),
        (DeclaredNode(memory=1e300), DeclaredNode(), UsageError, "--memory: 1e+300 is no amount"),
        (DeclaredNode(), DeclaredNode(memory=-1), BadSettings, "spool.yaml: nodes.n1.memory: -1 is no amount"),
    ],
)
def test_what_cannot_be_offered_is_refused_where_it_was_said(
    flags: DeclaredNode, declared: DeclaredNode, error: type[SpoolError], message: str
) -> None:
    with pytest.raises(error) as told:
        take("n1", flags, declared)
    assert told.value.message.startswith(message)
    assert told.value.hint


# ---- with a real runner


def status(cluster: Cluster) -> NodeStatus:
    """What n1 says of itself, once it has."""
    path = Path(cluster.spool.status("n1"))
    cluster.eventually(path.exists)
    return decode(path.read_bytes(), NodeStatus, str(path))


def test_a_runner_reports_the_gpus_that_nvml_tells(tmp_path: Path, nvml: Nvml) -> None:
    nvml("gpu uuid=GPU-b pci=d8 memory=81559 name=NVIDIA H100 80GB HBM3", L4, LOST)
    with running(tmp_path) as cluster:
        cluster.start("n1", "node", "--name", "n1")
        found = status(cluster)
        assert [(gpu.index, gpu.uuid, gpu.name) for gpu in found.gpus] == [(0, "GPU-l4", "L4"), (1, "GPU-b", "H100")]
        assert found.notes == ["the GPU that NVML counts as 2 is not offered: GPU is lost"]


@pytest.mark.parametrize(("devices", "visible"), [([L4], "0"), ([LOST, L4], "GPU-l4")], ids=["all sound", "one lost"])
def test_a_job_is_told_of_its_gpu_by_index_only_where_cuda_counts_as_we_do(
    tmp_path: Path, nvml: Nvml, devices: list[str], visible: str
) -> None:
    nvml(*devices)
    with running(tmp_path) as cluster:
        cluster.head().start("n1", "node", "--name", "n1")
        cluster.ready().drop(
            "job.yaml",
            f"workdir: {tmp_path}\nresources: {{accelerators: L4}}\nrun: echo $CUDA_VISIBLE_DEVICES\n...\n",
        )
        cluster.eventually(lambda: cluster.job(1))
        assert cluster.ended(1) == ["SUCCEEDED"]
        assert cluster.log(1) == f"{visible}\n"


def test_a_job_is_given_the_machines_index_of_a_gpu_though_its_node_was_given_only_that_one(
    tmp_path: Path, nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml(*(f"gpu uuid=GPU-{name} pci={name} memory=23034 name=NVIDIA L4" for name in ("a1", "b2")))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b2")
    with running(tmp_path) as cluster:
        cluster.head().start("n1", "node", "--name", "n1")
        cluster.ready()
        assert [gpu.index for gpu in status(cluster).gpus] == [1]
        assert "offers 1 of the 2 GPUs here" in cluster.sky("status").stdout
        assert "note: n1: CUDA_VISIBLE_DEVICES='GPU-b2' where the node" in cluster.sky("up", "mycluster").stderr
        job = cluster.add("job.yaml", "resources: {accelerators: L4}\nrun: echo $CUDA_VISIBLE_DEVICES\n...\n")
        assert cluster.ended(job) == ["SUCCEEDED"]
        assert cluster.log(job) == "1\n"


def test_a_runner_reports_the_gpus_that_spool_yaml_declares_for_it(tmp_path: Path, nvml: Nvml) -> None:
    nvml(L4)
    with running(tmp_path, nodes="{n1: {gpus: 'A100:2,T4'}}") as cluster:
        cluster.start("n1", "node", "--name", "n1")
        assert [gpu.name for gpu in status(cluster).gpus] == ["A100", "A100", "T4"]


def test_a_runner_refuses_a_wrong_spec_with_words_and_a_code(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, nodes="{n1: {gpus: 'H100:0.5'}}")
    ended = subprocess.run(cluster.spoold("node", "--name", "n1"), capture_output=True, text=True, timeout=30)
    assert ended.returncode == 78
    assert "spool.yaml: nodes.n1.gpus 'H100:0.5': '0.5' is no count of GPUs" in ended.stderr
    assert "hint: a node offers whole GPUs" in ended.stderr
    ended = subprocess.run(
        cluster.spoold("node", "--name", "n1", "--gpus", "H100:x"), capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 2
    assert "--gpus 'H100:x': 'x' is no count of GPUs" in ended.stderr
