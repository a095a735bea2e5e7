"""Real users on one spool: root starts head and node, alice and bob submit, and try what they should not."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from spool_layout.events import Requested, decode_event
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
SYSTEMS = (
    "spool.yaml", "ledger.json", "events/1.jsonl", "nodes/n1/owner.json", "nodes/n1/assigned.json",
    "nodes/n1/status.json",
)  # fmt: skip


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


def test_variables_of_a_task_reach_nothing_but_the_job(spool: Shared, evil: dict[str, str]) -> None:
    """Each names something that everybody could run, and that writes down who did; bob's job comes after it."""
    alice, bob = spool.accounts.alice, spool.accounts.bob
    envs = "".join(f"  {name}: '{value}'\n" for name, value in evil.items())
    commands = "python3 -c 0; git --version; docker version || true"
    spool.script(alice, "mkfifo over")
    text = f"envs:\n{envs}setup: {commands}\nrun: {commands}; read line < ~/over\n"
    ident = spool.submits(alice, text, "hostile", "launch")
    spool.runs(ident)
    (starter,) = spool.starters().values()
    (supervisor,) = [pid for pid in below(starter) if below(pid)]
    keeper = spool.processes["n1"].pid
    for pid in (spool.processes["head"].pid, keeper, *below(keeper), starter, supervisor):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert evil["BASH_ENV"].encode() not in environment
        if pid in (starter, supervisor):  # the others have what root's shell had
            names = {word.partition(b"=")[0].decode() for word in environment.split(b"\0")}
            assert not names & ({*evil} - {"PATH"})
    job = job_below(spool, supervisor)
    spool.eventually(lambda: evil["BASH_ENV"].encode() in Path(f"/proc/{job}/environ").read_bytes())  # it execs
    ran = spool.folder / "ran"
    spool.eventually(lambda: len(ran.read_text().splitlines()) >= 8)
    spool.script(alice, "echo now > over")
    assert spool.ended(ident) == ["SUCCEEDED"]  # so its supervisor rests, and takes the next one
    before = ran.read_text()
    assert set(before.split()) == {alice.name}, "the job's own processes"

    spool.script(bob, "git init -q mine; cd mine; git -c user.name=a -c user.email=a@b commit -q --allow-empty -m 1")
    text = f"workdir: {{url: 'file://{bob.home}/mine'}}\nsetup: env; {commands}\nrun: env; {commands}\n"
    after = spool.submits(bob, text, "after", "launch")
    assert spool.ended(after) == ["SUCCEEDED"], spool.story()
    for name in ("setup.log", "run.log"):
        said = Path(spool.spool.log_dir(after), name).read_text()
        assert "HOME=" in said and "evil" not in said and "IFS=" not in said
    assert ran.read_text() == before


@pytest.fixture
def evil(spool: Shared) -> dict[str, str]:
    """Variables by which programs are made to run something."""
    place, ran = spool.folder / "evil", spool.folder / "ran"
    place.mkdir()
    ran.touch()
    ran.chmod(0o666)
    for name in ("env.sh", "git", "docker", "sh", "bash", "id"):
        (place / name).write_text(f"#!/bin/sh\n/usr/bin/id -un >> {ran}\n")
        (place / name).chmod(0o755)
    (place / "sitecustomize.py").write_text(
        f"import os, pwd\nprint(pwd.getpwuid(os.geteuid()).pw_name, file=open('{ran}', 'a'))\n"
    )
    script = str(place / "env.sh")
    return {
        **dict.fromkeys(("BASH_ENV", "ENV", "PYTHONSTARTUP", "GIT_SSH_COMMAND", "LD_PRELOAD"), script),
        "PYTHONPATH": str(place),
        "PATH": f"{place}:/usr/bin:/bin",
        "IFS": "evil/ ",
    }


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
    folder = f"$S/logs/{ident}"
    spool.refused(
        bob,
        f"mkdir $S/logs/{ahead}", f"ln -s $HOME $S/logs/{ahead}", "ls $S/logs/.new", f"mv {folder} $S/logs/x",
        f"touch {folder}/more.log", f"rm -f {folder}/run.log", f"echo forged >> {folder}/run.log",
        f"cat {folder}/run.log", f"ln -sfn $HOME {folder}", f"mkdir {folder}/attempt-2",
    )  # fmt: skip
    spool.script(bob, "ln -s /etc/passwd $S/logs/.new/junk; mkdir $S/logs/.new/dir; touch $S/logs/.new/file")
    again = spool.submits(spool.accounts.alice, "run: echo mine\n")
    assert spool.ended(again) == ["SUCCEEDED"] and spool.output(again) == "mine\n"
    spool.says(spool.accounts.alice, "cancel", str(ident))


