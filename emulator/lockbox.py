"""Lockbox: secrets, their versions and payloads. Values stay in the store and in replies, nowhere else."""

from collections.abc import Iterable, Iterator, Mapping

import grpc
from google.protobuf.message import Message
from yandex.cloud.lockbox.v1 import payload_pb2, payload_service_pb2, secret_pb2, secret_service_pb2
from yandex.cloud.operation.operation_pb2 import Operation

from emulator.cloud import Cloud
from emulator.errors import ApiError, Violation, failed_precondition, invalid, not_found
from emulator.gateway import Check, Method
from emulator.iam import Caller
from emulator.ids import LOCKBOX, new_id
from emulator.paging import page, page_of_messages
from emulator.store import Record
from emulator.validation import violations

Secret = secret_pb2.Secret
Version = secret_pb2.Version


class Lockbox:
    """SecretService and PayloadService."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @property
    def secret_methods(self) -> dict[str, Method]:
        return {
            "Get": self.get,
            "List": self.list,
            "Create": self.create,
            "Delete": self.delete,
            "AddVersion": self.add_version,
            "ListVersions": self.list_versions,
        }

    @property
    def secret_checks(self) -> dict[str, Check]:
        return {
            "Create": self._check_create,
            "AddVersion": lambda request: _check_keys(request.payload_entries, "payload_entries"),
        }

    @property
    def payload_methods(self) -> dict[str, Method]:
        return {"Get": self.payload, "GetEx": self.payload_by_name}

    def get(self, request: secret_service_pb2.GetSecretRequest, _caller: Caller) -> Secret:
        return self._cloud.store.require("secret", request.secret_id).message(Secret)

    def list(
        self, request: secret_service_pb2.ListSecretsRequest, _caller: Caller
    ) -> secret_service_pb2.ListSecretsResponse:
        records = self._cloud.store.find("secret", owner=request.folder_id)
        secrets, token = page_of_messages(records, request, Secret)
        return secret_service_pb2.ListSecretsResponse(secrets=secrets, next_page_token=token)

    def create(self, request: secret_service_pb2.CreateSecretRequest, caller: Caller) -> Operation:
        if request.HasField("password_payload_specification"):
            raise ApiError(grpc.StatusCode.UNIMPLEMENTED, "password_payload_specification is not emulated")
        if request.name and self._cloud.store.find("secret", request.folder_id, request.name):
            raise ApiError(grpc.StatusCode.ALREADY_EXISTS, f"Secret with name {request.name!r} already exists")
        entries = _merged({}, request.version_payload_entries)
        secret = Secret(
            id=new_id(LOCKBOX),
            folder_id=request.folder_id,
            name=request.name,
            description=request.description,
            labels=request.labels,
            kms_key_id=request.kms_key_id,
            status=Secret.ACTIVE,
            deletion_protection=request.deletion_protection,
        )
        secret.created_at.GetCurrentTime()
        if entries:
            version = self._store_version(secret.id, entries, request.version_description)
            secret.current_version.CopyFrom(version)
        self._cloud.store.put("secret", secret.id, secret, owner=secret.folder_id, name=secret.name)
        metadata = secret_service_pb2.CreateSecretMetadata(secret_id=secret.id, version_id=secret.current_version.id)
        operation = self._cloud.operations.start(
            LOCKBOX, caller, "secret.create", secret.id, "Create Lockbox secret", metadata
        )
        return self._cloud.operations.succeed(operation.id, secret)

    def put(self, name: str, values: Mapping[str, str], caller: Caller) -> str:
        """A secret of that name with these values, made or changed; returns its id."""
        changes = [secret_service_pb2.PayloadEntryChange(key=key, text_value=text) for key, text in values.items()]
        folder = self._cloud.store.find("folder")[0].id
        with self._cloud.store.transaction():
            if found := self._cloud.store.find("secret", folder, name):
                version = secret_service_pb2.AddVersionRequest(secret_id=found[0].id, payload_entries=changes)
                self._refuse_broken(version)
                self.add_version(version, caller)
                return found[0].id
            secret = secret_service_pb2.CreateSecretRequest(
                folder_id=folder, name=name, version_payload_entries=changes
            )
            self._refuse_broken(secret)
            self.create(secret, caller)
            return self._cloud.store.find("secret", folder, name)[0].id

    def delete(self, request: secret_service_pb2.DeleteSecretRequest, caller: Caller) -> Operation:
        secret = self._cloud.store.require("secret", request.secret_id).message(Secret)
        if secret.deletion_protection:
            raise failed_precondition(f"Secret {secret.id} has deletion protection")
        for version in self._cloud.store.find("secret-version", owner=secret.id):
            self._cloud.store.delete("secret-version", version.id)
        self._cloud.store.delete("secret", secret.id)
        metadata = secret_service_pb2.DeleteSecretMetadata(secret_id=secret.id)
        operation = self._cloud.operations.start(
            LOCKBOX, caller, "secret.delete", secret.id, "Delete Lockbox secret", metadata
        )
        return self._cloud.operations.succeed(operation.id, secret)

    def add_version(self, request: secret_service_pb2.AddVersionRequest, caller: Caller) -> Operation:
        record = self._cloud.store.require("secret", request.secret_id)
        secret = record.message(Secret)
        base = request.base_version_id or secret.current_version.id
        known = {entry.key: entry for entry in self._entries(secret.id, base)} if base else {}
        entries = _merged(known, request.payload_entries)
        version = self._store_version(secret.id, entries, request.description)
        secret.current_version.CopyFrom(version)
        self._cloud.store.save(record, secret)
        metadata = secret_service_pb2.AddVersionMetadata(secret_id=secret.id, version_id=version.id)
        operation = self._cloud.operations.start(
            LOCKBOX, caller, "secret.add-version", secret.id, "Add Lockbox secret version", metadata
        )
        return self._cloud.operations.succeed(operation.id, version)

    def list_versions(
        self, request: secret_service_pb2.ListVersionsRequest, _caller: Caller
    ) -> secret_service_pb2.ListVersionsResponse:
        self._cloud.store.require("secret", request.secret_id)
        shown, token = page(self._cloud.store.find("secret-version", owner=request.secret_id), request)
        versions = [self._version(record) for record in shown]
        return secret_service_pb2.ListVersionsResponse(versions=versions, next_page_token=token)

    def payload(self, request: payload_service_pb2.GetPayloadRequest, _caller: Caller) -> payload_pb2.Payload:
        secret = self._cloud.store.require("secret", request.secret_id).message(Secret)
        version_id = request.version_id or secret.current_version.id
        return payload_pb2.Payload(version_id=version_id, entries=self._entries(secret.id, version_id))

    def payload_by_name(
        self, request: payload_service_pb2.GetExRequest, caller: Caller
    ) -> payload_service_pb2.GetExResponse:
        secret_id = request.secret_id
        if request.HasField("folder_and_name"):
            wanted = request.folder_and_name
            records = self._cloud.store.find("secret", wanted.folder_id, wanted.secret_name)
            if not records:
                raise not_found("Secret", wanted.secret_name)
            secret_id = records[0].id
        asked = payload_service_pb2.GetPayloadRequest(secret_id=secret_id, version_id=request.version_id)
        payload = self.payload(asked, caller)
        entries = {entry.key: _content(entry) for entry in payload.entries}
        return payload_service_pb2.GetExResponse(secret_id=secret_id, version_id=payload.version_id, entries=entries)

    def _check_create(self, request: secret_service_pb2.CreateSecretRequest) -> Iterator[Violation]:
        yield from self._cloud.check_known("folder", request.folder_id, "folder_id")
        yield from _check_keys(request.version_payload_entries, "version_payload_entries")

    @staticmethod
    def _refuse_broken(request: Message) -> None:
        if found := violations(request):
            raise invalid(found)

    def _entries(self, secret_id: str, version_id: str) -> Iterable[payload_pb2.Payload.Entry]:
        version = self._cloud.store.require("secret-version", version_id, owner=secret_id)
        return version.message(payload_pb2.Payload).entries

    def _store_version(
        self, secret_id: str, entries: dict[str, payload_pb2.Payload.Entry], description: str
    ) -> Version:
        payload = payload_pb2.Payload(version_id=new_id(LOCKBOX), entries=entries.values())
        self._cloud.store.put(
            "secret-version", payload.version_id, payload, owner=secret_id, data={"description": description}
        )
        return self._version(self._cloud.store.require("secret-version", payload.version_id))

    @staticmethod
    def _version(record: Record) -> Version:
        """A version without its values."""
        payload = record.message(payload_pb2.Payload)
        return Version(
            id=record.id,
            secret_id=record.owner,
            description=record.data["description"],
            status=Version.ACTIVE,
            payload_entry_keys=[entry.key for entry in payload.entries],
        )


def _check_keys(changes: Iterable[secret_service_pb2.PayloadEntryChange], path: str) -> Iterator[Violation]:
    seen: set[str] = set()
    for index, change in enumerate(changes):
        if change.key in seen:
            yield Violation(f"{path}[{index}].key", "is given twice")
        seen.add(change.key)


def _merged(
    known: dict[str, payload_pb2.Payload.Entry],
    changes: Iterable[secret_service_pb2.PayloadEntryChange],
) -> dict[str, payload_pb2.Payload.Entry]:
    """Entries after changes; a change without a value removes its key."""
    merged = dict(known)
    for change in changes:
        if change.WhichOneof("value") == "text_value":
            merged[change.key] = payload_pb2.Payload.Entry(key=change.key, text_value=change.text_value)
        elif change.WhichOneof("value") == "binary_value":
            merged[change.key] = payload_pb2.Payload.Entry(key=change.key, binary_value=change.binary_value)
        else:
            merged.pop(change.key, None)
    return merged


def _content(entry: payload_pb2.Payload.Entry) -> bytes:
    return entry.text_value.encode() if entry.WhichOneof("value") == "text_value" else entry.binary_value
