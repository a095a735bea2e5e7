"""Shapes of task files, as SkyPilot's users write them: what each becomes, or why it is none.

The shapes were gathered from some two hundred real files and from SkyPilot's schemas; the texts are our own. Each
verdict was compared with SkyPilot 0.14.1's own (`sky.Task.from_yaml`); where ours differs on purpose, the line says so.
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
    kinds('["H200:2", "H100-SXM:2", "A100-80GB-SXM:2"]', gpu("H200", 2), gpu("H100-SXM", 2), gpu("A100-80GB-SXM", 2)),
    kinds("{RTX4090:1, RTXA5000:1, RTXPRO4500:1}", gpu("RTX4090"), gpu("RTXA5000"), gpu("RTXPRO4500")),
    kinds("{ A100:1, Inferentia:6 }  # or", gpu("A100"), gpu("Inferentia", 6)),
    kinds("{A100:8, A100-80GB:4, A100-80GB:8}", gpu("A100", 8), gpu("A100-80GB", 4), gpu("A100-80GB", 8)),
    kinds("\n    T4: 1\n\n    # or\n    L4: 2", gpu("T4"), gpu("L4", 2)),
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
    needs("cpus: 0.1+, memory: 0.5", gpu("", 0, 0.1, 0.5)),
    needs("memory: 32GB+", gpu("", 0, memory=32)),
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
    needs("cloud: aws, cpus: 8+, any_of: [{region: e, use_spot: true, accelerators: 'L4:1'}, {accelerators: 'A10G:1'}, "
          "{region: w, accelerators: 'L4:1'}]", gpu("L4", 1, 8), gpu("A10G", 1, 8)),
    needs("accelerators: H100:8, any_of: [{infra: aws/w/a}, {infra: aws/w/b}], job_recovery: {strategy: none}",
          gpu("H100", 8)),
    needs("accelerators: A4:4, ordered: [{region: w, zone: w-a}, {region: e, zone: e-b}]", gpu("A4", 4)),
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
    ignores("resources: {infra: slurm/lab/short, cloud: , region: ~}", "resources.infra"),
    ignores("resources: {infra: aws, any_of: [{infra: gcp}, {cpus: 2}]}", "resources.infra", "resources.any_of.infra"),
    ignores("resources:\n  cloud: aws \n  disk_tier: best\n#  disk_size: 1_000\n\n  ports:\n    - 8080  # page\n  ",
            "resources.cloud", "resources.disk_tier", "resources.ports"),
    ignores("resources: {ports: '8080, 9000-9010'}", "resources.ports"),
    ignores("resources: {image_id: 'docker:reg.example/a/b@sha256:0a1b'}", "resources.image_id"),
    ignores("resources: {_requires_fuse: true}\n_metadata: {git_commit: x}"),
    ignores("service: {readiness_probe: /health, replicas: 2}", "service"),
    ignores("service:\n  readiness_probe: {path: /, post_data: {a: [b]}, initial_delay_seconds: 5}\n  replica_policy:\n"
            "    {min_replicas: 0, max_replicas: 3, target_qps_per_replica: 0.5, upscale_delay_seconds: 5}", "service"),
    ignores("service:\n  replicas: 1\n  readiness_probe:\n    path: /v1/chat\n    post_data:\n      model: $MODEL\n"
            "      messages:\n        - role: user\n          content: Hello!\n    headers: {X-Key: a}", "service"),
    ignores("service: {workers: 2}", "service"),
    ignores("envs: {P: /up}\nservice: {readiness_probe: $P, ports: 8080}", "service"),
    ignores("service: {readiness_probe: {path: /, post_data: '{\"a\": \"$M\"}'}, replicas: 0}", "service"),
    ignores("service: {replica_policy: {min_replicas: 2, max_replicas: 2}, pool: }", "service"),
    ignores("service: {replica_policy: {min_replicas: 0, max_replicas: 2, target_qps_per_replica: {L4: 3, H100: 9}},\n"
            "  load_balancing_policy: instance_aware_least_load}", "service"),
    ignores("service: {pool: {workers: 2}}", "service"),
    ignores("service: {pool: {}, workers: 2}", "service"),
    ignores("pool:\n  min_workers: 1\n  max_workers: 3  # at night", "pool"),
    ignores("pool: {max_workers: 3, queue_length_threshold: 2}", "pool"),
    ignores("pool: {workers: 4}", "pool"),
    ignores("config: {kubernetes: {pod_config: {spec: {containers: [{volumeMounts: [{name: a}]}]}}}}", "config"),
    ignores("config:\n  docker:\n    run_options:\n      - --ipc=host\n      - --ulimit memlock=-1:-1", "config"),
    ignores("config: {}", "config"),
    ignores("volumes:\n  /old: disk0\n  /new:\n    size: 1Gi\n    labels:\n      key: value", "volumes"),
    ignores("volumes: {/data: my-volume}\nevent_callback: echo\napi_server_access: true",
            "volumes", "event_callback", "api_server_access"),
    ignores("inputs: {gs://x/y: 70}\noutputs: {model: 0.1}", "inputs", "outputs"),
    ignores("file_mounts:\n  /b: {name: bucket, source: , mode: MOUNT_CACHED, store: s3, persistent: no}\n"
            "  /c: s3://bucket/dir/", "file_mounts./b", "file_mounts./c"),
    ignores("envs: {B: store, D: ~/d}\nfile_mounts:\n  /a: # where\n    source: cw://$B #\n    mode: MOUNT  # or\n\n"
            "  # and\n  ~/b:\n    name: ${B}\n    source: ${D}\n    store: r2\n    mode: COPY\n    persistent: true",
            "file_mounts./a", "file_mounts.~/b"),
    ignores("file_mounts:\n  /a:\n    name: # fill in\n    mode: MOUNT\n  /b: {source: .env}\n"
            "  /c: {name: '', mode: COPY}",
            "file_mounts./a", "file_mounts./b", "file_mounts./c"),
    ignores("file_mounts: {/a: hf://org/model, /b: https://data.example/c.tar}", "file_mounts./a", "file_mounts./b"),
    ignores("file_mounts: {/a: {name: b, source: [., ./c]}}", "file_mounts./a"),
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
    Accepted("envs:\n  FLAG: true\n  PORT: 29500\n  ARGS: --out a/b --epochs 3 # of 9\n  SHAPES: '1,1 1,2'\n\n  # c\n"
             "  NONE: ''  \n  KEY: ${KEY}\n  ZONE: America/Toronto\n",
             {"envs": {"FLAG": "True", "PORT": "29500", "ARGS": "--out a/b --epochs 3", "SHAPES": "1,1 1,2", "NONE": "",
                       "KEY": "${KEY}", "ZONE": "America/Toronto"}}),
    Accepted("envs: {SKYPILOT_DOCKER_USERNAME: '', SKYPILOT_DOCKER_PASSWORD: '', SKYPILOT_DOCKER_SERVER: r.example}\n",
             {"secrets": {}}),
    Accepted("secrets: {SKYPILOT_DOCKER_USERNAME: a, SKYPILOT_DOCKER_PASSWORD: b, SKYPILOT_DOCKER_SERVER: c}\n",
             {"envs": {}}),
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
    Accepted("\n# who?\n---\nname: late\n\nworkdir: .       # here\n                 # and not there\n"
             "run:\n  echo hi\n\n\n",
             {"name": "late", "workdir": ".", "run": "echo hi"}),
    Accepted('setup: set -u && bash <(curl -fs "https://a.example/${R}/s.sh")\n'
             "run: |\n  a \\\n    --b=$C\n  \n\n# end\n",
             {"setup": 'set -u && bash <(curl -fs "https://a.example/${R}/s.sh")', "run": "a \\\n  --b=$C\n"}),
    Accepted("run: |\n  cat > c.yaml <<EOF\n  a:\n    b: ${C}\n  # d\n  EOF\n  n=`wc -l`; x=${y::-1}\n#run: |\n#  z\n",
             {"run": "cat > c.yaml <<EOF\na:\n  b: ${C}\n# d\nEOF\nn=`wc -l`; x=${y::-1}\n"}),
    Accepted("run: | \n  # first\n  a\n \n    \n  b\n   \n", {"run": "# first\na\n\n  \nb\n \n"}),
    Accepted("file_mounts:\n  /code:\n    name: code\n", {"run": "", "ignored": ("file_mounts./code",)}),
    Accepted("run: x\nenvs:\n    A: 1\nresources:\n        cpus: 2\nfile_mounts: \n  ~/.ssh/key: ~/.ssh/key\n",
             {"envs": {"A": "1"}, "file_mounts": {"~/.ssh/key": "~/.ssh/key"}}),
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
    bad_kinds("[T4:1, {V100: }]", "not a mapping", "resources.accelerators[1]"),
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
    # ---- where in the clouds
    bad_need("infra: aws\n  region: us-east-1", "and region exclude each other (write infra alone"),
    bad_need("infra: aws\n  cloud: aws\n  zone: a", "and cloud exclude each other"),
    bad_need("infra: aws\n  any_of: [{region: e}]", "and region exclude each other", schema=False),
    bad_need("any_of: [{infra: gcp}]\n  cloud: aws", "exclude each other", "resources.any_of[0].infra", schema=False),
    bad_need("ordered: [{cpus: 2}, {infra: aws, zone: a}]", "exclude each other", "resources.ordered[1].infra"),
    bad_need("cloud: [aws, gcp]  # try", "must be text, not a list"),
    bad_need("ports: 9000-8000", "ports such as 8000-8010, a list or nothing, not '9000-8000'", schema=False),
    bad_need("ports: '0'", "not '0'", schema=False),
    bad_need("ports: [22, 1-70000]", "not '1-70000'", "resources.ports[1]", schema=False),
    # ---- fields that do not exist
    bad_need("acelerators: H100", "there is no such field (did you mean 'accelerators'?)"),
    bad_need("accelerator: H100", "(did you mean 'accelerators'?)"),
    bad_need("cpu: 4", "(did you mean 'cpus'?)"),
    bad_need("not_a_field:", "there is no such field"),
    bad_need("spot_recovery: FAILOVER", "(did you mean 'job_recovery'?)"),
    bad_need("num_nodes: 2", "there is no such field"),
    bad_need("disk_space: 200", "(did you mean 'disk_size'?)"),
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
    bad_field("task: {run: x}", "there is no such field"),
    bad_field("files: {a: b}", "there is no such field"),
    bad_field("storage: {name: b}", "there is no such field"),
    bad_field("slurm: {provision_timeout: 120}", "there is no such field"),
    bad_field("max_restarts_on_errors: 3", "there is no such field"),
    bad_field("apiVersion: v1", "there is no such field"),
    bad_field("file_mounts: {/a: {source: s3://b, endpoint_url: c}}", "no such field", "file_mounts./a.endpoint_url"),
    bad_field("file_mounts: {/a: {name: b, force_stores: [s3]}}", "no such field", "file_mounts./a.force_stores"),
    bad_field("service: {https: {key: a, cert: b}}", "there is no such field", "service.https"),
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
    bad_field("envs: {SKYPILOT_DOCKER_SERVER: r.example}", "all of them stand in one place",
              "envs.SKYPILOT_DOCKER_SERVER", schema=False),
    bad_field("envs: {SKYPILOT_DOCKER_USERNAME: a, SKYPILOT_DOCKER_SERVER: b}\nsecrets: {SKYPILOT_DOCKER_PASSWORD: c}",
              "or none (all under envs or secrets: ", "envs.SKYPILOT_DOCKER_SERVER", schema=False),
    bad_field("secrets: x", "must name variables"),
    bad_field("managed_secrets: [A]", "there is no store of secrets", "managed_secrets[0]", schema=False),
    bad_field("file_mounts: [a]", "must be a mapping"),
    bad_field("file_mounts: {/a: }", "must be a path, or an address in a cloud, not nothing", "file_mounts./a"),
    bad_field("file_mounts: {/a: ''}", "must be a path", "file_mounts./a"),  # SkyPilot: where `sky` is called
    Refused("run: x\nenvs: {D: ''}\nfile_mounts: {/a: $D}\n", 3, "file_mounts./a", "no path once its variables", False),
    Refused("run: x\nenvs: {D: ''}\nfile_mounts: {$D: /a}\n", 3, "file_mounts.$D", "(give them values: --env", False),
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
    # ---- services and pools
    bad_field("service: {readiness_probe: {}}", "must have a field 'path'", "service.readiness_probe"),
    bad_field("pool: {workers: 1}\nservice: {replicas: 1}", "exclude each other", schema=True),
    bad_field("service: {replicas: 1, replica_policy: }", "exclude each", "service.replica_policy", schema=False),
    bad_field("service: {replicas: 1, workers: 1}", "exclude each other", "service.workers", schema=False),
    bad_field("service: {pool: {workers: 1}, replicas: 1}", "and pool exclude", "service.replicas", schema=False),
    bad_field("service: {readiness_probe: up}", "begins with /, not 'up'", "service.readiness_probe", schema=False),
    bad_field("service: {readiness_probe: {path: up}}", "begins with /", "service.readiness_probe", schema=False),
    bad_field("service: {readiness_probe: {path: /, post_data: '{a'}}", "text in JSON",
              "service.readiness_probe.post_data", schema=False),
    bad_field("service: {replicas: 1, ports: 70000}", "from 1 to 65535", "service.ports"),
    bad_field("service: {replica_policy: {min_replicas: 2, max_replicas: 1}}", "min_replicas (2) or more, not 1",
              "service.replica_policy.max_replicas", schema=False),
    bad_field("service: {replica_policy: {min_replicas: 1, max_replicas: 2}}", "(add target_qps_per_replica)",
              "service.replica_policy", schema=False),
    bad_field("service: {replica_policy: {min_replicas: 2, target_qps_per_replica: 1}}", "needs max_replicas beside it",
              "service.replica_policy.target_qps_per_replica", schema=False),
    bad_field("service: {replica_policy: {min_replicas: 1, max_replicas: 1, target_qps_per_replica: {L4: 1}}}",
              "(write instance_aware_least_load)", "service.replica_policy.target_qps_per_replica", schema=False),
    bad_field("service: {load_balancing_policy: instance_aware_least_load}", "for each kind of GPU",
              "service.load_balancing_policy", schema=False),
    bad_field("pool: {}", "must have workers, or min_workers and max_workers", schema=False),
    bad_field("pool: {min_workers: 1}", "needs max_workers beside it", "pool.min_workers", schema=False),
    bad_field("pool: {workers: 1, queue_length_threshold: 2}", "needs max_workers beside it",
              "pool.queue_length_threshold", schema=False),
    bad_field("pool: {min_workers: 3, max_workers: 1}", "must be 3 or more", "pool.max_workers", schema=False),
    bad_field("pool: {workers: 5, max_workers: 3}", "must be 5 or more", "pool.max_workers", schema=False),
    bad_field("pool: {max_workers: 0}", "must be 1 or more", "pool.max_workers", schema=False),
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
    Refused("run: a\nfile_mounts:\n  /x:\n    name: b\n  /x: s3://b\n", 5, "", "'/x' stands here a second time", False),
    Refused("secrets: {A: b}\nrun: x\n\nsecrets: {}\n", 4, "", "'secrets' stands here a second time", schema=False),
    Refused("file_mounts:\n  /a:\n    name: {{bucket}}\n", 3, "", "a key must be a plain word", schema=False),
    Refused("run: |\n  x\n\nenvs:\n  A: 1\n\n4\n", 8, "", "could not find expected ':'", schema=False),
    Refused("run: a\n\n---\n\nname: second\nrun: b\n", None, "", "holds several tasks", schema=False),
    Refused("# c\n---\nname: g\nexecution: parallel\nprimary_tasks:\n  - a\n\n---\nname: a\nrun: x\n\n---\n"
            "name: b\n", 12, "", "holds several tasks", schema=False),
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
