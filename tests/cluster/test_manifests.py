"""What Kubernetes is given: fields that exist, rules of the operator, and options of real jobs.

The names and types below are those of KubeRay 1.7's API reference, as far as they are used here;
the rules are what its operator refuses.
"""

import functools
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.dashboard
import yaml
from ray.serve.schema import ServeDeploySchema

from homnet import __version__
from homnet_platform.bag_stream import READER_CPUS
from homnet_serve.config import ServiceConfig
from homnet_serve.deployment import unknown_names

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


RIGHTS: dict[str, Any] = {
    "resources": fields(["requests", "limits"], requests=QUANTITIES, limits=QUANTITIES),
    "securityContext": fields(
        ["allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem"],
        allowPrivilegeEscalation={"const": False},
        readOnlyRootFilesystem={"const": True},
        capabilities={"const": {"drop": ["ALL"]}},
    ),
    "volumeMounts": {
        "type": "array",
        "items": fields(
            ["name", "mountPath"],
            name={"type": "string"},
            mountPath={"type": "string", "pattern": "^/"},
            readOnly={"type": "boolean"},
        ),
    },
}
"""What every container must say, whoever adds it to a pod."""
CONTAINER = fields(
    ["name", "image", *RIGHTS],
    name={"type": "string"},
    image={"type": "string"},
    ports={
        "type": "array",
        "items": fields(["containerPort"], containerPort=POSITIVE, name={"type": "string"}),
    },
    **RIGHTS,
)
VOLUME = {
    "oneOf": [
        fields(["name", kind], name={"type": "string"}, **{kind: shape})
        for kind, shape in {
            "persistentVolumeClaim": fields(["claimName"], claimName={"type": "string"}),
            # Without a limit it fills the node.
            "emptyDir": fields(["sizeLimit"], sizeLimit={"type": "string", "pattern": r"^\d+Gi$"}),
            "secret": fields(["secretName"], secretName={"type": "string"}),
            # Rights on the Kubernetes API, short-lived.
            "projected": fields(["sources"], sources={"type": "array", "minItems": 1}),
        }.items()
    ]
}
POD = fields(
    ["spec"],
    metadata=fields(["labels"], labels=TEXTS),
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
        volumes={"type": "array", "items": VOLUME},
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
    autoscalerOptions=fields(
        ["version", "idleTimeoutSeconds", *RIGHTS],
        version={"const": "v2"},
        idleTimeoutSeconds=COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        **RIGHTS,
    ),
    gcsFaultToleranceOptions={
        "oneOf": [
            fields(
                ["redisAddress", "redisPassword"],
                backend={"const": "redis"},
                redisAddress={"type": "string"},
                # By reference: a value would stand in the manifest.
                redisPassword=fields(["valueFrom"], valueFrom={"type": "object"}),
            ),
            fields(
                ["backend", "storage"],
                backend={"const": "rocksdb"},
                storage=fields(["size"], size={"type": "string"}),
            ),
        ]
    },
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
            idleTimeoutSeconds=COUNT,
            rayStartParams=TEXTS,
            template=POD,
        ),
    },
)
SPECS = {
    "RayCluster": RAY_CLUSTER,
    "RayJob": fields(
        ["entrypoint", "rayClusterSpec", "submitterPodTemplate"],
        entrypoint={"type": "string"},
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        submitterConfig=fields(["backoffLimit"], backoffLimit=COUNT),
        submitterPodTemplate=POD,
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


@functools.cache
def _text(name: str) -> str:
    """A manifest, or what a folder with a kustomization makes of one."""
    if (CLUSTER / name).is_file():
        return (CLUSTER / name).read_text()
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl, which builds the manifest, is not installed")
    command = ["kubectl", "kustomize", str(CLUSTER / name)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _read(name: str) -> dict[str, Any]:
    (document,) = yaml.safe_load_all(_text(name))
    return document


SERVICES = {"endpoint/rayservice.yaml": "config.yaml", "endpoint-gpu": "config-gpu.yaml"}
"""Endpoints, and the file in serve/ that each of them follows."""
JOB_FILES = sorted(path.name for path in CLUSTER.glob("rayjob-*.yaml"))
RAY_FILES = ["raycluster.yaml", *JOB_FILES, *SERVICES]


def _cluster(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def _groups(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {group["groupName"]: group for group in _cluster(manifest)["workerGroupSpecs"]}


def _pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Specs of Ray's pods, the head first."""
    cluster = _cluster(manifest)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def _all_pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    submitter = manifest["spec"].get("submitterPodTemplate")
    return [*_pods(manifest), *([submitter["spec"]] if submitter else [])]


def _limits(group: dict[str, Any]) -> dict[str, float]:
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    return {name: float(limits.get(name, 0)) for name in ("cpu", "nvidia.com/gpu")}


def test_all_kinds_are_here() -> None:
    files = {str(path.relative_to(CLUSTER)) for path in CLUSTER.rglob("ray*.yaml")}
    assert files == {*RAY_FILES} - {"endpoint-gpu"}
    kinds = ["RayCluster", "RayJob", "RayJob", "RayJob", "RayService", "RayService"]
    assert [_read(name)["kind"] for name in RAY_FILES] == kinds
    assert JOB_FILES == ["rayjob-fine-tune.yaml", "rayjob-pretrain.yaml", "rayjob-tune.yaml"]


@pytest.mark.parametrize("folder", ["endpoint", "endpoint-gpu"])
def test_what_kustomize_builds_is_the_one_endpoint(folder: str) -> None:
    assert _read(folder)["metadata"] == _read("endpoint/rayservice.yaml")["metadata"]


@pytest.mark.parametrize("name", RAY_FILES)
def test_manifests_have_only_fields_that_exist(name: str) -> None:
    manifest = _read(name)
    assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
    assert manifest["apiVersion"] == "ray.io/v1"
    # The operator makes names of services of it, which are limited to 63 letters.
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", manifest["metadata"]["name"])


SECRET_OF = {"homnet-api-keys": "endpoint", "homnet-audit-key": "endpoint"}
"""The one group of pods that reads a secret."""
CLAIM_OF = {"homnet-audit": "endpoint"}
"""The one group of pods that mounts a claim; all pods mount the others."""


def _problems(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with the rights of a manifest's pods."""
    validator = jsonschema.Draft202012Validator(SPECS[manifest["kind"]])
    found = [error.message for error in validator.iter_errors(manifest["spec"])]
    if found:
        return found
    names = ["head", *_groups(manifest), "submitter"]
    autoscaler = _cluster(manifest).get("autoscalerOptions", {"volumeMounts": []})
    beside = {mount["name"]: mount for mount in autoscaler["volumeMounts"]}
    for group, pod in zip(names, _all_pods(manifest), strict=False):
        (container,) = pod["containers"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        # KubeRay puts the autoscaler into the head's pod.
        if set(volumes) != {*mounts, *(beside if group == "head" else ())}:
            found.append(f"{group}: a volume is mounted nowhere, or a mount has no volume")
            continue
        if any("projected" in volumes[name] for name in mounts):
            found.append(f"{group}: rights on the Kubernetes API")
        if group == "head" and beside:
            tokens = {name for name in beside if "projected" in volumes[name]}
            where = {beside[name]["mountPath"] for name in tokens}
            if where != {"/var/run/secrets/kubernetes.io/serviceaccount"}:
                found.append("autoscaler: no rights on the Kubernetes API")
            if "/tmp" not in {mount["mountPath"] for mount in beside.values()}:
                found.append("autoscaler: /tmp cannot be written")
            # Else KubeRay adds this volume without a limit.
            if mounts.get("ray-logs", {}).get("mountPath") != "/tmp/ray":
                found.append("head: logs without a limit")
        if not any(
            "emptyDir" in volumes[name] and mount["mountPath"] == "/tmp"
            for name, mount in mounts.items()
        ):
            found.append(f"{group}: /tmp cannot be written")
        for name, volume in volumes.items():
            if "secret" in volume and SECRET_OF.get(volume["secret"]["secretName"]) != group:
                found.append(f"{group}: a secret that it does not use")
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if CLAIM_OF.get(claim, group) != group:
                found.append(f"{group}: a claim that it does not use")
            if "secret" in volume and not mounts[name].get("readOnly"):
                found.append(f"{group}: a secret that it could change")
        if container["resources"]["requests"] != container["resources"]["limits"]:
            found.append(f"{group}: requests are not limits")
        if not re.fullmatch(rf"homnet:{re.escape(__version__)}-(cpu|cuda)", container["image"]):
            found.append(f"{group}: an image of no version")
    return found


@pytest.mark.parametrize("name", RAY_FILES)
def test_pods_have_the_rights_that_they_need_and_no_others(name: str) -> None:
    assert _problems(_read(name)) == []


def _set(part: Any, keys: list[Any], value: Any) -> None:
    """Changes what is at the keys; None removes it."""
    *path, last = keys
    for key in path:
        part = part[key]
    if value is None:
        del part[last]
    else:
        part[last] = value


KEYS_VOLUME = {"name": "keys", "secret": {"secretName": "homnet-api-keys"}}
KEYS_MOUNT = {"name": "keys", "mountPath": "/etc/homnet"}


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["securityContext", "runAsNonRoot"], False),
        (["securityContext", "runAsUser"], 0),
        (["securityContext", "seccompProfile"], {"type": "Unconfined"}),
        (["securityContext", "seccompProfile"], None),
        (["automountServiceAccountToken"], True),
        (["hostNetwork"], True),
        (["containers", 0, "securityContext", "readOnlyRootFilesystem"], False),
        (["containers", 0, "securityContext", "readOnlyRootFilesystem"], None),
        (["containers", 0, "securityContext", "allowPrivilegeEscalation"], True),
        (["containers", 0, "securityContext", "privileged"], True),
        (["containers", 0, "securityContext", "capabilities"], {"drop": []}),
        (["containers", 0, "resources", "limits"], {"cpu": "99", "memory": "1Gi"}),
        (["containers", 0, "resources"], None),
        (["containers", 0, "image"], "homnet:latest"),
        (["containers", 0, "env"], [{"name": "HOMNET_API_KEYS", "value": "secret"}]),
        (["containers", 0, "volumeMounts", 0, "mountPath"], "/var"),
        (["volumes", 0], {"name": "scratch", "emptyDir": {}}),
        (["volumes", 0], {"name": "scratch", "hostPath": {"path": "/"}}),
    ],
)
@pytest.mark.parametrize("name", RAY_FILES)
def test_a_right_too_many_is_found_in_every_pod(name: str, keys: list[Any], value: Any) -> None:
    for number in range(len(_all_pods(_read(name)))):
        # YAML's aliases are one object here: the copy has none, so that one pod alone is broken.
        manifest = json.loads(json.dumps(_read(name)))
        pod = _all_pods(manifest)[number]
        for where in (pod["volumes"], pod["containers"][0]["volumeMounts"]):
            where.sort(key=lambda one: one["name"] != "scratch")
        assert _problems(manifest) == []
        _set(pod, keys, value)
        assert _problems(manifest)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["version"], "v1"),
        (["securityContext"], None),
        (["securityContext", "readOnlyRootFilesystem"], False),
        (["resources"], None),
        (["volumeMounts"], []),
        (["volumeMounts", 0, "mountPath"], "/var"),
        (["volumeMounts", 1, "mountPath"], "/token"),
        (["image"], "ray:latest"),
    ],
)
def test_an_autoscaler_with_too_many_or_too_few_rights_is_found(
    keys: list[Any], value: Any
) -> None:
    manifest = json.loads(json.dumps(_read("raycluster.yaml")))
    _set(manifest["spec"]["autoscalerOptions"], keys, value)
    assert _problems(manifest)


def test_drivers_of_jobs_have_no_rights_on_the_kubernetes_api() -> None:
    manifest = json.loads(json.dumps(_read("raycluster.yaml")))
    token = manifest["spec"]["autoscalerOptions"]["volumeMounts"][1]
    _pods(manifest)[0]["containers"][0]["volumeMounts"].append(token)
    assert _problems(manifest) == ["head: rights on the Kubernetes API"]


@pytest.mark.parametrize("name", RAY_FILES)
def test_a_secret_elsewhere_than_where_it_is_used_is_found(name: str) -> None:
    manifest = json.loads(json.dumps(_read(name)))
    head = _pods(manifest)[0]
    head["volumes"].append(KEYS_VOLUME)
    head["containers"][0]["volumeMounts"].append({**KEYS_MOUNT, "readOnly": True})
    assert _problems(manifest) == ["head: a secret that it does not use"]


@pytest.mark.parametrize("name", RAY_FILES)
def test_an_audit_log_that_drivers_of_jobs_could_change_is_found(name: str) -> None:
    manifest = json.loads(json.dumps(_read(name)))
    head = _pods(manifest)[0]
    claim = {"name": "audit", "persistentVolumeClaim": {"claimName": "homnet-audit"}}
    head["volumes"].append(claim)
    head["containers"][0]["volumeMounts"].append({"name": "audit", "mountPath": "/audit"})
    assert _problems(manifest) == ["head: a claim that it does not use"]


@pytest.mark.parametrize("name", SERVICES)
def test_the_audit_log_lies_on_its_own_claim_and_has_a_key(name: str) -> None:
    claim = yaml.safe_load((CLUSTER / "audit.yaml").read_text())
    assert claim["kind"] == "PersistentVolumeClaim"
    # Replicas on several nodes write at once.
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    (application,) = yaml.safe_load(_read(name)["spec"]["serveConfigV2"])["applications"]
    pod = _groups(_read(name))["endpoint"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}

    def volume_of(path: str) -> dict[str, Any]:
        (mount,) = (
            one
            for one in pod["containers"][0]["volumeMounts"]
            if path.startswith(f"{one['mountPath']}/")
        )
        return volumes[mount["name"]]

    audit = volume_of(application["args"]["audit"])
    assert audit["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
    assert CLAIM_OF[claim["metadata"]["name"]] == "endpoint"
    key = volume_of(application["args"]["audit_key"])
    assert key["secret"] == {"secretName": "homnet-audit-key"}


def _allowed(policy: dict[str, Any], way: str) -> set[tuple[str, int | None]]:
    """Peers and ports that a policy lets through."""
    peer_key = {"ingress": "from", "egress": "to"}[way]
    return {
        (json.dumps(peer, sort_keys=True), port["port"] if port else None)
        for rule in policy["spec"][way]
        for peer in rule[peer_key]
        for port in rule.get("ports", [None])
    }


def _check_network(text: str) -> None:
    """Fails unless the policies let through what is needed and no more."""
    ray, submitter, autoscaler, redis = yaml.safe_load_all(text)
    nodes = {"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}
    jobs = {"podSelector": {"matchLabels": {"homnet": "submitter"}}}
    system = {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    dns = json.dumps({"namespaceSelector": system}, sort_keys=True)
    for policy, of in ((ray, nodes), (submitter, jobs)):
        assert policy["kind"] == "NetworkPolicy"
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert {"podSelector": policy["spec"]["podSelector"]} == of
    assert _allowed(submitter, "ingress") == set()
    assert _allowed(submitter, "egress") == {(json.dumps(nodes), 8265), (dns, 53)}
    store = {"podSelector": {"matchLabels": {"homnet": "redis"}}}
    assert _allowed(ray, "egress") == {
        (json.dumps(nodes), None),
        (json.dumps(store), 6379),
        (dns, 53),
    }
    came = _allowed(ray, "ingress")
    assert {one for one in came if one[1] is None} == {(json.dumps(nodes), None)}
    watching = {"namespaceSelector": {"matchLabels": {"homnet-metrics": "yes"}}}
    for metrics in (8080, 44217):
        assert {peer for peer, port in came if port == metrics} == {json.dumps(watching)}
    assert {port for _, port in came} == {None, 8265, 8000, 8080, 44217}
    assert (json.dumps(jobs), 8265) in came
    # One address, which the operator puts in, and the head's pod only.
    assert autoscaler["spec"]["podSelector"] == {"matchLabels": {"ray.io/node-type": "head"}}
    assert autoscaler["spec"]["policyTypes"] == ["Egress"]
    api = json.dumps({"ipBlock": {"cidr": "192.0.2.1/32"}})
    assert _allowed(autoscaler, "egress") == {(api, 443), (api, 6443)}
    assert {"podSelector": redis["spec"]["podSelector"]} == store
    assert redis["spec"]["policyTypes"] == ["Ingress", "Egress"]
    (heads,) = {peer for peer, port in _allowed(redis, "ingress") if port == 6379}
    assert json.loads(heads)["podSelector"]["matchExpressions"][0]["values"] == [
        "head",
        "redis-cleanup",
    ]
    assert redis["spec"]["egress"] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]"),
        ('{ray.io/is-ray-node: "yes"}', "{}"),
        ("- from: [{podSelector: *ray}]", "- from: [{podSelector: {}}]"),
        (
            "- to: [{podSelector: *ray}]",
            "- to: [{podSelector: *ray}, {ipBlock: {cidr: 0.0.0.0/0}}]",
        ),
        ("ports: [{port: 8000}]", "ports: [{port: 8000}, {port: 10001}]"),
        ("      ports: [{port: 8265}]\n", ""),
        ("  ingress: []", "  ingress: [{from: [{podSelector: {}}]}]"),
        ("homnet: submitter", "homnet: other"),
        ('{homnet-metrics: "yes"}', "{}"),
        ("cidr: 192.0.2.1/32", "cidr: 0.0.0.0/0"),
        ("ray.io/node-type: head", "ray.io/node-type: worker"),
        ("values: [head, redis-cleanup]", "values: [head, worker]"),
        ("{homnet: redis}", "{}"),
        ("  egress: []", "  egress: [{to: [{podSelector: {}}]}]"),
    ],
)
def test_the_network_lets_through_what_is_needed_and_no_more(old: str, new: str) -> None:
    text = (CLUSTER / "network.yaml").read_text()
    _check_network(text)
    assert old in text
    with pytest.raises(AssertionError):
        _check_network(text.replace(old, new))


@pytest.mark.parametrize("name", JOB_FILES)
def test_the_network_knows_the_pod_that_submits(name: str) -> None:
    template = _read(name)["spec"]["submitterPodTemplate"]
    assert template["metadata"]["labels"] == {"homnet": "submitter"}


def _operator_problems(manifest: dict[str, Any]) -> list[str]:
    """What KubeRay would refuse, or would run otherwise than it is meant."""
    spec, cluster, kind = manifest["spec"], _cluster(manifest), manifest["kind"]
    found = []
    if cluster["rayVersion"] != RAY_VERSION:
        found.append("token authentication needs the image's version")
    if cluster["authOptions"] != {"mode": "token"}:
        found.append("no token")
    grows = cluster["enableInTreeAutoscaling"]
    if grows != ("autoscalerOptions" in cluster):
        found.append("options of an autoscaler that is not there, or an autoscaler without options")
    for group in cluster["workerGroupSpecs"]:
        name, gpus = group["groupName"], _limits(group)["nvidia.com/gpu"]
        least, now, most = (group[key] for key in ("minReplicas", "replicas", "maxReplicas"))
        if not grows and not least == now == most >= 1:
            found.append(f"{name}: nothing moves between the bounds without an autoscaler")
        if grows and not (least == now < most and (least == 0) == (gpus > 0)):
            found.append(f"{name}: GPUs start at zero, and one pod without any stays")
        if not grows and "idleTimeoutSeconds" in group:
            found.append(f"{name}: a time for an autoscaler that is not there")
    if grows and any(pod.get("restartPolicy", "Never") != "Never" for pod in _pods(manifest)):
        found.append("autoscaler v2 wants pods that are not restarted")
    # A job gets a new cluster; what stays must outlive its head.
    if ("gcsFaultToleranceOptions" in cluster) != (kind != "RayJob"):
        found.append("a head that takes the cluster with it, or a state that nobody continues from")
    if kind == "RayJob":
        if not spec["shutdownAfterJobFinishes"]:
            found.append("ttlSecondsAfterFinished needs shutdownAfterJobFinishes")
        if spec["submissionMode"] == "SidecarMode" and "submitterConfig" in spec:
            found.append("SidecarMode has no pod that submits")
    return found


@pytest.mark.parametrize("name", RAY_FILES)
def test_what_the_operator_would_refuse(name: str) -> None:
    manifest = _read(name)
    assert _operator_problems(manifest) == []
    yaml.safe_load(manifest["spec"].get("runtimeEnvYAML", ""))


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        ("raycluster.yaml", ["rayVersion"], "2.0.0"),
        ("raycluster.yaml", ["authOptions", "mode"], "disabled"),
        ("raycluster.yaml", ["enableInTreeAutoscaling"], False),
        ("raycluster.yaml", ["autoscalerOptions"], None),
        ("raycluster.yaml", ["gcsFaultToleranceOptions"], None),
        ("raycluster.yaml", ["workerGroupSpecs", 0, "minReplicas"], 0),
        ("raycluster.yaml", ["workerGroupSpecs", 1, "minReplicas"], 1),
        ("raycluster.yaml", ["workerGroupSpecs", 1, "maxReplicas"], 0),
        ("raycluster.yaml", ["headGroupSpec", "template", "spec", "restartPolicy"], "Always"),
        ("endpoint/rayservice.yaml", ["gcsFaultToleranceOptions"], None),
        ("endpoint-gpu", ["workerGroupSpecs", 0, "maxReplicas"], 9),
        ("endpoint-gpu", ["workerGroupSpecs", 0, "idleTimeoutSeconds"], 60),
        ("rayjob-tune.yaml", ["gcsFaultToleranceOptions"], {"redisAddress": "redis:6379"}),
    ],
)
def test_what_the_operator_would_refuse_is_found(name: str, keys: list[Any], value: Any) -> None:
    manifest = json.loads(json.dumps(_read(name)))
    _set(_cluster(manifest), keys, value)
    assert _operator_problems(manifest)


