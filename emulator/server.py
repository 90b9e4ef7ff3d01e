"""Builds the emulator from its parts, starts it, and stops it without leaving processes behind."""

import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
from yandex.cloud.dataproc.v1 import (
    cluster_service_pb2,
    job_service_pb2,
    resource_preset_service_pb2,
    subcluster_service_pb2,
)
from yandex.cloud.endpoint import api_endpoint_service_pb2
from yandex.cloud.iam.v1 import iam_token_service_pb2
from yandex.cloud.lockbox.v1 import payload_service_pb2
from yandex.cloud.operation import operation_service_pb2

from emulator import folder
from emulator.access import Access
from emulator.catalogue import DATAPROC, PARENTS, Catalogue, catalogue, is_excused
from emulator.clock import Clock
from emulator.cloud import Cloud
from emulator.clusters import Clusters, Subclusters
from emulator.control import Control
from emulator.directory import Endpoints, ResourcePresets
from emulator.errors import EmulatorError, Violation
from emulator.events import EventLog
from emulator.faults import Faults
from emulator.gateway import Check, Gateway, Method, Needs, Service, no_needs
from emulator.iam import Iam
from emulator.jobs import Jobs
from emulator.lockbox import Lockbox
from emulator.metadata import MetadataServer, MetadataServers
from emulator.operations import Operations
from emulator.retention import Retention
from emulator.runners import Runner, SparkRunner, StubRunner
from emulator.s3 import S3Server
from emulator.s3_front import S3Front
from emulator.settings import Settings
from emulator.specs import is_operator_name
from emulator.store import Store

_WORKERS = 16
_GRACE = 1.0  # seconds for calls that are under way


