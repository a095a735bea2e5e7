"""Fixtures of the client's tests: scenes, and the command line in this process or as a real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest

import skyspool
from skyspool.__main__ import main
from tests.client.builders import Scene, reference


class Ran(NamedTuple):
    """What a command line gave."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


def fits(found: object, verb: str) -> None:
    """Fail unless what `VERB -o json` gave is what the schema says, and the schema names every key of it."""
    schema = json.loads((Path(skyspool.__file__).parent / "output.schema.json").read_text())
    jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{verb}"}).validate(found)


def unprivileged() -> list[str]:
    """What to put before a command so that modes count for it, also where the tests run as root."""
    if os.getuid() != 0:
        return []
    if shutil.which("setpriv") is None:  # in util-linux, which every Debian has; not every system that tests run on
        pytest.skip("setpriv is not installed, and to root modes mean nothing: NOT tested")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture(autouse=True)
def at_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test runs in its empty home, without a configuration of the system's."""
    monkeypatch.chdir(home)
    monkeypatch.setattr("skyspool.clusters.SYSTEM_CONFIG", str(tmp_path / "etc.yaml"))
    return home


@pytest.fixture
def sky(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run a command line in this process."""

    def run(*words: str) -> Ran:
        capfdbinary.readouterr()
        try:
            code = main(list(words))
        finally:
            sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return Ran(code, out.decode(), err.decode())

    return run


@pytest.fixture
def process() -> Run:
    """Run a command line as a process of its own."""

    def run(*words: str, timeout: float = 30) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "skyspool", *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """An empty spool, which is the default cluster."""
    made = Scene(tmp_path)
    monkeypatch.setenv("SKYSPOOL_DIR", made.spool.root)
    return made


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The reference text's five jobs."""
    made = reference(tmp_path)
    monkeypatch.setenv("SKYSPOOL_DIR", made.spool.root)
    return made
