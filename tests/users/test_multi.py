"""Real users on one spool: root starts head and node, alice and bob submit, and try what they should not."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from spoold.node.containment import stat_fields
from tests.node.test_gitlogin import LOGIN, Server, holding
from tests.node.test_gitlogin import server as server
from tests.users.shared import Shared, start

WHO = """\
envs: {LD_PRELOAD: /nowhere/evil.so, BASH_ENV: /nowhere/evil.sh, IFS: x, SECRET: s3kret}
setup: |
  echo setup by $(id -un)
run: |
  unset LD_PRELOAD
  echo "ids: $(id -u) $(id -ru) $(id -g) $(id -G)"
  echo "umask: $(umask)"
  echo "home: $HOME $(pwd) $USER $LOGNAME"
  grep -E '^(Uid|Gid|Groups|Cap(Inh|Prm|Eff|Amb)):' /proc/self/status
  env
  touch made-by-job
"""
OTHERS = ("pending", "requests", "tmp", "logs/.new", "claims")


def ids(pid: int, which: str = "Uid") -> list[int]:
    """Real, effective, saved and file-system ID of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next([int(word) for word in line.split()[1:]] for line in lines if line.startswith(f"{which}:"))


def below(pid: int) -> list[int]:
    """Children of a process."""
    fields = {int(p.name): stat_fields(int(p.name)) for p in Path("/proc").glob("[0-9]*")}
    return [child for child, found in fields.items() if found and int(found[1]) == pid]


def job_below(spool: Shared, supervisor: int) -> int:
    """The job's first process, once it is the owner's and no more is there of what made its log."""
    alice = [[spool.accounts.alice.uid] * 4]
    spool.eventually(lambda: [ids(pid) for pid in below(supervisor)] == alice)
    return below(supervisor)[0]


# ---- who runs what


def test_a_job_runs_as_who_submitted_it_and_as_nobody_else(spool: Shared) -> None:
    for user, groups in ((spool.accounts.alice, [spool.accounts.lab]), (spool.accounts.bob, [])):
        path = user.home / "who.yaml"
        path.write_text(WHO)
        ident = int(spool.says(user, "launch", "-d", str(path)).stdout.rpartition("ID: ")[2])
        assert spool.ended(ident) == ["SUCCEEDED"], spool.story()
        lines = spool.output(ident).splitlines()
        words = [user.uid, user.uid, user.gid, user.gid, *groups]
        assert f"ids: {' '.join(map(str, words))}" in lines
        told = next(line for line in lines if line.startswith("Groups:"))
        assert sorted(map(int, told.split()[1:])) == sorted([user.gid, *groups]), "root's, or fewer than the owner's"
        assert "umask: 0022" in lines and f"home: {user.home} {user.home} {user.name} {user.name}" in lines
        assert "\t".join(["Uid:", *[str(user.uid)] * 4]) in lines
        assert "\t".join(["Gid:", *[str(user.gid)] * 4]) in lines
        assert [line for line in lines if line.startswith("Cap")] == [
            f"{cap}:\t{'0' * 16}" for cap in ("CapInh", "CapPrm", "CapEff", "CapAmb")
        ]
        assert "SECRET=s3kret" in lines
        assert not [line for line in lines if line.startswith(("SUDO_", "PYTEST_", "VIRTUAL_ENV"))]
        made = (user.home / "made-by-job").stat()
        assert (made.st_uid, made.st_gid) == (user.uid, user.gid)
        assert f"setup by {user.name}" in Path(spool.spool.log_dir(ident), "setup.log").read_text()


def test_a_job_reads_what_its_owners_second_group_may_read_and_nothing_that_roots_may(spool: Shared) -> None:
    """The node's root is in a group more, which reads the other file."""
    accounts = spool.accounts
    for name, gid in (("labs", accounts.lab), ("roots", accounts.roots)):
        path = spool.folder / name
        path.write_text(f"for {name} only\n")
        os.chown(path, 0, gid)
        path.chmod(0o640)
    commands = f"cat {spool.folder}/labs; cat {spool.folder}/roots; cat /etc/shadow | wc -l"
    for user, reads in ((accounts.alice, ["for labs only"]), (accounts.bob, [])):
        ident = spool.submits(user, f"run: |\n  exec 2>/dev/null\n  {commands}\n", "groups")
        assert spool.ended(ident) == ["SUCCEEDED"]
        assert spool.output(ident).splitlines() == [*reads, "0"]


