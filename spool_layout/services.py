"""How the fields of a service or a pool go together.

Nothing here serves anything: the rules are kept so that a file is refused here that SkyPilot refuses too. Each gives
its complaints of a mapping whose fields are right by themselves; fields says what those are.

Source: SkyServiceSpec of SkyPilot 0.14.1 (sky/serve/service_spec.py), by its behaviour.
"""

from __future__ import annotations

from typing import Any

from spool_layout.problems import Path, told
from spool_layout.shapes import Complaint

PER_KIND = "instance_aware_least_load"  # the one policy that knows how much each kind of GPU can take


def replicas(policy: dict[str, Any]) -> list[Complaint]:
    """replica_policy: between how many replicas, and by what load."""
    least, most = policy["min_replicas"], policy.get("max_replicas")
    by_load = "target_qps_per_replica" in policy
    if most is None:
        return [(("target_qps_per_replica",), "needs max_replicas beside it", "")] if by_load else []
    if most < least:
        return [(("max_replicas",), f"must be min_replicas ({least}) or more, not {most}", "")]
    if most > least and not by_load:
        return [((), "has a min_replicas and a max_replicas, and nothing to choose by", "add target_qps_per_replica")]
    return []


def workers(pool: dict[str, Any]) -> list[Complaint]:
    """pool: a number of workers, or between how many."""
    least, most = pool.get("min_workers", pool.get("workers", 1)), pool.get("max_workers")
    if most is None:
        lacking = [word for word in ("queue_length_threshold", "min_workers") if word in pool]
        return [((word,), "needs max_workers beside it", "") for word in lacking]
    return [] if least <= most else [(("max_workers",), f"must be {least} or more, as the others say, not {most}", "")]


def some_workers(pool: dict[str, Any]) -> list[Complaint]:
    """A pool that stands by itself says how many workers it has."""
    if pool.keys() & {"workers", "min_workers", "max_workers"}:
        return []
    return [((), "must have workers, or min_workers and max_workers", "")]


def together(service: dict[str, Any]) -> list[Complaint]:
    """service: what excludes what, its probe, and its policies."""
    held = {word: value for word, value in service.items() if value is not None}
    return [*_exclusive(service, held), *_probe(held.get("readiness_probe")), *_balancing(held)]


def _exclusive(service: dict[str, Any], held: dict[str, Any]) -> list[Complaint]:
    """held: without the fields that hold nothing. The first pair excludes each other even so."""
    pairs = [("replicas", "replica_policy", service), ("replicas", "workers", held)]
    if held.get("pool"):
        pairs += [("pool", "replicas", held), ("pool", "replica_policy", held)]
    both = [(one, other) for one, other, where in pairs if one in where and other in where]
    return [((other,), f"and {one} exclude each other: write one of them", "") for one, other in both]


def _probe(probe: Any) -> list[Complaint]:
    where: Path = ("readiness_probe",)
    path, data = (probe["path"], probe.get("post_data")) if isinstance(probe, dict) else (probe, None)
    if path is not None and not path.startswith(("/", "$")):  # a variable may hold the slash
        return [(where, f"must ask for a path that begins with /, not {told(path)}", "")]
    if isinstance(data, str) and "$" not in data and not _is_json(data):
        return [((*where, "post_data"), "must be a mapping, or text in JSON", "")]
    return []


def _is_json(text: str) -> bool:
    import json  # here, since few files need it

    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _balancing(held: dict[str, Any]) -> list[Complaint]:
    target = held.get("replica_policy", {}).get("target_qps_per_replica")
    named = held.get("load_balancing_policy", "")
    if named.startswith("$") or isinstance(target, dict) == (named == PER_KIND):
        return []
    if named == PER_KIND:
        return [(("load_balancing_policy",), f"{PER_KIND} needs a target_qps_per_replica for each kind of GPU", "")]
    where: Path = ("replica_policy", "target_qps_per_replica")
    return [(where, "for each kind of GPU needs another load_balancing_policy", f"write {PER_KIND}")]
