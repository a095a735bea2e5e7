"""A log of a job of another user is at its place, the owner's alone, or not there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from spool_layout.becoming import Account, account_of
from spool_layout.paths import Spool
from spoold.node import owner
from spoold.node.rights import Post
from spoold.node.unfit import Unfit


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    """A spool whose account we are; so is the owner of the jobs, since this needs nobody else."""
    made = Spool(tmp_path)
    os.makedirs(made.new_logs)
    monkeypatch.setattr(owner, "post", lambda: Post(me(), made.root))
    monkeypatch.setattr(owner, "acting_as", lambda *_: contextlib.nullcontext())
    return made


def me() -> Account:
    return account_of(os.getuid())


def test_a_log_stands_at_its_place_with_one_name(spool: Spool) -> None:
    path = Path(spool.log_dir(1), "run.log")
    os.close(owner.make_log(str(path), me()))
    assert path.stat().st_nlink == 1 and os.listdir(spool.new_logs) == []


def test_a_log_that_got_a_second_name_while_it_was_made_is_refused(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fchmod

    def link_first(descriptor: int, mode: int) -> None:
        (made,) = os.listdir(spool.new_logs)
        os.link(os.path.join(spool.new_logs, made), os.path.join(spool.root, "kept"))
        real(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", link_first)
    with pytest.raises(Unfit, match="tampered with"):
        owner.make_log(os.path.join(spool.log_dir(1), "run.log"), me())
    assert not os.path.exists(spool.log_dir(1))
