"""The infrastructure that Terraform creates is closed, private, labelled, and has only the documented rights."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from terraform_runs import (
    INFRA,
    PASSWORD,
    ROOT,
    VARIABLES,
    Resource,
    Run,
    TerraformReport,
    outcome,
    planned_change,
    sensitive,
    terraform,
)

from deployment import environment
from deployment.paths import VARIABLES_EXAMPLE
from deployment.settings import read_env

BASTION = ["203.0.113.7/32"]  # as in infra/tests/variants.tftest.hcl
PRIVATE_NETWORKS = ["10.20.0.0/16", "192.168.4.0/24"]
ACCOUNTS = {
    "module.airflow_cluster.yandex_iam_service_account.this": "airflow",
    "module.dataproc.yandex_iam_service_account.this": "dataproc",
    "module.mlflow_server.yandex_iam_service_account.this": "mlflow",
    "module.storage.yandex_iam_service_account.deployer": "deployer",
}


@pytest.fixture(scope="module")
def tests() -> TerraformReport:
    """All runs of Terraform's own tests."""
    return outcome()


@pytest.fixture(scope="module")
def applied(tests: TerraformReport) -> Run:
    """The defaults, applied."""
    return tests.runs["defaults/apply"]


@pytest.fixture(scope="module")
def planned(tests: TerraformReport) -> Run:
    """The defaults, planned: values that the cloud would generate are not known yet."""
    return tests.runs["defaults/plan"]


def test_terraforms_own_tests_pass(tests: TerraformReport) -> None:
    """Fails when a documented variant of the infrastructure cannot be created, or a wrong variable is accepted."""
    assert tests.summary["status"] == "pass", tests.log[-5000:]
    runs = sum(path.read_text().count('\nrun "') for path in (INFRA / "tests").glob("*.tftest.hcl"))
    assert tests.summary["passed"] == runs


def test_configuration_is_formatted_and_valid(tests: TerraformReport) -> None:
    """Fails when `terraform apply` stops at an invalid configuration, or uses something deprecated."""
    formatted = terraform("fmt", "-check", "-recursive", "-diff")
    assert formatted.returncode == 0, formatted.stdout
    valid = terraform("validate", "-no-color")
    assert valid.returncode == 0, valid.stdout + valid.stderr
    assert "deprecated" not in valid.stdout.lower()


def test_everything_bears_the_projects_labels(tests: TerraformReport) -> None:
    """Fails when the bill does not show which costs belong to this project."""
    checked = 0
    for run in tests.runs.values():
        for resource in run.resources:
            attributes = tests.schema.get(resource.type, {"block": {"attributes": {}}})["block"]["attributes"]
            kind = "tags" if resource.type == "yandex_storage_bucket" else "labels"
            if kind in attributes:
                labels = resource.values.get(kind) or {}
                assert labels.get("managed-by") == "terraform", f"{run.name}: {resource.address} has {labels}"
                assert labels.get("project") in ("fraud-detection", "fraud-test")
                checked += 1
    assert checked > 200


def _rules(run: Run, direction: str) -> Iterator[tuple[Resource, dict[str, Any]]]:
    for group in run.of("yandex_vpc_security_group"):
        for rule in group.values[direction]:
            yield group, rule


def test_nothing_is_open_to_the_internet(tests: TerraformReport) -> None:
    """Fails when MLflow, PostgreSQL or a cluster accepts connections from the internet."""
    allowed = {"variants/bastion": BASTION, "variants/private_networks": PRIVATE_NETWORKS}
    for run in tests.runs.values():
        mlflow = next(machine.values for machine in run.of("yandex_compute_instance") if machine.name == "this")
        address = f"{mlflow['network_interface'][0]['ip_address']}/32"
        for group, rule in _rules(run, "ingress"):
            for cidr in rule["v4_cidr_blocks"] or []:
                assert cidr in (address, *allowed.get(run.name, [])), f"{run.name}: {group.address} lets in {cidr}"
            assert not rule.get("v6_cidr_blocks")
            narrow = [rule.get("v4_cidr_blocks"), rule.get("security_group_id"), rule.get("predefined_target")]
            if run.name != "defaults/plan":  # ids of other groups are not known before they are made
                assert any(narrow), f"{run.name}: {group.address} has a rule for every address: {rule}"
        for group in run.of("yandex_vpc_default_security_group"):
            assert not group.values.get("ingress")
            assert not group.values.get("egress")


