"""Whom a spool serves, by its settings; and who may do what to others' jobs."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from spool_layout import modes, settings, users
from spool_layout.errors import BadSettings
from spool_layout.events import Requested
from spool_layout.paths import Spool
from spool_layout.users import Users, of_settings
from spoold.core.model import Policy, Request
from tests.core.builders import Scenario, task
from tests.e2e.cluster import running

TEXT = "format: 1\nid: s1\nname: one\n"


def said(more: str) -> settings.Settings:
    return settings.parse((TEXT + more).encode(), "spool.yaml")


def test_names_become_numbers_and_an_unknown_one_is_told() -> None:
    root = pwd.getpwuid(0).pw_name
    found = of_settings(said(f"users: multi\nallow: [{root}, 4711]\nadmins: [12]\n"), 7)
    assert found == Users(True, 7, frozenset({0, 4711}), frozenset({12}))
    with pytest.raises(BadSettings, match="admins: this host knows no user 'nobody-of-that-name'"):
        of_settings(said("admins: [nobody-of-that-name]\n"), 7)
    with pytest.raises(BadSettings, match="users is 'many', may be single or multi"):
        said("users: many\n")


@pytest.mark.parametrize(("uid", "taken"), [(7, True), (4711, True), (0, False), (8, False)])
def test_one_users_spool_takes_the_files_of_its_user_and_of_whom_it_names(uid: int, taken: bool) -> None:
    assert (Users(False, 7, frozenset({4711})).objection(uid) == "") == taken


@pytest.mark.parametrize("uid", [0, 1, 999, 7777, 65534, 65535, 2**32 - 1])
def test_several_users_spool_never_takes_files_of_root_system_accounts_nobody_or_its_own(
    uid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "first_user", lambda: 1000)
    assert Users(True, 7777, frozenset({uid})).objection(uid)
    assert Users(True, 7777).objection(1000) == ""
    assert Users(True, 7777, frozenset({1001})).objection(1000)
    assert Users(True, 7777, frozenset({1001})).objection(1001) == ""


def test_the_owner_and_admins_cancel_a_job_and_nobody_else() -> None:
    for uid, allowed in ((1001, True), (12, True), (0, True), (7, True), (1002, False)):
        scene = Scenario(n1="H100:1")
        scene.policy = Policy(7, frozenset({12}))
        (ident,) = scene.drop(task("H100:1"), uid=1001)
        request = Request("request-1-x", f"1.t/{uid}", uid, "someone", what="cancel", targets=(ident,))
        (asked,) = [event for event in scene.look(requests=(request,)) if isinstance(event, Requested)]
        assert (asked.ids == [ident], not asked.reason) == (allowed, allowed)
        assert (scene.state.jobs[ident].stop is not None) == allowed


def test_all_means_ones_own_and_all_users_needs_an_admin() -> None:
    scene = Scenario(n1="H100:2")
    scene.policy = Policy(7, frozenset())
    (mine,), (others,) = scene.drop(task("H100:1"), uid=1001), scene.drop(task("H100:1"), uid=1002)
    everything = Request("request-1-x", "1.t/1", 1001, "me", what="cancel", everything="mine")
    scene.look(requests=(everything,))
    assert (scene.state.jobs[mine].stop is None, scene.state.jobs[others].stop is None) == (False, True)
    scene.look(requests=(everything._replace(key="1.t/2", everything="all"),))
    assert scene.state.jobs[others].stop is None
    scene.look(requests=(everything._replace(key="1.t/3", everything="all", uid=7),))
    assert scene.state.jobs[others].stop is not None


def test_one_users_spool_runs_the_files_of_whom_it_names_as_its_own_user(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("NOT TESTED: giving files to others needs root")
    with running(tmp_path, allow="[4711]", admins="[4712]") as cluster:
        cluster.head().node().ready()
        made = Path(cluster.spool.tmp, "theirs")
        for name, uid in (("allowed.yaml", 4711), ("stranger.yaml", 4713)):
            made.write_text("run: id -u\n...\n")
            os.chown(made, uid, -1)
            made.rename(Path(cluster.spool.pending, name))
        assert cluster.ended(1) == ["SUCCEEDED"]
        assert cluster.log(1) == "0\n" and cluster.job(1).uid == 4711  # type: ignore[union-attr]
        cluster.eventually(lambda: [r.drop for r in cluster.state().rejected] == ["stranger.yaml"])


def test_modes_of_both_kinds_of_spools(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    single, multi = modes.wanted(spool, "single"), modes.wanted(spool, "multi")
    assert {place for place, mode in single.items() if mode == 0o700} == {"tmp", "pending", "requests", "claims"}
    assert {place for place, mode in multi.items() if mode == modes.DROP} == {
        "tmp",
        "pending",
        "requests",
        "logs/.new",
    }
    assert {mode for place, mode in multi.items() if place not in modes.BOXES} == {0o755, 0o700}
    for place, mode in multi.items():
        assert modes.trouble(place, mode, "multi") == ""
        assert modes.trouble(place, 0o777, "multi") != ""
    assert modes.trouble("pending", 0o1733, "multi") and modes.trouble("pending", 0o3333, "multi")
    assert modes.trouble("pending", 0o3733 | 0o040, "multi") == "others may look into it"