@pytest.mark.parametrize(
    "options",
    [
        {"redisAddress": "redis:6379", "redisPassword": {"value": "secret"}},
        {"redisAddress": "redis:6379"},
        {"backend": "rocksdb", "storage": {"size": "10Gi"}, "redisAddress": "redis:6379"},
        {"backend": "rocksdb"},
    ],
)
def test_a_state_that_is_kept_nowhere_or_openly_is_found(options: dict[str, Any]) -> None:
    manifest = json.loads(json.dumps(_read("raycluster.yaml")))
    manifest["spec"]["gcsFaultToleranceOptions"] = options
    assert _problems(manifest)
    manifest["spec"]["gcsFaultToleranceOptions"] = {
        "backend": "rocksdb",
        "storage": {"size": "1Gi"},
    }
    assert _problems(manifest) == []


def _check_redis(text: str) -> None:
    """Fails unless the store is what heads ask, keeps what it is told, and has no rights."""
    service, store = yaml.safe_load_all(text)
    pod, labels = store["spec"]["template"]["spec"], {"homnet": "redis"}
    container = dict(pod["containers"][0])
    for name in ("raycluster.yaml", "endpoint/rayservice.yaml", "endpoint-gpu"):
        options = _cluster(_read(name))["gcsFaultToleranceOptions"]
        (port,) = service["spec"]["ports"]
        assert options["redisAddress"] == f"{service['metadata']['name']}:{port['port']}"
        (secret,) = container["env"]
        assert secret["valueFrom"] == options["redisPassword"]["valueFrom"]
    assert service["spec"]["selector"] == labels == store["spec"]["template"]["metadata"]["labels"]
    assert store["spec"]["selector"] == {"matchLabels": labels}
    arguments = container.pop("args")
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert given.get("--requirepass") == f"$({secret['name']})"
    (claim,) = store["spec"]["volumeClaimTemplates"]
    (mount,) = container["volumeMounts"]
    assert (mount["name"], mount["mountPath"]) == (claim["metadata"]["name"], given["--dir"])
    assert given["--appendonly"] == "yes"
    assert store["spec"]["replicas"] == 1
    assert re.search(r":\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?$", container["image"])
    del container["env"], container["command"]
    jsonschema.validate({"spec": {**pod, "containers": [container], "volumes": []}}, POD)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    - port: 6379", "    - port: 6380"),
        ("key: password}", "key: token}"),
        ("            - --requirepass\n            - $(PASSWORD)\n", ""),
        ("mountPath: /data", "mountPath: /var"),
        ('- "yes"', '- "no"'),
        ("replicas: 1", "replicas: 3"),
        ("valkey:8.1.4", "valkey:latest"),
        ("runAsUser: 1000", "runAsUser: 0"),
        ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
        ("automountServiceAccountToken: false", "automountServiceAccountToken: true"),
    ],
)
def test_the_state_of_heads_is_kept(old: str, new: str) -> None:
    text = (CLUSTER / "redis.yaml").read_text()
    _check_redis(text)
    assert old in text
    with pytest.raises((AssertionError, ValueError, jsonschema.ValidationError)):
        _check_redis(text.replace(old, new))