def test_no_daemon_keeps_rights_of_root_that_it_does_not_need(spool: Shared) -> None:
    ident = start(spool, spool.accounts.alice, "sleep 300", "rights")
    owner = spool.accounts.owner.uid
    groups = [spool.accounts.owner.gid]
    keeper = spool.processes["n1"].pid
    assert ids(spool.processes["head"].pid) == [owner] * 4
    (runner,) = below(keeper)
    assert ids(runner) == [owner] * 4 and ids(runner, "Gid") == [spool.accounts.owner.gid] * 4
    (starter,) = spool.starters().values()
    assert ids(starter) == [0, owner, 0, owner]
    (supervisor,) = [pid for pid in below(starter) if below(pid)]
    assert ids(supervisor) == [0, owner, 0, owner]
    for pid in (spool.processes["head"].pid, runner, starter, supervisor):
        assert ids(pid, "Groups") == groups, "root's groups open what the account may not"
    assert ids(job_below(spool, supervisor)) == [spool.accounts.alice.uid] * 4
    spool.says(spool.accounts.alice, "cancel", str(ident))


def test_variables_of_a_task_reach_nothing_but_the_job(spool: Shared, people_library: Path) -> None:
    ident = spool.submits(
        spool.accounts.alice,
        f"envs: {{LD_PRELOAD: {people_library}, BASH_ENV: {people_library}, PYTHONSTARTUP: {people_library},"
        f" PATH: {people_library.parent}}}\nrun: /bin/sleep 300\n",
    )
    spool.runs(ident)
    (starter,) = spool.starters().values()
    (supervisor,) = [pid for pid in below(starter) if below(pid)]
    for pid in (spool.processes["n1"].pid, *below(spool.processes["n1"].pid), starter, supervisor):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert str(people_library).encode() not in environment
    job = job_below(spool, supervisor)
    spool.eventually(lambda: str(people_library).encode() in Path(f"/proc/{job}/environ").read_bytes())  # it execs
    spool.says(spool.accounts.alice, "cancel", str(ident))


@pytest.fixture
def people_library(spool: Shared) -> Path:
    path = spool.accounts.alice.home / "evil.so"
    path.write_text("#!/bin/sh\n")
    return path


def test_cancel_ends_everything_of_another_users_job(spool: Shared) -> None:
    hides = "(trap '' TERM; setsid sleep 4242 & setsid sleep 4243) & trap '' TERM; sleep 4244 & wait; wait"
    ident = start(spool, spool.accounts.bob, hides, "stubborn")
    uid = spool.accounts.bob.uid

    def left() -> list[int]:
        found = [int(p.name) for p in Path("/proc").glob("[0-9]*")]
        return [pid for pid in found if (f := stat_fields(pid)) and f[0] not in "ZX" and ids(pid)[0] == uid]

    spool.eventually(lambda: len(left()) >= 4)
    spool.says(spool.accounts.bob, "cancel", str(ident))
    assert spool.ended(ident) == ["CANCELLED"]
    assert left() == []


def test_a_job_whose_supervisor_was_killed_is_ended_all_the_same(spool: Shared) -> None:
    ident = start(spool, spool.accounts.alice, "sleep 300", "orphan")
    (starter,) = spool.starters().values()
    (supervisor,) = [pid for pid in below(starter) if below(pid)]
    job = job_below(spool, supervisor)
    os.kill(supervisor, 9)
    assert spool.ended(ident) == ["FAILED_DRIVER"]
    found = stat_fields(job)
    assert found is None or found[0] in "ZX"


