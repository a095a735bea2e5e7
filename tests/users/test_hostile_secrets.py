"""What stands under `secrets:` and `envs:` reaches the job and nobody else: no record, no reason, no log, no `ps`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from spool_layout.events import Rejected
from spool_layout.paths import label
from spool_layout.taskfile import InvalidTask, parse_task
from tests.e2e.cluster import Cluster, running
from tests.head.conftest import folder as folder
from tests.head.stage import Stage

SECRET = "hunter2sCr3t"

# Each is a file that is no task, and holds the secret where its owner meant it to be one.
BAD = {
    "a quote that is not closed": "secrets:\n  TOKEN: \"SECRET\nrun: x\n",
    "a colon in it": "secrets:\n  TOKEN: SECRET: x\nrun: x\n",
    "a line that is out of place": "secrets:\n  TOKEN: SECRET\n bad\nrun: x\n",
    "a tab": "secrets:\n\tTOKEN: SECRET\nrun: x\n",
    "an alias": "secrets: {TOKEN: *SECRET}\nrun: x\n",
    "an anchor": "secrets: {TOKEN: &SECRET x}\nrun: [x]\n",
    "a tag": "secrets: {TOKEN: !SECRET x}\nrun: x\n",
    "a tag of YAML's own": "secrets: {TOKEN: !!SECRET x}\nrun: x\n",
    "a percent sign": "%SECRET\nrun: [\n",
    "at": "secrets: {TOKEN: @SECRET}\nrun: x\n",
    "a control character": "secrets: {TOKEN: \"SECRET\x01\"}\nrun: x\n",
    "an escape that is none": "secrets: {TOKEN: \"SECRET\\q\"}\nrun: x\n",
    "NUL": "secrets: {TOKEN: \"SECRET\\0\"}\nrun: x\n",
    "instead of a mapping": "secrets: SECRET\nrun: x\n",
    "instead of a mapping of envs": "envs: SECRET\nrun: x\n",
    "in a list, with its name": "secrets:\n  - TOKEN=SECRET\nrun: x\n",
    "in a list, with something before": "secrets:\n  - a-b=SECRET\nrun: x\n",
    "in a list of envs": "envs:\n  - TOKEN=SECRET\nrun: x\n",
    "as a key, with its name": "secrets: {TOKEN=SECRET}\nrun: x\n",
    "as a key of envs": "envs: {TOKEN=SECRET}\nrun: x\n",
    "as a key of envs with a value": "envs: {'export TOKEN=SECRET': x}\nrun: x\n",
    "under a name that is none": "secrets: {'a b': SECRET}\nrun: x\n",
    "under a field that does not exist": "secret: {TOKEN: SECRET}\nrun: x\n",
    "at the top": "TOKEN: SECRET\nrun: x\n",
    "for a login without its others": "secrets: {SKYPILOT_DOCKER_PASSWORD: SECRET}\nrun: x\n",
    "in a working directory": "secrets: {TOKEN: SECRET}\nworkdir: $TOKEN/x\nrun: x\n",
    "in a working directory's file": "envs: {TOKEN: SECRET}\nworkdir: $TOKEN\nrun: x\n",
    "in a mount's source": "secrets: {TOKEN: SECRET}\nfile_mounts: {/x: $TOKEN/y}\nrun: x\n",
    "in a mount of a file": "secrets: {TOKEN: 'file:SECRET'}\nfile_mounts: {/x: $TOKEN}\nrun: x\n",
    "in a mount's target": "secrets: {TOKEN: SECRET}\nfile_mounts: {$TOKEN: y}\nrun: x\n",
    "in a repository's address": "secrets: {TOKEN: -SECRET}\nworkdir: {url: $TOKEN}\nrun: x\n",
    "beside a run that is none": "secrets: {TOKEN: SECRET}\nrun: {a: b}\n",
    "twice": "secrets: {TOKEN: SECRET, TOKEN: SECRET}\nrun: x\n",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_no_reason_repeats_a_secret(name: str) -> None:
    text = BAD[name].replace("SECRET", SECRET)
    assert SECRET in text
    with pytest.raises(InvalidTask) as told:
        parse_task(text.encode(), require_absolute_workdir=True)
    assert SECRET not in told.value.message
    assert told.value.message


def test_a_number_that_is_a_secret_is_not_repeated_either() -> None:
    for text in ("secrets: 271828182845\nrun: x\n", "secrets: {TOKEN: 0x_}\nrun: x\n", f"envs: [{'9' * 1001}]\n"):
        with pytest.raises(InvalidTask) as told:
            parse_task(text.encode())
        assert (
            "271828" not in told.value.message and "0x_" not in told.value.message and "999" not in told.value.message
        )


def test_a_fault_of_ours_tells_where_it_was_and_not_what_it_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(data: bytes, **_: object) -> None:
        raise KeyError(data)

    monkeypatch.setattr("spoold.head.intake.parse_task", faulty)
    stage = Stage(folder)
    stage.drop("a", f"secrets: {{TOKEN: {SECRET}}}\nrun: NAME\n...\n")
    stage.look()
    (told,) = [event for event in stage.events() if isinstance(event, Rejected)]
    assert "a fault in this program (KeyError)" in told.reason and SECRET not in told.reason
    assert any("KeyError" in record.getMessage() and "intake.py" in record.getMessage() for record in caplog.records)
    assert SECRET not in caplog.text


# ---- the whole way, real daemons

TASK = f"""\
name: good
envs: {{SHOWN: env-{SECRET}}}
secrets: {{TOKEN: sec-{SECRET}}}
setup: test "${{#TOKEN}}" = {len(SECRET) + 4}
run: |
  test "${{#TOKEN}}" = {len(SECRET) + 4} && test "${{#SHOWN}}" = {len(SECRET) + 4} || exit 9
  GATE