def _check_monitor(text: str) -> None:
    """Fails unless Prometheus finds every port with metrics and the network lets it in."""
    (monitor,) = yaml.safe_load_all(text)
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["kind"] == "PodMonitor"
    spec = monitor["spec"]
    # KubeRay adds the port of this name to each of its pods.
    ports = {"metrics": 8080}
    for pod in (_pods(_read(name))[0] for name in RAY_FILES):
        ports |= {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    ray = next(yaml.safe_load_all((CLUSTER / "network.yaml").read_text()))
    assert spec["selector"] == ray["spec"]["podSelector"]
    assert [one["port"] for one in spec["podMetricsEndpoints"]] == ["metrics", "as-metrics"]
    watching = json.dumps({"namespaceSelector": {"matchLabels": {"homnet-metrics": "yes"}}})
    for one in spec["podMetricsEndpoints"]:
        assert (watching, ports[one["port"]]) in _allowed(ray, "ingress")
        (label,) = one["relabelings"]
        assert label["targetLabel"] == "ray_io_cluster"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ray.io/is-ray-node", "app"),
        ("port: as-metrics", "port: dashboard"),
        ("port: metrics", "port: prometheus"),
        ("targetLabel: ray_io_cluster", "targetLabel: cluster"),
        ("kind: PodMonitor", "kind: ServiceMonitor"),
    ],
)
def test_prometheus_finds_every_pod(old: str, new: str) -> None:
    text = (CLUSTER / "monitoring.yaml").read_text()
    _check_monitor(text)
    assert old in text
    with pytest.raises((AssertionError, KeyError)):
        _check_monitor(text.replace(old, new))