def test_a_workdir_from_git_is_cloned_by_the_owner_into_their_home(spool: Shared) -> None:
    alice = spool.accounts.alice
    spool.script(alice, "git init -q repo; cd repo; echo cloned > file; git add file")
    spool.script(alice, "cd repo; git -c user.name=a -c user.email=a@b commit -qm first")
    path = alice.home / "git.yaml"
    path.write_text(f"workdir: {{url: 'file://{alice.home}/repo'}}\nrun: cat file; pwd; stat -c %U .\n")
    ident = int(spool.says(alice, "launch", "-d", str(path)).stdout.rpartition("ID: ")[2])
    assert spool.ended(ident) == ["SUCCEEDED"], spool.story()
    said, where, owner = spool.output(ident).splitlines()
    assert (said, owner) == ("cloned", alice.name) and where.startswith(f"{alice.home}/.skyspool/")


def test_the_login_to_a_repository_is_there_while_the_job_runs_and_gone_with_it(spool: Shared, server: Server) -> None:
    """The owner's alone meanwhile. The clone stays, whoever it was who found that the job is over."""
    alice = spool.accounts.alice
    path, place = alice.home / "login.yaml", alice.home / ".skyspool"
    commands = "git fetch || exit; cd ..; stat -c '%U %a %n' $SKYSPOOL_ATTEMPT-0.git-config*"
    path.write_text(f'workdir: {{url: "{server.url(LOGIN)}"}}\nrun: |\n  {commands}\n  sleep $LONG\n')
    for seconds, ended in ((0, "SUCCEEDED"), (300, "FAILED_DRIVER")):
        done = spool.says(alice, "launch", "-d", "--env", f"LONG={seconds}", str(path))
        ident = int(done.stdout.rpartition("ID: ")[2])
        if seconds:
            spool.runs(ident)
            spool.eventually(lambda ident=ident: ".password" in spool.output(ident))
            (starter,) = spool.starters().values()
            (supervisor,) = [pid for pid in below(starter) if below(pid)]
            os.kill(supervisor, 9)
        assert spool.ended(ident) == [ended], spool.story()
        assert spool.output(ident).splitlines()[-2:] == [
            f"{alice.name} 600 {ident}.1-0.git-config{more}" for more in ("", ".password")
        ]
        spool.eventually(lambda: holding(str(place)) == {} and not list(place.rglob("*.git-config*")))
        assert next(place.rglob(f"{ident}.1-0")).is_dir()


# ---- logs


def test_only_the_owner_reads_a_log(spool: Shared) -> None:
    alice, bob = spool.accounts.alice, spool.accounts.bob
    ident = spool.submits(alice, "run: echo for alice only\n", "private")
    spool.ended(ident)
    log = Path(spool.spool.log_dir(ident), "run.log")
    info = log.stat()
    assert (info.st_uid, stat.S_IMODE(info.st_mode)) == (alice.uid, 0o640)
    folder = log.parent.stat()
    assert (folder.st_uid, stat.S_IMODE(folder.st_mode)) == (spool.accounts.owner.uid, 0o755)
    assert "for alice only" in spool.says(alice, "logs", str(ident)).stdout
    refused = spool.says(bob, "logs", str(ident), check=1)
    assert "for alice only" not in refused.stdout and f"job {ident} is {alice.name}'s" in refused.stderr


def test_nobody_makes_forges_or_replaces_anothers_log(spool: Shared) -> None:
    bob = spool.accounts.bob
    ident = start(spool, spool.accounts.alice, "sleep 300", "logged")
    ahead = spool.state().next_id
    spool.script(
        bob,
        f"! mkdir $S/logs/{ahead}; ! ln -s $HOME $S/logs/{ahead}; ! touch $S/logs/{ident}/more.log; ! ls $S/logs/.new;"
        f"! rm $S/logs/{ident}/run.log; ! mv $S/logs/{ident} $S/logs/x; ! echo forged >> $S/logs/{ident}/run.log;"
        f"ln -s /etc/passwd $S/logs/.new/junk; mkdir $S/logs/.new/dir; touch $S/logs/.new/file",
    )
    again = spool.submits(spool.accounts.alice, "run: echo mine\n")
    assert spool.ended(again) == ["SUCCEEDED"] and spool.output(again) == "mine\n"
    spool.says(spool.accounts.alice, "cancel", str(ident))


