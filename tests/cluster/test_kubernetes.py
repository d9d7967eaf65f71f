"""kuberay.yaml against KubeRay's own schema, made strict: unknown keys are errors.

The API server drops unknown keys silently; ``kubectl --dry-run=client`` knows no KubeRay.
"""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.cluster.files import ROOT, filled

CRDS = Path(os.environ.get("KUBERAY_CRDS", ROOT.parent / "shared" / "data" / "kuberay_crds"))
LITERAL = ("enum", "required", "default")


def strict(schema: Any) -> Any:
    """A custom resource's OpenAPI schema as a JSON schema without room for unknown keys."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {key: value if key in LITERAL else strict(value) for key, value in schema.items()}
    if (
        isinstance(made.get("properties"), dict)
        and "additionalProperties" not in made
        and made.get("x-kubernetes-preserve-unknown-fields") is not True
    ):
        made["additionalProperties"] = False
    return made


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    path = CRDS / "ray.io_rayjobs.yaml"
    if not path.exists():
        pytest.skip(
            f"KubeRay's custom resource definitions are not in {CRDS}; KUBERAY_CRDS names "
            "another folder"
        )
    crd = yaml.load(path.read_text(), yaml.CSafeLoader)
    (schema,) = [
        strict(v["schema"]["openAPIV3Schema"])
        for v in crd["spec"]["versions"]
        if v["name"] == "v1"
    ]
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft7Validator(schema)


@pytest.fixture
def job() -> Any:
    return yaml.safe_load(filled("kuberay.yaml"))


def wrong(validator: jsonschema.Draft7Validator, job: Any) -> list[str]:
    return sorted("/".join(map(str, error.absolute_path)) for error in validator.iter_errors(job))


def test_the_job_is_what_kuberay_takes(validator: jsonschema.Draft7Validator, job: Any) -> None:
    assert wrong(validator, job) == []


def test_misspelt_keys_are_found(validator: jsonschema.Draft7Validator, job: Any) -> None:
    pod = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]
    pod["tolerations"][0]["efect"] = "NoSchedule"
    job["spec"]["shutdownAfterJobFinish"] = True
    assert wrong(validator, job) == [
        "spec",
        "spec/rayClusterSpec/workerGroupSpecs/0/template/spec/tolerations/0",
    ]


def test_the_job_names_the_ray_that_is_tested(job: Any) -> None:
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == version("ray")
