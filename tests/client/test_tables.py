from __future__ import annotations

import pytest

from skyspool.ages import ago, duration, iso, lasted, shorter
from skyspool.listing import HEADINGS, narrowing
from skyspool.tables import Table, cut, fitted, plain
from spool_layout.states import Status
from tests.client.builders import Scene
from tests.client.pseudo import on_terminal

MINUTE, HOUR, DAY = 60, 3600, 86400


def test_plain_is_left_aligned_with_two_spaces_after_each_column() -> None:
    assert plain(Table(("ID", "NAME"), [("10", "a"), ("1", "longer")])) == " ID  NAME\n 10  a\n 1   longer"


@pytest.mark.parametrize(
    ("seconds", "words", "short", "span"),
    [
        (0, "a few secs ago", "just now", "a few secs"),
        (9, "a few secs ago", "just now", "a few secs"),
        (10, "10 secs ago", "10s ago", "10 secs"),
        (MINUTE, "1 min ago", "1m ago", "1 min"),
        (10 * MINUTE + 59, "10 mins ago", "10m ago", "10 mins"),
        (HOUR, "1 hr ago", "1h ago", "1 hr"),
        (2 * DAY, "2 days ago", "2d ago", "2 days"),
        (8 * DAY, "1 week ago", "1w ago", "1 week"),
        (62 * DAY, "2 months ago", "2mo ago", "2 months"),
        (800 * DAY, "2 yrs ago", "2y ago", "2 yrs"),
        (-5, "a few secs ago", "just now", "a few secs"),
    ],
)
def test_ages_in_skypilots_words(seconds: float, words: str, short: str, span: str) -> None:
    assert ago(1000 * DAY - seconds, 1000 * DAY) == words
    assert shorter(words) == short
    assert lasted(1000 * DAY - seconds, 1000 * DAY) == span
    assert ago(None, 0) == "-"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0s"), (59, "59s"), (3700, "1h 1m 40s"), (90000, "1d 1h"), (-1, "0s")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_iso_times_are_utc_to_the_millisecond() -> None:
    assert iso(1795526782.4196045) == "2026-11-24T13:26:22.419Z"
    assert iso(None) is None


ROW = (
    "123456", "a-rather-long-name-for-a-job", "somebody", "10 mins ago", "10 mins ago", "1h 1m 40s",
    "1x[H100:8 or A100-80GB:8 or L40S:8]", "SUCCEEDED", "/shared/projects/spool/logs/123456",
)  # fmt: skip


def test_what_gives_way_on_narrow_terminals_and_what_never_does() -> None:
    table = Table(HEADINGS, [ROW])
    assert fitted(table, 200, narrowing()) == table
    for width in range(60, 200):
        narrow = fitted(table, width, narrowing())
        assert narrow.width <= width
        assert {"ID", "NAME", "RESOURCES", "STATUS"} <= set(narrow.headings)
        assert narrow.rows[0][-1] in ("SUCCEEDED", ROW[-1])


def test_cut() -> None:
    assert (cut("short", 5), cut("longer", 5), cut("longer", 1)) == ("short", "long…", "l…"[:1] + "…"[:1])


# ---- at a terminal


def test_at_80_columns_no_line_is_longer(story: Scene) -> None:
    story.head()
    story.pending("a-name-that-is-much-longer-than-most-names-of-jobs-are", "H100:4")
    for verb in ("queue", "status"):
        lines = [line for line in on_terminal(verb).lines if story.spool.root not in line]  # a path is not cut
        assert max(map(len, lines)) <= 80, lines
        assert "job5" in "\n".join(lines)


def test_a_wide_terminal_has_room_for_all_columns(story: Scene) -> None:
    story.head()
    assert on_terminal("queue", columns=250).lines[1].split() == list(HEADINGS)


def test_the_table_is_the_same_with_and_without_colour(scene: Scene) -> None:
    scene.head()
    scene.node("n1", "H100:4")
    for status in (Status.SUCCEEDED, Status.FAILED):  # their durations stand still
        scene.ended(scene.started("train", "H100:4"), status, ago=90)
    scene.pending("waits")
    coloured = on_terminal("queue", columns=250)
    assert b"\x1b[" in coloured.out
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plainly = on_terminal("queue", columns=250, **env)
        assert b"\x1b" not in plainly.out
        assert [line.rstrip() for line in coloured.lines] == [line.rstrip() for line in plainly.lines]


def test_a_terminal_that_does_not_tell_its_size(story: Scene) -> None:
    story.head()
    assert max(map(len, on_terminal("queue", columns=0).lines)) <= 80