def serve(state: Path, settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; calls `ready` with the address once calls are answered.

    Raises EmulatorError if it cannot start, or if a part of it has failed.
    """
    stop = threading.Event()
    failure: list[str] = []

    def on_thread_failure(arguments: threading.ExceptHookArgs) -> None:
        # A clock or a job thread that dies would leave states standing still: better no emulator than a silent one.
        failure.append(f"{arguments.thread and arguments.thread.name}: {arguments.exc_value!r}")
        threading.__excepthook__(arguments)
        stop.set()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    with folder.locked(state), ExitStack() as stack:
        folder.prepare(state, settings)
        threading.excepthook = on_thread_failure
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        ready(_start(state, settings, stack))
        stop.wait()
    if failure:
        raise EmulatorError(f"the emulator ended because a part of it failed: {'; '.join(failure)}")


def _start(state: Path, settings: Settings, stack: ExitStack) -> str:
    """Start everything; the stack ends it in the opposite order. Returns the address."""
    port = _free_port(settings.port)
    address = f"127.0.0.1:{port}"
    events = EventLog(state / "events.jsonl", settings.retention.event_log_bytes)
    stack.callback(events.close)
    store = Store(state / "store.sqlite")
    stack.callback(store.close)
    cloud = Cloud(
        state=state,
        settings=settings,
        store=store,
        events=events,
        faults=Faults(store, events),
        clock=Clock(store),
        operations=Operations(store, events),
        access=Access(store, PARENTS),
    )
    iam = Iam(store, settings.token_lifetime, audiences=_audiences(port))
    storage_port = None if settings.storage.port is None else _free_port(settings.storage.port)
    storage_address = None if storage_port is None else f"http://127.0.0.1:{storage_port}"
    jobs = Jobs(cloud, _runner(cloud), iam, address, storage_address)
    endpoint = settings.storage.s3_endpoint
    s3 = S3Server(endpoint) if endpoint is not None else None
    known = catalogue(cloud, s3)
    services = [*known.resources.services(), *_services(cloud, iam, jobs, known.lockbox, address)]
    metadata = _start_metadata(cloud, iam, stack)
    storage = _start_storage(cloud, iam, known, s3, storage_port, stack)
    jobs.settle_interrupted()
    cloud.faults.replace_configured(settings.faults)
    Retention(cloud, jobs).begin()
    cloud.clock.start()
    stack.callback(jobs.close)
    stack.callback(cloud.clock.stop)
    gateway = Gateway(
        store, events, iam, cloud.faults, cloud.access, lambda found, asked: _is_excused(found, asked, cloud)
    )
    handlers = [gateway.handler(service) for service in services]
    machines = MetadataServers(iam, cloud)
    stack.callback(machines.close)
    handlers.append(Control(cloud, iam, known.lockbox, machines, (state / "control.token").read_text()).handler())
    server = _grpc_server(state, handlers, port)
    events.write("emulator", status="STARTED", endpoint=address, runner=settings.jobs.runner)
    stack.callback(events.write, "emulator", status="STOPPED")
    stack.callback(lambda: server.stop(_GRACE).wait())
    folder.describe(state, settings, address, metadata, storage)
    return address


def _services(cloud: Cloud, iam: Iam, jobs: Jobs, lockbox: Lockbox, address: str) -> list[Service]:
    """The services that are written by hand."""
    endpoints, presets = Endpoints(lambda: address), ResourcePresets(cloud.settings.names.zones)
    operations: dict[str, Method] = {"Get": cloud.operations.get, "Cancel": cloud.operations.cancel}
    clusters, subclusters = Clusters(cloud, jobs, DATAPROC["cluster"]), Subclusters(cloud)
    described: tuple[tuple[Any, str, dict[str, Method], dict[str, Check], Needs], ...] = (
        (
            resource_preset_service_pb2,
            "ResourcePresetService",
            {"Get": presets.get, "List": presets.list},
            {},
            no_needs,
        ),
        (operation_service_pb2, "OperationService", operations, {}, no_needs),
        (payload_service_pb2, "PayloadService", lockbox.payload_methods, {}, lockbox.payload_needs),
        (cluster_service_pb2, "ClusterService", clusters.methods, clusters.checks, clusters.needs),
        (
            subcluster_service_pb2,
            "SubclusterService",
            subclusters.methods,
            subclusters.checks,
            DATAPROC["subcluster"].needs,
        ),
        (job_service_pb2, "JobService", jobs.methods, jobs.checks, DATAPROC["job"].needs),
    )
    anonymous: tuple[tuple[Any, str, dict[str, Method]], ...] = (
        (api_endpoint_service_pb2, "ApiEndpointService", {"Get": endpoints.get, "List": endpoints.list}),
        (iam_token_service_pb2, "IamTokenService", {"Create": iam.create}),
    )
    return [
        *(
            Service(module.DESCRIPTOR.services_by_name[name], methods, checks, needs)
            for module, name, methods, checks, needs in described
        ),
        *(
            Service(module.DESCRIPTOR.services_by_name[name], methods, anonymous=True)
            for module, name, methods in anonymous
        ),
    ]


def _is_excused(violation: Violation, request: Any, cloud: Cloud) -> bool:
    return is_excused(violation, request) or is_operator_name(violation, request, cloud)


def _grpc_server(state: Path, handlers: list[grpc.GenericRpcHandler], port: int) -> grpc.Server:
    # Without so_reuseport=0 two emulators would share a port, and each get some of the calls.
    server = grpc.server(ThreadPoolExecutor(_WORKERS), options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers(handlers)
    key, certificate = (state / "server.key").read_bytes(), (state / "server.pem").read_bytes()
    try:
        server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(key, certificate)]))
    except RuntimeError as error:
        raise _taken(port) from error
    server.start()
    return server


def _start_metadata(cloud: Cloud, iam: Iam, stack: ExitStack) -> str | None:
    """Start the metadata endpoint of this machine, if the settings ask for one."""
    if cloud.settings.metadata_port is None:
        return None
    account = cloud.store.find("service-account", name=cloud.settings.metadata_service_account)[0]
    server = MetadataServer(iam, cloud, account.id, "this machine", cloud.settings.metadata_port)
    return stack.enter_context(server).address


def _start_storage(
    cloud: Cloud, iam: Iam, known: Catalogue, server: S3Server | None, port: int | None, stack: ExitStack
) -> str | None:
    """Start Object Storage in front of the S3 server, if the settings ask for it."""
    if server is None or port is None:
        return None
    return stack.enter_context(S3Front(cloud, iam, known.resources, server, port)).address


def _runner(cloud: Cloud) -> Runner:
    jobs = cloud.settings.jobs
    if jobs.runner == "spark":
        return SparkRunner(cloud)
    return StubRunner(jobs.stub.seconds, jobs.stub.exit_code, jobs.stub.command)


def _audiences(port: int) -> Callable[[], list[str]]:
    """The audiences of a JWT besides that of the real cloud; the SDK derives them from the endpoint."""
    return lambda: [f"https://iam.{host}:{port}/iam/v1/tokens" for host in ("127.0.0.1", "localhost")]


def _free_port(port: int) -> int:
    """The port itself if it is free, a free one for 0. Raises EmulatorError for a taken one."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise _taken(port) from error
        found: int = probe.getsockname()[1]
        return found


def _taken(port: int) -> EmulatorError:
    return EmulatorError(f"port {port} on 127.0.0.1 is taken; end what uses it or choose another by --port")
