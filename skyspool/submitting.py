"""What `exec` and `launch` have in common: their options, and submitting."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from skyspool.say import hint, note

if TYPE_CHECKING:
    from skyspool.clusters import Cluster
    from skyspool.heads import Head
    from skyspool.submission import Dropped, Mark
    from skyspool.task import Entry, Resolved
    from spool_layout.storage import Disk
    from spool_layout.taskfile import TaskSpec

# options that only mean something in a cloud: taken, and told once
CLOUD_VALUES = (
    "--infra",
    "--cloud",
    "--region",
    "--zone",
    "--instance-type",
    "--image-id",
    "--network-tier",
    "--disk-size",
    "--disk-tier",
    "--local-disk",
    "--ports",
    "--config",
    "--priority",
    "--idle-minutes-to-autostop",
    "--wait-for",
    "--clone-disk-from",
    "--clone",
    "--workspace",
)
CLOUD_FLAGS = ("--use-spot/--no-use-spot", "--down", "--retry-until-up", "--resize", "--fast", "--docker")
SHORT = {"--instance-type": "-t", "--idle-minutes-to-autostop": "-i", "--retry-until-up": "-r", "--workspace": "-w"}

F = TypeVar("F", bound=Callable[..., Any])


def options(function: F) -> F:
    """All options that exec and launch share."""
    for decorate in reversed(_shared()):
        function = decorate(function)
    return function


def _shared() -> list[Callable[[F], F]]:
    option = click.option
    return [
        click.argument("words", nargs=-1, metavar="[CLUSTER] [FILE | -- COMMAND...]"),
        option("-c", "--cluster", metavar="CLUSTER", help="The spool; then all words are the task's."),
        option("-d", "--detach-run", "--detach", "detach", is_flag=True, help="Return once submitted."),
        option("-no-d", "--no-detach-run", "attach", is_flag=True, hidden=True),
        option("-n", "--name", metavar="NAME", help="Name of the job."),
        option("--workdir", metavar="DIR", help="Where to run.  [default: the task's workdir, else this directory]"),
        option("--git-url", metavar="URL", help="Repository to clone and run in."),
        option("--git-ref", metavar="REF", help="Its branch, tag or commit."),
        option("--num-nodes", metavar="N", type=click.IntRange(min=1), help="On how many nodes at once."),
        option("--gpus", metavar="SPEC", help="Of each node: H100:8, H100 (one), H100:0.5, none."),
        option("--cpus", metavar="N", help="CPUs of each node."),
        option("--memory", metavar="GB", help="Memory of each node."),
        option("--env", multiple=True, metavar="KEY[=VALUE]", help="A variable of the job; KEY alone: as it is here."),
        option("--env-file", metavar="FILE", help="File of KEY=VALUE lines."),
        option("--secret", multiple=True, metavar="KEY[=VALUE]", help="As --env; never shown."),
        option("--secret-file", metavar="FILE", help="File of KEY=VALUE lines, never shown."),
        option("--wait", is_flag=True, help="Submit even what no known node could serve."),
        option("--no-wait", is_flag=True, help="Do not wait for the ID."),
        option("--async/--no-async", "asynchronous", default=False, help="As --no-wait -d."),
        option("-y", "--yes", is_flag=True, hidden=True),
        option("--dryrun", is_flag=True, help="Show what would be submitted."),
        *(option(name, *([SHORT[name]] if name in SHORT else []), _key(name), hidden=True) for name in CLOUD_VALUES),
        *(
            option(name, *([SHORT[name]] if name in SHORT else []), _key(name), is_flag=True, default=None, hidden=True)
            for name in CLOUD_FLAGS
        ),
    ]


def _key(option: str) -> str:
    return "cloud_" + option.split("/")[0].strip("-").replace("-", "_")


def ignored_options(values: dict[str, Any]) -> list[str]:
    """The cloud options that were given, as they were typed."""
    return [name.split("/")[0] for name in (*CLOUD_VALUES, *CLOUD_FLAGS) if values.get(_key(name)) is not None]


# ---- submitting


def submit(values: dict[str, Any], leave_out: tuple[str, ...]) -> int:
    """Carry out one exec or launch; the exit code. leave_out: fields of the task that are not submitted."""
    from skyspool import task, variables
    from skyspool.entrypoint import check_words, place, tell_script
    from spool_layout.errors import UsageError
    from spool_layout.storage import Disk

    after = click.get_current_context().meta["after"]
    cluster, words = place(values["words"], values["cluster"], after)
    if not words:
        raise UsageError(
            "there is nothing to run: give a task file or a command",
            f"skyspool exec {cluster.word} task.yaml\n  or: skyspool exec {cluster.word} -- COMMAND",
        )
    quoted = after is not None and len(words) <= after
    if not quoted:
        check_words(cluster, words, named=words != values["words"] or values["cluster"] is not None)
    if values["git_url"] and values["workdir"]:
        raise UsageError("--workdir and --git-url exclude each other")
    given = variables.gather(values["env"], values["env_file"], values["secret"], values["secret_file"])
    asked = task.Asked(given, *(values[key] for key in task.Asked._fields[1:]))
    what = task.entry(words, quoted)
    resolved = task.resolve(what, asked, leave_out)
    tell(what, resolved, ignored_options(values))
    if not (values["workdir"] or values["git_url"]):
        tell_script(cluster, what.command)
    if not resolved.spec.run and not resolved.spec.setup:
        note("note: the task has nothing to run; no job was made")
        return 0
    if values["dryrun"]:
        click.echo(task.shown(resolved), nl=False)
        return 0
    return send(cluster, Disk(), resolved, values)


def tell(what: Entry, resolved: Resolved, options: list[str]) -> None:
    """What is about to be submitted, and what of it is ignored."""
    note(f"YAML to run: {what.path}" if what.path else f"Command to run: {what.command}")
    for line in resolved.notes:
        note(line)
    if options:
        note(f"note: ignored, since nothing is made in a cloud: {', '.join(options)}")


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
        click.echo(f"Job submitted, handle: {dropped.handle}")
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
            click.echo(f"Job submitted, ID: {ident}")
            return ident
        note("note: no head has taken it yet; it has a handle until then")
    else:
        tell_headless(cluster, disk, found, dropped.changed)
    click.echo(f"Job submitted, handle: {dropped.handle}")
    return None


def tell_headless(cluster: Cluster, disk: Disk, found: list[Head], now: float) -> None:
    """No head is alive, and since when."""
    from skyspool.heads import silence
    from skyspool.present import look
    from spool_layout.errors import SpoolError

    try:
        written = look(cluster, disk).written
    except SpoolError:
        written = 0.0
    note(f"note: {silence(cluster, found, written, now)}; the job waits in {cluster.spool.pending} until one runs")
    hint(f"skyspool up {shlex.quote(cluster.spool.root)}      # or, on another host: spoold head DIR")
