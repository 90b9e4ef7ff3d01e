"""Replay scheduled retraining over simulated months that drift: a first champion, refusals, a promotion.

The dates are fixed and in the past, so the story is the same every time. Everything goes into one folder.
"""

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import click

from fraud_detection.cli import default_tracking_uri, print_step
from fraud_detection.errors import FraudDetectionError
from fraud_detection.outputs import dashboard_file
from fraud_detection.registry.decision_log import DecisionLog
from fraud_detection.runs.progress import history_table
from fraud_detection.runs.request import Request
from fraud_detection.runs.retrain import retrain
from fraud_detection.schema import Decision, Outcome
from fraud_detection.settings import load_settings
from fraud_detection.spark_session import Engine
from fraud_detection.storage import open_folder
from fraud_simulation.command import GivenPath
from fraud_simulation.demo import DEMO, DRIFT_DATE
from fraud_simulation.files import write_days

CONFIG = Path(__file__).parents[1] / "conf" / "demo.yaml"


@click.command()
@click.option("--folder", type=GivenPath(path_type=Path, file_okay=False), default=Path("data/demo"), show_default=True)
@click.option("--engine", type=click.Choice([engine.value for engine in Engine]), default=Engine.SAIL.value)
def main(folder: Path, engine: str) -> None:
    """Simulate transactions into FOLDER, retrain on the demo's dates, and show what was decided."""
    begun = perf_counter()
    source, output = folder / "input_data", folder / "output_data"
    shutil.rmtree(output, ignore_errors=True)  # the decisions of an earlier demo would be returned, not made again
    _simulate(source)
    decisions = []
    for number, as_of in enumerate(DEMO.as_of, start=1):
        click.secho(f"\nrun {number} of {len(DEMO.as_of)}, as of {as_of:%A %Y-%m-%d %H:%M} UTC", bold=True)
        try:
            decisions.append(_run(source, output, as_of, Engine(engine)))
        except FraudDetectionError as error:
            print_step("error", str(error), err=True)
            sys.exit(error.exit_code)
    _summarise(output, decisions, perf_counter() - begun)


def _simulate(source: Path) -> None:
    click.secho(f"simulate {DEMO.days} days from {DEMO.start} into {source}", bold=True)
    shutil.rmtree(source, ignore_errors=True)
    counts = [len(table) for _, table in write_days(DEMO.world, source, DEMO.start, DEMO.days)]
    print_step("simulated", f"{sum(counts):,} transactions in {len(counts)} files")


def _run(source: Path, output: Path, as_of: datetime, engine: Engine) -> Decision:
    request = Request(
        settings=load_settings(CONFIG),
        config=str(CONFIG),
        input_path=str(source),
        output=str(output),
        tracking_uri=default_tracking_uri(str(output)),
        as_of=as_of,
        engine=engine,
        clock=datetime.now(UTC),
    )
    decision = retrain(request, print_step)
    print_step("seconds", f"{sum(decision.seconds.values()):.1f}")
    return decision


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
