"""A machine whose NVML tells what a test says: the real bindings over a library that is compiled from our own C."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "fake_nvml" / "fake_nvml.c"
Nvml = Callable[..., None]


@pytest.fixture(scope="session")
def build_nvml(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compile a fake libnvidia-ml.so.1 with options of cc; the directory that holds it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("cc is not installed: the search for GPUs by NVML is NOT tested")

    def build(*options: str) -> Path:
        folder = tmp_path_factory.mktemp("nvml")
        library = folder / "libnvidia-ml.so.1"
        flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *options]
        subprocess.run([compiler, *flags, "-o", str(library), str(SOURCE)], check=True, timeout=60)
        return folder

    return build


@pytest.fixture(scope="session")
def library(build_nvml: Callable[..., Path]) -> Path:
    """The directory of the library that most tests need."""
    return build_nvml()


@pytest.fixture
def nvml(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nvml:
    """Say what NVML tells the processes that are started from now on, a line a device: see fake_nvml.c."""

    def says(*lines: str, folder: Path = library) -> None:
        (tmp_path / "nvml.txt").write_text("".join(f"{line}\n" for line in lines), encoding="latin-1")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setenv("FAKE_NVML", str(tmp_path / "nvml.txt"))
        monkeypatch.setenv("LD_LIBRARY_PATH", os.pathsep.join([str(folder), os.environ.get("LD_LIBRARY_PATH", "")]))

    return says
