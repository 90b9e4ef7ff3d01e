"""The record of clusters, kept between tasks and runs in an Airflow variable; `costs` has the rules."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
from airflow.providers.common.compat.sdk import AirflowFailException, Variable
from airflow.providers.yandex.hooks.dataproc import DataprocHook

from fraud_detection_common.clusters import find_clusters
from fraud_detection_common.costs import VARIABLE, Ledger, Prices, Spent, hosts_of
from fraud_detection_common.gate import skip
from fraud_detection_common.naming import PROJECT

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def read_ledger() -> Ledger:
    """The record of clusters, empty before the first."""
    return Ledger.parse(Variable.get(VARIABLE, None))


def change_ledger(change: Callable[[Ledger, datetime], Ledger]) -> Ledger:
    """Apply a change to the record and store it. Runs and their tasks follow one another, so no change is lost."""
    before = read_ledger()
    after = change(before, datetime.now(UTC))
    if after != before:
        Variable.set(VARIABLE, after.text)
    return after


def prices_of(host_prices: str, currency: str) -> Prices:
    """The prices in the DAG's settings.

    Raises:
        AirflowFailException: a price is not a positive number.
    """
    found = json.loads(host_prices)
    for name, price in found.items() if isinstance(found, dict) else [("", None)]:
        if isinstance(price, bool) or not isinstance(price, int | float) or not price > 0:
            raise AirflowFailException(
                f"host_prices is not right{f' at {name!r}' if name else ''}; expected the price of an hour of one host "
                'by host class, such as {"s3-c4-m16": 9.64}; next: correct it in variables.json, then make '
                "import-variables"
            )
    return Prices(currency, found)


def settle(hook: DataprocHook, folder_id: str, project: str) -> None:
    """Close the clusters of earlier runs that do not exist any more: deleted by the reaper, or by a person."""
    if not read_ledger().open:
        return
    try:
        found = find_clusters(hook, folder_id or hook.default_folder_id, {PROJECT: project})
    except grpc.RpcError as error:  # they count as running until the cloud answers again
        print(f"the clusters of earlier runs cannot be listed: {error.code().name}; they count as running")
        return
    names = {cluster.name for cluster in found}
    change_ledger(lambda ledger, now: ledger.settled(names, now))


def require_budget(context: Context, answer: dict[str, Any], settings: Mapping[str, str], *, preemptible: bool) -> None:
    """Skip the run if the day's budget is used up; the first that is skipped notifies people.

    Raises:
        AirflowFailException: there is a budget and a host of the cluster has no price; or the budget is used up and a
            person forces the run; or a setting is not right.
    """
    prices = prices_of(settings["host_prices"], settings["currency"])
    budget = _budget(settings["daily_budget"])
    hosts = hosts_of(
        settings["master_preset"],
        settings["compute_preset"],
        int(settings["compute_count"]),
        preemptible=preemptible,
    )
    if budget and (missing := prices.missing(hosts)):
        raise AirflowFailException(
            f"daily_budget is {budget:g}, but {' and '.join(missing)} is not set; no cluster was created; next: set it "
            "in variables.json, then make import-variables (docs/orchestration.md)"
        )
    ledger, now = read_ledger(), datetime.now(UTC)
    answer["spent_today"] = ledger.spent_on(now, now, prices.currency).text
    print(f"the clusters of {now:%Y-%m-%d} (UTC) cost {answer['spent_today']} until now")
    reason = ledger.reason_to_stop(budget, prices.currency, now)
    if reason is None:
        return
    if context["params"]["force"]:
        context["ti"].xcom_push(key="return_value", value=answer)
        raise AirflowFailException(f"{reason}: force does not exceed a budget")
    change_ledger(lambda found, at: found.noted(at))
    print(reason)
    skip(context, {**answer, "due": False, "reason": reason, "announce": not ledger.was_announced(now)})


def _budget(text: str) -> float:
    try:
        budget = float(text or 0)
    except ValueError:
        budget = -1.0
    if not 0 <= budget < math.inf:
        raise AirflowFailException(
            "daily_budget is not right; expected a number, at least 0, which is no limit; next: correct it in "
            "variables.json, then make import-variables"
        )
    return budget


def spent_by_run(run: str, currency: str) -> Spent:
    """What the clusters of the run with this label cost until now."""
    return read_ledger().spent_by(run, datetime.now(UTC), currency)
