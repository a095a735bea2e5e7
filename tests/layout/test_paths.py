"""Names: built and taken apart, whatever users call their files."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool_layout.paths import (
    STATUS_WORDS,
    Spool,
    attempt_key,
    claim_epoch_of,
    epoch_of,
    generation_of,
    id_of,
    is_cluster_name,
    is_handle,
    is_passing,
    job_file,
    label,
    parse_attempt_key,
    without_ending,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train.yaml", "train"),
        ("train.yml", "train"),
        ("4.train.yaml", "train"),
        ("4.train.FAILED.yaml", "train"),
        ("4.train.FAILED_SETUP.yaml", "train"),
        ("train@0123456789abcd.yaml", "train"),
        ("12.train@0123456789abcd.SUCCEEDED.yaml", "train"),
        ("a b.yaml", "a b"),
        (".yaml", "job"),
        ("7..yaml", "job"),
        ("x\ny.yaml", "x_y"),
        ("é.yaml", "é"),
        ("1.2.3.yaml", "2.3"),
        ("v1.2.yaml", "v1.2"),
        ("../../etc/x.yaml", "_.._etc_x"),
        ("1...yaml", "job"),
    ],
)
def test_label(name: str, expected: str) -> None:
    assert label(name) == expected


@given(st.integers(1, 10**9), st.text(min_size=1, max_size=300) | st.text("./\0@a", min_size=1))
def test_a_job_file_is_a_legal_name_that_tells_its_id(ident: int, drop: str) -> None:
    name = job_file(ident, drop.encode("utf-8", "replace").decode())
    assert id_of(name) == ident
    assert len(os.fsencode(f"{without_ending(name)}.FAILED_DRIVER.yaml")) <= 255
    assert name.isprintable() and "/" not in name and not is_passing(name)


@given(st.integers(1, 10**6), st.sampled_from(STATUS_WORDS), st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True))
def test_a_file_of_done_dropped_again_keeps_its_label(ident: int, status: str, name: str) -> None:
    ended = os.path.basename(Spool("/s").ended("2026-01-02", job_file(ident, name), status))
    assert label(ended) == name


@pytest.mark.parametrize("name", [".x.yaml", "x.yaml~", "x.tmp", "x.yaml.part", ".nfs000001", "#x.yaml#", "x.swp"])
def test_what_editors_and_nfs_leave_is_never_looked_at(name: str) -> None:
    assert is_passing(name)


def test_machine_names() -> None:
    assert (epoch_of("12.jsonl"), epoch_of("0.jsonl"), epoch_of("x.jsonl"), epoch_of("archive")) == (12,) + (None,) * 3
    assert (generation_of("3.7.json"), generation_of("3.json")) == ((3, 7), None)
    assert (claim_epoch_of("3.ab12"), claim_epoch_of("3")) == (3, None)
    assert parse_attempt_key(attempt_key(17, 2)) == (17, 2)
    assert parse_attempt_key("17_3.1") == (17, 1)
    with pytest.raises(ValueError, match="not an attempt"):
        parse_attempt_key("x")


@pytest.mark.parametrize(
    ("word", "good"),
    [("lab", True), ("a-b.c_d", True), ("3", False), ("", False), ("a/b", False), ("-x", False), ("..", False)],
)
def test_cluster_names(word: str, good: bool) -> None:
    assert is_cluster_name(word) is good


def test_logs_of_attempts() -> None:
    spool = Spool("/s")
    assert (spool.log_dir(3), spool.log_dir(3, 2)) == ("/s/logs/3", "/s/logs/3/attempt-2")


def test_a_handle_is_a_name_and_no_path() -> None:
    assert is_handle("train@0123456789abcd") and not is_handle("train")
    assert not any(is_handle(f"{above}train@0123456789abcd") for above in ("../", "/", "../running/", "a/../"))
