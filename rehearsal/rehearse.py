"""`python -m rehearsal.rehearse FOLDER`: every stage, in a folder that is removed afterwards."""

import sys
from pathlib import Path

from deployment.errors import DeploymentError
from emulator.client import EmulatorNotReadyError
from rehearsal.cloud import S3A, RehearsalError, rehearsed_cloud
from rehearsal.folders import LOCAL
from rehearsal.guard import nothing_left
from rehearsal.jobs import emulator_settings
from rehearsal.project import project_in
from rehearsal.services import services_in
from rehearsal.stages import STAGES, Rehearsal, run

VARIABLES = {"bucket_prefix": "rehearsal", "airflow_admin_password": "Not-a-Real-1-Password"}


def main(folder: Path) -> int:
    with nothing_left(folder), rehearsed_cloud(folder, emulator_settings(S3A)) as cloud:
        before = cloud.emulator.resources()
        project = project_in(folder / "project", cloud, VARIABLES)
        services = services_in(folder / LOCAL, cloud, VARIABLES["airflow_admin_password"])
        with services.running:
            rehearsal = Rehearsal(cloud, project.terraform, before, project, services)
            run(STAGES, rehearsal, lambda line: print(line, flush=True))  # noqa: T201
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except (RehearsalError, DeploymentError, EmulatorNotReadyError) as error:
        sys.exit(f"make rehearse: {error}")
