"""variables.json, the DAGs' templates and Terraform's outputs must name the same settings."""

import json
import re

from deployment import bucket
from deployment.environment import OUTPUTS
from deployment.paths import ROOT, VARIABLES_EXAMPLE

DAGS, TERRAFORM = ROOT / "dags", ROOT / "infra" / "outputs.tf"
VARIABLE = "fraud_detection"


def of_the_example() -> set[str]:
    return set(json.loads(VARIABLES_EXAMPLE.read_text(encoding="utf-8"))[VARIABLE])


def of_the_dags() -> set[str]:
    """The settings that the DAGs' templates read."""
    found: set[str] = set()
    for path in DAGS.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r"\bsetting\(\s*[\"'](\w+)[\"']", text))
        found |= set(re.findall(rf"var\.json\.{VARIABLE}\.get\(\s*[\"'](\w+)[\"']", text))
        found |= set(re.findall(rf"var\.json\.{VARIABLE}\.(?!get\b)(\w+)", text))
    return found


def outputs() -> dict[str, str]:
    """Terraform's outputs: name and body."""
    text = TERRAFORM.read_text(encoding="utf-8")
    return {
        match[1]: match[2] for match in re.finditer(r'^output "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL)
    }


def keys(body: str, *way: str) -> set[str]:
    """The keys of the object in an output's `value`, or of one nested in it."""
    block = body.partition("value")[2].partition("{")[2]
    for name in way:
        block = re.split(rf"\b{name}\s*=\s*\{{", block, maxsplit=1)[1]
    depth, found = 0, set[str]()
    for line in block.splitlines():
        match = re.match(r"\s*(\w+)\s*=", line)
        if depth == 0 and match:
            found.add(match[1])
        depth += line.count("{") - line.count("}")
        if depth < 0:
            break
    return found


def test_variables_dags_and_terraform_name_the_same_settings() -> None:
    """Fails when a DAG reads a setting that Terraform or the example does not give, or one of them has no effect."""
    example, dags, terraform = of_the_example(), of_the_dags(), keys(outputs()["variables"], VARIABLE)
    assert len(example) > 20, "the example is not read"
    assert sorted(dags ^ example) == [], "in the DAGs or in variables.json.example, not in both"
    assert sorted(terraform ^ example) == [], "in Terraform's output or in variables.json.example, not in both"


def test_every_name_of_env_comes_from_an_output_that_terraform_has() -> None:
    """Fails when `make env` stops at a missing Terraform output after the whole cloud has been created."""
    there = outputs()
    for name, way in OUTPUTS.items():
        assert way[0] in there, f"{name}: Terraform has no output {way[0]}"
        if len(way) == 2 and "{" in there[way[0]].partition("value")[2] and " for " not in there[way[0]]:
            assert way[1] in keys(there[way[0]]), f"{name}: {way[0]} has no {way[1]}"
        if way[0] == "variables":
            assert way[2] in keys(there["variables"], VARIABLE), f"{name}: variables has no {way[2]}"


def test_the_job_is_uploaded_to_where_dag_and_terraform_look_for_it() -> None:
    """Fails when a cluster starts and its main file, library, settings or archive is not where the DAG looks."""
    dag = (DAGS / "fraud_detection_training.py").read_text(encoding="utf-8")
    assert set(re.findall(r"\{code\}/([\w.]+)", dag)) == {name for name, _ in bucket.code_files()}
    reader = (DAGS / "fraud_detection_common" / "code.py").read_text(encoding="utf-8")
    assert f'"{bucket.CURRENT}"' in reader
    keys_read = set(re.findall(r"found\['(\w+)'\]", reader))
    assert keys_read < set(json.loads(bucket.current("folder", "archive", "revision")))
    assert f"code_uri ~ '/{bucket.SHUTDOWN}'" in dag
    terraform = (TERRAFORM.parent / "main.tf").read_text(encoding="utf-8") + TERRAFORM.read_text(encoding="utf-8")
    assert f'"${{local.code_uri}}/{bucket.SHUTDOWN}"' in terraform
    for setting, folder in (("code_uri", bucket.CODE), ("input_uri", bucket.INPUT), ("output_uri", bucket.OUTPUT)):
        assert re.search(rf'{setting}\s*=\s*"s3a://[^\n]*\}}/{folder}"', terraform), setting
