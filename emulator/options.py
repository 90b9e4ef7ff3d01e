"""Types of command-line options."""

from typing import Any

import click


class GivenPath(click.Path):
    """A path; an empty one, as a variable that is not set gives, is refused: it would mean the current folder."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        if not str(value).strip():
            self.fail("found nothing; expected a path. Is a variable not set?", parameter, context)
        return super().convert(value, parameter, context)
