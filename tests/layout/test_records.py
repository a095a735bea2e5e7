"""The bytes of event files: whole records are read, torn and damaged ones are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool_layout.errors import Damaged
from spool_layout.events import AnyEvent, Ended, Going, Sealed, Started, Vouched, decode_events, encode_event, outline
from spool_layout.records import Leader, Ledger, decode, encode
from spool_layout.states import ENDED, EXIT_CODES, LIVE, TRANSITIONS, Status, may_follow

EVENTS = [
    Started(id=1, attempt=1, allocations=[], at=1.5),
    Going(id=1, attempt=1, at=2.0),
    Ended(id=1, attempt=1, status=Status.SUCCEEDED, day="2026-01-02", at=3.0, exit_codes=[0]),
]
DATA = b"".join(encode_event(event) for event in EVENTS)


def test_events_survive_the_disk() -> None:
    assert decode_events(DATA) == (EVENTS, len(DATA))


@given(st.integers(0, len(DATA)))
def test_any_cut_leaves_the_whole_records_before_it(cut: int) -> None:
    events, length = decode_events(DATA[:cut])
    assert events == EVENTS[: len(events)]
    assert length <= cut
    assert DATA[:length] == b"".join(encode_event(event) for event in events)


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_changed_byte_ends_what_is_valid(at: int, change: int) -> None:
    damaged = bytearray(DATA)
    damaged[at] ^= change
    events, length = decode_events(bytes(damaged))
    assert length <= at
    assert events == EVENTS[: len(events)]


LONG: list[AnyEvent] = [
    Sealed(epoch=1, seals={}, generation=(0, 0), leader=Leader(), at=0.5),
    *EVENTS,
    Vouched(generation=(1, 1), digest="a", at=3.5),
    Vouched(generation=(1, 2), digest="b", at=4.0),
    *EVENTS,
]
LONG_DATA = b"".join(encode_event(event) for event in LONG)


@given(st.integers(0, len(LONG_DATA)), st.integers(0, len(LONG_DATA)), st.binary(max_size=12))
def test_an_outline_of_a_file_ends_where_its_valid_records_do(cut: int, at: int, put: bytes) -> None:
    data = (LONG_DATA[:at] + put + LONG_DATA[at + len(put) :])[:cut]
    events, length = decode_events(data)
    told, told_length = outline(data)
    assert (told[:1], told_length) == (events[:1], length)
    for kind in {type(event) for event in events}:
        assert next(e for e in reversed(told) if type(e) is kind) == next(
            e for e in reversed(events) if type(e) is kind
        )


def test_nul_bytes_of_a_lost_page_are_no_events() -> None:
    assert decode_events(DATA + b"\0" * 100 + b"\n") == (EVENTS, len(DATA))


def test_an_event_of_a_later_version_is_not_taken_for_a_torn_one() -> None:
    import zlib

    body = b'{"event":"teleported","id":1}'
    data = DATA + b"%s %08x\n" % (body, zlib.crc32(body)) + DATA
    for read in (decode_events, outline):
        with pytest.raises(Damaged, match="does not know"):
            read(data)


def test_fields_of_a_later_version_are_ignored() -> None:
    data = encode(Ledger(format=1, cluster="c", spool="s"))[:-2] + b',"later":1}'
    assert decode(data, Ledger, "x").cluster == "c"


def test_damage_names_the_file() -> None:
    with pytest.raises(Damaged, match="some/file"):
        decode(b'{"format":"one"}', Ledger, "some/file")


def test_states_are_closed() -> None:
    assert set(TRANSITIONS) == LIVE
    assert LIVE | ENDED == set(Status) == set(EXIT_CODES)
    reached = {status for row in TRANSITIONS.values() for status in row}
    assert reached == set(Status) - set()
    assert not may_follow(Status.SUCCEEDED, Status.RUNNING)
