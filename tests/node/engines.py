"""Real docker and podman for tests: stores, sockets and settings of their own, and an image made from busybox.

Fixtures of them are in engine_fixtures.py. Where an engine cannot be had, what needs it is skipped, with the reason;
`.ci/parts` installs them. Each worker has its own dockerd for the session, started here and ended by its pid.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import spoold.node

WRAPPERS = Path(spoold.node.__file__).parent / "wrappers"
LOGIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IMAGE = "skyspool-test:1"
BUSYBOX = Path("/bin/busybox")
GPUS = [
    f"GPU-{secrets.token_hex(4)}-{number}" for number in range(4)
]  # no other session's CDI devices have these names

# What dockerd wants to find before it takes --gpus. NVIDIA's own reads the variable that dockerd sets and adds devices.
HOOK = "#!/bin/sh\ncat >/dev/null\n"
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{folder}/libpod"
"""
STORAGE_CONF = """
[storage]
driver = "vfs"
runroot = "{folder}/run"
graphroot = "{folder}/graph"
"""


class Engine(NamedTuple):
    """An engine that works. env: where its containers are."""

    name: str
    path: str
    env: Mapping[str, str]

    def __call__(self, *words: str) -> str:
        """What a command of the engine prints; no wrapper is in between."""
        env = {"PATH": LOGIN_PATH, "HOME": "/nonexistent", **self.env}
        done = subprocess.run([self.path, *words], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{self.name} {words}: {done.stderr}"
        return done.stdout.strip()

    def start(self, *words: str) -> str:
        """Start a container that sleeps and does not heed SIGTERM; its ID."""
        return self("run", "--detach", *words, IMAGE, "sleep", "1000")

    def running(self, *filters: str) -> list[str]:
        """IDs of the containers that run now."""
        words = [word for text in filters for word in ("--filter", text)]
        return self("ps", "--quiet", "--no-trunc", *words).split()

    def clear(self) -> None:
        """Remove every container."""
        at_once = ["--time=0"] if self.name == "podman" else []
        if idents := self("ps", "--all", "--quiet").split():
            self("rm", "--force", *at_once, *idents)


def found(*programs: str) -> str:
    """The path of the first of these programs. Skips the test where one of them is missing, or its user."""
    if os.getuid() != 0:
        pytest.skip(f"not root: {programs[0]} is NOT tested")
    for program in (*programs, str(BUSYBOX)):
        if shutil.which(program, path=LOGIN_PATH) is None:
            pytest.skip(f"{program} is not installed (bash .ci/parts does it): {programs[0]} is NOT tested")
    return str(shutil.which(programs[0], path=LOGIN_PATH))


def load_image(engine: Engine, folder: Path) -> None:
    """Make IMAGE: busybox under the names that tests call, and the libraries that it needs if it is not static."""
    (folder / "root/bin").mkdir(parents=True)
    needs = subprocess.run(["ldd", str(BUSYBOX)], capture_output=True, text=True, check=False).stdout
    for path in (str(BUSYBOX), *re.findall(r"/\S+(?= \()", needs)):
        (folder / f"root{path}").parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"root{path}")
    for name in ("sh", "sleep", "env", "echo"):
        (folder / "root/bin" / name).symlink_to("busybox")
    subprocess.run(["tar", "-C", str(folder / "root"), "-cf", str(folder / "root.tar"), "."], check=True)
    engine("import", str(folder / "root.tar"), IMAGE)


@contextlib.contextmanager
def dockerd(place: Path) -> Iterator[Engine]:
    """A daemon of docker's without a network."""
    folder = place / "docker"
    engine = Engine("docker", found("docker", "dockerd", "runc"), {"DOCKER_HOST": f"unix://{folder}/docker.sock"})
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/nvidia-container-runtime-hook").write_text(HOOK)
    (folder / "bin/nvidia-container-runtime-hook").chmod(0o755)
    (folder / "daemon.json").write_text("{}")
    words = ["dockerd", "--config-file", f"{folder}/daemon.json", "--host", engine.env["DOCKER_HOST"]]
    words += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
    words += ["--iptables=false", "--bridge=none", "--storage-driver=vfs", "--default-ulimit", "nofile=1024:1024"]
    env = {**os.environ, "PATH": f"{folder}/bin:{LOGIN_PATH}"}
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
    try:
        wait_for(daemon, engine, folder / "log")
        load_image(engine, folder)
        yield engine
    finally:
        daemon.terminate()
        daemon.wait(30)


def wait_for(daemon: subprocess.Popen[bytes], engine: Engine, log: Path) -> None:
    """Until the daemon answers. Skips the test if it cannot run here."""
    end = time.monotonic() + 30
    while subprocess.run([engine.path, "version"], env=dict(engine.env), capture_output=True, timeout=30).returncode:
        if daemon.poll() is not None or time.monotonic() > end:
            last = log.read_text(errors="replace").splitlines()[-1:]
            pytest.skip(f"dockerd does not run here, docker is NOT tested: {last}")
        time.sleep(0.05)


@contextlib.contextmanager
def podman_store(place: Path) -> Iterator[Engine]:
    """podman with a store of its own, and GPUS as CDI devices: each gives a node /dev/gpuN."""
    folder = place / "podman"
    path = found("podman", "conmon", "runc")
    folder.mkdir()
    (folder / "containers.conf").write_text(CONTAINERS_CONF.format(folder=folder))
    (folder / "storage.conf").write_text(STORAGE_CONF.format(folder=folder))
    settings = {"CONTAINERS_CONF": "containers.conf", "CONTAINERS_STORAGE_CONF": "storage.conf"}
    engine = Engine("podman", path, {name: str(folder / file) for name, file in settings.items()})
    specification = Path(f"/var/run/cdi/skyspool-test-{os.getpid()}.json")  # one of the two places where podman looks
    try:
        specification.parent.mkdir(exist_ok=True)
        specification.write_text(json.dumps(cdi(GPUS)))
        load_image(engine, folder)
        yield engine
    finally:
        specification.unlink(missing_ok=True)


def cdi(uuids: list[str]) -> dict[str, object]:
    """A CDI specification of GPUs by UUID, as `nvidia-ctk cdi generate --device-name-strategy=uuid` writes one."""
    null = {"hostPath": "/dev/null", "type": "c", "major": 1, "minor": 3}
    devices = [
        {"name": uuid, "containerEdits": {"deviceNodes": [{"path": f"/dev/gpu{number}", **null}]}}
        for number, uuid in enumerate(uuids)
    ]
    return {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices}