def test_only_the_bastion_has_a_public_address(tests: TerraformReport) -> None:
    """Fails when MLflow or PostgreSQL gets a public address."""
    for run in tests.runs.values():
        public = {
            machine.address
            for machine in run.of("yandex_compute_instance")
            if any(interface.get("nat") for interface in machine.values["network_interface"])
        }
        expected = (
            {"module.mlflow_server.yandex_compute_instance.bastion[0]"} if run.name == "variants/bastion" else set()
        )
        assert public == expected, run.name
        for cluster in run.of("yandex_mdb_postgresql_cluster_v2"):
            assert not any(host["assign_public_ip"] for host in cluster.values["hosts"].values())


def test_the_ways_out_are_few(applied: Run) -> None:
    """Fails when a compromised host can send data over more ports than the services need."""
    found = {
        (group.address.split(".")[1], rule["protocol"], int(rule["port"]))
        for group, rule in _rules(applied, "egress")
        if "0.0.0.0/0" in (rule["v4_cidr_blocks"] or [])
    }
    assert found == {
        ("airflow_cluster", "TCP", 443),
        ("dataproc", "TCP", 443),
        ("dataproc", "UDP", 123),
        ("mlflow_server", "TCP", 443),
        ("mlflow_server", "TCP", 80),
        ("mlflow_server", "UDP", 123),
    }


def _documented_grants() -> set[tuple[str, str, str]]:
    """Account, role, on what: the table of docs/security.md."""
    text = (ROOT / "docs" / "security.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `([\w.-]+)` \| ([^|]+?) \|", text, flags=re.MULTILINE)
    return {(account, role, what) for account, role, what in rows}


def _grants(run: Run) -> Iterator[tuple[str, str, str]]:
    names = {f"serviceAccount:{run.one(address).values['id']}": name for address, name in ACCOUNTS.items()}
    secrets = {secret.values["id"]: secret.values["name"] for secret in run.of("yandex_lockbox_secret")}
    keys = {key.values["id"]: key.values["name"] for key in run.of("yandex_kms_symmetric_key")}
    accounts = {run.one(address).values["id"]: name for address, name in ACCOUNTS.items()}
    for resource in run.resources:
        if not resource.type.endswith(("_iam_member", "_iam_binding", "_iam_policy")):
            continue
        values = resource.values
        targets: dict[str, Callable[[dict[str, Any]], str]] = {
            "yandex_resourcemanager_folder_iam_member": lambda v: "the folder",
            "yandex_storage_bucket_iam_binding": lambda v: f"bucket {v['bucket'].removeprefix('acme-fraud-')}",
            "yandex_kms_symmetric_key_iam_member": lambda v: (
                f"key {keys[v['symmetric_key_id']].removeprefix('fraud-detection-')}"
            ),
            "yandex_lockbox_secret_iam_member": lambda v: (
                f"secret {secrets.get(v['secret_id'], 'of Connection Manager').removeprefix('fraud-detection-')}"
            ),
            "yandex_iam_service_account_iam_member": lambda v: f"account {accounts[v['service_account_id']]}",
        }
        for member in values.get("members") or [values["member"]]:
            yield names[member], values["role"], targets[resource.type](values)


def test_every_grant_is_in_the_documents(applied: Run) -> None:
    """Fails when a service account has more or fewer rights than docs/security.md says."""
    assert set(_grants(applied)) == _documented_grants()


def test_the_widest_roles_are_granted_nowhere(tests: TerraformReport) -> None:
    """Fails when one leaked key gives access to the whole folder."""
    for run in tests.runs.values():
        for resource in run.resources:
            role = resource.values.get("role") if "_iam_" in resource.type else None
            if role is not None:
                assert role not in ("admin", "editor", "viewer", "storage.admin", "lockbox.admin"), resource.address
            if resource.type == "yandex_resourcemanager_folder_iam_member":
                assert not str(role).startswith(("storage.", "lockbox.", "kms.", "iam.")), resource.address


