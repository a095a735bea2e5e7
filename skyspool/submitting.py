"""What `exec` and `launch` do: submit, tell what became of it, and follow it if asked to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skyspool.say import hint, note, tell

if TYPE_CHECKING:
    from skyspool.clusters import Cluster
    from skyspool.heads import Head
    from skyspool.submission import Dropped, Mark
    from skyspool.task import Entry, Resolved
    from spool_layout.storage import Disk
    from spool_layout.taskfile import TaskSpec


LEFT_OUT = {"exec": ("setup", "file_mounts"), "launch": ()}  # fields of the task that are not submitted


def submit(verb: str, line: Sequence[str], values: dict[str, Any], ignored: Sequence[str] = ()) -> int:
    """Carry out one exec or launch; the exit code. line: what was typed behind the verb; values: what it means, by the
    names that options.py gives; ignored: options that are taken and mean nothing here."""
    from skyspool import task, variables
    from skyspool.entrypoint import Typed, check_words, place, tell_script
    from spool_layout.errors import UsageError
    from spool_layout.storage import Disk

    typed = Typed(verb, line)
    cluster, words = place(values["words"], values["cluster"], typed.after)
    if not words:
        raise UsageError(
            "there is nothing to run: give a task file or a command",
            f"skyspool exec {cluster.word} task.yaml\n  or: skyspool exec {cluster.word} -- COMMAND",
        )
    quoted = typed.after is not None and len(words) <= typed.after
    if not quoted:
        check_words(typed, cluster, words, named=words != values["words"] or values["cluster"] is not None)
    if values["git_url"] and values["workdir"]:
        raise UsageError("--workdir and --git-url exclude each other")
    given = variables.gather(values["env"], values["env_file"], values["secret"], values["secret_file"])
    asked = task.Asked(given, *(values[key] for key in task.Asked._fields[1:]))
    what = task.entry(words, quoted)
    leave_out = LEFT_OUT[verb] + (("setup",) if values.get("no_setup") else ())
    resolved = task.resolve(what, asked, leave_out)
    tell_task(what, resolved, ignored)
    if not (values["workdir"] or values["git_url"]):
        tell_script(typed, cluster, what.command)
    if not resolved.spec.run and not resolved.spec.setup:
        note("note: the task has nothing to run; no job was made")
        return 0
    if values["dryrun"]:
        print(task.shown(resolved), end="")
        return 0
    return send(cluster, Disk(), resolved, values)


def tell_task(what: Entry, resolved: Resolved, ignored: Sequence[str]) -> None:
    """What is about to be submitted, and what of it is ignored."""
    note(f"YAML to run: {what.path}" if what.path else f"Command to run: {what.command}")
    for line in resolved.notes:
        note(line)
    if ignored:
        note(f"note: ignored, since nothing is made in a cloud: {', '.join(ignored)}")


def send(cluster: Cluster, disk: Disk, resolved: Resolved, values: dict[str, Any]) -> int:
    """Drop it, tell its ID, and follow it if asked to."""
    from skyspool import submission

    if not values["wait"]:
        check_fit(cluster, disk, resolved.spec)
    note(f"Submitting job to cluster: {cluster.name}")
    since = submission.mark(cluster.spool, disk)
    dropped = submission.drop(cluster.spool, disk, resolved.label, resolved.text)
    detached = (values["detach"] and not values["attach"]) or values["asynchronous"]
    if values["no_wait"] or values["asynchronous"]:
        tell(f"Job submitted, handle: {dropped.handle}")
        ident = None
    else:
        ident = tell_id(cluster, disk, dropped, since)
    return 0 if detached else watch(cluster, disk, dropped, ident)


def watch(cluster: Cluster, disk: Disk, dropped: Dropped, ident: int | None) -> int:
    """Follow what was submitted to its end."""
    from skyspool import following, jobs
    from skyspool.accepting import follow_dropped
    from skyspool.present import Watch

    if ident is None:
        return follow_dropped(cluster, disk, dropped)
    seen = Watch(cluster, disk)
    return following.follow(cluster, disk, seen, jobs.find(cluster, disk, seen.state, str(ident)), 0)


def check_fit(cluster: Cluster, disk: Disk, spec: TaskSpec) -> None:
    """SpoolError where the known nodes could never serve the task; a note where that cannot be told."""
    from skyspool.present import look
    from spool_layout import fit
    from spool_layout.errors import SpoolError

    try:
        nodes = look(cluster, disk).state.nodes.values()
    except SpoolError as error:  # submitting needs nothing but pending/
        note(f"note: whether {cluster.name} could serve it, the head will tell: {error.message}")
        return
    if not nodes:
        near = fit.meant(spec.demands, ())
        told = f"; did you mean {near}?" if near else ""
        note(f"note: no node of {cluster.name} is known yet; whether the job fits, the head will tell{told}")
    elif not fit.could_ever(spec.demands, spec.num_nodes, fit.kinds(nodes)):
        near = fit.meant(spec.demands, nodes)
        raise SpoolError(
            f"{cluster.name} could never serve this: it asks for {fit.asked(spec.demands, spec.num_nodes)}"
            f", and there is: {fit.existing(nodes)}{f'; did you mean {near}?' if near else ''}",
            f"skyspool status {cluster.word}      # --wait submits it all the same, for a node that is yet to come",
        )


def tell_id(cluster: Cluster, disk: Disk, dropped: Dropped, since: Mark) -> int | None:
    """Print the ID, or the handle and why there is no ID yet."""
    from skyspool import heads, submission

    found = heads.heads(cluster, disk, dropped.changed)
    if heads.is_served(found):
        patience = submission.id_patience(cluster.spool, cluster.idle_poll)
        ident = submission.await_id(cluster.spool, disk, dropped.file, since, patience)
        if ident is not None:
            tell(f"Job submitted, ID: {ident}")
            return ident
        note("note: no head has taken it yet; it has a handle until then")
    else:
        tell_headless(cluster, disk, found, dropped.changed)
    tell(f"Job submitted, handle: {dropped.handle}")
    return None


def tell_headless(cluster: Cluster, disk: Disk, found: list[Head], now: float) -> None:
    """No head is alive, and since when."""
    import shlex

    from skyspool.heads import silence
    from skyspool.present import look
    from spool_layout.errors import SpoolError

    try:
        written = look(cluster, disk).written
    except SpoolError:
        written = 0.0
    note(f"note: {silence(cluster, found, written, now)}; the job waits in {cluster.spool.pending} until one runs")
    hint(f"skyspool up {shlex.quote(cluster.spool.root)}      # or, on another host: spoold head DIR")
