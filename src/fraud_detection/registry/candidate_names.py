"""How a person names a candidate: by its label cut-off, and the first letters of its recipe where two share it."""

from collections.abc import Collection

from fraud_detection.errors import FraudDetectionError
from fraud_detection.schema import CandidateKey

_FEWEST_LETTERS = 4


def candidate_name(key: CandidateKey, others: Collection[CandidateKey]) -> str:
    """The shortest name that fits no other: `2026-04-20T00:00`, or `2026-04-20T00:00-1f3a`."""
    rivals = [other for other in others if other != key and other.label_cutoff == key.label_cutoff]
    if not rivals:
        return _cutoff(key)
    letters = range(_FEWEST_LETTERS, len(key.recipe) + 1)
    fitting = (n for n in letters if not any(rival.recipe.startswith(key.recipe[:n]) for rival in rivals))
    return f"{_cutoff(key)}-{key.recipe[: next(fitting, None)]}"


def find_candidate(name: str, candidates: Collection[CandidateKey], hint: str) -> CandidateKey:
    """The candidate that a name, or its beginning, fits.

    Raises:
        FraudDetectionError: none or several do; `hint` is the command that lists them.
    """
    found = [key for key in candidates if name and f"{_cutoff(key)}-{key.recipe}".startswith(name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise FraudDetectionError(
            f"no candidate is named {name!r}; expected a label cut-off such as 2026-04-20T00:00; to list them: {hint}"
        )
    names = ", ".join(sorted(candidate_name(key, candidates) for key in found)[:5])
    raise FraudDetectionError(f"{name!r} fits {len(found)} candidates: {names}; give one of these names")


def _cutoff(key: CandidateKey) -> str:
    return f"{key.label_cutoff:%Y-%m-%dT%H:%M}"
