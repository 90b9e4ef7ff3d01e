"""`python -m rehearsal`: every stage, in a folder that is removed afterwards."""

import sys
import tempfile
from pathlib import Path

from rehearsal.cloud import RehearsalError, rehearsed_cloud
from rehearsal.project import project_in
from rehearsal.stages import STAGES, Rehearsal, run

VARIABLES = {"bucket_prefix": "rehearsal", "airflow_admin_password": "Not-a-Real-1-Password"}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder, rehearsed_cloud(Path(folder)) as cloud:
        before = cloud.emulator.resources()
        project = project_in(Path(folder) / "project", cloud, VARIABLES)
        run(STAGES, Rehearsal(cloud, project.terraform, before, project), lambda line: print(line, flush=True))  # noqa: T201
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RehearsalError as error:
        sys.exit(f"make rehearse: {error}")