def test_no_secret_is_in_a_plan(tests: TerraformReport, planned: Run) -> None:
    """Fails when a plan in CI's log shows a password, except Airflow's, which is documented."""
    found = dict(
        pair
        for resource in planned.resources
        if resource.type in tests.schema
        for pair in sensitive(tests.schema[resource.type]["block"], resource.values, resource.address)
    )
    job = found.pop("module.mlflow_server.yandex_lockbox_secret_version.job.entries.text_value", None)
    assert job == "job", "the one text that is not made by a script is the user's name"
    assert set(found) == {"module.airflow_cluster.yandex_airflow_cluster.this.admin_password"}
    assert planned.text.count(PASSWORD) == 1  # which Terraform itself does not show to people


def test_no_secret_is_in_the_state(tests: TerraformReport) -> None:
    """Fails when Terraform's state holds a key or password that should be in Lockbox only."""
    for run in tests.runs.values():
        for key in run.of("yandex_iam_service_account_static_access_key"):
            assert len(key.values["output_to_lockbox"]) == 1, key.address
        for user in run.of("yandex_mdb_postgresql_user"):
            assert user.values["generate_password"] is True
            assert user.values.get("password") is None
        for version in run.of("yandex_lockbox_secret_version"):
            texts = {entry["text_value"] for entry in version.values["entries"] or [] if not entry["command"]}
            assert texts == ({"job"} if version.name == "job" else set()), version.address
        kinds = {resource.type for resource in run.resources}
        assert not kinds & {
            "yandex_iam_service_account_key",
            "yandex_iam_service_account_api_key",
        }
        assert run.text.count(PASSWORD) == 1, run.name
        assert not re.search(r"BEGIN [A-Z ]*PRIVATE KEY|AQAAAA|YCAJ|YCP[A-Za-z0-9]{10}", run.text)
        assert PASSWORD not in json.dumps(run.outputs)


def test_buckets_are_private_versioned_and_encrypted(tests: TerraformReport, applied: Run) -> None:
    """Fails when card data can be read by anybody, or is lost by one wrong upload."""
    planned = tests.runs["defaults/plan"].of("yandex_storage_bucket")  # once applied, the mock has made an acl up
    assert len(planned) == 5
    assert {bucket.values.get("acl") for bucket in planned} <= {None, "private"}
    keys = {key.values["id"] for key in applied.of("yandex_kms_symmetric_key")}
    used = set()
    for bucket in applied.of("yandex_storage_bucket"):
        values = bucket.values
        assert values["anonymous_access_flags"] == [{"read": False, "list": False, "config_read": False}]
        assert not values.get("grant")
        assert not values.get("website")
        assert values["versioning"] == [{"enabled": True}]
        rule = values["server_side_encryption_configuration"][0]["rule"][0]["apply_server_side_encryption_by_default"][
            0
        ]
        assert rule["sse_algorithm"] == "aws:kms"
        assert values["force_destroy"] is False
        used.add(rule["kms_master_key_id"])
    assert used == keys
    assert len(used) == 5


def test_what_a_job_wrote_cannot_be_deleted_by_it(applied: Run) -> None:
    """Fails when a taken-over job can delete decisions and reports, or only read what it must decrypt and encrypt."""
    job = f"serviceAccount:{applied.one('module.dataproc.yandex_iam_service_account.this').values['id']}"
    roles = {
        binding.values["bucket"].removeprefix("acme-fraud-"): binding.values["role"]
        for binding in applied.of("yandex_storage_bucket_iam_binding")
        if job in binding.values["members"]
    }
    assert roles == {
        "code": "storage.viewer",
        "input": "storage.viewer",
        "output": "storage.uploader",
        "work": "storage.editor",
    }
    assert applied.outputs["variables"]["fraud_detection"]["bucket"] == "acme-fraud-work", "staging copies go there"


def test_readers_may_only_decrypt(applied: Run) -> None:
    """Fails when an account that reads a bucket may also encrypt with its key, as nobody needs to read."""
    keys = {key.values["id"]: key.values["name"] for key in applied.of("yandex_kms_symmetric_key")}
    readers = {
        (keys[grant.values["symmetric_key_id"]].removeprefix("fraud-detection-"), grant.values["member"])
        for grant in applied.of("yandex_kms_symmetric_key_iam_member")
        if grant.values["role"] == "kms.keys.decrypter"
    }
    viewers = {
        (binding.values["bucket"].removeprefix("acme-fraud-"), member)
        for binding in applied.of("yandex_storage_bucket_iam_binding")
        if binding.values["role"] == "storage.viewer"
        for member in binding.values["members"]
    }
    assert readers == viewers
    assert len(readers) == 5