# ---- what is the system's


def test_no_user_writes_what_is_the_systems(spool: Shared) -> None:
    """Each directory and each file, by its path; afterwards nothing of what was tried is there."""
    bob, owner, root = spool.accounts.bob, spool.accounts.owner.uid, Path(spool.spool.root)
    made: list[str] = []
    tried: list[str] = []
    word = f"forged{os.urandom(4).hex()}"
    spool.eventually(Path(spool.spool.ledger).exists)  # a head that has nothing to do writes it
    for folder, _, files in os.walk(root):
        place = os.path.relpath(folder, root)
        if os.stat(folder).st_uid == owner and place not in OTHERS:
            made.append(place)
            spool.refused(
                bob, f"touch {folder}/{word}", f"mkdir {folder}/{word}", f"ln -s / {folder}/{word}",
                f"mv {folder} {folder}.{word}", f"chmod 0777 {folder}",
            )  # fmt: skip
        for path in (os.path.join(folder, name) for name in files):
            if os.stat(path).st_uid == owner:
                tried.append(os.path.relpath(path, root))
                spool.refused(
                    bob, f"echo {word} >> {path}", f"mv {path} {path}.{word}", f"cp /etc/hostname {path}",
                    f"rm -f {path}", f"chmod 0666 {path}",
                )  # fmt: skip
    assert {".", "locks", "events", "nodes/n1"} <= set(made) and any(place.startswith("claims/1.") for place in made)
    assert set(SYSTEMS) <= set(tried)
    assert [str(path) for path in root.rglob(f"*{word}*")] == []
    assert subprocess.run(["grep", "-rl", word, str(root)], capture_output=True).stdout == b""
    for path in SYSTEMS:
        info = os.stat(root / path)
        assert info.st_uid == owner and not info.st_mode & 0o022, path
    for box in OTHERS:
        spool.refused(bob, f"ls $S/{box}")


def test_nobody_touches_anothers_dropped_file(spool: Shared) -> None:
    alice, bob = spool.accounts.alice, spool.accounts.bob
    path = Path(spool.spool.pending, ".kept.yaml")  # the head passes it over
    spool.script(alice, f"umask 027; echo 'run: true' > {path}")
    spool.refused(bob, f"cat {path}", f"rm -f {path}", f"mv {path} $HOME/x", f"echo x >> {path}")
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


def test_root_and_system_accounts_are_refused(spool: Shared) -> None:
    before = spool.state().next_id
    for name, uid in (("root", 0), ("system", 2), ("nobody", 65534), ("own", spool.accounts.owner.uid)):
        path = spool.folder / f"{name}.yaml"
        path.write_text("run: id\n...\n")
        os.chown(path, uid, -1)
        path.rename(Path(spool.spool.pending, path.name))
    spool.eventually(lambda: {"root.yaml", "system.yaml", "nobody.yaml", "own.yaml"} <= rejected(spool))
    reasons = {r.drop: r.reason for r in spool.state().rejected}
    assert "root or a system account" in reasons["root.yaml"] and "own account" in reasons["own.yaml"]
    assert spool.state().next_id == before


