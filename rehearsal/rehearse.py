"""`python -m rehearsal`: every stage, in a folder that is removed afterwards."""

import signal
import sys
import tempfile
from pathlib import Path

from deployment.errors import DeploymentError
from rehearsal.cloud import S3A, RehearsalError, rehearsed_cloud
from rehearsal.jobs import emulator_settings
from rehearsal.project import project_in
from rehearsal.services import services_in
from rehearsal.stages import STAGES, Rehearsal, run

VARIABLES = {"bucket_prefix": "rehearsal", "airflow_admin_password": "Not-a-Real-1-Password"}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's account passes through it to its own folder
        with rehearsed_cloud(folder, emulator_settings(S3A)) as cloud:
            before = cloud.emulator.resources()
            project = project_in(folder / "project", cloud, VARIABLES)
            services = services_in(folder / "local", cloud, VARIABLES["airflow_admin_password"])
            with services.running:
                rehearsal = Rehearsal(cloud, project.terraform, before, project, services)
                run(STAGES, rehearsal, lambda line: print(line, flush=True))  # noqa: T201
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what has been started is ended
    try:
        sys.exit(main())
    except (RehearsalError, DeploymentError) as error:
        sys.exit(f"make rehearse: {error}")
