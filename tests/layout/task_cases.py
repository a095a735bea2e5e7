"""Shapes of task files, as SkyPilot's users write them: what each becomes, or why it is none.

The shapes were gathered from some hundred real files and from SkyPilot's schemas; the texts are our own. Each verdict
was compared with SkyPilot 0.14.1's own (`sky.Task.from_yaml`); where ours differs on purpose, the line says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from spool_layout.records import Demand


class Accepted(NamedTuple):
    """A task, and what some of its fields become."""

    text: str
    fields: dict[str, Any]


class Refused(NamedTuple):
    """No task: where, and words of the reason. schema: whether a schema can tell."""

    text: str
    line: int | None
    key: str
    words: str
    schema: bool = True


def gpu(name: str, count: float = 1, cpus: float = 0.5, memory: float = 0) -> Demand:
    """What a node needs; memory in GB."""
    return Demand(name, round(count * 1000), round(cpus * 1000), round(memory * 1024))


def kinds(written: str, *demands: Demand) -> Accepted:
    """`accelerators: WRITTEN`"""
    return Accepted(f"resources:\n  accelerators: {written}\nrun: x\n", {"demands": demands})


def needs(written: str, *demands: Demand) -> Accepted:
    """`resources: {WRITTEN}`"""
    return Accepted(f"resources: {{{written}}}\nrun: x\n", {"demands": demands})


def ignores(written: str, *keys: str) -> Accepted:
    return Accepted(written + "\nrun: x\n", {"ignored": keys})


CPU = gpu("", 0)

ACCEPTED = [
    # ---- accelerators
    kinds("H100:8", gpu("H100", 8)),
    kinds("H100", gpu("H100")),
    kinds("'H100: 8'", gpu("H100", 8)),
    kinds("H100:0.5", gpu("H100", 0.5)),
    kinds("H100:8.0", gpu("H100", 8)),
    kinds("H100:1e1", gpu("H100", 10)),
    kinds("{H100: 8}", gpu("H100", 8)),
    kinds("{H100:8}", gpu("H100", 8)),
    kinds("{H100}", gpu("H100")),
    kinds("{H100: 0.25}", gpu("H100", 0.25)),
    kinds("\n    H100: 8\n    A100: 8", gpu("H100", 8), gpu("A100", 8)),
    kinds("[H100:1, A100:2]", gpu("H100"), gpu("A100", 2)),
    kinds("\n    - A100:1\n    - V100:1  # then this", gpu("A100"), gpu("V100")),
    kinds("['L4:1', 'H100:1']", gpu("L4"), gpu("H100")),
    kinds("{L4:8, A10g:8, A100:4, A100-80GB:2}", gpu("L4", 8), gpu("A10G", 8), gpu("A100", 4), gpu("A100-80GB", 2)),
    kinds("{'L4:1', 'T4'}", gpu("L4"), gpu("T4")),
    kinds("{L4, L40, A10}", gpu("L4"), gpu("L40"), gpu("A10")),
    kinds("[A100, A100:1, a100]", gpu("A100")),
    kinds("h100:2", gpu("H100", 2)),
    kinds("a100-80gb:8", gpu("A100-80GB", 8)),
    kinds("v100:0.5", gpu("V100", 0.5)),
    kinds("MyGPU:3", gpu("MyGPU", 3)),
    kinds("MI300:4", gpu("MI300X", 4)),
    kinds("'4090:1'", gpu("RTX4090")),
    kinds("A6000:2", gpu("A6000", 2)),
    kinds("H100-SXM:1", gpu("H100-SXM")),
    kinds("Gaudi HL-205:8", gpu("Gaudi HL-205", 8)),
    kinds("TPU-v2-8", gpu("tpu-v2-8")),
    kinds("16GB:2", *(gpu(n, 2) for n in ("A16", "A2", "V100", "P100", "T4", "RTXA4000", "RTX5000")),
          *(gpu(n, 2) for n in ("RTX5080", "RTX4080", "A4000", "T4g", "Radeon MI25"))),
    kinds("amd:192GB+", *(gpu(n) for n in ("MI300X", "MI325X", "MI355X", "MI350X"))),
    needs("gpus: V100:1", gpu("V100")),
    needs("gpus: {V100: 2}", gpu("V100", 2)),
    needs("accelerators: null", CPU),
    # ---- cpus and memory
    needs("cpus: 4", gpu("", 0, 4)),
    needs("cpus: 4+", gpu("", 0, 4)),
    needs("cpus: '8'", gpu("", 0, 8)),
    needs("cpus: 0.5", gpu("", 0, 0.5)),
    needs("cpus: null", CPU),
    needs("cpus: '4 +'", gpu("", 0, 4)),
    needs("memory: 16", gpu("", 0, memory=16)),
    needs("memory: 16+", gpu("", 0, memory=16)),
    needs("memory: 512MB", gpu("", 0, memory=0.5)),
    needs("memory: 16Gi", gpu("", 0, memory=16)),
    needs("memory: 64gb+", gpu("", 0, memory=64)),
    needs("memory: 16 GB", gpu("", 0, memory=16)),
    needs("memory: 1TB", gpu("", 0, memory=1024)),
    needs("memory: 0.1", Demand("", 0, 500, 102)),
    needs("accelerators: H100:8, cpus: 100+, memory: 1000+", gpu("H100", 8, 100, 1000)),
    Accepted("resources:\nrun: x\n", {"demands": (CPU,)}),
    Accepted("resources: {}\n", {"demands": (CPU,), "run": ""}),
    # ---- alternatives
    needs("any_of: [{accelerators: A100:1}, {gpus: {V100: 2}}]", gpu("A100"), gpu("V100", 2)),
    needs("ordered: [{accelerators: V100}, {cpus: 4}], cpus: 2, memory: 8", gpu("V100", 1, 2, 8), gpu("", 0, 4, 8)),
    needs("accelerators: {A100, V100}, any_of: [{cpus: 1}, {cpus: 2}]",
          gpu("A100", 1, 1), gpu("V100", 1, 1), gpu("A100", 1, 2), gpu("V100", 1, 2)),
    needs("accelerators: {L4: 1}, any_of: [{gpus: {H100: 1}}, {use_spot: true}]", gpu("H100"), gpu("L4")),
    needs("accelerators: H100, any_of: [{infra: aws/us-west-2}, {infra: gcp}]", gpu("H100")),
    needs("accelerators: [A100], any_of: [{cpus: 2}]", gpu("A100", 1, 2)),
    needs("accelerators: L4:1, ordered: [{region: us}, {region: eu}]", gpu("L4")),
    needs("any_of: [], accelerators: L4", gpu("L4")),
    needs("any_of: null, accelerators: L4", gpu("L4")),
    needs("any_of: [{ports: null, image_id: null}], accelerators: L4", gpu("L4")),
    # ---- what only means something in a cloud
    ignores("resources: {infra: k8s/context, use_spot: yes, disk_size: 1_000, disk_tier: best, network_tier: best}",
            "resources.infra", "resources.use_spot", "resources.disk_size", "resources.disk_tier",
            "resources.network_tier"),
    ignores("resources: {cloud: AWS, region: us, zone: us-1, instance_type: m5.large, disk_size: 256GB}",
            "resources.cloud", "resources.region", "resources.zone", "resources.instance_type", "resources.disk_size"),
    ignores("resources:\n  cloud:\n  region:  # any\n  disk_size: null\n  use_spot: ~"),
    ignores("resources: {ports: 8081, image_id: docker:ubuntu:20.04}", "resources.ports", "resources.image_id"),
    ignores("resources: {ports: [8080, 10022-10040], labels: {a.b/c: d}}", "resources.ports", "resources.labels"),
    ignores("resources: {image_id: {us-east-1: ami-1, docker: x}}", "resources.image_id"),
    ignores("resources: {autostop: true}", "resources.autostop"),
    ignores("resources: {autostop: 10m}", "resources.autostop"),
    ignores("resources: {autostop: {idle_minutes: 10, down: true, wait_for: none}}", "resources.autostop"),
    ignores("resources: {accelerator_args: {tpu_vm: True, runtime_version: v2}, priority: -5, priority_class: low}",
            "resources.accelerator_args", "resources.priority", "resources.priority_class"),
    ignores("resources: {max_hourly_cost: 2.5, local_disk: nvme, ephemeral_storage: 10}",
            "resources.max_hourly_cost", "resources.local_disk", "resources.ephemeral_storage"),
    ignores("resources:\n  any_of:\n  - infra: aws\n  - infra: gcp", "resources.any_of.infra"),
    ignores("resources: {_requires_fuse: true}\n_metadata: {git_commit: x}"),
    ignores("service: {readiness_probe: /health, replicas: 2}", "service"),
    ignores("service:\n  readiness_probe: {path: /, post_data: {a: [b]}, initial_delay_seconds: 5}\n  replica_policy:\n"
            "    {min_replicas: 0, max_replicas: 3, target_qps_per_replica: 0.5, upscale_delay_seconds: 5}", "service"),
    ignores("pool: {workers: 4}", "pool"),
    ignores("config: {kubernetes: {pod_config: {spec: {containers: [{volumeMounts: [{name: a}]}]}}}}", "config"),
    ignores("volumes: {/data: my-volume}\nevent_callback: echo\napi_server_access: true",
            "volumes", "event_callback", "api_server_access"),
    ignores("inputs: {gs://x/y: 70}\noutputs: {model: 0.1}", "inputs", "outputs"),
    ignores("file_mounts:\n  /b: {name: bucket, source: , mode: MOUNT_CACHED, store: s3, persistent: no}\n"
            "  /c: s3://bucket/dir/", "file_mounts./b", "file_mounts./c"),
    # ---- job_recovery
    Accepted("resources: {job_recovery: FAILOVER}\n", {"restartable": True, "ignored": ()}),
    Accepted("resources: {job_recovery: none}\n", {"restartable": False}),
    Accepted("resources: {job_recovery: {strategy: none}}\n", {"restartable": False}),
    Accepted("resources: {job_recovery: {max_restarts_on_errors: 3, recover_on_exit_codes: [33, 34]}}\n",
             {"restartable": True}),
    Accepted("resources: {job_recovery: {strategy: DYNAMIC_NODE_SET, min_nodes: 1}}\n", {"restartable": True}),
    Accepted("resources: {any_of: [{job_recovery: EAGER_NEXT_REGION}]}\n", {"restartable": True}),
    # ---- name, num_nodes, scripts
    Accepted("name: train_7b.v2-final--x\nrun: x\n", {"name": "train_7b.v2-final--x"}),
    Accepted("name: '123'\nrun: x\n", {"name": "123"}),
    Accepted("name:\nnum_nodes:\nsetup:\nrun:\n  # nothing\nworkdir: ~\n", {"name": "", "num_nodes": 1, "run": ""}),
    Accepted("name: 2024-01-01\nrun: x\n", {"name": "2024-01-01"}),  # SkyPilot: a date is no name
    Accepted("num_nodes: 1500\nrun: x\n", {"num_nodes": 1500}),
    Accepted("run: |\n  a\n    b\n\n  c\n", {"run": "a\n  b\n\nc\n"}),
    Accepted("run: >\n  a\n  b\n\n  c\n", {"run": "a b\nc\n"}),
    Accepted("run: |-\n  a\n  b\n", {"run": "a\nb"}),
    Accepted("run: 'echo \"a [b]\" # no comment'  # comment\n", {"run": 'echo "a [b]" # no comment'}),
    Accepted("setup: |\n  pip install x\n\n#run: |\n#  y\n", {"setup": "pip install x\n", "run": ""}),
    Accepted("envs: {NO: 1, ON: 2}\n", {"envs": {"NO": "1", "ON": "2"}}),  # SkyPilot names them False and True
    Accepted("envs:\nrun: x\n", {"envs": {}}),  # SkyPilot: an internal error
    Accepted("secrets: {A: x, B: '', C: 1}\n", {"secrets": {"A": "x", "B": "", "C": "1"}, "envs": {}}),
    Accepted("secrets: []\nmanaged_secrets: []\nrun: x\n", {"secrets": {}}),
    # ---- workdir and file_mounts
    Accepted("workdir: .\n", {"workdir": "."}),
    Accepted("workdir: ''\n", {"workdir": ""}),
    Accepted("envs: {D: /data}\nsecrets: {S: s}\nworkdir: $D/${S}x/$E\n", {"workdir": "/data/sx/$E"}),
    Accepted("envs: {R: main}\nworkdir: {url: 'https://x/y.git', ref: $R}\n", {"workdir": ""}),
    Accepted("file_mounts: {/a: ./b, rel: ~/c d, ~/.netrc: ~/.netrc}\n",
             {"file_mounts": {"/a": "./b", "rel": "~/c d", "~/.netrc": "~/.netrc"}}),
    Accepted("envs: {B: v}\nfile_mounts: {/a/$B: '/c/${B}d', /e: /f/}\n",
             {"file_mounts": {"/a/v": "/c/vd", "/e": "/f"}}),
    Accepted("envs: {B: s3://bucket}\nfile_mounts: {/a: $B/x}\n", {"file_mounts": {}, "ignored": ("file_mounts./a",)}),
    # ---- documents
    Accepted("name: head\n---\nrun: x\n", {"name": "head", "run": "x"}),
    Accepted("name: head\nexecution: serial\n---\nname: own\nrun: x\n", {"name": "own"}),
    Accepted("---\n---\nrun: x\n---\n", {"run": "x"}),
    Accepted("name: only\n", {"name": "only"}),
    Accepted("run: x\n...\n", {"run": "x"}),
    Accepted("%YAML 1.1\n---\nrun: x\n", {"run": "x"}),
    Accepted("\ufeffrun: x\n", {"run": "x"}),
    Accepted("run: |\r\n  a\r\n  b\r\nnum_nodes: 2\r\n", {"run": "a\nb\n", "num_nodes": 2}),
    Accepted('{"run": "x", "resources": {"accelerators": {"L4": 1}}}', {"demands": (gpu("L4"),)}),
    Accepted("run: &r |\n  a\nsetup: *r\n", {"setup": "a\n"}),
    Accepted("envs: &e {A: 1, B: 2}\nsecrets: {<<: *e, B: 3}\n", {"secrets": {"A": "1", "B": "3"}}),
    Accepted("run: echo 'größe 日本'\n", {"run": "echo 'größe 日本'"}),
]  # fmt: skip


def bad_kinds(written: str, words: str, key: str = "resources.accelerators", schema: bool = True) -> Refused:
    return Refused(f"run: x\nresources:\n  accelerators: {written}\n", 3, key, words, schema)


def bad_need(written: str, words: str, key: str = "", schema: bool = True) -> Refused:
    return Refused(
        f"run: x\nresources:\n  {written}\n", 3, key or f"resources.{written.partition(':')[0]}", words, schema
    )


def bad_field(written: str, words: str, key: str = "", schema: bool = True) -> Refused:
    return Refused(f"run: x\n{written}\n", 2, key or written.partition(":")[0], words, schema)


REFUSED = [
    # ---- accelerators
    bad_kinds("8", "a name and a count, such as H100:8, not 8 (write the name too, such as H100:8)"),
    bad_kinds("4090", "not 4090 (put it in quotes)"),
    bad_kinds("4090:1", "not 245401 (put it in quotes)"),
    bad_kinds("'8'", "'8' is a number, not the name of an accelerator (write the name too", schema=False),
    bad_kinds("'0.5'", "(write the name too, such as H100:0.5)", schema=False),
    bad_kinds("'4:2'", "'4' is a number, not the name of an accelerator (write a name and a number", schema=False),
    bad_kinds("''", "'' is no name"),
    bad_kinds("':8'", "'' is no name"),
    bad_kinds("true", "not true"),
    bad_kinds("[]", "leave it out where none is needed"),
    bad_kinds("{}", "leave it out where none is needed"),
    bad_kinds("H100:x", "'x' is no count"),
    bad_kinds("'H100:'", "'' is no count"),
    bad_kinds("H100:0", "must be above 0"),
    bad_kinds("H100:-1", "must be above 0"),
    bad_kinds("H100:nan", "'nan' is no count"),
    bad_kinds("H100:inf", "inf is no count"),  # accepted by SkyPilot, as are the next two
    bad_kinds("H100:1.5", "above 1 it must be whole (a share of one is below 1", schema=False),
    bad_kinds("H100:0.0001", "a share at least 0.001", schema=False),
    bad_kinds("H100:1:2", "'H100:1' is no name"),
    bad_kinds("{H100: '8'}", "must be a number, not '8'", "resources.accelerators.H100"),
    bad_kinds("{H100: true}", "must be a number, not true", "resources.accelerators.H100"),
    bad_kinds("{'H100:8': 2}", "'H100:8' is no name", "resources.accelerators.H100:8", schema=False),
    bad_kinds("[{A100: 1}]", "not a mapping", "resources.accelerators[0]"),
    bad_kinds("[A100, null]", "not nothing", "resources.accelerators[1]"),
    bad_kinds("RTX:2", "'RTX' may be any of RTX6000-Ada, RTX4000-Ada", schema=False),
    bad_kinds("A100-80", "may be any of A100-80GB, A100-80GB-SXM (write the whole name)", schema=False),
    bad_kinds("80GB:0.5", "a share (0.5) needs the accelerator's name", schema=False),
    bad_kinds("33GB", "no accelerator with '33GB' is known", schema=False),  # SkyPilot gives such a job none at all
    bad_need("gpus: L4\n  accelerators: T4", "another word for accelerators"),
    bad_need("gpus:\n  accelerators: T4", "another word for accelerators"),
    # ---- cpus and memory
    *(bad_need(f"cpus: {word}", "must be a number above 0") for word in ("0", "-1", "4x", "4++", "true", "''", "[4]")),
    *(bad_need(f"memory: {word}", "must be a number of GB above 0") for word in ("0", "-4", "1+GB", "16G", "x", "1iB")),
    bad_need("memory: 3x", "must be a number of GB above 0"),  # SkyPilot's own controllers write it
    bad_need("cpus: 1e300", "must be a number above 0", schema=False),
    bad_need("cpus: .nan", "must be a number above 0", schema=False),
    # ---- alternatives
    bad_need("any_of: {cpus: 2}", "must be a list"),
    bad_need("ordered: A100", "must be a list"),
    bad_need("any_of: [A100]", "must be a mapping of resources, not 'A100'", "resources.any_of[0]"),
    bad_need("any_of: [{}, {cpus: x}]", "must be a number above 0", "resources.any_of[1].cpus"),
    bad_need("any_of: [{accelerators: [L4, T4]}]", "must be text or a mapping", "resources.any_of[0].accelerators"),
    bad_need("any_of: [{gpus: {L4: 1, T4: 1}}]", "may have 1 entry, not 2", "resources.any_of[0].gpus"),
    bad_need("any_of: [{gpus: {L4: }}]", "must be a number, not nothing", "resources.any_of[0].gpus.L4"),
    bad_need("any_of: [{accelerators: }]", "is empty (give it a value", "resources.any_of[0].accelerators"),
    bad_need("any_of: [{any_of: []}]", "there is no such field", "resources.any_of[0].any_of"),
    bad_need("ordered: [{acelerators: L4}]", "did you mean 'accelerators'?", "resources.ordered[0].acelerators"),
    bad_need("ordered: []\n  any_of: []", "exclude each other"),
    bad_need("any_of: [{cpus: 2}]\n  accelerators: [L4, T4]", "does not go with several", schema=False),
    bad_need("ordered: [{cpus: 2}]\n  accelerators: {L4, T4}", "does not go with several", schema=False),
    # ---- fields that do not exist
    bad_need("acelerators: H100", "there is no such field (did you mean 'accelerators'?)"),
    bad_need("accelerator: H100", "(did you mean 'accelerators'?)"),
    bad_need("cpu: 4", "(did you mean 'cpus'?)"),
    bad_need("not_a_field:", "there is no such field"),
    bad_need("spot_recovery: FAILOVER", "(did you mean 'job_recovery'?)"),
    bad_need("hooks: []", "there is no such field"),
    bad_need("termination_hook: {timeout: 90}", "there is no such field"),
    bad_need("autostop: {idle_minuts: 5}", "(did you mean 'idle_minutes'?)", "resources.autostop.idle_minuts"),
    bad_field("num_node: 2", "there is no such field (did you mean 'num_nodes'?)"),
    bad_field("env: {A: 1}", "(did you mean 'envs'?)"),
    bad_field("Name: x", "(did you mean 'name'?)"),
    bad_field("gpus: 4", "there is no such field (did you mean 'resources.gpus'?)"),
    bad_field("use_spot: true", "(did you mean 'resources.use_spot'?)"),
    bad_field("priority: 5", "there is no such field"),
    bad_field("max_duration: 1h", "there is no such field"),
    bad_field("tasks: [{run: x}]", "there is no such field"),
    bad_field("experimental: {config_overrides: {}}", "(did you mean 'config'?)"),
    bad_field("workdir: {url: x, branch: y}", "there is no such field", "workdir.branch"),
    bad_field("service: {replcas: 2}", "(did you mean 'replicas'?)", "service.replcas"),
    bad_field("file_mounts: {/a: {sorce: s3://b}}", "(did you mean 'source'?)", "file_mounts./a.sorce"),
    # ---- kinds of values
    bad_field("name: 123", "must be text, not 123 (put it in quotes)"),
    bad_field("name: ''", "'' is no name for a task"),
    *(bad_field(f"name: {name}", "is no name for a task") for name in ("a b", "a_", "_a", "a---b", "../x", "ü")),
    bad_field("name: " + "a" * 121, "up to 120"),  # SkyPilot has no limit; here it becomes part of a file's name
    *(bad_field(f"num_nodes: {n}", "a whole number from 1 to 100000") for n in ("'2'", "0", "-1", "1.5", "true")),
    bad_field("num_nodes: 2.0", "a whole number", schema=False),
    bad_field("run2: x", "there is no such field (did you mean 'run'?)"),
    bad_field("setup: [a, b]", "must be text (shell commands), not a list (write `|` after the colon"),
    bad_field("setup: 5", "must be text (shell commands), not 5 (put it in quotes)"),
    bad_field("setup: {a: b}", "must be text"),
    bad_field('setup: "a\\0b"', "holds a NUL character", schema=False),
    bad_field("workdir: 5", "must be a path or {url, ref}"),
    bad_field("workdir: {ref: main}", "must be the address of a git repository", "workdir.url"),
    bad_field("workdir: {url: x, ref: 1.2}", "a branch, a tag or a commit (put it in quotes)", "workdir.ref"),
    bad_field("workdir: {url: --upload-pack=x}", "must be the address of a git repository", "workdir.url"),
    bad_field("envs: [A]", "must be a mapping, not a list"),
    bad_field("envs: {A-B: 1}", "'A-B' is no name for an environment variable", "envs.A-B"),
    bad_field("envs: {1: 2}", "'1' is no name", "envs.1"),
    bad_field("envs: {A: }", "has no value (give one: --env A=…", "envs.A", schema=False),
    bad_field("secrets: {A: }", "there is no store of secrets here (give one: --secret A=…", "secrets.A", schema=False),
    bad_field("secrets: [secrets:personal.A]", "(give one: --secret A=…", "secrets[0]", schema=False),
    bad_field("secrets: x", "must name variables"),
    bad_field("managed_secrets: [A]", "there is no store of secrets", "managed_secrets[0]", schema=False),
    bad_field("file_mounts: [a]", "must be a mapping"),
    bad_field("file_mounts: {/a: }", "must be a path, or an address in a cloud, not nothing", "file_mounts./a"),
    bad_field("file_mounts: {/a: file:///b}", "must be a path (leave file:// out)", "file_mounts./a"),
    bad_field("resources: [a]", "must be a mapping"),
    bad_need("use_spot: 'true'", "must be true or false, not 'true'"),
    bad_need("region: [a, b]", "must be text, not a list"),
    bad_need("disk_size: big", "a whole number, 1 or more or a size such as 100GB"),
    bad_need("ports: http", "ports such as 8000-8010"),
    bad_need("labels: {a: 1}", "must be text, not 1 (put it in quotes)", "resources.labels.a"),
    bad_need("priority: 1001", "from -1000 to 1000"),
    bad_need("job_recovery: 3", "must be text or a mapping"),
    bad_need("job_recovery: {recover_on_exit_codes: 256}", "0 to 255", "resources.job_recovery.recover_on_exit_codes"),
    bad_field("service: {readiness_probe: {}}", "must have a field 'path'", "service.readiness_probe"),
    bad_field("pool: {workers: 1}\nservice: {replicas: 1}", "exclude each other", schema=True),
    bad_field("config: x", "must be a mapping"),
    bad_field("inputs: {a: 1, b: 2}", "may have 1 entry"),
    # ---- no task at all
    Refused("", None, "", "is empty (write at least `run:`", schema=False),
    Refused("# nothing\n", None, "", "is empty", schema=False),
    Refused("{}\n", None, "", "is empty"),
    Refused("- a\n", None, "", "must be a mapping of fields"),
    Refused("just words\n", None, "", "must be a mapping of fields"),
    Refused("run: x\n---\nrun: y\n", None, "", "holds several tasks (pipelines and job groups", schema=False),
    Refused("name: g\nexecution: parallel\n---\nrun: x\n", None, "", "holds several tasks", schema=False),
    Refused("name: h\n---\nrun: a\n---\nrun: b\n", 4, "", "holds several tasks", schema=False),
]  # fmt: skip

# What is written after `envs: {A: …}`, and what A becomes: str() of what PyYAML reads, as under SkyPilot.
ENV_VALUES = {
    "x y": "x y",
    "1": "1",
    "''": "",
    "true": "True",
    "off": "False",
    "1.10": "1.1",
    "1e-4": "1e-4",
    "1.0e5": "1.0e5",
    "1.0e+5": "100000.0",
    ".inf": "inf",
    "1_000": "1000",
    "017": "15",
    "08": "08",
    "0o17": "0o17",
    "0x1F": "31",
    "0b11": "3",
    "12:30:45": "45045",
    "2024-01-01": "2024-01-01",
    "2024-01-01T10:00:00Z": "2024-01-01T10:00:00Z",  # SkyPilot writes the time anew
    "123456789012345678901234567890": "123456789012345678901234567890",
    "411d25b2": "411d25b2",
    "${HOME}/x:$PATH": "${HOME}/x:$PATH",
    "[1, x]": "[1, 'x']",
    "{b: 1}": "{'b': 1}",
    "=": "=",  # SkyPilot: an error of its YAML reader
}
