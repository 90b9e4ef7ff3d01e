"""What Lockbox does beyond keeping a secret's fields: versions, generated passwords, payloads.

Values stay in the store and in replies, nowhere else.
"""

import secrets
import string
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.message import Message
from yandex.cloud.lockbox.v1 import payload_pb2, payload_service_pb2, secret_pb2, secret_service_pb2
from yandex.cloud.operation.operation_pb2 import Operation

from emulator.access import Need
from emulator.cloud import Cloud
from emulator.errors import Violation, failed_precondition, invalid, not_found
from emulator.gateway import Check, Method
from emulator.iam import Caller
from emulator.ids import LOCKBOX, new_id
from emulator.paging import page
from emulator.resources import Behaviour
from emulator.store import Record
from emulator.validation import violations

Secret = secret_pb2.Secret
Version = secret_pb2.Version
Entries = dict[str, payload_pb2.Payload.Entry]

_PUNCTUATION = string.punctuation
_DEFAULT_LENGTH = 36


class Lockbox(Behaviour):
    """SecretService beyond the generic part, and PayloadService."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def methods(self) -> Mapping[str, Method]:
        return {
            "AddVersion": self._add_version,
            "ListVersions": self._list_versions,
            "ScheduleVersionDestruction": self._schedule_destruction,
        }

    def checks(self) -> Mapping[str, Check]:
        return {
            "Create": self._check_create,
            "AddVersion": lambda request: _check_keys(request.payload_entries, "payload_entries"),
        }

    @property
    def payload_methods(self) -> dict[str, Method]:
        return {"Get": self.payload, "GetEx": self._payload_by_name}

    def payload_needs(self, _method: str, request: Any) -> Iterator[Need]:
        """The permission to read the payload that a request names."""
        yield Need("lockbox.payloads.get", "secret", self._named(request))

    def created(self, request: Any, resource: Any) -> None:
        if request.HasField("create_version") and not request.create_version.value:
            return  # a secret without a version, until one is added
        entries = {**_generated(resource), **_merged({}, request.version_payload_entries)}
        if entries:
            resource.current_version.CopyFrom(self._new_version(resource.id, entries, request.version_description))

    def metadata(self, resource: Any) -> Mapping[str, str]:
        return {"version_id": resource.current_version.id}

    def deleted(self, resource: Any) -> None:
        for version in self._cloud.store.find("secret-version", owner=resource.id):
            self._cloud.store.delete("secret-version", version.id)

    def keep(self, folder: str, name: str, values: Mapping[str, str]) -> Secret:
        """A new secret with these values, made by the cloud itself."""
        request = secret_service_pb2.CreateSecretRequest(
            folder_id=folder, name=name, version_payload_entries=_changes(values)
        )
        _refuse_broken(request)
        secret = Secret(id=new_id(LOCKBOX), folder_id=folder, name=name, status=Secret.ACTIVE)
        secret.created_at.GetCurrentTime()
        self.created(request, secret)
        self._cloud.store.put("secret", secret.id, secret, owner=folder, name=name)
        return secret

    def drop(self, secret_id: str) -> None:
        """Delete a secret that the cloud itself made."""
        self.deleted(self._cloud.store.require("secret", secret_id).message(Secret))
        self._cloud.access.forget(secret_id)
        self._cloud.store.delete("secret", secret_id)

    def put(self, name: str, values: Mapping[str, str]) -> str:
        """A secret of that name with these values, made or changed; returns its id."""
        folder = self._cloud.store.find("folder")[0].id
        with self._cloud.store.transaction():
            if found := self._cloud.store.find("secret", folder, name):
                request = secret_service_pb2.AddVersionRequest(secret_id=found[0].id, payload_entries=_changes(values))
                _refuse_broken(request)
                self._added(request)
                return found[0].id
            return self.keep(folder, name, values).id

    def payload(self, request: payload_service_pb2.GetPayloadRequest, _caller: Caller) -> payload_pb2.Payload:
        secret = self._cloud.store.require("secret", request.secret_id).message(Secret)
        version_id = request.version_id or secret.current_version.id
        return payload_pb2.Payload(version_id=version_id, entries=self._entries(secret.id, version_id))

    def _payload_by_name(
        self, request: payload_service_pb2.GetExRequest, caller: Caller
    ) -> payload_service_pb2.GetExResponse:
        secret_id = self._named(request)
        if not secret_id:
            raise not_found("Secret", request.folder_and_name.secret_name)
        asked = payload_service_pb2.GetPayloadRequest(secret_id=secret_id, version_id=request.version_id)
        payload = self.payload(asked, caller)
        entries = {entry.key: _content(entry) for entry in payload.entries}
        return payload_service_pb2.GetExResponse(secret_id=secret_id, version_id=payload.version_id, entries=entries)

    def _named(self, request: Any) -> str:
        """The id of the secret that a request for a payload names; "" if there is none of that name."""
        if isinstance(request, payload_service_pb2.GetExRequest) and request.HasField("folder_and_name"):
            wanted = request.folder_and_name
            records = self._cloud.store.find("secret", wanted.folder_id, wanted.secret_name)
            return records[0].id if records else ""
        return str(request.secret_id)

    def _add_version(self, request: secret_service_pb2.AddVersionRequest, caller: Caller) -> Operation:
        version = self._added(request)
        metadata = secret_service_pb2.AddVersionMetadata(secret_id=request.secret_id, version_id=version.id)
        return self._operation(caller, request.secret_id, "add-version", metadata, version)

    def _added(self, request: secret_service_pb2.AddVersionRequest) -> Version:
        """A new version: the base's entries with changes, or a password where Lockbox generates it."""
        record = self._cloud.store.require("secret", request.secret_id)
        secret = record.message(Secret)
        base = request.base_version_id or secret.current_version.id
        known = {entry.key: entry for entry in self._entries(secret.id, base)} if base else {}
        entries = _merged({**known, **_generated(secret)}, request.payload_entries)
        version = self._new_version(secret.id, entries, request.description)
        secret.current_version.CopyFrom(version)
        self._cloud.store.save(record, secret)
        return version

    def _list_versions(
        self, request: secret_service_pb2.ListVersionsRequest, _caller: Caller
    ) -> secret_service_pb2.ListVersionsResponse:
        self._cloud.store.require("secret", request.secret_id)
        shown, token = page(self._cloud.store.find("secret-version", owner=request.secret_id), request)
        versions = [_version(record) for record in shown]
        return secret_service_pb2.ListVersionsResponse(versions=versions, next_page_token=token)

    def _schedule_destruction(
        self, request: secret_service_pb2.ScheduleVersionDestructionRequest, caller: Caller
    ) -> Operation:
        record = self._cloud.store.require("secret-version", request.version_id, owner=request.secret_id)
        self._cloud.store.save(record, status=Version.SCHEDULED_FOR_DESTRUCTION)
        version = _version(self._cloud.store.require("secret-version", request.version_id))
        metadata = secret_service_pb2.ScheduleVersionDestructionMetadata(
            secret_id=request.secret_id, version_id=version.id
        )
        return self._operation(caller, request.secret_id, "schedule-version-destruction", metadata, version)

    def _operation(self, caller: Caller, secret_id: str, verb: str, metadata: Message, version: Version) -> Operation:
        description = f"{verb.replace('-', ' ').capitalize()} of Lockbox secret"
        operation = self._cloud.operations.start(LOCKBOX, caller, f"secret.{verb}", secret_id, description, metadata)
        return self._cloud.operations.succeed(operation.id, version)

    def _check_create(self, request: secret_service_pb2.CreateSecretRequest) -> Iterator[Violation]:
        yield from self._cloud.check_known("folder", request.folder_id, "folder_id")
        yield from _check_keys(request.version_payload_entries, "version_payload_entries")

    def _entries(self, secret_id: str, version_id: str) -> Iterable[payload_pb2.Payload.Entry]:
        version = self._cloud.store.require("secret-version", version_id, owner=secret_id)
        if version.data["status"] != Version.ACTIVE:
            raise failed_precondition(f"Version {version_id} is scheduled for destruction")
        return version.message(payload_pb2.Payload).entries

    def _new_version(self, secret_id: str, entries: Entries, description: str) -> Version:
        payload = payload_pb2.Payload(version_id=new_id(LOCKBOX), entries=entries.values())
        data = {"description": description, "status": Version.ACTIVE}
        self._cloud.store.put("secret-version", payload.version_id, payload, owner=secret_id, data=data)
        return _version(self._cloud.store.require("secret-version", payload.version_id))


