from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyspool.terminal import LONGEST, Filter

HARMLESS = re.compile(rb"\x1b\[[0-9;:]*[mKABCDEFGJ]")
PIECES = st.sampled_from(
    [
        b"\x1b", b"\x1b\\", b"\xc2", b"\x9b", b"\x07", b"\x00", b"\x7f", b"\r", b"\n", b"\t", b" ", b"text",
        b"[", b"]", b"P", b"c", b"(B", b"0;title", b"52;c;", b"31m", b"6n", b"K", b"?1049h",
    ]
)  # fmt: skip


def shown(*pieces: bytes) -> bytes:
    screen = Filter()
    return b"".join(screen.feed(piece) for piece in pieces)


@pytest.mark.parametrize(
    "kept",
    [
        b"plain\n\ttext \xf0\x9f\x9a\x80 \xc3\xbc",
        b"\x1b[1;31mred\x1b[0m \x1b[38;2;1;2;3m\x1b[38:5:1m",
        b" 10%\r\x1b[K 20%\r\n",
        b"\x1b[2A\x1b[10C\x1b[5D\x1b[1G\x1b[2J\x08",
    ],
)
def test_colours_progress_bars_and_text_pass(kept: bytes) -> None:
    assert shown(kept) == kept


@pytest.mark.parametrize(
    "dropped",
    [
        b"\x1b]0;title\x07",
        b"\x1b]52;c;ZWNobyBoaQ==\x1b\\",  # writes to the clipboard
        b"\x1bP$qm\x1b\\",
        b"\x1b_command\x1b\\",
        b"\x1b[6n",  # the terminal would answer, as if typed
        b"\x1b[?1049h",
        b"\x1b[21t",
        b"\x1bc",
        b"\x1b(0",
        b"\x9b".decode("latin-1").encode(),  # C1, as UTF-8 has it
        b"\x07",
        b"\x00",
    ],
)
def test_what_could_do_more_is_dropped_however_it_is_cut(dropped: bytes) -> None:
    text = b"before" + dropped + b"after"
    assert shown(text) == b"beforeafter"
    for cut in range(len(text)):
        assert shown(text[:cut], text[cut:]) == b"beforeafter"


@given(st.lists(PIECES, max_size=30))
def test_no_sequence_but_the_harmless_ones_ever_comes_through(pieces: list[bytes]) -> None:
    for out in (shown(*pieces), shown(b"".join(pieces))):
        assert b"\x1b" not in HARMLESS.sub(b"", out)
        assert not re.search(rb"[\x00-\x07\x0e-\x1a\x7f]", out)


def test_a_sequence_without_end_holds_back_only_so_much() -> None:
    screen = Filter()
    assert screen.feed(b"\x1b]0;") == b""
    out = screen.feed(b"x" * LONGEST)
    assert out == b"]0;" + b"x" * LONGEST
