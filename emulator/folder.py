"""The state folder: created once, and kept across restarts.

ca.pem                  the authority that clients trust (GRPC_DEFAULT_SSL_ROOTS_FILE_PATH)
server.key, server.pem  the server's own
keys/ACCOUNT.json       service accounts' keys, in the form that the connection takes
control.token           authorises the control calls
cloud.json              ids, address and paths of all that: no secrets
store.sqlite            the state of the cloud
events.jsonl            the event log; events.1.jsonl its older part
jobs/ID/driver.log      a job's log; a link into the bucket once it has ended
buckets/NAME            the buckets, unless the settings name another folder
"""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from google.protobuf.message import Message
from yandex.cloud.access.access_pb2 import AccessBinding, Subject
from yandex.cloud.compute.v1.image_pb2 import Image, Os
from yandex.cloud.iam.v1.service_account_pb2 import ServiceAccount
from yandex.cloud.resourcemanager.v1.cloud_pb2 import Cloud as CloudMessage
from yandex.cloud.resourcemanager.v1.folder_pb2 import Folder
from yandex.cloud.vpc.v1.network_pb2 import Network
from yandex.cloud.vpc.v1.security_group_pb2 import SecurityGroup
from yandex.cloud.vpc.v1.subnet_pb2 import Subnet