# ---- what is the system's


def test_no_user_writes_what_is_the_systems(spool: Shared) -> None:
    tried = 0
    for folder, _, files in os.walk(spool.spool.root):
        place = os.path.relpath(folder, spool.spool.root)
        if os.stat(folder).st_uid == spool.accounts.owner.uid and place not in OTHERS:
            done = spool.does(spool.accounts.bob, "touch", os.path.join(folder, "forged"))
            assert done.returncode != 0, folder
        for name in files:
            path = os.path.join(folder, name)
            if os.stat(path).st_uid == spool.accounts.owner.uid:
                done = spool.does(
                    spool.accounts.bob, "sh", "-c", 'echo x >> "$0" || mv "$0" "$0.x" || rm -f "$0"', path
                )
                assert done.returncode != 0, path
                tried += 1
    assert tried > 8
    for box in OTHERS:
        assert spool.does(spool.accounts.bob, "ls", str(Path(spool.spool.root, box))).returncode != 0


def test_nobody_touches_anothers_dropped_file(spool: Shared) -> None:
    alice, bob = spool.accounts.alice, spool.accounts.bob
    path = Path(spool.spool.pending, ".kept.yaml")  # the head passes it over
    spool.script(alice, f"umask 027; echo 'run: true' > {path}")
    spool.script(bob, f"! cat {path}; ! rm -f {path}; ! mv {path} $HOME/x; ! echo x >> {path}")
    assert path.read_text() == "run: true\n"
    path.unlink()


def test_another_users_file_that_is_linked_or_named_by_a_link_never_runs(spool: Shared) -> None:
    alice, bob = spool.accounts.alice, spool.accounts.bob
    theirs = spool.folder / "theirs.yaml"
    theirs.write_text("run: echo never\n...\n")
    os.chown(theirs, alice.uid, alice.gid)
    before = spool.state().next_id
    os.link(theirs, Path(spool.spool.pending, "linked.yaml"))  # as root: the kernel forbids it to bob by default
    spool.script(bob, f"ln -s {theirs} $S/pending/symbolic.yaml; mkfifo $S/pending/fifo.yaml")
    spool.script(bob, "mkdir $S/pending/directory.yaml")
    spool.eventually(lambda: {"linked.yaml", "symbolic.yaml", "fifo.yaml", "directory.yaml"} <= rejected(spool))
    assert spool.state().next_id == before
    reasons = {r.drop: r.reason for r in spool.state().rejected}
    assert "2 hard links" in reasons["linked.yaml"]


def rejected(spool: Shared) -> set[str]:
    return {rejection.drop for rejection in spool.state().rejected}


def test_a_link_made_after_acceptance_stops_nobody(spool: Shared) -> None:
    alice = spool.accounts.alice
    hog = start(spool, spool.accounts.bob, "sleep 300", "hog")
    task = "resources: {cpus: 64}\nrun: echo ran all the same\n"
    linked, edited = spool.submits(alice, task, "linked"), spool.submits(alice, task, "edited")
    spool.has_status("PENDING", linked, edited)
    for ident in (linked, edited):
        file = Path(spool.spool.dropped(spool.job(ident).file))  # type: ignore[union-attr]
        spool.eventually(file.exists)
        os.link(file, spool.folder / f"link-{ident}")
    digest = spool.job(edited).digest  # type: ignore[union-attr]
    more = task.replace("all the same", "edited")
    spool.script(alice, f"cat > {file} <<'END'\n{more}...\nEND")
    spool.eventually(lambda: spool.job(edited).digest != digest and not spool.job(edited).problem)  # type: ignore
    spool.says(spool.accounts.bob, "cancel", str(hog))
    assert spool.ended(linked, edited) == ["SUCCEEDED", "SUCCEEDED"]
    assert (spool.output(linked), spool.output(edited)) == ("ran all the same\n", "ran edited\n")