def test_a_user_that_a_file_names_means_nothing(spool: Shared) -> None:
    """A field is refused; where a name may stand, it is the file's owner who runs the job, and may cancel it."""
    alice, bob = spool.accounts.alice, spool.accounts.bob
    before = spool.state().next_id
    for name, value in (("user", "root"), ("uid", "0"), ("owner", alice.name)):
        spool.script(bob, f"printf '{name}: {value}\\nrun: id -u\\n...\\n' > $S/pending/{name}.yaml")
    spool.eventually(lambda: {"user.yaml", "uid.yaml", "owner.yaml"} <= rejected(spool))
    reasons = {r.drop: r.reason for r in spool.state().rejected}
    assert "user: there is no such field" in reasons["user.yaml"] and spool.state().next_id == before
    named = f"USER: {alice.name}, LOGNAME: {alice.name}, HOME: {alice.home}, SUDO_UID: '0', SKYPILOT_USER: {alice.name}"
    ident = spool.submits(
        bob,
        f"name: {alice.name}\nenvs: {{{named}}}\nconfig: {{user: root, uid: 0}}\n"
        "resources: {labels: {user: root}}\nrun: |\n"
        "  echo $(id -u) $(id -ru) $(id -g) $(id -G) $(id -un) $SKYPILOT_USER\n  touch ~/taken\n  sleep 300\n",
        "named",
    )
    spool.eventually(
        lambda: Path(spool.spool.log_dir(ident), "run.log").exists() and spool.output(ident).count("\n") > 1
    )
    words = spool.output(ident).splitlines()[0]
    assert words == f"{bob.uid} {bob.uid} {bob.gid} {bob.gid} {bob.name} {bob.name}"
    assert not (alice.home / "taken").exists()
    assert (spool.job(ident).uid, spool.job(ident).user) == (bob.uid, bob.name)  # type: ignore[union-attr]
    assert "not your jobs" in spool.says(alice, "cancel", str(ident), check=1).stderr
    spool.says(bob, "cancel", str(ident))
    assert spool.ended(ident) == ["CANCELLED"]


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
    assert spool.job(ident).status == "RUNNING"  # type: ignore[union-attr]
    spool.says(alice, "cancel", "--all", "-y")
    assert spool.ended(ident) == ["CANCELLED"]


def test_who_asks_for_what_no_request_is_changes_nothing(spool: Shared) -> None:
    """`hold` among it, of another's jobs or of one's own; names that would be paths are names of nothing."""
    alice, bob = spool.accounts.alice, spool.accounts.bob
    hog = start(spool, alice, "sleep 300", "hog")
    waits = spool.submits(alice, "resources: {cpus: 64}\nrun: echo as it was\n", "waits")
    job = spool.job(waits)
    outside = spool.folder / "outside.yaml"
    outside.write_text("run: x\n")
    there = {path: standing(str(path)) for path in (outside, Path(spool.spool.settings))}
    texts = {
        **{verb: f"{verb}: [{waits}, {hog}]" for verb in ("hold", "release", "edit", "requeue", "Cancel")},
        "both": f"cancel: [{hog}]\nhold: [{waits}]",
        "within": f"cancel: {{hold: {waits}}}",
        "above": "cancel: ../../x",
        "outside": f"cancel: [../../outside, ../../outside.yaml, {outside}, ../spool.yaml, '..', '.', '']",
        "another": f"cancel: ['{waits}.waits.yaml', '../pending/{waits}.waits.yaml', '../running/{hog}.hog.yaml']",
    }
    for name, text in texts.items():
        spool.script(bob, f"printf '%s\\n' \"{text}\" ... > $S/requests/{name}.yaml")
    spool.eventually(lambda: {key_name(event.key) for event in requested(spool)} >= set(texts))
    reasons = {key_name(event.key): event.reason for event in requested(spool)}
    assert [event.ids for event in requested(spool) if key_name(event.key) in texts] == [[]] * len(texts)
    for name in ("hold", "release", "edit", "requeue", "Cancel", "both"):
        assert reasons[name] == "a request is `cancel:` and what to cancel"
        assert reasons[name] in Path(spool.spool.rejected, f"{name}.error").read_text()
    assert reasons["within"] == "`cancel:` takes IDs, names or handles"
    found = spool.job(waits)
    assert found and job and (found.stop, found.problem, found.digest) == (None, "", job.digest)
    assert spool.job(hog).stop is None  # type: ignore[union-attr]
    assert {path: standing(str(path)) for path in there} == there
    spool.says(alice, "cancel", str(hog))
    assert spool.ended(waits) == ["SUCCEEDED"] and spool.output(waits) == "as it was\n"


def requested(spool: Shared) -> list[Requested]:
    """What came of all requests so far."""
    lines = [line for path in Path(spool.spool.events).glob("*.jsonl") for line in path.read_bytes().splitlines(True)]
    return [event for line in lines if isinstance(event := decode_event(line), Requested)]


def key_name(key: str) -> str:
    """How the file of a request was called."""
    return key.rpartition("/request-")[2].partition("-")[2].removesuffix(".yaml")