from emulator import ids
from emulator.access import Access
from emulator.errors import EmulatorError
from emulator.files import write_atomic
from emulator.keys import are_certificates_valid, make_certificates, make_service_account_key, make_ssh_public_key
from emulator.machines import IMAGE_FOLDER
from emulator.settings import GrantSpec, Settings
from emulator.store import Store


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold a state folder, which is created if needed. Raises EmulatorError if another process holds it."""
    lock = FileLock(state / "lock", timeout=0, mode=0o600)
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire()
    except Timeout as error:
        raise EmulatorError(
            f"another emulator uses the state folder {state}; end that one or name another folder by --state"
        ) from error
    except OSError as error:
        raise EmulatorError(
            f"cannot use the state folder {state}: {error.strerror}; name another by --state"
        ) from error
    try:
        yield
    finally:
        lock.release()


def prepare(state: Path, settings: Settings) -> None:
    """Create what the state folder lacks: certificates, ids, accounts with keys, buckets."""
    state.chmod(0o700)
    for name in ("keys", "jobs"):
        (state / name).mkdir(exist_ok=True, mode=0o700)
    buckets = settings.storage.root or state / "buckets"
    for name in settings.names.buckets:
        (buckets / name).mkdir(parents=True, exist_ok=True)
    if not are_certificates_valid(state):
        make_certificates(state)
    if not (state / "control.token").exists():
        write_atomic(state / "control.token", secrets.token_urlsafe(32).encode())
    store = Store(state / "store.sqlite")
    try:
        with store.transaction():
            _make_names(state, settings, store)
            _make_grants(settings, store)
    finally:
        store.close()


def describe(
    state: Path, settings: Settings, endpoint: str, metadata: str | None = None, storage: str | None = None
) -> None:
    """Write `cloud.json`: what a client needs, without secrets."""
    store = Store(state / "store.sqlite")
    try:
        accounts = {
            record.name: {"id": record.id, "key": str((state / "keys" / f"{record.name}.json").absolute())}
            for record in store.find("service-account")
        }
        description = {
            "endpoint": endpoint,
            "ca": str((state / "ca.pem").absolute()),
            "cloud_id": _only(store, "cloud"),
            "folder_id": _only(store, "folder"),
            "network_id": _only(store, "network"),
            "security_group_id": _only(store, "security-group"),
            "subnets": {record.name: record.id for record in store.find("subnet")},
            "service_accounts": accounts,
            "ssh_public_key": store.find("ssh-key")[0].data["public_key"],
            "buckets": str((settings.storage.root or state / "buckets").absolute()),
            "events": str((state / "events.jsonl").absolute()),
            "metadata": metadata,
            "storage": storage,
        }
    finally:
        store.close()
    write_atomic(state / "cloud.json", json.dumps(description, indent=2).encode())


def _make_names(state: Path, settings: Settings, store: Store) -> None:
    names = settings.names
    cloud_id = _ensure(store, "cloud", names.cloud_id, ids.FOLDER)
    _save(store, "cloud", cloud_id, CloudMessage(id=cloud_id, name="default"))
    folder_id = _ensure(store, "folder", names.folder_id, ids.FOLDER, owner=cloud_id)
    _save(store, "folder", folder_id, Folder(id=folder_id, cloud_id=cloud_id, name="default", status=Folder.ACTIVE))
    network_id = _ensure(store, "network", names.network_id, ids.NETWORK, owner=folder_id)
    _save(store, "network", network_id, Network(id=network_id, folder_id=folder_id, name="default"))
    group_id = _ensure(store, "security-group", names.security_group_id, ids.NETWORK, owner=folder_id)
    group = SecurityGroup(id=group_id, folder_id=folder_id, network_id=network_id, name="default")
    _save(store, "security-group", group_id, group)
    for number, zone in enumerate(names.zones):
        store.put("zone", zone, name=zone)
        subnet_id = _ensure(store, "subnet", names.subnets.get(zone), ids.SUBNET, owner=folder_id, name=zone)
        subnet = Subnet(id=subnet_id, folder_id=folder_id, name=zone, network_id=network_id, zone_id=zone)
        subnet.v4_cidr_blocks.append(f"10.128.{number}.0/24")
        _save(store, "subnet", subnet_id, subnet)
    for name, id_ in names.service_accounts.items():
        account_id = _ensure(store, "service-account", id_, ids.ACCOUNT, owner=folder_id, name=name)
        _save(store, "service-account", account_id, ServiceAccount(id=account_id, folder_id=folder_id, name=name))
        _ensure_key(state / "keys" / f"{name}.json", store, account_id)
    for family, id_ in names.images.items():
        image_id = _ensure(store, "image", id_, "fd8", owner=IMAGE_FOLDER, name=family)
        image = Image(
            id=image_id, folder_id=IMAGE_FOLDER, name=family, family=family, status=Image.READY, os=Os(type=Os.LINUX)
        )
        _save(store, "image", image_id, image)
    if not store.find("ssh-key"):
        store.put("ssh-key", "default", data={"public_key": make_ssh_public_key()})


def _make_grants(settings: Settings, store: Store) -> None:
    """Add the access bindings of the settings; those that API calls made stay."""
    every = tuple(GrantSpec(account=name, role="admin") for name in settings.names.service_accounts)
    access = Access(store, {})
    for grant in every if settings.grants is None else settings.grants:
        account = store.find("service-account", name=grant.account)[0].id
        on = store.find("service-account", name=grant.on)[0].id if grant.on else _only(store, "folder")
        subject = Subject(id=account, type="serviceAccount")
        access.add(on, AccessBinding(role_id=grant.role, subject=subject))


def _ensure(store: Store, kind: str, wanted: str | None, prefix: str, *, owner: str = "", name: str = "default") -> str:
    """The id of a resource: from the settings, the existing one, or a new one."""
    there = store.find(kind, name=name)
    if there and wanted in (None, there[0].id):
        return there[0].id
    if there:
        raise EmulatorError(
            f"the settings want {kind} {name} to be {wanted}, the state folder has {there[0].id}; "
            "use another state folder for another cloud"
        )
    id_ = wanted or ids.new_id(prefix)
    store.put(kind, id_, owner=owner, name=name)
    return id_


def _save(store: Store, kind: str, id_: str, message: Message) -> None:
    record = store.get(kind, id_)
    if record is not None and not record.body:
        store.save(record, message)


def _ensure_key(path: Path, store: Store, account_id: str) -> None:
    """Create a key unless its file and its record agree; the keys before it become invalid."""
    if path.exists():
        content = json.loads(path.read_text(encoding="utf-8"))
        known = store.get("key", str(content.get("id")))
        if known is not None and known.owner == account_id:
            return
    for old in store.find("key", owner=account_id):
        store.delete("key", old.id)
    key_id, public_key = make_service_account_key(path, account_id)
    store.put("key", key_id, owner=account_id, data={"public_key": public_key})


def _only(store: Store, kind: str) -> str:
    return store.find(kind)[0].id
