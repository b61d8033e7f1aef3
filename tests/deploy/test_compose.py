"""``deploy/docker-compose.yml``, the image and its entry point: what can be checked without Docker."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

STRINGS = {"type": "array", "items": {"type": "string"}}
SERVICE = {
    "type": "object",
    "required": ["image"],
    "additionalProperties": False,
    "properties": {
        "image": {"type": "string"},
        "build": {"type": "object", "required": ["context", "dockerfile"]},
        "command": STRINGS,
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "volumes": STRINGS,
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
        "restart": {"enum": ["no", "unless-stopped"]},
        "profiles": STRINGS,
        "shm_size": {"type": "string", "pattern": r"^\d+gb$"},
        "healthcheck": {"type": "object", "required": ["test", "interval", "retries"]},
        "depends_on": {"type": ["array", "object"]},
        "deploy": {"type": "object"},
    },
}
"""The part of Compose's specification that the file uses."""


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
    return found


def test_every_service_is_what_compose_expects_and_published_on_loopback_only(compose: dict[str, Any]) -> None:
    assert {key for key in compose if not key.startswith("x-")} == {"name", "services", "volumes"}
    assert {"postgres", "prefect", "s3", "ray-head", "ray-worker", "prefect-worker"} <= compose["services"].keys()
    for name, service in compose["services"].items():
        assert not list(Draft202012Validator(SERVICE).iter_errors(service)), name


def test_what_services_refer_to_exists(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        needs = service.get("depends_on", [])
        assert set(needs) <= services.keys(), name
        for other, how in needs.items() if isinstance(needs, dict) else ():
            healthy = how["condition"] == "service_healthy"
            assert not healthy or "healthcheck" in services[other], f"{name} waits for the health of {other}"
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in compose["volumes"]
    hosts = re.findall(r"(?://|@)([a-z0-9-]+):\d+|ray-head(?=:6379)", (DEPLOY / "docker-compose.yml").read_text())
    assert {host for host in hosts if host} <= services.keys() | {"127"}


def test_no_secret_stands_in_the_file(compose: dict[str, Any]) -> None:
    """Every secret is a variable without which Compose refuses to start, and the example lists them all."""
    text = (DEPLOY / "docker-compose.yml").read_text()
    variables = set(re.findall(r"\$\{(\w+)", text))
    assert set(re.findall(r"\$\{(\w+):\?", text)) == variables
    example = (DEPLOY / "env.example").read_text()
    assert dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE)) == dict.fromkeys(variables, "")
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if any(word in name for word in ("PASSWORD", "SECRET", "TOKEN", "AUTH_STRING", "ACCESS_KEY")):
                assert value.startswith("${"), name


def test_every_part_asks_for_a_password(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert "PREFECT_SERVER_API_AUTH_STRING" in services["prefect"]["environment"]
    for name in ("ray-head", "ray-worker", "ray-gpu-worker", "prefect-worker"):
        environment = services[name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token", name
        assert "RAY_AUTH_TOKEN" in environment, name


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def test_the_image_has_what_it_copies_and_runs_as_nobody_special() -> None:
    found = instructions()
    assert {name for name, _ in found} <= {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD"}
    assert [value for name, value in found if name == "USER"][-1] == "ganinv"
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in (s for name, value in found if name == "COPY" and "--from" not in value for s in value.split()[:-1]):
        assert (ROOT / source).exists(), source
        assert any(f"!{source}".startswith(line) for line in ignored if line.startswith("!")), f"{source} is ignored"


def test_versions_are_those_of_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert f"ray=={version('ray')}" in lock.replace("[default]", "")
    docker = (DEPLOY / "Dockerfile").read_text()
    assert "requirements.lock > pins.txt" in docker
    assert "--constraint pins.txt" in docker


def test_the_entry_point_runs_a_command_where_there_is_no_cluster() -> None:
    done = subprocess.run(
        ["sh", DEPLOY / "join.sh", "echo", "a b"], capture_output=True, text=True, env={"PATH": "/bin"}
    )
    assert (done.returncode, done.stdout) == (0, "a b\n")


def test_automations_are_what_prefect_expects() -> None:
    from prefect.events.schemas.automations import AutomationCore

    automations = yaml.safe_load((DEPLOY / "automations.yaml").read_text())["automations"]
    made = [AutomationCore.model_validate(each) for each in automations]
    assert [each.name for each in made] == ["ganinv-silent-runs", "ganinv-failures"]
    assert all(each.trigger.model_dump()["for_each"] for each in made)
