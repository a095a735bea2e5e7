"""The fields of SkyPilot's task YAML: which there are, and what kind of value each may have.

Some mean something here; taskfile and resources read those. The others only mean something in a cloud. Their names
and kinds of values are checked as SkyPilot checks them, so that a slip is found here too; which words they may hold
(clouds, kinds of stores, tiers) is not: each release of SkyPilot knows more, and nothing here depends on them. How the
fields of a service go together is in services.

Source: the JSON schemas of SkyPilot 0.14.1 (sky/utils/schemas.py), by its behaviour.
"""

from __future__ import annotations

from types import MappingProxyType

from spool_layout import services
from spool_layout.shapes import (
    MAPPING,
    NOTHING,
    NUMBER,
    POSITIVE,
    TEXT,
    TRUTH,
    WHOLE,
    Complaint,
    at_least,
    between,
    either,
    fields,
    list_of,
    mapping_of,
    ruled,
    written,
)

# ---- what means something here: the readers check the values

TASK = (
    "name",
    "workdir",
    "num_nodes",
    "resources",
    "setup",
    "run",
    "envs",
    "secrets",
    "managed_secrets",
    "file_mounts",
)
ALTERNATIVES = ("any_of", "ordered")
CANDIDATE = ("accelerators", "gpus", "cpus", "memory", "job_recovery")
RESOURCES = (*CANDIDATE, *ALTERNATIVES)
LAST_PORT = 65535
PLACE = ("cloud", "region", "zone")  # what infra says in one word
GIT = ("url", "ref")

# Names that SkyPilot had and has no more.
FORMER = MappingProxyType({"experimental": "config", "spot_recovery": "job_recovery"})

# ---- what only means something in a cloud

SIZE = either(at_least(1), written("a size such as 100GB", r"\d+(?:[kmgtp][bi])?"))
TEXTS = mapping_of(TEXT)


def _ranges(text: str) -> list[Complaint]:
    """Ports in text: each range from a lower to a higher one."""
    ranges = [[int(end) for end in part.split("-")] for part in text.split(",") if part.strip()]
    fit = all(1 <= ends[0] <= ends[-1] <= LAST_PORT for ends in ranges)
    return [] if fit else [((), f"must be ports from 1 to {LAST_PORT}", "")]


PORTS = ruled(written("ports such as 8000-8010", r"(?:\d{1,6}(?:-\d{1,6})?(?:, *)?)*"), _ranges)
PORT = (between(1, LAST_PORT), PORTS)

