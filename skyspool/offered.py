"""What `up --gpus` said of this host, kept beside the daemons' logs, for the next `up`.

A file for each cluster and host, CLUSTER-HOST-node.json: {"spool": DIR, "gpus": SPEC}. Where a cluster's name has come
to mean another directory, what was said of the former one is forgotten.
"""

from __future__ import annotations

import json
import os

from skyspool.clusters import Cluster
from skyspool.daemons import local_file
from spool_layout.storage import Disk


def recall(cluster: Cluster) -> str | None:
    """The SPEC that was kept; None: what is found is to be offered."""
    try:
        kept = json.loads(Disk().read(_path(cluster)) or b"null")
        if kept["spool"] == os.path.realpath(cluster.spool.root):
            return str(kept["gpus"])
    except (ValueError, TypeError, LookupError):
        pass  # none, or not of our making
    return None


def keep(cluster: Cluster, spec: str | None) -> None:
    """Keep a SPEC; None: forget what was kept."""
    path, disk = _path(cluster), Disk()
    if spec is None:
        disk.remove(path)
    else:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        kept = {"spool": os.path.realpath(cluster.spool.root), "gpus": spec}
        disk.publish(path, json.dumps(kept).encode(), mode=0o600)


def _path(cluster: Cluster) -> str:
    return local_file(cluster, "node.json")