@functools.cache
def _exported() -> tuple[frozenset[str], frozenset[str]]:
    """Metrics that Ray's own dashboards ask for and those of the endpoint; labels of both."""
    theirs = Path(ray.dashboard.__file__).parent / "modules" / "metrics" / "dashboards"
    panels = "".join(path.read_text() for path in theirs.glob("*.py"))
    source = (ROOT / "serve/homnet_serve/metrics.py").read_text()
    ours = re.findall(r'"(homnet_\w+)"', source)
    names = {f"ray_{name}{end}" for name in ours for end in ("", "_total", "_bucket")}
    groups = ",".join(re.findall(r"by \(([\w, ]*)\)", panels))
    return (
        frozenset(names | set(re.findall(r"\b(?:ray|autoscaler)_\w+", panels))),
        frozenset([*re.findall(r"\w+", groups), *re.findall(r'"(\w+)"', source)]),
    )


def _dashboard_problems(text: str) -> list[str]:
    """What Grafana would show nothing for."""
    dashboard = json.loads(text)
    (names, labels), found = _exported(), []
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(set(ids)) != len(ids):
        found.append("two panels have one number")
    if [one["name"] for one in dashboard["templating"]["list"]] != ["datasource", "cluster"]:
        found.append("a variable is missing")
    for panel in panels:
        for target in panel["targets"]:
            query, legend = target["expr"], target["legendFormat"]
            chosen = re.findall(r"(\w+)\{([^}]*)\}", query)
            found += [f"{name} is exported by nobody" for name, _ in chosen if name not in names]
            if not chosen or any('ray_io_cluster=~"$cluster"' not in by for _, by in chosen):
                found.append(f"{panel['title']}: all clusters together")
            grouped = set(re.findall(r"\w+", "".join(re.findall(r"by \(([^)]*)\)", query))))
            found += [f"{label} is a label of nothing" for label in grouped - labels - {"le"}]
            if not set(re.findall(r"{{(\w+)}}", legend)) <= grouped:
                found.append(f"{panel['title']}: a legend of what is summed over")
            if query.count("(") != query.count(")"):
                found.append(f"{panel['title']}: brackets")
            if panel["datasource"]["uid"] != "${datasource}":
                found.append(f"{panel['title']}: the data of one Grafana only")
    return found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ray_data_output_rows{", "ray_data_output_lines{"),
        ("ray_homnet_requests_total{", "ray_homnet_answers_total{"),
        ("autoscaler_active_nodes{", "autoscaler_nodes{"),
        ('{ray_io_cluster=~\\"$cluster\\"}', "{}"),
        ("{{status}}", "{{route}}"),
        ("(le, step)", "(le, steps)"),
        ("operator", "stage"),
        ("[5m]))", "[5m])"),
        ("${datasource}", "prometheus-1"),
        ('"id": 3,', '"id": 2,'),
        ('"name": "cluster"', '"name": "instance"'),
    ],
)
def test_the_dashboard_shows_what_is_exported(old: str, new: str) -> None:
    text = (CLUSTER / "grafana-dashboard.json").read_text()
    assert _dashboard_problems(text) == []
    assert old in text
    assert _dashboard_problems(text.replace(old, new))


