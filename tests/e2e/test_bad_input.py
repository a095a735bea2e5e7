"""A directory of bad input: each file is set aside or left with a reason, good jobs beside it run."""

from __future__ import annotations

import os
import time
from pathlib import Path

from spool_layout.paths import encodable
from tests.e2e.cluster import Cluster

BOMB = (
    "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8))
    + "...\n"
)
MERGE = (
    "a: &a {k0: 1}\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{','.join(['*' + chr(97 + i)] * 9)}]}}\n" for i in range(8))
    + "...\n"
)

BAD = {
    "not-yaml.yaml": (b"run: [unclosed\n...\n", "line"),
    "list.yaml": (b"- run\n...\n", "mapping"),
    "bomb.yaml": (BOMB.encode(), ""),
    "merge.yaml": (MERGE.encode(), ""),
    "deep.yaml": (b"run: " + b"[" * 100_000 + b"\n...\n", ""),
    "types.yaml": (b"run: 5\nnum_nodes: two\n...\n", "num_nodes"),
    "unknown.yaml": (b"runn: echo\n...\n", "run"),
    "binary.yaml": (bytes(range(256)) * 10 + b"\n...\n", ""),
    "huge.yaml": (b"run: |\n" + b"  echo\n" * 15_000_000 + b"...\n", "max_file"),
    "with\nnewline.yaml": (b"run: echo\n...\n", "control characters"),
    "latin-\udce9.yaml": (b"run: echo\n...\n", "no UTF-8"),
    "l" * 250 + ".yaml": (b"- run\n...\n", "mapping"),
    "path.yaml": (b"name: ../../etc/passwd\nrun: echo\n...\n", "name"),
    "nothing.yaml": (b"name: x\n...\n", "nothing to do"),
    "relative.yaml": (b"workdir: here\nrun: echo\n...\n", "absolute"),
    "digits.yaml": (b"num_nodes: " + b"9" * 5000 + b"\nrun: echo\n...\n", "5000 digits"),
    "script.sh": (b"echo hi\n...\n", ".yaml"),
}


def test_a_directory_of_bad_input(cluster: Cluster) -> None:
    for name, (content, _) in BAD.items():
        Path(cluster.spool.pending, name).write_bytes(content)
    os.mkdir(Path(cluster.spool.pending, "folder.yaml"))
    os.mkfifo(Path(cluster.spool.pending, "fifo.yaml"))
    os.symlink("/etc/passwd", Path(cluster.spool.pending, "link.yaml"))
    os.link(cluster.spool.settings, Path(cluster.spool.pending, "hard.yaml"))
    cluster.drop("good.yaml", "run: echo good\n...\n")
    cluster.head().node("n1").ready()
    assert cluster.ended(1) == ["SUCCEEDED"]
    cluster.eventually(lambda: len(cluster.state().rejected) == len(BAD) + 4)
    reasons = {r.drop: r.reason for r in cluster.state().rejected}
    for name, (_, word) in BAD.items():
        assert word in reasons[encodable(name)], (name, reasons)
    assert "directory" in reasons["folder.yaml"]
    assert "FIFO" in reasons["fifo.yaml"]
    assert "regular file" in reasons["link.yaml"]
    assert "hard links" in reasons["hard.yaml"]
    assert os.listdir(cluster.spool.pending) == ["folder.yaml"]
    aside = {r.file for r in cluster.state().rejected if r.file}
    assert aside | {f"{Path(name).stem}.error" for name in aside} == set(os.listdir(cluster.spool.rejected))
    assert os.readlink(Path(cluster.spool.rejected, "link.yaml")) == "/etc/passwd"


def test_a_tick_stays_short_beside_bad_input(cluster: Cluster) -> None:
    cluster.head().node("n1").ready()
    for name, (content, _) in BAD.items():
        Path(cluster.spool.tmp, "x").write_bytes(content)
        os.rename(Path(cluster.spool.tmp, "x"), Path(cluster.spool.pending, name))
    began = time.monotonic()
    cluster.drop("good.yaml", "run: echo good\n...\n")
    cluster.eventually(lambda: cluster.job(1))
    assert time.monotonic() - began < 5  # a tick that hung on one of them would take minutes
    assert cluster.ended(1) == ["SUCCEEDED"]


def test_a_second_bad_file_of_a_name_does_not_overwrite_the_first(cluster: Cluster) -> None:
    cluster.head().node("n1").ready()
    for text in ("first", "second"):
        cluster.drop("bad.yaml", f"- {text}\n...\n")
        cluster.eventually(lambda: not os.listdir(cluster.spool.pending))
    cluster.eventually(lambda: len(os.listdir(cluster.spool.rejected)) == 4)
    assert sorted(os.listdir(cluster.spool.rejected)) == ["bad.2.error", "bad.2.yaml", "bad.error", "bad.yaml"]
    assert Path(cluster.spool.rejected, "bad.yaml").read_text() == "- first\n...\n"