ONE_KIND = either(TEXT, mapping_of(NUMBER, most=1))  # the accelerators of a candidate
RECOVERY = either(
    TEXT,
    fields(
        {
            "strategy": either(TEXT, NOTHING),
            "max_restarts_on_errors": at_least(0),
            "recover_on_exit_codes": either(between(0, 255), list_of(between(0, 255))),
        },
        others=True,  # strategies that come with plugins have fields of their own
    ),
)
AUTOSTOP = either(
    TRUTH,
    WHOLE,
    written("a time such as 10m", r"\d+[mhdw]?"),
    fields(
        {"idle_minutes": at_least(0), "down": TRUTH, "wait_for": TEXT, "hook": TEXT, "hook_timeout": at_least(1)},
    ),
)
DISK = fields(
    {
        "disk_size": SIZE,
        "disk_tier": TEXT,
        "path": TEXT,
        "auto_delete": TRUTH,
        "storage_type": TEXT,
        "name": TEXT,
        "attach_mode": TEXT,
    }
)
CLOUD_RESOURCES = MappingProxyType(
    {
        "instance_type": TEXT,
        "infra": TEXT,
        "cloud": TEXT,
        "region": TEXT,
        "zone": TEXT,
        "use_spot": TRUTH,
        "disk_size": SIZE,
        "disk_tier": TEXT,
        "network_tier": TEXT,
        "local_disk": TEXT,
        "max_hourly_cost": POSITIVE,
        "ports": either(*PORT, list_of(either(*PORT)), NOTHING),
        "labels": TEXTS,
        "accelerator_args": fields(
            {"runtime_version": TEXT, "tpu_name": TEXT, "tpu_vm": TRUTH, "gcp_queued_resource": TRUTH}
        ),
        "image_id": either(TEXT, TEXTS, NOTHING),
        "autostop": AUTOSTOP,
        "priority": between(-1000, 1000),
        "priority_class": TEXT,
        "volumes": list_of(DISK),
        "ephemeral_storage": SIZE,
        # what SkyPilot writes for itself when it writes a task
        "_no_missing_accel_warnings": TRUTH,
        "_docker_login_config": MAPPING,
        "_is_image_managed": TRUTH,
        "_requires_fuse": TRUTH,
        "_cluster_config_overrides": MAPPING,
    }
)
_PROBE = fields(
    {
        "path": TEXT,
        "initial_delay_seconds": NUMBER,
        "timeout_seconds": NUMBER,
        "endpoint_probe_interval_seconds": NUMBER,
        "consecutive_failure_threshold_timeout": NUMBER,
        "post_data": either(TEXT, MAPPING),
        "headers": TEXTS,
    },
    required=("path",),
)
_REPLICAS = ruled(
    fields(
        {
            "min_replicas": at_least(0),
            "max_replicas": at_least(0),
            "num_overprovision": at_least(0),
            "target_qps_per_replica": either(NUMBER, mapping_of(NUMBER)),
            "dynamic_ondemand_fallback": TRUTH,
            "base_ondemand_fallback_replicas": at_least(0),
            "spot_placer": TEXT,
            "upscale_delay_seconds": NUMBER,
            "downscale_delay_seconds": NUMBER,
        },
        required=("min_replicas",),
    ),
    services.replicas,
)
_POOL = ruled(
    fields(
        {
            "workers": at_least(0),
            "min_workers": at_least(0),
            "max_workers": at_least(0),
            "queue_length_threshold": at_least(1),
            "upscale_delay_seconds": NUMBER,
            "downscale_delay_seconds": NUMBER,
        }
    ),
    services.workers,
)
_SERVICE = ruled(
    fields(
        {
            "readiness_probe": either(TEXT, _PROBE),
            "load_balancer": fields({"stream_timeout_seconds": NUMBER}),
            "pool": _POOL,
            "replica_policy": _REPLICAS,
            "ports": between(1, LAST_PORT),
            "replicas": WHOLE,
            "workers": WHOLE,
            "load_balancing_policy": TEXT,
            "tls": fields({"keyfile": TEXT, "certfile": TEXT}, required=("keyfile", "certfile")),
        },
        nulls=True,
    ),
    services.together,
)
CLOUD_TASK = MappingProxyType(
    {
        "volumes": MAPPING,
        "volume_mounts": list_of(MAPPING),
        "service": _SERVICE,
        "pool": ruled(_POOL, services.some_workers),
        "config": MAPPING,  # any: SkyPilot's settings and its plugins' own
        "event_callback": TEXT,
        "api_server_access": TRUTH,
        "inputs": mapping_of(NUMBER, most=1),
        "outputs": mapping_of(NUMBER, most=1),
        "file_mounts_mapping": MAPPING,
        "_metadata": MAPPING,
    }
)
# What stands at the top of a file though it is a field of its resources.
MISPLACED = MappingProxyType(
    {
        word: f"resources.{word}"
        for word in (*RESOURCES, *CLOUD_RESOURCES)
        if word not in (*TASK, *CLOUD_TASK) and not word.startswith("_")
    }
)
# A file mount that is no path: a bucket.
STORAGE = fields(
    {
        "name": TEXT,
        "source": either(TEXT, list_of(TEXT)),
        "store": TEXT,
        "persistent": TRUTH,
        "mode": TEXT,
        "type": TEXT,
        "config": MAPPING,
        "_is_sky_managed": TRUTH,
        "_bucket_sub_path": TEXT,
        "_force_delete": TRUTH,
    },
    nulls=True,
)