def test_a_file_that_its_owner_closes_waits_until_it_is_opened_again(spool: Shared) -> None:
    alice = spool.accounts.alice
    hog = start(spool, spool.accounts.bob, "sleep 300", "hog")
    ident = spool.submits(alice, "resources: {cpus: 64}\nrun: echo after all\n", "closed")
    file = Path(spool.spool.dropped(spool.job(ident).file))  # type: ignore[union-attr]
    spool.eventually(file.exists)
    spool.script(alice, f"chmod 0600 {file}")
    spool.eventually(lambda: "cannot be read" in spool.job(ident).problem)  # type: ignore[union-attr]
    spool.says(spool.accounts.bob, "cancel", str(hog))
    assert spool.ended(hog) == ["CANCELLED"] and spool.job(ident).status == "PENDING"  # type: ignore[union-attr]
    spool.script(alice, f"chmod 0640 {file}")
    assert spool.ended(ident) == ["SUCCEEDED"]


def test_a_file_that_the_head_cannot_read_stays_and_its_owner_is_told_what_to_do(spool: Shared) -> None:
    alice = spool.accounts.alice
    spool.script(alice, "umask 077; echo 'run: echo closed' > t.yaml; mv t.yaml $S/pending/unreadable.yaml")
    spool.eventually(lambda: "unreadable.yaml" in rejected(spool))
    reason = next(r.reason for r in spool.state().rejected if r.drop == "unreadable.yaml")
    assert f"chgrp it to {spool.accounts.owner.name}" in reason
    before = spool.state().next_id
    file = Path(spool.spool.pending, "unreadable.yaml")
    assert file.exists()
    spool.script(alice, f"chmod 0644 {file}")
    assert spool.ended(before) == ["SUCCEEDED"]


def test_root_and_system_accounts_are_refused_and_a_user_key_means_nothing(spool: Shared) -> None:
    before = spool.state().next_id
    for name, uid in (("root", 0), ("system", 2), ("nobody", 65534), ("own", spool.accounts.owner.uid)):
        path = spool.folder / f"{name}.yaml"
        path.write_text("run: id\n...\n")
        os.chown(path, uid, -1)
        path.rename(Path(spool.spool.pending, path.name))
    spool.eventually(lambda: {"root.yaml", "system.yaml", "nobody.yaml", "own.yaml"} <= rejected(spool))
    reasons = {r.drop: r.reason for r in spool.state().rejected}
    assert "root or a system account" in reasons["root.yaml"] and "own account" in reasons["own.yaml"]
    spool.script(spool.accounts.bob, "printf 'user: root\\nuid: 0\\nrun: id -un\\n...\\n' > $S/pending/user.yaml")
    spool.eventually(lambda: spool.state().next_id > before or "user.yaml" in rejected(spool))
    if "user.yaml" not in rejected(spool):
        spool.ended(before)
        assert spool.output(before) == f"{spool.accounts.bob.name}\n"


# ---- requests


def test_nobody_cancels_or_edits_anothers_job(spool: Shared) -> None:
    alice, bob = spool.accounts.alice, spool.accounts.bob
    ident = start(spool, alice, "sleep 300", "alices")
    mine = start(spool, bob, "sleep 300", "bobs")
    refused = spool.says(bob, "cancel", str(ident), check=1)
    assert "not your jobs" in refused.stderr and alice.name in refused.stderr
    assert spool.says(bob, "cancel", "--all-users", "-y", check=1)
    spool.script(bob, f"printf 'cancel: [{ident}]\\n...\\n' > $S/requests/one.yaml")
    spool.script(bob, "printf 'cancel: all\\n...\\n' > $S/requests/two.yaml")
    error = Path(spool.spool.rejected, "one.error")
    spool.eventually(error.exists)
    assert f"not {bob.name}'s: {ident}" in error.read_text()
    assert spool.ended(mine) == ["CANCELLED"]
    spool.script(bob, f"! echo x > $S/running/{ident}.alices.yaml; ! rm -f $S/running/{ident}.alices.yaml")
    assert spool.job(ident).status == "RUNNING"  # type: ignore[union-attr]
    spool.says(alice, "cancel", "--all", "-y")
    assert spool.ended(ident) == ["CANCELLED"]


