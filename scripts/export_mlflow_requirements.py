"""Write the packages of MLflow's machine from the lock file: one line for each, with the hashes of its wheels.

    python scripts/export_mlflow_requirements.py            # infra/modules/mlflow-server/files/requirements.txt

The machine runs Linux on x86-64 with Python 3.12 (Ubuntu 24.04). Wheels of 3.11 are listed too: the tests install from
the same file. Hashes of other platforms are left out, since a machine's metadata has little room.
"""

import argparse
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "infra" / "modules" / "mlflow-server" / "files" / "requirements.txt"
_PYTHONS = ((3, 11), (3, 12))
_GLIBC = (2, 36)  # of the older of the two: Debian 12; Ubuntu 24.04 has 2.39
_HEADER = "# MLflow's machine, from uv.lock; made by scripts/export_mlflow_requirements.py\n"


def environment(python: tuple[int, int]) -> dict[str, str]:
    """What decides about a package's markers there."""
    version = f"{python[0]}.{python[1]}"
    return {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{version}.0",
        "python_version": version,
        "sys_platform": "linux",
    }


def tags(python: tuple[int, int]) -> frozenset[Tag]:
    """The wheels that run there."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(_GLIBC[1], 4, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    interpreter = f"cp{python[0]}{python[1]}"
    return frozenset((*cpython_tags(python, platforms=platforms), *compatible_tags(python, interpreter, platforms)))


def locked(project: Path, uv: str) -> list[Requirement]:
    """The packages of the group mlflow, of every platform."""
    words = [uv, "export", "--quiet", "--locked", "--only-group", "mlflow", "--no-hashes", "--no-emit-project"]
    done = subprocess.run([*words, "--no-annotate", "--no-header"], cwd=project, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"uv cannot export the group mlflow of {project}:\n{done.stderr}")
    return [Requirement(line) for line in done.stdout.splitlines() if line.strip()]


def wheels(project: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(Name, version) to the file names and hashes of its wheels."""
    packages = tomllib.loads((project / "uv.lock").read_text())["package"]
    return {
        (package["name"], package.get("version", "")): [
            (wheel["url"].rsplit("/", 1)[1], wheel["hash"]) for wheel in package.get("wheels", [])
        ]
        for package in packages
    }


def lines(project: Path, uv: str) -> Iterator[str]:
    """Each package with its hashes. Raises SystemExit where one has no wheel for a machine."""
    available = wheels(project)
    wanted = {python: tags(python) for python in _PYTHONS}
    for requirement in locked(project, uv):
        used = [p for p in _PYTHONS if requirement.marker is None or requirement.marker.evaluate(environment(p))]
        if not used:
            continue
        version = next(iter(requirement.specifier)).version
        found: list[str] = []
        for python in used:
            fitting = [
                digest
                for name, digest in available[(canonicalize_name(requirement.name), version)]
                if parse_wheel_filename(name)[3] & wanted[python]
            ]
            if not fitting:
                raise SystemExit(f"{requirement.name} {version} has no wheel for Linux x86-64, Python {python}")
            found += fitting
        marker = "" if len(used) == len(_PYTHONS) else f" ; python_version == '{'.'.join(map(str, used[0]))}'"
        hashes = " ".join(f"--hash={digest}" for digest in dict.fromkeys(found))
        yield f"{re.sub(r'[._-]+', '-', requirement.name)}=={version}{marker} {hashes}"


def main() -> None:
    """Write the file."""
    options = argparse.ArgumentParser(description="Write the packages of MLflow's machine from the lock file.")
    options.add_argument("--project", type=Path, default=ROOT, help="folder with pyproject.toml and uv.lock")
    options.add_argument("--output", type=Path, default=TARGET)
    options.add_argument("--uv", default="uv")
    given = options.parse_args()
    text = _HEADER + "".join(f"{line}\n" for line in lines(given.project, given.uv))
    given.output.write_text(text)
    print(f"{given.output}: {text.count('--hash')} wheels of {len(text.splitlines()) - 1} packages, {len(text)} bytes")


if __name__ == "__main__":
    main()
