"""Real shells, asked what they would complete. Each call starts the shell once and asks it about all lines."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

FILES = Path(__file__).parents[2] / "contrib" / "completions"
Complete = Callable[..., list[set[str]]]


def bash(folder: Path, *lines: str) -> list[set[str]]:
    """What bash's completion function puts into COMPREPLY, the words broken as readline breaks them."""
    script = [f"cd {folder}; source {FILES}/skyspool.bash"]
    for line in lines:
        words = [part for word in line.split(" ") for part in re.findall(r"[=:]|[^=:]+", word) or [""]]
        quoted = " ".join(f"'{word}'" for word in words)
        script += [
            f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}",
            f"_skyspool {words[0]} '{words[-1]}' '{words[-2]}'",
            "printf '%s\\n' \"${COMPREPLY[@]}\" ==",
        ]
    return answers(["bash", "--norc", "-uc", "\n".join(script)])


def fish(folder: Path, *lines: str) -> list[set[str]]:
    """What fish's `complete -C` answers, without descriptions."""
    asked = [f"complete -C '{line}' | string replace -r '\\t.*' ''; echo ==" for line in lines]
    return answers(["fish", "--no-config", "-c", "\n".join([f"cd {folder}; source {FILES}/skyspool.fish", *asked])])


def answers(command: list[str]) -> list[set[str]]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return [set(answer.split("\n")) - {""} for answer in done.stdout.removesuffix("==\n").split("==\n")]


# A line editor is needed: completion functions run nowhere else. Its matches are caught on their way to the list.
ZSH = """
PS1= PS2= RPS1=
fpath=({files} $fpath)
autoload -Uz compinit && compinit -u -D
compadd() {{
    [[ ${{@[1,(i)(-|--)]}} == *-(O|A|D)\\ * ]] && {{ builtin compadd "$@"; return }}
    local -a caught
    builtin compadd -A caught "$@"
    print -rl -- $caught >>{out}
    builtin compadd "$@"
}}
capture() {{ _main_complete; compstate[list]= compstate[insert]=; print -r '==' >>{out} }}
zle -C capture list-choices capture
bindkey '^T' capture
cd {folder}
zle-line-init() {{ print -r '==' >>{out} }}
zle -N zle-line-init
"""


def zsh(folder: Path, *lines: str) -> list[set[str]]:
    """What zsh would list, in its own line editor, on a terminal of its own."""
    out = folder.parent / "zsh.out"
    out.write_text("")
    (folder.parent / "zshrc").write_text(ZSH.format(files=FILES, out=out, folder=folder))
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "dumb"}
    shell = subprocess.Popen(["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=env, close_fds=True)
    os.close(theirs)
    try:
        for count, typed in enumerate([f" source {folder.parent}/zshrc\n", *(f"{line}\x14\x15" for line in lines)], 1):
            os.write(ours, typed.encode())
            await_answers(out, count, ours)
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)
    return [set(answer.split("\n")) - {""} for answer in out.read_text().split("==\n")[1:-1]]


def await_answers(out: Path, count: int, terminal: int) -> None:
    """Wait until so many answers are there; meanwhile read what the shell draws, so that it never waits."""
    os.set_blocking(terminal, False)
    end, drawn = time.monotonic() + 15, b""
    while out.read_text().count("==\n") < count:
        assert time.monotonic() < end, drawn.decode(errors="replace")
        try:
            drawn += os.read(terminal, 65536)
        except BlockingIOError:
            time.sleep(0.005)


SHELLS: dict[str, Complete] = {"bash": bash, "zsh": zsh, "fish": fish}


def installed(shell: str) -> bool:
    """Whether a shell is there."""
    return shutil.which(shell) is not None
