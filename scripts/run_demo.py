"""Replay scheduled retraining over simulated months that drift, and score the last day with the model that serves.

The dates are fixed and in the past, so the story is the same every time. Everything goes into one folder.
"""

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud_detection.cli import default_tracking_uri, print_step
from fraud_detection.errors import FraudDetectionError
from fraud_detection.outputs import dashboard_file
from fraud_detection.registry.decision_log import DecisionLog
from fraud_detection.runs.progress import history_table
from fraud_detection.runs.request import Request
from fraud_detection.runs.retrain import retrain
from fraud_detection.runs.score import score
from fraud_detection.schema import Decision, Outcome
from fraud_detection.scores import ScoreStore
from fraud_detection.settings import load_settings
from fraud_detection.spark_session import Engine
from fraud_detection.storage import open_folder
from fraud_simulation.command import GivenPath
from fraud_simulation.demo import DEMO, DRIFT_DATE
from fraud_simulation.files import write_days

CONFIG = Path(__file__).parents[1] / "conf" / "demo.yaml"
SHOWN_ALERTS = 5


@click.command()
@click.option("--folder", type=GivenPath(path_type=Path, file_okay=False), default=Path("data/demo"), show_default=True)
@click.option("--engine", type=click.Choice([engine.value for engine in Engine]), default=Engine.SAIL.value)
def main(folder: Path, engine: str) -> None:
    """Simulate transactions into FOLDER, retrain on the demo's dates, and show what was decided."""
    begun = perf_counter()
    source, output = folder / "input_data", folder / "output_data"
    shutil.rmtree(output, ignore_errors=True)  # the decisions of an earlier demo would be returned, not made again
    _simulate(source)
    decisions: list[Decision] = []
    for number, as_of in enumerate(DEMO.as_of, start=1):
        click.secho(f"\nrun {number} of {len(DEMO.as_of)}, as of {as_of:%A %Y-%m-%d %H:%M} UTC", bold=True)
        request = _request(source, output, as_of, Engine(engine))
        try:
            if decisions:
                score(request, _show_scoring)
            decisions.append(_run(request))
        except FraudDetectionError as error:
            print_step("error", str(error), err=True)
            sys.exit(error.exit_code)
    _show_alerts(source, output, decisions[-1].model_name)
    _summarise(output, decisions, perf_counter() - begun)


def _simulate(source: Path) -> None:
    click.secho(f"simulate {DEMO.days} days from {DEMO.start} into {source}", bold=True)
    shutil.rmtree(source, ignore_errors=True)
    counts = [len(table) for _, table in write_days(DEMO.world, source, DEMO.start, DEMO.days)]
    print_step("simulated", f"{sum(counts):,} transactions in {len(counts)} files")


def _request(source: Path, output: Path, as_of: datetime, engine: Engine) -> Request:
    return Request(
        settings=load_settings(CONFIG),
        config=str(CONFIG),
        input_path=str(source),
        output=str(output),
        tracking_uri=default_tracking_uri(str(output)),
        as_of=as_of,
        engine=engine,
        clock=datetime.now(UTC),
    )


def _run(request: Request) -> Decision:
    decision = retrain(request, print_step)
    print_step("seconds", f"{sum(decision.seconds.values()):.1f}")
    return decision


def _show_scoring(step: str, text: str) -> None:
    """What the champion has scored since the last run, what it was worth, and what it may be worth now."""
    if step in {"scored", "alerts", "service", "estimate", "warning"}:
        print_step(step, text)


def _show_alerts(source: Path, output: Path, model_name: str) -> None:
    """The last day's alerts with the highest scores, beside what the simulation knows and the model did not."""
    scores = ScoreStore(open_folder(str(output)), model_name)
    manifest = scores.newest()
    rows = None if manifest is None else scores.rows(manifest, manifest.days[-1].day)
    if manifest is None or rows is None:
        raise FraudDetectionError("nothing was scored; expected the last day; please report this as a bug")
    frauds = _frauds(source)
    caught = pc.and_(pc.fill_null(rows["alert"], False), pc.is_in(rows["transaction_id"], frauds["transaction_id"]))
    alerts = rows.filter(pc.fill_null(rows["alert"], False)).sort_by([("probability", "descending")])
    taken = frauds.filter(pc.is_in(frauds["transaction_id"], rows["transaction_id"]))
    click.secho(
        f"\nthe first {SHOWN_ALERTS} alerts of {manifest.days[-1].day}, with the score of v{manifest.version}",
        bold=True,
    )
    click.echo(f"{'time':<7}{'score':>7}{'amount':>10}  {'in truth':<10}reasons")
    for one in alerts.slice(0, SHOWN_ALERTS).to_pylist():
        truth = "fraud" if one["transaction_id"] in frauds["transaction_id"].to_pylist() else "genuine"
        time, reasons = f"{one['transaction_time']:%H:%M}", ", ".join(one["reasons"])
        click.echo(f"{time:<7}{one['probability']:>7.3f}{one['amount']:>10,.2f}  {truth:<10}{reasons}")
    found = rows.filter(caught)
    stopped, lost = (pc.sum(some["amount"]).as_py() or 0.0 for some in (found, taken))
    click.echo(
        f"\nThe {alerts.num_rows} alerts hold {found.num_rows} of the {taken.num_rows} frauds of that day: stopping"
        f" them would have saved {stopped:,.0f} of {lost:,.0f}."
    )


def _frauds(source: Path) -> pa.Table:
    """The frauds of the simulated transactions, also those whose chargeback comes later; ids as text, like scores."""
    rows = pq.read_table(source, columns=["transaction_id", "amount", "fraud"], filters=[("fraud", "==", 1)])
    return rows.set_column(0, "transaction_id", rows["transaction_id"].cast(pa.string()))


def _summarise(output: Path, decisions: list[Decision], seconds: float) -> None:
    click.secho(f"\n{len(decisions)} runs in {seconds:.0f} s; the history:", bold=True)
    for line in history_table(DecisionLog(open_folder(str(output)), decisions[0].model_name).history()):
        click.echo(line)
    promotions = [decision for decision in decisions if decision.outcome is Outcome.PROMOTED]
    known_by = DEMO.new_fraud_known_by
    shown = {
        "a first champion": any(decision.champion_version is None for decision in promotions),
        f"a promotion of the new frauds by {known_by:%Y-%m-%d}": any(
            decision.champion_version is not None and DRIFT_DATE <= decision.as_of.date() <= known_by
            for decision in promotions
        ),
        "a refusal before them": any(
            decision.outcome is Outcome.REFUSED and decision.as_of.date() <= DRIFT_DATE for decision in decisions
        ),
    }
    missing = [what for what, seen in shown.items() if not seen]
    if missing:
        print_step("error", f"the demo should have shown {', '.join(missing)}; please report this as a bug", err=True)
        sys.exit(1)
    last = promotions[-1]
    click.echo(f"\nopen {last.report} in a browser to see why v{last.version} was promoted,")
    click.echo(f"and {output / dashboard_file(last.model_name)} for what serves, how well, and what waits")


if __name__ == "__main__":
    main()
