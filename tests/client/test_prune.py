from __future__ import annotations

import os
import time
from pathlib import Path

from tests.client.builders import Scene
from tests.client.conftest import Run


def age(path: Path, days: float = 100) -> None:
    then = time.time() - days * 86400
    os.utime(path, (then, then))


def old_and_new(scene: Scene) -> tuple[Path, Path, Path]:
    scene.node("n1")
    over, live, young = scene.started("over"), scene.started("live"), scene.started("young")
    scene.ended(over)
    scene.ended(young)
    logs = [scene.log(job, "run.log", "x" * 5000) for job in (over, live, young)]
    age(logs[0])
    age(logs[1])
    return logs[0], logs[1], logs[2]


def test_only_what_is_old_and_over(scene: Scene, sky: Run) -> None:
    over, live, young = old_and_new(scene)
    ran = sky("prune")
    assert ran.out == "Removed 1 files, 8.0 KiB, older than 30d, of mycluster.\n"
    assert (over.parent.exists(), live.exists(), young.exists()) == (False, True, True)


def test_nothing_of_an_attempt_that_a_lost_node_may_still_run(scene: Scene, sky: Run) -> None:
    scene.node("n1", "H100:1")
    job = scene.started("train", "H100:1")
    log = scene.log(job, "run.log", "x" * 5000)
    age(log)
    scene.lost(job)
    assert sky("prune", "--older", "1d").out.startswith("Removed 0 files")
    assert log.exists()


def test_dry_run_changes_nothing(scene: Scene, sky: Run) -> None:
    over, *_ = old_and_new(scene)
    ran = sky("prune", "--dry-run")
    assert ran.out == f"{over}\nWould remove 1 files, 8.0 KiB, older than 30d, of mycluster.\n"
    assert over.exists()


def test_days_and_rejected_files(scene: Scene, sky: Run) -> None:
    for day in ("2020-01-01", time.strftime("%Y-%m-%d", time.gmtime())):
        scene.disk.make_dir(scene.spool.day(day))
        Path(scene.spool.ended(day, "1.train.yaml", "FAILED")).write_text("run: x\n")
    Path(scene.spool.rejected, "bad.yaml").write_text("x")
    sky("prune", "--older", "1d")
    assert len(scene.files("done")) == 1 and scene.files("rejected") == ["bad.yaml"]
    time.sleep(0.02)
    sky("prune", "--older", "10ms")
    assert scene.files("rejected") == []


def test_a_bad_age(scene: Scene, sky: Run) -> None:
    assert sky("prune", "--older", "soon").code == 78
