"""Names that users give to files, and words that nodes bring along: what they do, and what is printed of them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from spool_layout.events import Accepted, Rejected
from spool_layout.paths import encodable, label
from spool_layout.records import Rejection
from spool_layout.states import Status
from tests.client.builders import Scene
from tests.client.conftest import Run
from tests.client.conftest import at_home as at_home
from tests.client.conftest import scene as scene
from tests.client.conftest import sky as sky
from tests.client.pseudo import on_terminal
from tests.head.conftest import folder as folder
from tests.head.stage import CPU, Stage

ESCAPES = "esc\x1b[2J\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\x9b31m"
NAMES = {
    "newline": "new\nline",
    "a line of its own": "x\nerror: all is lost\nhint: rm -rf ~",
    "escapes": ESCAPES,
    "carriage return": "good\rbad",
    "backspaces": "abc\b\b\bxyz",
    "direction": "gpj\u202eyaml.exe",
    "a line separator": "a\u2028b",
    "no UTF-8": "latin-\udce9",
    "255 bytes": "l" * 250,
    "255 bytes of wide letters": "語" * 83,
}
ODD = [
    "-rf",
    "--help",
    "..",
    "...",
    "..a",
    "a..b",
    "%2e%2e%2fetc",
    "$(touch owned)",
    "`id`",
    "a b;c",
    "'",
    '"',
    "~root",
    "*",
]
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]")


def drop_all(pending: str) -> None:
    for name in [*NAMES.values(), *ODD]:
        Path(pending, f"{name}.yaml").write_text(CPU)


# ---- what becomes of such files


def test_whatever_a_file_is_called_it_is_one_job_or_one_file_set_aside_and_nothing_else(folder: Path) -> None:
    stage = Stage(folder / "spool")
    stage.node("n1")
    stage.look()
    around = {place: sorted(os.listdir(place)) for place in (folder, folder / "spool")}
    drop_all(stage.spool.pending)
    stage.run()
    refused = {event.drop for event in stage.events() if isinstance(event, Rejected)}
    taken = {event.drop: event for event in stage.events() if isinstance(event, Accepted)}
    unprintable = {f"{name}.yaml" for name in NAMES.values() if not name.isprintable()}
    assert refused == {encodable(name) for name in unprintable}
    hidden = set(os.listdir(stage.spool.pending))
    assert hidden == {"...yaml", "....yaml", "..a.yaml"}, "dot files are nobody's jobs"
    assert set(taken) == {f"{name}.yaml" for name in [*NAMES.values(), *ODD]} - unprintable - hidden
    for event in taken.values():
        assert event.file == f"{event.id}.{label(event.drop)}.yaml" and os.path.exists(stage.spool.started(event.file))
    for place in (stage.spool.running, stage.spool.rejected):
        for name in os.listdir(place):
            assert name.isprintable() and len(os.fsencode(name)) < 255
    assert {place: sorted(os.listdir(place)) for place in around} == around, "no name leads out of its directory"
    assert len(os.listdir(stage.spool.rejected)) == 2 * len(unprintable)
    assert not Path("owned").exists()


FORGED = [
    "1.a",
    "01.a",
    "2.b",
    "99.x",
    "1.a.SUCCEEDED",
    "0.z",
    "999999999999999999999999.big",
    "-1.c",
    "1..d",
    "new-1-e",
]


def test_whoever_puts_an_id_in_front_of_a_name_gets_a_new_one(folder: Path) -> None:
    """And the job of that ID keeps its own file, whether it waits, runs or is over."""
    stage = Stage(folder)
    stage.node("n1", gpus=1)
    stage.drop("a")
    stage.drop("b")
    stage.run()
    assert (stage.job("a").id, stage.job("a").status) == (1, Status.RUNNING)
    before = {name: Path(stage.spool.pending, name).read_text() for name in os.listdir(stage.spool.pending)}
    assert list(before) == ["2.b.yaml"]
    forged = [name for name in FORGED if name != "2.b"]
    for name in forged:
        stage.put_new(stage.spool.dropped(f"{name}.yaml"), f"forged{forged.index(name)}")
    stage.run()
    accepted = [event for event in stage.events() if isinstance(event, Accepted)]
    assert [event.id for event in accepted] == list(range(1, 3 + len(forged)))
    assert Path(stage.spool.pending, "2.b.yaml").read_text() == before["2.b.yaml"]
    assert "mark-0-a" in Path(stage.spool.started("1.a.yaml")).read_text()
    ran = dict(stage.nodes["n1"].ran)
    assert "mark-0-a" in ran["1.1"]
    for event in accepted[2:]:
        assert "forged" in ran[f"{event.id}.1"]


def test_a_file_under_an_id_that_will_be_given_next_does_not_become_that_job(folder: Path) -> None:
    stage = Stage(folder)
    stage.node("n1")
    stage.put_new(stage.spool.dropped("2.b.yaml"), "forged")
    stage.drop("a", CPU)
    stage.look()
    assert {event.drop: event.id for event in stage.events() if isinstance(event, Accepted)} == {
        "2.b.yaml": 1,
        "a.yaml": 2,
    }


# ---- what is printed of them


def words(scene: Scene, ident: int) -> list[tuple[str, ...]]:
    """Every command line that prints names or reasons."""
    lines: list[tuple[str, ...]] = [
        ("queue",), ("queue", "-u"), ("status",), ("why",), ("why", str(ident)), ("logs", "--no-follow", str(ident)),
        ("logs", "--status", str(ident)), ("cancel", "--async", str(ident)), ("queue", "-o", "json"),
        ("status", "-o", "json"), ("why", "-o", "json"),
    ]  # fmt: skip
    for name in NAMES.values():
        lines += [("why", name), ("logs", "--no-follow", name), ("logs", "--status", name), ("why", f"bad-{name}")]
        lines += [("lint", "--dropped", scene.spool.dropped(f"{name}.yaml")), ("cancel", "--async", name)]
    return lines


def hostile(scene: Scene) -> int:
    """A scene in which everything that anybody can name is named by a hostile user."""
    scene.node("n1", "H100:1")
    scene.says("n1", notes=[f"note {ESCAPES}", "two\nlines"])
    ident = scene.pending(ESCAPES, "H100:9", drop=f"{ESCAPES}.yaml")
    scene.ended(scene.start(scene.pending(NAMES["newline"], "H100:1")), Status.FAILED, reason=f"because {ESCAPES}")
    for name in NAMES.values():
        scene.dropped(name)
        scene.rejected(encodable(f"bad-{name}.yaml"), f"says {encodable(name)}")
        Path(scene.spool.dropped(f"{name}.yaml")).write_text(f"run: '\n{encodable(name)}")
    return ident


def test_no_control_character_of_anybodys_reaches_a_reader(scene: Scene, sky: Run) -> None:
    ident = hostile(scene)
    scene.head()
    seen = ""
    for line in words(scene, ident):
        ran = sky(*line)
        assert not UNSEEN.search(ran.out), (line, ran.out)
        assert not UNSEEN.search(ran.err), (line, ran.err)
        assert not re.search("^(error: all is lost|hint: rm)", ran.out + ran.err, re.MULTILINE), (line, ran)
        if "json" in line:
            json.loads(ran.out)
        seen += ran.out + ran.err
    assert "esc?[2J" in seen, "what is printable of a name is shown"


def test_nor_a_terminal(scene: Scene) -> None:
    hostile(scene)
    scene.head()
    for verb in ("queue", "status", "why"):
        out = on_terminal(verb, stderr=True).out.decode()
        assert not UNSEEN.search(re.sub("\x1b\\[[0-9;]*m|\r\n", "", out)), (verb, out)
        assert "?[2J" in out


def test_a_rejection_is_kept_as_it_was_and_shown_in_one_line(scene: Scene, sky: Run) -> None:
    scene.head()
    scene.rejected("x\nerror: y.yaml", "first\nsecond\x1b[31m")
    assert isinstance(scene.state.rejected[0], Rejection)
    (line,) = [line for line in sky("queue", "-u").out.splitlines() if "rejected" in line]
    assert line.endswith("x; error: y.yaml: first; second?[31m")
