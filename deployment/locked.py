"""The job's packages as uv.lock has them, and for whom."""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

from deployment.errors import DeploymentError
from deployment.paths import ROOT


@dataclass(frozen=True)
class Target:
    """The Python and the system that an archive is for."""

    python: str
    platform: str

    @property
    def uv_options(self) -> list[str]:
        return ["--python-version", self.python, "--python-platform", self.platform]


CLOUD = Target("3.11", "x86_64-manylinux_2_28")
"""Data Proc's image 2.2: Python 3.11 on x86-64."""


def this_machine() -> Target:
    """For jobs of the local stack, which run with a Python of this machine."""
    machine = "aarch64" if platform.machine() in ("arm64", "aarch64") else platform.machine()
    system = "apple-darwin" if sys.platform == "darwin" else "manylinux_2_28"
    return Target(f"{sys.version_info.major}.{sys.version_info.minor}", f"{machine}-{system}")


def locked_requirements() -> str:
    """The job's packages with the lock file's versions and hashes; engines and tools are groups of their own."""
    return uv(
        *("export", "--quiet", "--locked", "--no-default-groups", "--no-emit-project", "--no-header"),
        *("--no-annotate", "--format", "requirements-txt"),
    )


def uv(*words: str) -> str:
    """What uv answers. Raises DeploymentError."""
    program = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    try:
        done = subprocess.run([program, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DeploymentError(f"uv cannot be run ({program}: {error.strerror}); next: make setup") from error
    if done.returncode != 0:
        reason = re.sub(r"://[^/@\s]+@", "://", done.stderr.strip())[-1500:]  # an index's address may hold a password
        raise DeploymentError(
            f"uv {' '.join(words[:2])} failed, so the job has no environment:\n{reason}\n"
            "next: check the network and uv.lock (uv lock --check), then make create-venv-archive again"
        )
    return done.stdout
