"""lint: check task files without submitting them; all problems at once, with line and column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from spool_layout.taskfile import TaskSpec


@click.command("lint")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--env", multiple=True, metavar="KEY[=VALUE]", help="A value that the file leaves open.")
@click.option("--env-file", metavar="FILE", help="File of KEY=VALUE lines.")
@click.option("--dropped", is_flag=True, help="Check it as a file that is dropped by hand.")
def command(files: tuple[str, ...], env: tuple[str, ...], env_file: str | None, dropped: bool) -> int:
    """Check task FILEs. Exit code 0: all are tasks; 1: some are not."""
    from skyspool import variables

    values = variables.gather(env, env_file, (), None).all()
    good = [check(path, values, dropped) for path in files]
    return 0 if all(good) else 1


def check(path: str, values: dict[str, str], dropped: bool) -> bool:
    """Whether a file is a task; tells on stdout what is wrong with it."""
    from skyspool.say import note
    from skyspool.tables import one_line
    from skyspool.task import placed
    from spool_layout.taskfile import InvalidTask, Problem, parse_task

    shown = one_line(path)
    try:
        with open(path, "rb") as file:
            spec = parse_task(file.read(), overrides=values, require_absolute_workdir=dropped)
        if dropped and not spec.run and not spec.setup:
            raise InvalidTask([Problem("has neither run nor setup commands: there is nothing to do")])
    except OSError as error:
        click.echo(f"{shown}: {error.strerror}")
        return False
    except InvalidTask as error:
        for problem in error.problems:
            click.echo(one_line(placed(path, problem)))
        return False
    note(f"{shown}: is a task" + (f"; ignored: {', '.join(spec.ignored)}" if spec.ignored else ""))
    for line in doubts(spec, dropped):
        note(f"{shown}: note: {line}")
    return True


def doubts(spec: TaskSpec, dropped: bool) -> list[str]:
    """What is no error, and may still not be meant."""
    from spool_layout.fit import meant

    found = []
    if not spec.run and not spec.setup:
        found.append("it has neither run nor setup commands: no job is made of it")
    elif not spec.run:
        of_exec = "" if dropped else "; `exec` makes no job of it"
        found.append(f"it has no run commands: its setup is all that runs{of_exec}")
    if near := meant(spec.demands, ()):
        found.append(f"it asks for an accelerator that is not known; did you mean {near}?")
    return found