def _expiry(run: Run) -> dict[str, int]:
    """Days until replaced versions expire, by bucket."""
    rules = {
        bucket.values["bucket"].removeprefix("acme-fraud-"): bucket.values["lifecycle_rule"]
        for bucket in run.of("yandex_storage_bucket")
    }
    return {
        name: int(rule["noncurrent_version_expiration"][0]["days"])
        for name, found in rules.items()
        for rule in found
        if rule["id"] == "old-versions"
    }


def test_staging_copies_expire_in_a_day_and_decisions_are_kept(tests: TerraformReport, applied: Run) -> None:
    """Fails when each run leaves 147 MB of paid copies for a month, or a replaced decision is lost."""
    assert _expiry(applied) == {"code": 30, "input": 30, "output": 365, "work": 1, "mlflow": 30}
    expired = [
        (bucket.name, bucket.values["bucket"], rule["filter"])
        for bucket in applied.of("yandex_storage_bucket")
        for rule in bucket.values["lifecycle_rule"]
        if rule["id"] == "job-logs"
    ]
    assert [bucket for _, bucket, _ in expired] == ["acme-fraud-work"]
    locks = {
        bucket.values["bucket"]: bucket.values["object_lock_configuration"]
        for bucket in tests.runs["variants/locked"].of("yandex_storage_bucket")
        if bucket.values["object_lock_configuration"]
    }
    assert list(locks) == ["acme-fraud-output"]
    assert locks["acme-fraud-output"][0]["rule"][0]["default_retention"][0]["days"] == 90


def test_who_opens_mlflow_cannot_administer_its_machine(tests: TerraformReport) -> None:
    """Fails when the key of everybody who looks at MLflow opens a shell with sudo on its machine."""
    run = tests.runs["variants/bastion"]
    users = {}
    for name in ("this", "bastion[0]"):
        machine = run.one(f"module.mlflow_server.yandex_compute_instance.{name}")
        for user in yaml.safe_load(machine.values["metadata"]["user-data"])["users"]:
            users[user["name"]] = user.get("ssh_authorized_keys", [])
    assert users == {
        "mlflow": [],
        "admin": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIanother admin@desk"],
        "tunnel": [
            'restrict,port-forwarding,permitopen="10.130.0.10:5000" '
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIexample me@desk"
        ],
        "jump": [
            'restrict,port-forwarding,permitopen="10.130.0.10:22" '
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIanother admin@desk"
        ],
    }


def test_a_newer_image_replaces_the_bastion_and_not_mlflows_machine() -> None:
    """Fails when the only public machine keeps the image of its first day, or MLflow is replaced unasked."""
    text = (ROOT / "infra" / "modules" / "mlflow-server" / "bastion.tf").read_text()
    assert "ignore_changes" not in text
    main = (ROOT / "infra" / "modules" / "mlflow-server" / "main.tf").read_text()
    assert "ignore_changes       = [boot_disk[0].initialize_params[0].image_id]" in main


def test_github_acts_as_the_deployer_from_one_environment_alone(tests: TerraformReport, applied: Run) -> None:
    """Fails when a pull request's workflow, or another repository, can upload code as the deployer."""
    run = tests.runs["variants/github"]
    [federation] = run.of("yandex_iam_workload_identity_oidc_federation")
    [credential] = run.of("yandex_iam_workload_identity_federated_credential")
    assert federation.values["audiences"] == ["https://github.com/acme"]
    assert credential.values["external_subject_id"] == "repo:acme/fraud:environment:production"
    assert credential.values["federation_id"] == federation.values["id"]
    assert credential.values["service_account_id"] == run.outputs["service_account_ids"]["deployer"]
    assert applied.of("yandex_iam_workload_identity_oidc_federation") == []


