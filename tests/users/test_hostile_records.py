"""Records of other hosts, read as if a hostile hand had written them: what a node says, and what clients read."""

from __future__ import annotations

import json
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from spool_layout.errors import Damaged
from spool_layout.events import decode_event
from spool_layout.records import Assigned, HeadStatus, Ledger, NodeStatus, decode
from spool_layout.states import Status
from spoold.core.hearing import Hearing
from spoold.head.listen import LONGEST, STATUS_BYTES, Listener
from tests.client.builders import Scene
from tests.client.conftest import Run
from tests.client.conftest import at_home as at_home
from tests.client.conftest import scene as scene
from tests.client.conftest import sky as sky
from tests.head.conftest import folder as folder
from tests.head.stage import GPU, Stage

GOOD = {"format": 1, "node": "bad", "host": "h", "incarnation": 1, "beat": 1, "interval": 2.0, "cpus_milli": 64000}
DEEP = b"[" * 200_000 + b"]" * 200_000


def said(**more: Any) -> bytes:
    return json.dumps({**GOOD, **more}).encode()


def with_raw(field: str, text: bytes) -> bytes:
    return said()[:-1] + b', "%s": %s}' % (field.encode(), text)


def gpus(*uuids: str) -> list[dict[str, Any]]:
    return [{"uuid": uuid, "index": n, "name": "H100"} for n, uuid in enumerate(uuids)]


UNHEARD = {
    "deep in a field that nobody knows": with_raw("later", DEEP),
    "deep in one that is known": with_raw("gpus", DEEP),
    "cut off": with_raw("later", b"[" * 200_000),
    "empty": b"",
    "nothing": b"null",
    "a number of a million digits": with_raw("memory_mb", b"9" * 1_000_000),
    "a number of 30 digits": with_raw("memory_mb", b"9" * 30),
    "less than nothing": said(memory_mb=-1),
    "NaN": with_raw("interval", b"NaN"),
    "infinite": with_raw("interval", b"1e999"),
    "never missed": said(interval=1e300),
    "no UTF-8": with_raw("address", b'"\xff\xfe"'),
    "half of a surrogate pair": with_raw("address", b'"\\ud800"'),
    "an address with escapes": said(address="\x1b[2J"),
    "a long host": said(host="h" * (LONGEST + 1)),
    "one GPU twice": said(gpus=gpus("GPU-1", "GPU-1")),
    "a GPU without a name to print": said(gpus=gpus("GPU-\n1")),
    "more than is read": with_raw("notes", b"[" + b'"xx",' * (STATUS_BYTES // 5) + b'"x"]'),
    "another node's name": said(node="n1"),
    "a later format": said(format=99),
}


@pytest.mark.parametrize("what", UNHEARD)
def test_a_node_that_says_what_cannot_be_is_not_heard_and_hinders_no_other(what: str, folder: Path) -> None:
    stage = Stage(folder)
    stage.node("n1")
    place = Path(stage.spool.node("bad"))
    place.mkdir()
    (place / "status.json").write_bytes(UNHEARD[what])
    began = time.process_time()
    stage.drop("a")
    stage.run()
    assert time.process_time() - began < 5
    assert stage.job("a").status is Status.RUNNING
    assert stage.term is not None and set(stage.term.state.nodes) == {"n1"}
    stage.finish("a")
    assert stage.job("a").status is Status.SUCCEEDED


def test_the_same_said_rightly_is_heard(folder: Path) -> None:
    """Else the test above could not fail."""
    stage = Stage(folder)
    place = Path(stage.spool.node("bad"))
    place.mkdir()
    (place / "status.json").write_bytes(said(gpus=gpus("GPU-1", "GPU-2"), notes=["x"]))
    stage.look()
    assert stage.term is not None and len(stage.term.state.nodes["bad"].gpus) == 2


def test_a_node_that_begins_to_say_what_cannot_be_is_lost_after_a_while_and_not_sooner(folder: Path) -> None:
    """Unknown is not dead: what it said before counts until its time is over."""
    stage = Stage(folder)
    node = stage.node("n1")
    stage.drop("a", GPU)
    stage.run()
    Path(stage.spool.status("n1")).write_bytes(with_raw("later", DEEP))
    stage.look()
    assert stage.job("a").status is Status.RUNNING
    node.report()
    node.over.add("a")
    stage.run()
    assert stage.job("a").status is Status.SUCCEEDED


def test_a_node_that_is_not_heard_is_told_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(folder)
    Path(stage.spool.node("bad")).mkdir()
    Path(stage.spool.status("bad")).write_bytes(UNHEARD["one GPU twice"])
    listener = Listener(stage.spool, stage.disk, Hearing(30.0, 5.0), time.time)
    stage.look()
    assert stage.term is not None
    caplog.clear()
    for _ in range(3):
        listener.hear(stage.term.state)
    assert [record.getMessage() for record in caplog.records if "bad" in record.getMessage()] == [
        f"node bad is not heard: {stage.spool.status('bad')} says more GPUs than there can be, or one of them twice"
    ]


@pytest.mark.parametrize("kind", [NodeStatus, Assigned, Ledger, HeadStatus], ids=lambda kind: kind.__name__)
def test_a_record_of_any_kind_that_is_nested_too_deep_is_damaged(kind: type) -> None:
    with pytest.raises(Damaged, match="here: is nested too deep"):
        decode(b'{"format": 1, "later": ' + DEEP + b"}", kind, "here")


def test_so_is_an_event() -> None:
    body = b'{"event": "gone", "id": 1, "attempt": 1, "node": "x", "at": 1.0, "later": ' + DEEP + b"}"
    with pytest.raises(Damaged):
        decode_event(b"%s %08x\n" % (body, zlib.crc32(body)))


def test_what_clients_read_may_be_anything(scene: Scene, sky: Run) -> None:
    """ledger.json, what heads and nodes say: what is damaged is left out."""
    scene.node("n1", "H100:1")
    ident = scene.pending("a", "H100:1")
    scene.head()
    for place, name in (
        (scene.spool.heads, "x.json"),
        (scene.spool.nodes, "bad/status.json"),
        (scene.spool.root, "ledger.json"),
    ):
        path = Path(place, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b'{"format": 1, "later": ' + DEEP + b"}")
    for verb in (("queue",), ("status",), ("why", str(ident))):
        ran = sky(*verb)
        assert ran.code == 0, ran
        assert "Traceback" not in ran.err
    assert " a " in sky("queue").out