...
"""
FAILING = {
    "setup": "secrets: {TOKEN: SECRET}\nsetup: exit 3\nrun: x\n...\n",
    "code": "secrets: {TOKEN: SECRET}\nrun: exit 4\n...\n",
    "directory": "secrets: {TOKEN: SECRET}\nworkdir: /nowhere/$TOKEN\nrun: x\n...\n",
    "mount": "secrets: {TOKEN: SECRET}\nfile_mounts: {/proc/nowhere/$TOKEN: /etc}\nrun: x\n...\n",
    "source": "secrets: {TOKEN: SECRET}\nfile_mounts: {/tmp/sky-$TOKEN: /nowhere/$TOKEN}\nrun: x\n...\n",
    "clone": "secrets: {TOKEN: SECRET}\nworkdir: {url: 'http://user:$TOKEN@127.0.0.1:1/x.git'}\nrun: x\n...\n",
}


class Lived(NamedTuple):
    """A cluster, who had the secret in `ps`, files of the node's own disk that held it, and what clients printed."""

    cluster: Cluster
    seen: list[str]
    kept: dict[str, int]
    said: list[str]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    """A cluster that saw the secret in everything that can happen."""
    with running(tmp_path_factory.mktemp("secrets")) as cluster:
        cluster.head().node("n1", "none").ready()
        gate = cluster.gate()
        good = cluster.add("good.yaml", TASK.replace("GATE", str(gate)))
        cluster.runs(good)
        wide = cluster.add("wide.yaml", f"resources: {{cpus: 64}}\nsecrets: {{TOKEN: {SECRET}}}\nrun: x\n...\n")
        seen, kept = with_secret_in_ps(cluster), holding(cluster.folder / "state")
        for name, text in BAD.items():
            cluster.drop(f"bad-{label(name).replace(' ', '-')}.yaml", text.replace("SECRET", SECRET) + "...\n")
        idents = [cluster.add(f"{name}.yaml", text.replace("SECRET", SECRET)) for name, text in FAILING.items()]
        Path(cluster.spool.pending, f"{wide}.wide.yaml").write_text(f"secrets: {{TOKEN: *{SECRET}}}\n...\n")
        cluster.eventually(lambda: cluster.job(wide).problem)  # type: ignore[union-attr]
        cluster.eventually(lambda: len(cluster.state().rejected) == len(BAD))
        cluster.ended(*idents)
        said = [
            done.stdout + done.stderr
            for words in (
                ["queue"], ["queue", "-o", "json"], ["status"], ["status", "-o", "json"], ["why"], ["why", str(wide)],
                *(["why", str(ident)] for ident in idents), ["why", "bad-NUL"],
            )
            for done in [cluster.sky(*words, check=None)]
        ]  # fmt: skip
        gate.open()
        assert cluster.ended(good) == ["SUCCEEDED"], "the job itself had its secrets"
        assert set(cluster.ended(*idents)) <= {"FAILED", "FAILED_SETUP", "FAILED_DRIVER"}, cluster.statuses()
        cluster.kill("head", 15)  # writes the ledger
        yield Lived(cluster, seen, kept, said)


def with_secret_in_ps(cluster: Cluster) -> list[str]:
    """Processes of this test whose command line, or whose environment, unless they are the job's, holds the secret."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            where = os.readlink(entry / "exe")
        except OSError:
            continue
        if SECRET.encode() in line:
            found.append(f"{entry.name} {line!r}")
        if SECRET.encode() in environment and "python" in where:
            found.append(f"{entry.name} {line!r}: in its environment")
    assert cluster.state().jobs
    return found


def holding(top: Path) -> dict[str, int]:
    """Files below that hold the secret, and their modes."""
    return {
        str(path.relative_to(top)): stat.S_IMODE(path.stat().st_mode)
        for path in top.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    }


def test_the_secret_stands_in_its_owners_files_and_nowhere_else_on_the_spool(
    lived: Lived,
) -> None:
    cluster = lived.cluster
    found = holding(Path(cluster.spool.root))
    theirs = {name for name in found if name.split("/")[0] in ("pending", "running", "done", "rejected")}
    assert all(name.endswith(".yaml") for name in theirs), theirs
    assert len(theirs) >= len(BAD) + len(FAILING)
    others = {name for name in found if name not in theirs}
    assert {name for name in others if not name.startswith("logs/")} == set()
    assert others <= {f"logs/{ident}/{file}" for ident in range(1, 20) for file in ("run.log", "setup.log")}
    for name in others:
        assert found[name] & 0o007 == 0, f"{name}, the job's own log, is there for everybody"


def test_nor_in_any_log_of_a_daemon(lived: Lived) -> None:
    cluster = lived.cluster
    logs = [*cluster.folder.glob("*.log"), *cluster.folder.glob("state/**/*.log")]
    assert len(logs) >= 3 and "rejected" in (cluster.folder / "head.log").read_text()
    assert [str(path) for path in logs if SECRET in path.read_text(errors="replace")] == []


def test_on_the_nodes_own_disk_only_its_account_can_read_it(lived: Lived) -> None:
    assert any(name.endswith("order.json") for name in lived.kept)
    for name, mode in {**lived.kept, **holding(lived.cluster.folder / "state")}.items():
        assert mode & 0o077 == 0, f"{name} has mode {mode:o}"


def test_nor_in_ps(lived: Lived) -> None:
    assert lived.seen == []


def test_nor_in_what_the_client_prints(lived: Lived) -> None:
    assert len(lived.said) > 10
    assert [said for said in lived.said if SECRET in said] == []
