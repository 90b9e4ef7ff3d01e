"""The managed PostgreSQL: a real server with the users, databases and passwords of the emulated cluster.

The server of the wheel knows no TLS, which the managed one requires: a small relay in front of it does.
"""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yandex.cloud.connectionmanager.v1.connection_service_pb2 import GetConnectionRequest
from yandex.cloud.connectionmanager.v1.connection_service_pb2_grpc import ConnectionServiceStub
from yandex.cloud.mdb.postgresql.v1.database_service_pb2 import ListDatabasesRequest
from yandex.cloud.mdb.postgresql.v1.database_service_pb2_grpc import DatabaseServiceStub
from yandex.cloud.mdb.postgresql.v1.user_service_pb2 import ListUsersRequest
from yandex.cloud.mdb.postgresql.v1.user_service_pb2_grpc import UserServiceStub

from local_stack import postgres
from local_stack.components import BY_NAME
from local_stack.settings import Stack
from rehearsal.account import Account
from rehearsal.processes import running, wait_for

_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_CHUNK = 1 << 16


@contextmanager
def database_server(stack: Stack, passwords: dict[str, str]) -> Iterator[None]:
    """PostgreSQL at the stack's port, with Airflow's database."""
    postgres.initialise(stack, passwords["postgres"])
    launch, log = BY_NAME["postgres"].launch(stack), stack.logs / "postgres.log"
    with running(launch.command, launch.environment, log, before=launch.before) as process:
        wait_for(lambda: postgres.answers(stack, passwords), "PostgreSQL", process=process, log=log)
        postgres.create_databases(stack, passwords, ["airflow"])
        yield


def make_cluster(administrator: Account, cluster_id: str, stack: Stack, passwords: dict[str, str]) -> str:
    """Make the users and databases that the API lists for a cluster; returns them in words."""
    users = administrator.call(UserServiceStub, "List", ListUsersRequest(cluster_id=cluster_id)).users
    databases = administrator.call(DatabaseServiceStub, "List", ListDatabasesRequest(cluster_id=cluster_id)).databases
    statements = []
    for user in users:
        connection = administrator.call(
            ConnectionServiceStub, "Get", GetConnectionRequest(connection_id=user.connection_manager.connection_id)
        )
        (password,) = administrator.payload(connection.lockbox_secret.id).values()
        statements.append(f"CREATE ROLE \"{user.name}\" LOGIN PASSWORD '{password.replace(chr(39), 2 * chr(39))}';")
    statements += [f'CREATE DATABASE "{found.name}" OWNER "{found.owner}";' for found in databases]
    postgres.query(stack, passwords, "\n".join(statements))
    return f"{', '.join(found.name for found in databases)} of {', '.join(user.name for user in users)}"


@contextmanager
def encrypted(state: Path, port: int) -> Iterator[int]:
    """A relay to a server's port that takes encrypted connections alone, with the emulator's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(state / "server.pem", state / "server.key")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST:
            writer.write(b"S")
            await writer.start_tls(context)
            to_reader, to_writer = await asyncio.open_connection(postgres.HOST, port)
            await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer))
        writer.close()

    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(relay, postgres.HOST, 0), loop).result()
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(_end_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_others() -> None:
    """End the connections that are still open."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what one side sends, until it ends."""
    try:
        while content := await reader.read(_CHUNK):
            writer.write(content)
            await writer.drain()
    except OSError:  # the other side is gone: its own copy ends, too
        pass
    finally:
        writer.close()