def test_root_cancels_everybodys_jobs(spool: Shared) -> None:
    idents = [start(spool, user, "sleep 300", "any") for user in (spool.accounts.alice, spool.accounts.bob)]
    spool.root_says("cancel", spool.spool.root, "--all-users", "-y")
    assert spool.ended(*idents) == ["CANCELLED", "CANCELLED"]


def test_a_forged_id_is_a_job_of_who_dropped_it(spool: Shared) -> None:
    alice, bob = spool.accounts.alice, spool.accounts.bob
    ident = start(spool, alice, "sleep 300", "real")
    before = spool.state().next_id
    spool.script(bob, f"printf 'run: id -un\\n...\\n' > $S/pending/{ident}.real.yaml")
    spool.script(bob, f"printf 'run: id -un\\n...\\n' > $S/pending/{before + 5}.next.FAILED.yaml")
    assert spool.ended(before, before + 1) == ["SUCCEEDED", "SUCCEEDED"]
    assert {spool.output(before), spool.output(before + 1)} == {f"{bob.name}\n"}
    assert spool.job(ident).status == "RUNNING"  # type: ignore[union-attr]
    spool.says(alice, "cancel", str(ident))


# ---- the client


def test_the_shell_twin_of_the_client_submits_too(spool: Shared) -> None:
    bob, script = spool.accounts.bob, Path(__file__).parents[2] / "contrib/spool-submit.sh"
    (bob.home / "twin.yaml").write_text("run: id -un\n")
    ident = spool.state().next_id
    done = spool.does(bob, str(script), spool.spool.root, "twin.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    spool.eventually(lambda: spool.job(ident))
    assert spool.ended(ident) == ["SUCCEEDED"] and spool.output(ident) == f"{bob.name}\n"


# ---- what is told


def test_status_shows_whom_the_spool_serves(spool: Shared) -> None:
    owner = spool.accounts.owner.name
    assert f"Users: multi, as {owner}" in spool.says(spool.accounts.alice, "status").stdout
    told = json.loads(spool.says(spool.accounts.alice, "status", "-o", "json").stdout)
    assert {(view["users"], view["owner"]) for view in told.values()} == {("multi", owner)}


# ---- starting


def test_daemons_refuse_whom_they_cannot_be(spool: Shared) -> None:
    for daemon, told in (("head", "start it as root or as"), ("node", "its nodes start as root")):
        done = spool.does(spool.accounts.alice, *spool.spoold(daemon)[:5])
        assert done.returncode == 78 and told in done.stderr, done.stderr


def test_the_secrets_of_a_task_stand_in_its_owners_files_only(spool: Shared) -> None:
    ident = spool.submits(spool.accounts.alice, "secrets: {KEY: hid-den-4711}\nrun: echo $KEY\n", "secret")
    assert spool.ended(ident) == ["SUCCEEDED"]
    found = subprocess.run(
        ["grep", "-rl", "hid-den-4711", spool.spool.root, str(spool.folder / "state"), str(spool.folder / "head.log")],
        capture_output=True,
        text=True,
    ).stdout.split()
    assert len(found) == 2  # the task file, and what the job itself printed
    for path in found:
        info = os.stat(path)
        assert info.st_uid == spool.accounts.alice.uid and not info.st_mode & 0o007
    spool.quiet()


def test_doctor_and_fsck_find_modes_and_owners_right(spool: Shared) -> None:
    for user in (spool.accounts.alice, spool.accounts.owner):
        found = json.loads(spool.says(user, "doctor", spool.spool.root, "-o", "json").stdout)["findings"]
        (whom,) = [finding for finding in found if finding["check"] == "users"]
        assert (whom["verdict"], "multi, as" in whom["text"]) == ("fine", True), whom
    words = [spool.accounts.python, "-m", "spoold", "fsck", spool.spool.root]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    os.chmod(spool.spool.pending, 0o3777)
    try:
        found = json.loads(spool.says(spool.accounts.alice, "doctor", spool.spool.root, "-o", "json", check=1).stdout)
        assert "pending/ has mode 3777, others may look into it" in json.dumps(found)
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "pending: has mode 3777" in done.stdout
    finally:
        os.chmod(spool.spool.pending, 0o3733)
