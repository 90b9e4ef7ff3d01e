"""Complete command lines of one installation: what a message, a report or a progress line names as the next step."""

import shlex
from dataclasses import dataclass

from fraud_detection.masking import mask


@dataclass(frozen=True)
class Commands:
    """Command lines with the settings file, the output folder and the MLflow server of one installation.

    Passwords are masked. A reason is left for the user to write.
    """

    config: str
    output: str
    tracking_uri: str

    @property
    def retrain(self) -> str:
        """Start a run."""
        return self.without_reason("retrain", "--input", "PATH")

    @property
    def pin(self) -> str:
        """Keep the version in service."""
        return self._with_reason("pin")

    @property
    def unpin(self) -> str:
        """Let automatic promotion resume."""
        return self._with_reason("unpin")

    @property
    def accept_log(self) -> str:
        """Accept the decision log as it is."""
        return self._with_reason("accept-log")

    @property
    def candidates(self) -> str:
        """List the candidates in shadow."""
        return mask(shlex.join(["fraud-detection", "candidates", "--config", self.config, "--output", self.output]))

    def approve(self, candidate: str) -> str:
        """Promote a winner that waits."""
        return self.without_reason("approve", candidate)

    def reject(self, candidate: str) -> str:
        """Reject a candidate."""
        return self._with_reason("reject", candidate)

    def promote(self, candidate: str) -> str:
        """Promote a candidate as an override."""
        return self._with_reason("promote", candidate)

    def rollback(self, version: int | str = "VERSION") -> str:
        """Put a version into service; the default is for the user to replace."""
        return self._with_reason("rollback", "--to", str(version))

    def retire_champion(self, version: int) -> str:
        """Take the champion out of service."""
        return self._with_reason("retire-champion", "--version", str(version))

    def without_reason(self, verb: str, *words: str) -> str:
        """Any verb, with the options of this installation."""
        options = ("--config", self.config, "--output", self.output, "--tracking-uri", self.tracking_uri)
        return mask(shlex.join(["fraud-detection", verb, *options, *words]))

    def _with_reason(self, verb: str, *words: str) -> str:
        return f'{self.without_reason(verb, *words)} --reason "…"'
