"""HyperQueue: a server and a worker of two cores in this process, which takes orders (others.Guest).

Run by the venv's Python, which knows nothing of this project.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from hyperqueue import Job, LocalCluster  # type: ignore[import-not-found,import-untyped,unused-ignore]
from hyperqueue.cluster import WorkerConfig  # type: ignore[import-not-found,import-untyped,unused-ignore]


def main() -> None:
    proof = Path(sys.argv[1], "over")  # written by a task that comes last: the client looks once a second
    with LocalCluster(sys.argv[1], WorkerConfig(cores=2)) as cluster:
        client = cluster.client()
        for line in sys.stdin:
            count, words = json.loads(line)
            began = time.time()
            job = Job(default_workdir=sys.argv[1], max_fails=None)
            tasks = [job.program(words) for _ in range(count)]
            job.program(["bash", "-c", f"echo $EPOCHREALTIME >{proof}"], deps=tasks)
            client.wait_for_jobs([client.submit(job)])
            print(json.dumps([began, float(proof.read_text()) - began]), flush=True)


if __name__ == "__main__":
    main()
