"""What each role allows: the roles that infra/ grants, and those of people and of Terraform itself.

Yandex describes a role by what its holders can do, not by a list of permissions. A row translates that description into
the emulator's permissions, `SERVICE.RESOURCES.METHOD` of the call that each stands for. `source` is the description.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

_DOCS = "https://github.com/yandex-cloud/docs/blob/master/en/_roles"
LOOKED_UP = "2026-11-26"
"""When the descriptions were read."""


@dataclass(frozen=True)
class Role:
    """A row: patterns of permissions, the roles that it includes, the page that describes it."""

    permissions: tuple[str, ...]
    source: str
    includes: tuple[str, ...] = ()


_VIEWED = ("get", "list", "list*", "get*")


def _viewer(*resources: str) -> tuple[str, ...]:
    return tuple(f"{resource}.{verb}" for resource in resources for verb in _VIEWED)


ROLES = {
    "admin": Role(("*",), f"{_DOCS}/primitive-roles/admin.md"),
    "dataproc.agent": Role(
        ("dataproc.agents.report", "dataproc.jobs.get", "dataproc.jobs.list", "logging.records.write"),
        f"{_DOCS}/dataproc/agent.md",
        ("logging.viewer",),
    ),
    "dataproc.provisioner": Role(
        ("compute.*", *_viewer("vpc.*"), "vpc.*.use"),
        f"{_DOCS}/dataproc/provisioner.md",
        ("iam.serviceAccounts.user", "logging.viewer"),
    ),
    "dataproc.editor": Role(
        ("dataproc.clusters.*", "dataproc.subclusters.*", "dataproc.jobs.*"), f"{_DOCS}/dataproc/editor.md"
    ),
    "vpc.user": Role(
        (*_viewer("vpc.*"), "vpc.*.use"),
        f"{_DOCS}/vpc/user.md",
    ),
    "iam.serviceAccounts.user": Role(
        ("iam.serviceAccounts.use", "iam.serviceAccounts.get", "iam.serviceAccounts.list"),
        f"{_DOCS}/iam/serviceAccounts/user.md",
    ),
    "iam.serviceAccounts.ephemeralAccessKeyAdmin": Role(
        ("iam.ephemeralAccessKeys.create",), f"{_DOCS}/iam/serviceAccounts/ephemeralAccessKeyAdmin.md"
    ),
    "managed-airflow.integrationProvider": Role(
        ("managed-airflow.integrations.provide", "monitoring.*"),
        f"{_DOCS}/managed-airflow/integrationProvider.md",
        ("logging.writer", "storage.viewer", "lockbox.viewer"),
    ),
    "logging.viewer": Role(_viewer("logging.groups"), f"{_DOCS}/logging/viewer.md"),
    "logging.writer": Role(("logging.records.write",), f"{_DOCS}/logging/writer.md", ("logging.viewer",)),
    "lockbox.viewer": Role(_viewer("lockbox.secrets"), f"{_DOCS}/lockbox/viewer.md"),
    "lockbox.payloadViewer": Role(("lockbox.payloads.get",), f"{_DOCS}/lockbox/payloadViewer.md"),
    "storage.viewer": Role(_viewer("storage.buckets", "storage.objects"), f"{_DOCS}/storage/viewer.md"),
    "storage.uploader": Role(("storage.objects.put",), f"{_DOCS}/storage/uploader.md", ("storage.viewer",)),
    "storage.editor": Role(
        ("storage.objects.*", "storage.buckets.create", "storage.buckets.update", "storage.buckets.delete"),
        f"{_DOCS}/storage/editor.md",
        ("storage.uploader",),
    ),
    "kms.keys.encrypter": Role(("kms.keys.get", "kms.keys.encrypt"), f"{_DOCS}/kms/keys/encrypter.md"),
    "kms.keys.decrypter": Role(("kms.keys.get", "kms.keys.decrypt"), f"{_DOCS}/kms/keys/decrypter.md"),
    "kms.keys.encrypterDecrypter": Role(
        (), f"{_DOCS}/kms/keys/encrypterDecrypter.md", ("kms.keys.encrypter", "kms.keys.decrypter")
    ),
}


def is_known(role: str) -> bool:
    return role in ROLES


def allows(role: str, permission: str) -> bool:
    """Whether a role of the table, or one that it includes, holds a permission."""
    row = ROLES[role]
    own = any(fnmatchcase(permission, pattern) for pattern in row.permissions)
    return own or any(allows(included, permission) for included in row.includes)
