"""huey's file queue: the tasks, which its consumer imports, and a client that takes orders (others.Guest).

Run by the venv's Python, which knows nothing of this project.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from huey import FileHuey  # type: ignore[import-not-found,import-untyped,unused-ignore]

PATIENCE = 120.0  # seconds for one order

huey = FileHuey(path=os.environ["BENCH_HUEY"])


@huey.task()  # type: ignore[untyped-decorator,unused-ignore]
def job(words: list[str]) -> int:
    return subprocess.run(words).returncode


def main() -> None:
    for line in sys.stdin:
        count, words = json.loads(line)
        began, start = time.time(), time.perf_counter()
        for _ in range(count):
            job(words)
        while huey.result_count() < count and time.time() < began + PATIENCE:
            time.sleep(0.002)  # it has no call that waits for several results
        print(json.dumps([began, time.perf_counter() - start]), flush=True)
        huey.flush()


if __name__ == "__main__":
    import guest_huey  # type: ignore[import-not-found,unused-ignore]  # a task is known by its module, here and there

    guest_huey.main()
