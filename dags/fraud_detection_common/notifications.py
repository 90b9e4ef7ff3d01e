"""What people see of a run: messages through a Slack-compatible webhook, a heartbeat for a monitor, the run's note."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseNotifier

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_HEARTBEAT_SECONDS = 10.0


class WebhookNotifier(BaseNotifier):
    """Sends a text through a Slack-compatible webhook, if the settings name a connection for it."""

    def __init__(self, *, connection_id: str, text: str) -> None:
        super().__init__()
        self.connection_id = connection_id
        self.text = text

    def notify(self, context: Context) -> None:
        # Rendered here: Airflow renders a notifier in place, once for all tasks that share it, and Airflow 2 keeps the
        # template itself if the result is empty.
        environment = self.get_template_env(dag=context["dag"])
        connection_id = self.render_template(self.connection_id, context, environment)
        text = self.render_template(self.text, context, environment)
        if not connection_id or not text:
            return
        # Imported late: parsing the DAGs is cheaper without it, and works without the provider.
        from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

        SlackWebhookNotifier(slack_webhook_conn_id=connection_id, text=text).notify(context)


def send_heartbeat(connection_id: str) -> None:
    """Call the monitor that the settings name, if they name one: it notifies people when the calls stop.

    The connection's host is the address, and its password, if there is one, the secret last part of it. A monitor that
    does not answer fails no run: it notices by itself.
    """
    if not connection_id:
        return
    import requests
    from airflow.providers.common.compat.sdk import BaseHook

    connection = BaseHook.get_connection(connection_id)
    address = "/".join(part.rstrip("/") for part in (connection.host or "", connection.password or "") if part)
    try:
        answer = requests.get(address, timeout=_HEARTBEAT_SECONDS, allow_redirects=False)
        print(f"heartbeat through {connection_id}: {answer.status_code}")
    except requests.RequestException as error:  # its text contains the address
        print(f"heartbeat through {connection_id}: failed ({type(error).__name__})")


def write_run_note(context: Context, text: str) -> None:
    """Write the run's note, which its page and the grid show; only Airflow 2 lets a task do so."""
    from airflow import __version__

    if not __version__.startswith("2."):
        return
    from airflow.models import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        run = context["dag_run"]
        session.query(DagRun).filter_by(dag_id=run.dag_id, run_id=run.run_id).one().note = text
