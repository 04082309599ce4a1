"""What Kubernetes is given: fields that exist, rules of the operator, and options of real jobs.

The names and types below are those of KubeRay 1.6.2's API reference, as far as they are used here;
the rules are what its operator refuses.
"""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from homnet import __version__
from homnet_serve.config import ServiceConfig

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
JOBS_IN_IMAGE = "/opt/homnet/jobs/"
RAY_VERSION = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]

TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}
POSITIVE = {"type": "integer", "minimum": 1}
QUANTITIES = {
    "type": "object",
    "propertyNames": {"enum": ["cpu", "memory", "nvidia.com/gpu", "storage"]},
    # Numbers without quotes are floats for YAML and quantities of another kind for Kubernetes.
    "additionalProperties": {"type": "string", "pattern": r"^\d+(Gi|Mi)?$"},
}


def fields(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


CONTAINER = fields(
    ["name", "image", "resources", "securityContext", "volumeMounts"],
    name={"type": "string"},
    image={"type": "string"},
    resources=fields(["requests", "limits"], requests=QUANTITIES, limits=QUANTITIES),
    ports={
        "type": "array",
        "items": fields(["containerPort"], containerPort=POSITIVE, name={"type": "string"}),
    },
    securityContext=fields(
        ["allowPrivilegeEscalation", "capabilities"],
        allowPrivilegeEscalation={"const": False},
        capabilities={"const": {"drop": ["ALL"]}},
    ),
    volumeMounts={
        "type": "array",
        "items": fields(
            ["name", "mountPath"],
            name={"type": "string"},
            mountPath={"type": "string", "pattern": "^/"},
            readOnly={"type": "boolean"},
        ),
    },
)
POD = fields(
    ["spec"],
    spec=fields(
        ["containers", "securityContext", "volumes", "automountServiceAccountToken"],
        containers={"type": "array", "items": CONTAINER, "minItems": 1, "maxItems": 1},
        securityContext=fields(
            ["runAsNonRoot", "runAsUser", "fsGroup", "seccompProfile"],
            runAsNonRoot={"const": True},
            runAsUser=POSITIVE,
            runAsGroup=POSITIVE,
            fsGroup=POSITIVE,
            fsGroupChangePolicy={"enum": ["OnRootMismatch", "Always"]},
            seccompProfile={"const": {"type": "RuntimeDefault"}},
        ),
        volumes={"type": "array", "items": {"type": "object", "required": ["name"]}},
        automountServiceAccountToken={"const": False},
        restartPolicy={"enum": ["Always", "OnFailure", "Never"]},
        tolerations={"type": "array"},
        topologySpreadConstraints={"type": "array"},
    ),
)
RAY_CLUSTER = fields(
    ["rayVersion", "headGroupSpec", "workerGroupSpecs", "authOptions"],
    rayVersion={"type": "string"},
    authOptions=fields(
        ["mode"], mode={"enum": ["disabled", "token"]}, secretName={"type": "string"}
    ),
    enableInTreeAutoscaling={"type": "boolean"},
    gcsFaultToleranceOptions={"type": "object"},
    headGroupSpec=fields(
        ["rayStartParams", "template"],
        rayStartParams=TEXTS,
        serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
        template=POD,
    ),
    workerGroupSpecs={
        "type": "array",
        "items": fields(
            ["groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"],
            groupName={"type": "string"},
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            rayStartParams=TEXTS,
            template=POD,
        ),
    },
)
SPECS = {
    "RayCluster": RAY_CLUSTER,
    "RayJob": fields(
        ["entrypoint", "rayClusterSpec"],
        entrypoint={"type": "string"},
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        submitterConfig=fields(["backoffLimit"], backoffLimit=COUNT),
        backoffLimit=COUNT,
        activeDeadlineSeconds=POSITIVE,
        preRunningDeadlineSeconds=POSITIVE,
        shutdownAfterJobFinishes={"type": "boolean"},
        ttlSecondsAfterFinished=COUNT,
        runtimeEnvYAML={"type": "string"},
        rayClusterSpec=RAY_CLUSTER,
    ),
    "RayService": fields(
        ["serveConfigV2", "rayClusterConfig"],
        serveConfigV2={"type": "string"},
        upgradeStrategy=fields(
            ["type"], type={"enum": ["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]}
        ),
        rayClusterDeletionDelaySeconds=COUNT,
        excludeHeadPodFromServeSvc={"type": "boolean"},
        rayClusterConfig=RAY_CLUSTER,
    ),
}


def _read(name: str) -> dict[str, Any]:
    (document,) = yaml.safe_load_all((CLUSTER / name).read_text())
    return document


RAY_FILES = sorted(path.name for path in CLUSTER.glob("ray*.yaml"))
JOB_FILES = sorted(path.name for path in CLUSTER.glob("rayjob-*.yaml"))


def _cluster(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def _groups(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {group["groupName"]: group for group in _cluster(manifest)["workerGroupSpecs"]}


def _pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = _cluster(manifest)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def _limits(group: dict[str, Any]) -> dict[str, float]:
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    return {name: float(limits.get(name, 0)) for name in ("cpu", "nvidia.com/gpu")}


def test_all_kinds_are_here() -> None:
    assert [_read(name)["kind"] for name in RAY_FILES] == [
        "RayCluster",
        "RayJob",
        "RayJob",
        "RayJob",
        "RayService",
    ]
    assert {Path(name).stem for name in JOB_FILES} == {
        "rayjob-fine-tune",
        "rayjob-pretrain",
        "rayjob-tune",
    }


@pytest.mark.parametrize("name", RAY_FILES)
def test_manifests_have_only_fields_that_exist(name: str) -> None:
    manifest = _read(name)
    assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
    assert manifest["apiVersion"] == "ray.io/v1"
    # The operator makes names of services of it, which are limited to 63 letters.
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", manifest["metadata"]["name"])
    jsonschema.validate(manifest["spec"], SPECS[manifest["kind"]])


@pytest.mark.parametrize("name", RAY_FILES)
def test_what_the_operator_would_refuse(name: str) -> None:
    manifest = _read(name)
    spec, cluster = manifest["spec"], _cluster(manifest)
    assert cluster["rayVersion"] == RAY_VERSION, "token authentication needs the image's version"
    assert cluster["authOptions"] == {"mode": "token"}
    for group in cluster["workerGroupSpecs"]:
        # Without an autoscaler nothing moves between the bounds.
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"] >= 1
    if manifest["kind"] == "RayJob":
        assert spec["shutdownAfterJobFinishes"], "ttlSecondsAfterFinished needs it"
        assert spec["submissionMode"] != "SidecarMode" or "submitterConfig" not in spec
        yaml.safe_load(spec.get("runtimeEnvYAML", ""))


@pytest.mark.parametrize("name", RAY_FILES)
def test_pods_hold_together(name: str) -> None:
    claim = yaml.safe_load((CLUSTER / "storage.yaml").read_text())
    jsonschema.validate(claim["spec"]["resources"]["requests"], QUANTITIES)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in _pods(_read(name)):
        (container,) = pod["containers"]
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        shared = next(volume for volume in pod["volumes"] if volume["name"] == "shared")
        assert shared["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        device = "cuda" if "nvidia.com/gpu" in resources["limits"] else "cpu"
        assert container["image"] == f"homnet:{__version__}-{device}"
        assert (device == "cuda") == bool(pod.get("tolerations"))


@pytest.mark.parametrize("name", RAY_FILES)
def test_the_head_has_no_work_but_drivers(name: str) -> None:
    head = _cluster(_read(name))["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["serviceType"] == "ClusterIP"


def _resolved(name: str, tmp_path: Path) -> dict[str, Any]:
    """What the job makes of the entrypoint of a manifest."""
    words = shlex.split(_read(name)["spec"]["entrypoint"])
    assert words[0] == "python"
    assert words[1].startswith(JOBS_IN_IMAGE)
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "jobs" / words[1].removeprefix(JOBS_IN_IMAGE)),
            *words[2:],
            "--dry-run",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    config, _ = json.JSONDecoder().raw_decode(done.stdout)
    return config


@pytest.mark.parametrize("name", JOB_FILES)
def test_entrypoints_are_jobs_whose_resources_are_there(name: str, tmp_path: Path) -> None:
    config, groups = _resolved(name, tmp_path), _groups(_read(name))
    for key in ("cohort", "output", "checkpoint", "registry"):
        assert config.get(key, "/shared/").startswith("/shared/"), "all pods must see it"
    gpus = _limits(groups["gpu"])
    if "scaling" in config:
        scaling = config["scaling"]
        assert scaling["use_gpu"]
        num, cpus, share = scaling["num_workers"], scaling["cpus_per_worker"], 1.0
    else:
        share, cpus = config["gpus_per_trial"], config["cpus_per_trial"]
        assert config["max_concurrent"] == 0, "as many as fit"
        num = gpus["nvidia.com/gpu"] / share
    # All of them on the GPUs' node, none of its GPUs idle, and CPUs left for Ray's own actors.
    assert num * share == gpus["nvidia.com/gpu"]
    assert num * cpus <= gpus["cpu"]
    assert groups["data"]["replicas"] * _limits(groups["data"])["cpu"] >= 1


def test_jobs_have_the_same_cluster_but_for_its_size() -> None:
    def without_size(name: str) -> str:
        manifest = _read(name)
        for pod in _pods(manifest):
            pod["containers"][0].pop("resources")
        return json.dumps(_cluster(manifest), sort_keys=True)

    assert len({without_size(name) for name in JOB_FILES}) == 1


@pytest.mark.slow
def test_a_pre_training_feeds_fine_tuning(tmp_path: Path) -> None:
    pretrain = _resolved("rayjob-pretrain.yaml", tmp_path)
    tuned = _resolved("rayjob-fine-tune.yaml", tmp_path)
    service = yaml.safe_load(_read("rayservice.yaml")["spec"]["serveConfigV2"])
    assert tuned["checkpoint"] == f"{pretrain['output']}/checkpoint"
    assert service["applications"][0]["args"]["registry"] == tuned["registry"]


def test_the_endpoint_is_one_that_serve_takes_and_has_room() -> None:
    manifest = _read("rayservice.yaml")
    content = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    # Serve's own schema refuses unknown names.
    schema = ServeDeploySchema.model_validate(content)
    (application,) = schema.applications
    (deployment,) = application.deployments
    group = _groups(manifest)["endpoint"]
    each = deployment.ray_actor_options.num_cpus
    assert each == application.args["num_threads"]
    most = deployment.autoscaling_config["max_replicas"]
    # Replicas are not cut in two by the border of a pod.
    assert group["replicas"] * (_limits(group)["cpu"] // each) >= most
    assert (
        manifest["spec"]["rayClusterDeletionDelaySeconds"] > deployment.graceful_shutdown_timeout_s
    )
    for pod in _pods(manifest):
        (container,) = pod["containers"]
        assert {"containerPort": schema.http_options.port, "name": "serve"} in container["ports"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        for name in ("keys", "registry", "audit"):
            assert any(application.args[name].startswith(f"{mount}/") for mount in mounts)


def test_the_endpoint_is_that_of_the_laptop_but_for_what_a_cluster_changes() -> None:
    cluster = yaml.safe_load(_read("rayservice.yaml")["spec"]["serveConfigV2"])
    laptop = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())

    def parts(content: dict[str, Any]) -> dict[str, Any]:
        """Settings by their dotted names."""
        (application,) = content["applications"]
        (deployment,) = application["deployments"]
        flat = {key: value for key, value in content.items() if key != "applications"}
        flat |= {key: value for key, value in application.items() if key != "deployments"}
        named = {**flat, "deployment": deployment}
        return {
            f"{name}.{key}": inner
            for name, value in named.items()
            for key, inner in (value if isinstance(value, dict) else {"": value}).items()
        }

    ours, theirs = parts(cluster), parts(laptop)
    assert ours["import_path."] == theirs["import_path."] == "homnet_serve.deployment:app"
    differ = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
    assert differ == {
        # The pod's own address, and the places of the cluster's storage and secret.
        "http_options.host",
        "args.registry",
        "args.audit",
        "args.keys",
        # The default, which config.yaml names to explain it.
        "args.max_bags",
    }
    assert theirs["args.max_bags"] == ServiceConfig().max_bags
    assert theirs["deployment.autoscaling_config"]["min_replicas"] > 1


def test_the_image_has_what_the_manifests_run() -> None:
    lines = (CLUSTER / "Containerfile").read_text().splitlines()
    code = "\n".join(line for line in lines if not line.startswith("#"))
    allowed = (CLUSTER / "Containerfile.dockerignore").read_text().split()
    copied = [
        word
        for line in code.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert copied
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in allowed
    assert f"COPY jobs {JOBS_IN_IMAGE.rstrip('/')}" in code
    user = re.search(r"^USER (\d+)$", code, re.MULTILINE)
    pods = [pod for name in RAY_FILES for pod in _pods(_read(name))]
    assert {str(pod["securityContext"]["runAsUser"]) for pod in pods} == {user[1]}
    assert code.count("--constraint") == code.count("pip install")
    # All that a user can install, but for what only development needs.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (installed,) = re.findall(r"^ARG EXTRAS=(\S+)$", code, re.MULTILINE)
    assert installed.split(",") == [e for e in project["optional-dependencies"] if e != "dev"]
    # Where packages and images come from is the builder's to say.
    assert not re.findall(r"https?://|\b[\w-]+\.(?:com|org|io|net)\b", code.replace("homnet", ""))
    (python,) = re.findall(r"ARG PYTHON=(\S+)", code)
    assert tuple(map(int, python.split("."))) >= (3, 11)
