"""``deploy/kubernetes``: every manifest against Kubernetes' own schemas, strictly; none of it was run on a cluster here."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"
KUBERNETES = "1.31"


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def all_documents() -> list[tuple[str, dict[str, Any]]]:
    paths = [*sorted((FOLDER / "base").glob("*.yaml")), FOLDER / "ray-job.yaml"]
    found = [(path.name, document) for path in paths for document in documents(path)]
    return [(f"{name}:{d['kind']}", d) for name, d in found if d["kind"] != "Kustomization"]


RAY = {"RayCluster", "RayJob"}
CORE = [(name, d) for name, d in all_documents() if d["kind"] not in RAY]


def cluster_specs() -> dict[str, dict[str, Any]]:
    """The specification of every Ray cluster, that of the GPU overlay with its worker groups added."""
    (base,) = documents(FOLDER / "base/ray-cluster.yaml")
    (job,) = documents(FOLDER / "ray-job.yaml")
    overlay = json.loads(json.dumps(base["spec"]))
    for operation in yaml.safe_load((FOLDER / "gpu-spot/workers.yaml").read_text()):
        assert (operation["op"], operation["path"]) == ("add", "/spec/workerGroupSpecs/-")
        overlay["workerGroupSpecs"].append(operation["value"])
    return {"base": base["spec"], "gpu-spot": overlay, "ray-job": job["spec"]["rayClusterSpec"]}


def groups(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


@pytest.mark.parametrize(("name", "document"), CORE, ids=[name for name, _ in CORE])
def test_kubernetes_knows_every_field(name: str, document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_wrong_field_would_be_noticed() -> None:
    _, document = CORE[0]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**document, "replicas": 1}, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", ["base", "gpu-spot", "ray-job"])
def test_ray_clusters(name: str) -> None:
    """KubeRay's own schema is not in any package; its pods are Kubernetes', and the fields around them few."""
    spec = cluster_specs()[name]
    known = {"rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec"}
    assert spec.keys() <= known | {"workerGroupSpecs"}
    assert spec["rayVersion"] == version("ray")  # driver and cluster must match exactly
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"  # no work on the head
    for group in spec["workerGroupSpecs"]:
        assert group.keys() == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups(spec):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        template = {"apiVersion": "v1", "kind": "PodTemplate", "template": group["template"]}
        kubernetes_validate.validate(template, KUBERNETES, strict=True)


def test_gpu_workers_ask_for_what_they_tell_ray() -> None:
    added = {group["groupName"]: group for group in cluster_specs()["gpu-spot"]["workerGroupSpecs"]}
    assert added.keys() == {"cpu", "gpu", "gpu-spot"}
    for name in ("gpu", "gpu-spot"):
        (container,) = added[name]["template"]["spec"]["containers"]
        assert added[name]["rayStartParams"]["num-gpus"] == str(container["resources"]["limits"]["nvidia.com/gpu"])
    spot = added["gpu-spot"]["template"]["spec"]
    (label,) = spot["nodeSelector"]
    assert label in {toleration["key"] for toleration in spot["tolerations"]}


def test_the_job_template_is_a_job_of_variables_that_exist() -> None:
    template = json.loads((FOLDER / "job-template.json").read_text())
    variables = template["variables"]["properties"]
    values = {name: each.get("default") for name, each in variables.items()}
    values |= {"name": "brave-otter", "command": ["prefect", "flow-run", "execute"], "labels": {"a": "b"}}
    values["env"] = [{"name": "A", "value": "b"}]

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [filled(value) for value in node]
        if isinstance(node, str) and node.startswith("{{") and node.endswith("}}"):
            return values[node.strip("{} ")]
        return node.replace("{{ name }}", "brave-otter") if isinstance(node, str) else node

    configuration = filled(template["job_configuration"])
    pod = configuration["job_manifest"]["spec"]["template"]["spec"]
    # Prefect's worker insists on these two in a place where Kubernetes ignores them.
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    kubernetes_validate.validate(configuration["job_manifest"], KUBERNETES, strict=True)


def pods() -> list[tuple[str, dict[str, Any]]]:
    """Every pod that these files make."""
    found = [(name, d["spec"]["template"]["spec"]) for name, d in CORE if d["kind"] in ("Deployment", "StatefulSet")]
    for name, spec in cluster_specs().items():
        found += [(f"{name}:{group.get('groupName', 'head')}", group["template"]["spec"]) for group in groups(spec)]
    template = json.loads((FOLDER / "job-template.json").read_text())
    return [*found, ("job", template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"])]


@pytest.mark.parametrize(("name", "pod"), pods(), ids=[name for name, _ in pods()])
def test_pods_have_few_rights_and_no_secrets_of_their_own(name: str, pod: dict[str, Any]) -> None:
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]
        for variable in container["env"] if isinstance(container.get("env"), list) else ():
            secret = any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "AUTH_STRING", "CONNECTION_URL"))
            assert "valueFrom" in variable or not secret or "SECRET_" in variable["name"], variable["name"]
    if name != "postgres.yaml:StatefulSet":
        assert pod["securityContext"]["runAsNonRoot"] is True


def test_no_secret_is_in_the_repository_and_nothing_is_reachable_from_outside() -> None:
    kinds = [document["kind"] for _, document in all_documents()]
    assert "Secret" not in kinds
    assert "Ingress" not in kinds
    services = [document for _, document in all_documents() if document["kind"] == "Service"]
    assert services
    assert all(service["spec"].get("type", "ClusterIP") == "ClusterIP" for service in services)


def test_the_kustomization_takes_every_file() -> None:
    (base,) = documents(FOLDER / "base/kustomization.yaml")
    assert set(base["resources"]) == {p.name for p in (FOLDER / "base").glob("*.yaml")} - {"kustomization.yaml"}
    (overlay,) = documents(FOLDER / "gpu-spot/kustomization.yaml")
    assert [(FOLDER / "gpu-spot" / each).resolve() for each in overlay["resources"]] == [FOLDER / "base"]


@pytest.mark.seconds
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed: kustomize is not run")
@pytest.mark.parametrize("name", ["base", "gpu-spot"])
def test_kustomize_builds(name: str) -> None:
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER / name)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    built = [document for document in yaml.safe_load_all(done.stdout) if document]
    for document in built:
        if document["kind"] not in RAY:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    (cluster,) = [document for document in built if document["kind"] == "RayCluster"]
    assert len(cluster["spec"]["workerGroupSpecs"]) == (1 if name == "base" else 3)
    assert {d["metadata"].get("namespace", "ganinv") for d in built} == {"ganinv"}