def test_nobody_edits_anothers_accepted_file(spool: Shared) -> None:
    """By its name, which the ledger tells; neither while it waits nor while it runs nor when it is over."""
    alice, bob = spool.accounts.alice, spool.accounts.bob
    ended = spool.submits(alice, "run: 'true'\n", "over")
    assert spool.ended(ended) == ["SUCCEEDED"]
    runs = start(spool, alice, "sleep 300", "runs")
    waits = spool.submits(alice, "resources: {cpus: 64}\nrun: echo as accepted\n", "waits")
    spool.eventually(Path(spool.spool.dropped(f"{waits}.waits.yaml")).exists)
    files = [spool.spool.dropped(f"{waits}.waits.yaml"), spool.spool.started(f"{runs}.runs.yaml")]
    spool.eventually(lambda: list(Path(spool.spool.done).rglob(f"{ended}.*")))
    files += map(str, Path(spool.spool.done).rglob(f"{ended}.*"))
    assert len(files) == 3
    for path in files:
        before = (standing(path), Path(path).read_bytes())
        spool.script(bob, "echo 'run: id' > $S/tmp/mine; chmod 0644 $S/tmp/mine")
        spool.refused(
            bob,
            f"cat {path}", f"echo '# x' >> {path}", f": > {path}", f"chmod 0666 {path}", f"touch -c {path}",
            f"mv -f $S/tmp/mine {path}", f"cp $S/tmp/mine {path}", f"ln -f $S/tmp/mine {path}", f"ln -sf mine {path}",
            f"rm -f {path}", f"mv {path} {path}.x", f"mv {path} $S/tmp/taken", f"ln {path} $S/pending/linked.yaml",
        )  # fmt: skip
        assert (standing(path), Path(path).read_bytes()) == before, path
    spool.says(alice, "cancel", str(runs))
    assert spool.ended(waits) == ["SUCCEEDED"] and spool.output(waits) == "as accepted\n"


def standing(path: str) -> tuple[int, ...]:
    """All that a file system says of a file, but for when it was read."""
    info = os.stat(path)
    return (*info[:7], info.st_mtime_ns, info.st_ctime_ns)


def test_what_is_written_through_an_old_descriptor_is_accepted_anew_or_does_not_run(spool: Shared) -> None:
    """While a job waits its owner edits it, by whatever way; what runs is the text that was accepted, to its end."""
    alice = spool.accounts.alice
    hog = start(spool, alice, "sleep 300", "hog")
    task = "resources: {cpus: 64}\nrun: |\n  echo began\n  read line < ~/begun\n  echo accepted\n"
    ident = spool.submits(alice, task, "written")
    spool.script(alice, "mkfifo begun")
    file = Path(spool.spool.dropped(f"{ident}.written.yaml"))
    spool.eventually(file.exists)
    digests = [spool.job(ident).digest]  # type: ignore[union-attr]
    with open(file, "r+b") as old:  # as who opened it before it was accepted still has it

        def write(text: str) -> None:
            old.seek(0)
            old.truncate()
            old.write(f"{text}...\n".encode())
            old.flush()

        def accepted_anew() -> bool:
            return spool.job(ident).digest not in digests and not spool.job(ident).problem  # type: ignore[union-attr]

        write(task.replace("began", "began anew"))
        spool.eventually(accepted_anew)
        digests.append(spool.job(ident).digest)  # type: ignore[union-attr]
        spool.says(alice, "cancel", str(hog))
        spool.runs(ident)
        spool.eventually(lambda: spool.output(ident) == "began anew\n")
        running = Path(spool.spool.started(file.name))
        assert os.path.samestat(running.stat(), os.fstat(old.fileno()))
        write(task.replace("accepted", "written while it ran"))
    spool.script(alice, "echo 'run: x' > $S/tmp/new")
    spool.refused(alice, f"mv -f $S/tmp/new {running}", f"ln -sf $S/tmp/new {running}", f"rm -f {running}")
    spool.script(alice, "echo go > begun")
    assert spool.ended(ident) == ["SUCCEEDED"] and spool.output(ident) == "began anew\naccepted\n"
    assert spool.job(ident).digest == digests[-1]  # type: ignore[union-attr]


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
    spool.eventually(lambda: not list(Path(spool.spool.running).iterdir()))  # the line comes before the move
    found = subprocess.run(
        ["grep", "-rl", "hid-den-4711", str(spool.folder), "--exclude-dir=home"], capture_output=True, text=True
    ).stdout.split()
    logs = [spool.folder / "head.log", spool.folder / "n1.log", *(spool.folder / "state").rglob("starter.log")]
    assert len(logs) == 3 and all(log.is_file() for log in logs), "looked through, too"
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