def test_the_stated_range_of_the_provider_is_the_tested_one() -> None:
    """Fails when an untested provider may change a real cloud."""
    tested = re.search(
        r"terraform-provider-yandex v(\d+\.\d+)", (ROOT / "infra" / "tests" / "tools" / "go.mod").read_text()
    )
    assert tested
    stated = {
        match
        for path in (ROOT / "infra").glob("**/versions.tf")
        for match in re.findall(r'(?<!required_)version = "([^"]+)"', path.read_text())
    }
    assert stated == {f"~> {tested[1]}.0"}


def test_protection_is_on_unless_it_is_switched_off(tests: TerraformReport) -> None:
    """Fails when a mistaken `terraform destroy` deletes the registry and its backups."""
    for run in tests.runs.values():
        for resource in run.resources:
            attributes = tests.schema.get(resource.type, {"block": {"attributes": {}}})["block"]["attributes"]
            if "deletion_protection" in attributes:
                protected = str(resource.values["deletion_protection"]).lower() == "true"
                assert protected is (run.name != "variants/unprotected"), f"{run.name}: {resource.address}"


@pytest.fixture(scope="module")
def needs(tests: TerraformReport) -> Callable[[str], set[str]]:
    """From a resource to all that Terraform makes before it."""
    done = terraform("graph")
    assert done.returncode == 0, done.stderr
    edges: dict[str, set[str]] = {}
    for left, right in re.findall(r'^\s*"([^"]+)" -> "([^"]+)"', done.stdout, flags=re.MULTILINE):
        edges.setdefault(left, set()).add(right)

    def found(start: str) -> set[str]:
        seen, todo = set[str](), [start]
        while todo:
            for target in edges.get(todo.pop(), set()) - seen:
                seen.add(target)
                todo.append(target)
        return seen

    return found


def _payloads(run: Run) -> dict[str, str]:
    """The secrets that get a payload, by id, and the resource that writes it."""
    found = {}
    for resource in run.resources:
        if resource.type.startswith("yandex_lockbox_secret_version"):
            found[resource.values["secret_id"]] = resource.address
        for target in resource.values.get("output_to_lockbox") or []:
            found[target["secret_id"]] = resource.address
    return found


def test_no_secret_stays_empty(tests: TerraformReport) -> None:
    """Fails when a secret has no version, and a machine that reads it, such as MLflow's, waits for ever."""
    for run in tests.runs.values():
        if run.actions:  # ids are not known before an apply
            continue
        secrets = {secret.values["id"]: secret.address for secret in run.of("yandex_lockbox_secret")}
        assert len(secrets) == 5
        empty = {address for secret_id, address in secrets.items() if secret_id not in _payloads(run)}
        assert not empty, f"{run.name}: the provider makes these with create_version: false"


def test_a_machine_starts_after_the_secrets_that_it_reads(applied: Run, needs: Callable[[str], set[str]]) -> None:
    """Fails when a machine boots before its secrets have a version, and finds them empty."""
    payloads, checked = _payloads(applied), 0
    for machine in applied.of("yandex_compute_instance"):
        reader = f"serviceAccount:{machine.values['service_account_id']}"
        for grant in applied.of("yandex_lockbox_secret_iam_member"):
            source = payloads.get(grant.values["secret_id"])  # none where Connection Manager makes the secret
            if grant.values["member"] == reader and source:
                needed = needs(machine.address.split("[")[0])
                assert source.split("[")[0] in needed, f"{machine.address} reads what {source} makes"
                checked += 1
    assert checked == 4


def test_a_change_of_the_database_user_leaves_mlflows_machine_alone(tests: TerraformReport) -> None:
    """Fails when switching deletion_protection replaces MLflow's machine, and MLflow is down for minutes."""
    plan = planned_change("  deletion_protection = false")
    assert plan.actions["module.postgres.yandex_mdb_postgresql_user.mlflow"] == ("update",)
    touched = {address: done for address, done in plan.actions.items() if "delete" in done or "create" in done}
    assert not touched