def new_password(length: int, excluded: str, alphabet: str = string.ascii_letters + string.digits) -> str:
    """A random password."""
    characters = [character for character in alphabet if character not in excluded]
    return "".join(secrets.choice(characters) for _ in range(length))


def _generated(secret: Secret) -> Entries:
    """The entry of a secret whose password Lockbox generates; nothing for other secrets."""
    if not secret.HasField("password_payload_specification"):
        return {}
    wanted = secret.password_payload_specification
    kinds = {
        "include_uppercase": string.ascii_uppercase,
        "include_lowercase": string.ascii_lowercase,
        "include_digits": string.digits,
        "include_punctuation": wanted.included_punctuation or _PUNCTUATION,
    }
    # Each kind is included unless the specification says otherwise.
    alphabet = "".join(
        characters
        for name, characters in kinds.items()
        if not wanted.HasField(name) or getattr(wanted, name).value  # type: ignore[arg-type]
    )
    text = new_password(wanted.length or _DEFAULT_LENGTH, wanted.excluded_punctuation, alphabet)
    return {wanted.password_key: payload_pb2.Payload.Entry(key=wanted.password_key, text_value=text)}


def _changes(values: Mapping[str, str]) -> list[secret_service_pb2.PayloadEntryChange]:
    return [secret_service_pb2.PayloadEntryChange(key=key, text_value=text) for key, text in values.items()]


def _refuse_broken(request: Message) -> None:
    if found := violations(request):
        raise invalid(found)


def _version(record: Record) -> Version:
    """A version without its values."""
    payload = record.message(payload_pb2.Payload)
    return Version(
        id=record.id,
        secret_id=record.owner,
        description=record.data["description"],
        status=record.data["status"],
        payload_entry_keys=[entry.key for entry in payload.entries],
    )


def _check_keys(changes: Iterable[secret_service_pb2.PayloadEntryChange], path: str) -> Iterator[Violation]:
    seen: set[str] = set()
    for index, change in enumerate(changes):
        if change.key in seen:
            yield Violation(f"{path}[{index}].key", "is given twice")
        seen.add(change.key)


def _merged(known: Entries, changes: Iterable[secret_service_pb2.PayloadEntryChange]) -> Entries:
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