@pytest.mark.parametrize("name", RAY_FILES)
def test_pods_hold_together(name: str) -> None:
    claim = yaml.safe_load((CLUSTER / "storage.yaml").read_text())
    jsonschema.validate(claim["spec"]["resources"]["requests"], QUANTITIES)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in _pods(_read(name)):
        (container,) = pod["containers"]
        shared = next(volume for volume in pod["volumes"] if volume["name"] == "shared")
        assert shared["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
        device = "cuda" if "nvidia.com/gpu" in container["resources"]["limits"] else "cpu"
        assert container["image"] == f"homnet:{__version__}-{device}"
        assert (device == "cuda") == bool(pod.get("tolerations"))


@pytest.mark.parametrize("name", RAY_FILES)
def test_the_head_has_no_work_but_drivers(name: str) -> None:
    head = _cluster(_read(name))["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["serviceType"] == "ClusterIP"


@pytest.fixture(scope="module")
def resolved(
    run_job: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, Any]]:
    """What the job makes of the entrypoint of a manifest."""

    @functools.cache
    def resolve(name: str) -> dict[str, Any]:
        words = shlex.split(_read(name)["spec"]["entrypoint"])
        assert words[0] == "python"
        assert words[1].startswith(JOBS_IN_IMAGE)
        job = words[1].removeprefix(JOBS_IN_IMAGE)
        done = run_job(tmp_path_factory.mktemp("resolved"), job, *words[2:], "--dry-run")
        assert done.returncode == 0, done.stdout + done.stderr
        config, _ = json.JSONDecoder().raw_decode(done.stdout)
        return config

    return resolve


@pytest.mark.parametrize("name", JOB_FILES)
def test_entrypoints_are_jobs_whose_resources_are_there(
    name: str, resolved: Callable[[str], dict[str, Any]]
) -> None:
    config, groups = resolved(name), _groups(_read(name))
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
    assert groups["data"]["replicas"] * _limits(groups["data"])["cpu"] >= READER_CPUS


def test_jobs_have_the_same_cluster_but_for_its_size() -> None:
    def without_size(name: str) -> str:
        manifest = _read(name)
        for pod in _pods(manifest):
            pod["containers"][0].pop("resources")
        return json.dumps(_cluster(manifest), sort_keys=True)

    assert len({without_size(name) for name in JOB_FILES}) == 1


def test_a_pre_training_feeds_fine_tuning(resolved: Callable[[str], dict[str, Any]]) -> None:
    pretrain, tuned = resolved("rayjob-pretrain.yaml"), resolved("rayjob-fine-tune.yaml")
    service = yaml.safe_load(_read("endpoint/rayservice.yaml")["spec"]["serveConfigV2"])
    assert tuned["checkpoint"] == f"{pretrain['output']}/checkpoint"
    assert service["applications"][0]["args"]["registry"] == tuned["registry"]


@pytest.mark.parametrize("name", SERVICES)
def test_the_endpoint_is_one_that_serve_takes_and_has_room(name: str) -> None:
    manifest = _read(name)
    content = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    # Serve's own schema ignores unknown names.
    assert unknown_names(content) == []
    schema = ServeDeploySchema.model_validate(content)
    (application,) = schema.applications
    (deployment,) = application.deployments
    group = _groups(manifest)["endpoint"]
    options, limits = deployment.ray_actor_options, _limits(group)
    on_gpus = application.args.get("device") == "cuda"
    assert on_gpus == bool(limits["nvidia.com/gpu"])
    assert on_gpus or options.num_cpus == application.args["num_threads"]
    most = deployment.autoscaling_config["max_replicas"]
    # Replicas are not cut in two by the border of a pod, and no GPU is paid for in vain.
    fitting = limits["cpu"] // options.num_cpus
    if on_gpus:
        assert fitting >= limits["nvidia.com/gpu"] / options.num_gpus
        fitting = limits["nvidia.com/gpu"] // options.num_gpus
    assert group["replicas"] * fitting == most
    assert 1 < group["replicas"] <= deployment.autoscaling_config["min_replicas"]
    assert (
        manifest["spec"]["rayClusterDeletionDelaySeconds"] > deployment.graceful_shutdown_timeout_s
    )
    head, *workers = _pods(manifest)
    for pod in (head, *workers):
        (container,) = pod["containers"]
        assert {"containerPort": schema.http_options.port, "name": "serve"} in container["ports"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        # The head has no CPU for a replica, which alone reads the keys and writes the audit log.
        replica = ("registry", "keys", "audit", "audit_key")
        for key in replica[:1] if pod is head else replica:
            assert any(application.args[key].startswith(f"{mount}/") for mount in mounts)


def test_the_pods_on_cpus_have_the_memory_that_replicas_were_seen_with() -> None:
    (container,) = _groups(_read("endpoint"))["endpoint"]["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    load = json.loads((ROOT / "results" / "load.json").read_text())["figures"]["load"]
    seen = load["soak"]["memory_mib"]["end"]
    replicas = int(limits["cpu"])
    needed = replicas * seen["replica"] / load["soak"]["settings"]["num_replicas"] + seen["proxy"]
    assert 1024 * int(limits["memory"].removesuffix("Gi")) > 1.5 * needed


@pytest.mark.parametrize("name", SERVICES)
def test_the_endpoint_is_that_of_the_laptop_but_for_what_a_cluster_changes(name: str) -> None:
    cluster = yaml.safe_load(_read(name)["spec"]["serveConfigV2"])
    laptop = yaml.safe_load((ROOT / "serve" / SERVICES[name]).read_text())

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
    defaults = {f"args.{key}": value for key, value in vars(ServiceConfig()).items()}
    differ = {
        key
        for key in ours | theirs
        if ours.get(key, defaults.get(key)) != theirs.get(key, defaults.get(key))
    }
    # A default may be named, to explain it.
    assert differ == {
        # The pod's own address, and the places of the cluster's storage and secrets.
        "http_options.host",
        "args.registry",
        "args.audit",
        "args.audit_key",
        "args.keys",
    }
    assert theirs["deployment.autoscaling_config"]["min_replicas"] > 1


def _code() -> str:
    """The Containerfile without comments, a command a line."""
    lines = (CLUSTER / "Containerfile").read_text().splitlines()
    code = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    return code.replace("\\\n", " ")


def _image_problems(code: str) -> list[str]:
    """What lets another image come out of the same files, or gives it more rights."""
    lines = code.splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    stages = re.findall(r"^FROM .* AS (\S+)$", code, re.MULTILINE)
    found = [f"{base}: no digest" for base in bases if base not in stages and "@${" not in base]
    found += [f"{line}: a default digest" for line in lines if re.match(r"ARG \w*DIGEST=", line)]
    for line in lines:
        for install in re.findall(r"pip install[^&]*", line):
            by_hash = "--require-hashes" in install or "--no-index" in install
            if not by_hash or "--no-deps" not in install:
                found.append(f"{install}: not by hash")
            if "--extra-index-url" in install or "--trusted-host" in install:
                found.append(f"{install}: more than one index")
    # Where packages and images come from is the builder's to say.
    found += re.findall(r"https?://|\b[\w-]+\.(?:com|org|io|net)\b", code.replace("homnet", ""))
    users = re.findall(r"^USER (\S+)$", code, re.MULTILINE)
    if not users or not users[-1].isdigit() or users[-1] == "0":
        found.append("the image's user is root")
    if re.search(r"^ADD |^ENV .*(KEY|TOKEN|SECRET)", code, re.MULTILINE):
        found.append("something from elsewhere, or a secret")
    return found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-slim@${BASE_DIGEST}", "-slim"),
        ("ARG BASE_DIGEST\n", "ARG BASE_DIGEST=sha256:0\n"),
        ("--require-hashes", "--constraint constraints.txt"),
        ("--no-deps --require-hashes", "--require-hashes"),
        ("--no-index", "--extra-index-url $PIP_INDEX_URL"),
        ("--no-deps --require-hashes", "--no-deps --require-hashes --extra-index-url URL"),
        ("USER 1000", "USER root"),
        ("USER 1000", "USER 0"),
        ("USER 1000\n", ""),
        ("COPY jobs", "ADD https://example.test/jobs"),
        ("ENV ", "ENV HOMNET_PSEUDONYM_KEY=0 "),
    ],
)
def test_an_image_that_could_change_is_found(old: str, new: str) -> None:
    assert _image_problems(_code()) == []
    assert old in _code()
    assert _image_problems(_code().replace(old, new))


def _locked() -> dict[str, str]:
    """Versions of the packages in the locks; every line is one package with one hash."""
    line = re.compile(r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}")
    texts = [(CLUSTER / name).read_text() for name in ("requirements.lock", "torch-cuda.lock")]
    found = [line.fullmatch(one) for text in texts for one in text.splitlines()]
    assert None not in found
    assert len({one[1] for one in found}) == len(found)
    return {one[1]: one[2] for one in found}


def test_the_locks_have_what_the_image_needs_in_the_pinned_versions() -> None:
    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {plain(name): version for name, version in pins.items()}
    locked = _locked()
    assert {n: v for n, v in locked.items() if pins.get(n, v) != v} == {}
    # What is not pinned there comes with the CUDA build of torch.
    torch = {line.split("==")[0] for line in (CLUSTER / "torch-cuda.lock").read_text().split()[::2]}
    assert locked.keys() - pins.keys() <= torch
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # All that a user can install, but for what only development needs.
    needed = [*project["dependencies"], *(one for e in extras if e != "dev" for one in extras[e])]
    names = {plain(re.match(r"[\w-]+", one)[0]) for one in [*needed, "build", "hatchling"]}
    assert names <= locked.keys()


def test_the_image_has_what_the_manifests_run() -> None:
    code = _code()
    allowed = (CLUSTER / "Containerfile.dockerignore").read_text().split()
    copied = [
        word.replace("${DEVICE}", "cuda")
        for line in code.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert copied
    for name in copied:
        assert (ROOT / name).exists()
        assert any(fnmatch(f"!{name}", one) for one in allowed)
    assert f"COPY jobs {JOBS_IN_IMAGE.rstrip('/')}" in code
    user = re.search(r"^USER (\d+)$", code, re.MULTILINE)
    pods = [pod for name in RAY_FILES for pod in _all_pods(_read(name))]
    assert {str(pod["securityContext"]["runAsUser"]) for pod in pods} == {user[1]}
    (python,) = re.findall(r"ARG PYTHON=(\S+)", code)
    assert tuple(map(int, python.split("."))) >= (3, 11)