def test_what_is_needed_is_made_first_and_destroyed_last(needs: Callable[[str], set[str]]) -> None:
    """Fails when Airflow or MLflow starts before its rights exist, or loses them before its own deletion."""
    grants = {
        "module.storage.yandex_storage_bucket_iam_binding.this",
        "module.storage.yandex_kms_symmetric_key_iam_member.this",
    }
    airflow = "module.airflow_cluster"
    assert needs(f"{airflow}.yandex_airflow_cluster.this") >= grants | {
        f"{airflow}.yandex_resourcemanager_folder_iam_member.this",
        f"{airflow}.yandex_iam_service_account_iam_member.dataproc",
        "module.network.yandex_vpc_subnet.this",
    }
    assert needs("module.mlflow_server.yandex_compute_instance.this") >= grants | {
        "module.mlflow_server.yandex_lockbox_secret_iam_member.server",
        "module.mlflow_server.yandex_iam_service_account_static_access_key.this",
        "module.postgres.yandex_mdb_postgresql_database.this",
        "module.network.yandex_vpc_subnet.this",
    }
    assert "module.network.yandex_vpc_route_table.nat" in needs("module.network.yandex_vpc_subnet.this")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("bucket_prefix", "acme.fraud", "a dot would break TLS"),
        ("subnet_cidr", "10.250.0.0/24", "may not overlap 10.248.0.0/13"),
        ("mlflow_ui_cidrs", '["0.0.0.0/0"]', "never the whole internet"),
        ("folder_id", "my-folder", "yc resource-manager folder list"),
    ],
)
def test_a_wrong_variable_says_what_is_right(tests: TerraformReport, variable: str, value: str, message: str) -> None:
    """Fails when a wrong variable ends in the cloud's error instead of a message that says what is expected."""
    words = [f"-var={name}={found}" for name, found in {**VARIABLES, variable: value}.items()]
    done = terraform("plan", "-input=false", "-no-color", "-refresh=false", "-lock=false", *words)
    assert done.returncode != 0
    assert message in " ".join(done.stderr.split())


def test_the_dags_get_exactly_the_settings_they_know(applied: Run) -> None:
    """Fails when Terraform leaves out a setting that the DAG reads, or sends one that it does not know."""
    known = json.loads((ROOT / "variables.json.example").read_text())["fraud_detection"]
    given = applied.outputs["variables"]["fraud_detection"]
    assert set(given) == set(known)
    assert {name: type(value) for name, value in given.items()} == {name: type(value) for name, value in known.items()}


def test_make_env_takes_the_outputs_of_terraform(applied: Run, tmp_path: Path) -> None:
    """Fails when `make env` stops at a missing Terraform output after the whole cloud has been created."""
    outputs = {name: {"value": value, "sensitive": False} for name, value in applied.outputs.items()}
    environment.write(outputs, tmp_path / ".env", tmp_path / "variables.json", VARIABLES_EXAMPLE)
    assert set(environment.OUTPUTS) <= set(read_env(tmp_path / ".env"))
    assert json.loads((tmp_path / "variables.json").read_text()) == applied.outputs["variables"]


def test_airflow_2_takes_a_password_at_its_api_and_keeps_its_own_options(tests: TerraformReport) -> None:
    """Fails when Airflow 2 refuses `make import-variables`, or loses an option of airflow.cfg."""
    [two] = tests.runs["variants/airflow_2"].of("yandex_airflow_cluster")
    backends = "airflow.api.auth.backend.basic_auth,airflow.api.auth.backend.session"
    assert two.values["airflow_config"] == {
        "api": {"auth_backends": backends, "page_size_limit": "50"},
        "fraud_detection": {"schedule": "0 */6 * * *"},
    }
    [three] = tests.runs["defaults/apply"].of("yandex_airflow_cluster")
    assert not three.values["airflow_config"]


def test_managed_airflow_gets_the_providers_that_the_dags_are_tested_with(applied: Run) -> None:
    """Fails when the managed Airflow has other provider packages than the ones that the DAGs are tested with."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    locked = {f"{package['name']}=={package['version']}" for package in lock if "version" in package}
    [cluster] = applied.of("yandex_airflow_cluster")
    packages = set(cluster.values["pip_packages"])
    assert packages <= locked
    assert {name.split("==")[0] for name in packages} == {
        *(f"apache-airflow-providers-{name}" for name in ("common-compat", "slack", "yandex")),
        "yandexcloud",  # the provider states a range, and an apply of next year would take another one
    }
