"""`python -m emulator VERB`: the emulator from the command line."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click
import grpc

from emulator import folder
from emulator.client import Emulator, EmulatorNotReadyError, wait_for
from emulator.errors import EmulatorError
from emulator.faults import FaultKind
from emulator.options import GivenPath
from emulator.settings import load

F = TypeVar("F", bound=Callable[..., Any])


def _state(function: F) -> F:
    return click.option(
        "--state",
        type=GivenPath(
            file_okay=False, path_type=Path, resolve_path=True
        ),  # jobs have working directories of their own
        default="data/cloud",
        show_default=True,
        envvar="LOCALCLOUD_STATE",
        help="State folder of the emulator.",
    )(function)


def _settings(function: F) -> F:
    config = click.option(
        "--config",
        type=GivenPath(dir_okay=False, path_type=Path),
        envvar="LOCALCLOUD_CONFIG",
        help="Settings, a YAML file.",
    )
    port = click.option("--port", type=int, help="Port of the API on 127.0.0.1; 0 takes any free one.")
    return config(port(function))


class _NotReadyFailure(click.ClickException):
    exit_code = 75  # a service cannot be reached: try again


class _Group(click.Group):
    """Shows expected errors as one sentence, without a stack trace."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except EmulatorError as error:
            raise click.ClickException(str(error)) from error
        except EmulatorNotReadyError as error:
            raise _NotReadyFailure(str(error)) from error
        except grpc.RpcError as error:
            raise _api_failure(error) from error


def _api_failure(error: Any) -> click.ClickException:
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return _NotReadyFailure("the emulator does not answer; start it: python -m emulator serve")
    return click.ClickException(f"{error.code().name}: {error.details()}")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """An emulator of the Yandex Cloud API on this machine that really runs Data Proc jobs."""


@main.command()
@_state
@_settings
def init(state: Path, config: Path | None, port: int | None) -> None:
    """Create the state folder: certificates, ids, service accounts and their keys. Existing ones are kept."""
    settings = load(config, port)
    with folder.locked(state):
        folder.prepare(state, settings)
        folder.describe(state, settings, f"127.0.0.1:{settings.port}")
    click.echo((state / "cloud.json").read_text(encoding="utf-8"))


@main.command()
@_state
@_settings
def serve(state: Path, config: Path | None, port: int | None) -> None:
    """Serve the API until SIGTERM or Ctrl-C."""
    from emulator.server import serve as run  # the API's descriptions take a second to import

    def ready(address: str) -> None:
        click.echo(f"ready: https://{address} (state in {state}, CA {state / 'ca.pem'})")
        sys.stdout.flush()

    run(state, load(config, port), ready)


@main.command()
@_state
@click.option("--wait", type=float, default=0.0, help="Seconds to wait until the emulator is available.")
def health(state: Path, wait: float) -> None:
    """Exit with 0 if the emulator is available, with 75 if not."""
    if not wait_for(Emulator(state).health, wait):
        raise EmulatorNotReadyError(f"the emulator of {state} does not answer; start it: python -m emulator serve")
    click.echo("ok")


@main.command()
@_state
def connection(state: Path) -> None:
    """Show the Airflow connection to this cloud: the value of AIRFLOW_CONN_YANDEXCLOUD_DEFAULT."""
    click.echo(json.dumps(Emulator(state).connection()))


@main.command()
@click.argument("kind", type=click.Choice([*(kind.value for kind in FaultKind), "list", "clear"]))
@_state
@click.option("--times", type=int, help="How often the fault occurs (default 1).")
@click.option("--seconds", type=float, help="How long: create-slow, delete-slow, api-unavailable, job-exit-code.")
@click.option("--code", help="gRPC status of the reply, such as UNAVAILABLE or DEADLINE_EXCEEDED.")
@click.option("--exit-code", type=int, help="job-exit-code: the driver's exit code (default 1).")
@click.option("--method", help="reply-lost: the call (default ClusterService/Create).")
@click.option("--match", help="Only clusters or jobs whose name matches this shell pattern.")
def fault(kind: str, state: Path, **parameters: object) -> None:
    """Arm a fault; `list` shows the armed faults, `clear` disarms them."""
    emulator = Emulator(state)
    if kind == "list":
        for armed in emulator.faults():
            click.echo(json.dumps(armed))
    elif kind == "clear":
        click.echo(f"disarmed {emulator.clear_faults()}")
    else:
        given = {name: value for name, value in parameters.items() if value is not None}
        click.echo(f"armed {kind} ({emulator.add_fault(kind, **given)})")


@main.command()
@_state
@click.option("--kind", help="Only events of this kind: call, cluster, job, operation, fault, note, emulator, …")
@click.option("--last", type=int, help="Only the last N events.")
@click.option("--follow", is_flag=True, help="Follow the log.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON lines of the log.")
def events(state: Path, kind: str | None, last: int | None, follow: bool, as_json: bool) -> None:
    """Show the event log."""
    emulator = Emulator(state)
    found = emulator.events(kind)
    new: Sequence[dict[str, Any]] = found[-last:] if last else found
    while True:
        for event in new:
            click.echo(json.dumps(event) if as_json else _line(event))
        if not follow:
            return
        time.sleep(0.5)
        before, found = found, emulator.events(kind)
        new = found[found.index(before[-1]) + 1 :] if before and before[-1] in found else found


@main.command()
@_state
@click.option("--json", "as_json", is_flag=True, help="Print JSON, in the format of the API.")
def clusters(state: Path, as_json: bool) -> None:
    """Show the existing clusters."""
    found = Emulator(state).clusters()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for cluster in found:
        labels = ",".join(f"{key}={value}" for key, value in sorted(cluster.get("labels", {}).items()))
        status = cluster.get("status", "STATUS_UNKNOWN")
        click.echo(f"{cluster['id']}  {status:14}  {cluster['createdAt'][:19]}Z  {cluster['name']}  {labels}")


@main.command()
@_state
@click.argument("job_id", required=False)
def jobs(state: Path, job_id: str | None) -> None:
    """Show all jobs, or the output of the driver of one."""
    emulator = Emulator(state)
    if job_id is not None:
        click.echo(emulator.log(job_id), nl=False)
        return
    for job in emulator.jobs():
        code = "" if job["exitCode"] is None else f"exit {job['exitCode']}"
        click.echo(f"{job['id']}  {job['status']:12}  {job['createdAt'][:19]}Z  {code:8}  {job.get('name', '')}")


@main.command()
@click.argument("name")
@click.argument("key")
@_state
@click.option("--file", type=click.File(), default="-", help="File with the value (default: standard input).")
def secret(name: str, key: str, state: Path, file: TextIO) -> None:
    """Put a value into a Lockbox secret, which is created if necessary; shows the id of the secret."""
    click.echo(Emulator(state).put_secret(name, {key: file.read().rstrip("\n")}))


def _line(event: dict[str, Any]) -> str:
    rest = "  ".join(
        f"{key}={value}"
        for key, value in event.items()
        if key not in ("time", "event", "request_id", "milliseconds") and value is not None
    )
    return f"{event['time'][:23]}Z  {event['event']:10}  {rest}"
