"""What a check has found: one line each, with how to fix what is not as it must be."""

from collections.abc import Iterable
from dataclasses import dataclass

from deployment.errors import DeploymentError, log


@dataclass(frozen=True)
class Finding:
    """One requirement; `fix` is empty if it is met, `unchecked` if it could not be checked from here."""

    name: str
    found: str
    fix: str = ""
    unchecked: bool = False

    @property
    def line(self) -> str:
        """The finding for people."""
        sign = "ok" if not self.fix else "??" if self.unchecked else "NO"
        return f"{sign}  {self.name:<12} {self.found}" + (f"\n    next: {self.fix}" if self.fix else "")


def report(findings: Iterable[Finding], command: str) -> None:
    """Log each finding as it comes. Raises DeploymentError if a requirement is not met."""
    failed: list[str] = []
    unchecked: list[str] = []
    for finding in findings:
        log(finding.line)
        if finding.fix:
            (unchecked if finding.unchecked else failed).append(finding.name)
    if failed:
        raise DeploymentError(f"{', '.join(failed)}: not as expected; next: the lines above, then make {command}")
    log(f"make {command}: nothing is wrong" + (f"; not checked: {', '.join(unchecked)}" if unchecked else ""))
