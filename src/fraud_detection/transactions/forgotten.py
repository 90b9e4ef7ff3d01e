"""Cards whose rows were erased, by their salted hashes: no run takes their rows in again.

Below the output, `forgotten/salt` holds a random salt, and `forgotten/HASH.json` says of one card when and why it was
forgotten. The record comes before any row is erased: a process that is killed leaves nothing that a later one could
take in again, and every run goes on with the erasure.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from fraud_detection.errors import FraudDetectionError
from fraud_detection.outputs import FORGOTTEN, SALT, forgotten_file
from fraud_detection.schema import Stored
from fraud_detection.shapes import without_values
from fraud_detection.storage import Storage

CARD = "customer_id"
_BROKEN_LINE = "broken_line"
_CELL = re.compile(r"[^\s,;|\"']+")
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")


class ForgottenCard(Stored):
    """Why a card was forgotten; written once, without the card."""

    card_hash: str  # SHA-256 of salt and id
    at: datetime
    who: str
    reason: str
    rows: int  # of the stores, when it was forgotten
    quarantined_rows: int
    input_files: tuple[str, ...]  # that the rows of the stores were from


@dataclass(frozen=True)
class Forgotten:
    """The cards to keep out."""

    salt: str = ""
    hashes: frozenset[str] = frozenset()

    def hash(self, card: str) -> str:
        """The salted hash of an id; a number as it is written in decimal."""
        return hashlib.sha256(f"{self.salt}{card}".encode()).hexdigest()

    def mask(self, cards: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
        """Whether each of these ids is forgotten; null is not."""
        texts = cards.cast(pa.string())
        known = [one for one in pc.unique(texts).to_pylist() if one is not None] if self.hashes else []
        return pc.is_in(texts, pa.array([one for one in known if self.hash(one) in self.hashes], pa.string()))

    def without(self, rows: pa.Table) -> pa.Table:
        """The rows of other cards; also without lines that could not be split and name such a card."""
        if not self.hashes or CARD not in rows.column_names:
            return rows
        kept = pc.invert(self.mask(rows[CARD]))
        if _BROKEN_LINE in rows.column_names:
            named = [line is not None and self._is_named(line) for line in rows[_BROKEN_LINE].to_pylist()]
            kept = pc.and_not(kept, pa.chunked_array([pa.array(named, pa.bool_())]))
        return rows.filter(kept)

    @property
    def keep_out(self) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
        """`without` for the batches of an engine."""

        def work(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
            for batch in batches:
                yield from self.without(pa.Table.from_batches([batch])).to_batches()

        return without_values(work)

    def _is_named(self, line: str) -> bool:
        return any(self.hash(cell) in self.hashes for cell in _CELL.findall(line))


NO_CARDS = Forgotten()
"""Nothing to keep out."""


def read_forgotten(output: Storage) -> Forgotten:
    """The cards that were forgotten below an output.

    Raises:
        FraudDetectionError: the salt is lost, so that the cards cannot be kept out.
    """
    names = (name.removeprefix(FORGOTTEN) for name in output.names(FORGOTTEN))
    hashes = frozenset(name.removesuffix(".json") for name in names if name.endswith(".json"))
    if not hashes:
        return Forgotten()
    salt = read_salt(output)
    if salt is None:
        raise FraudDetectionError(
            f"{output.url(SALT)} is missing; expected the salt of the {len(hashes)} card(s) that were forgotten, which"
            " cannot be kept out without it; next: restore it from a copy"
        )
    return Forgotten(salt, hashes)


def read_salt(output: Storage) -> str | None:
    """The salt of an output; None before the first card is forgotten."""
    content = output.read(SALT)
    return content.decode() if content else None


def new_salt() -> str:
    """A random one."""
    return secrets.token_hex(32)


def record(output: Storage, card: ForgottenCard) -> bool:
    """Keep a card out from now on; False where it was before. The salt is written first."""
    return output.write_once(forgotten_file(card.card_hash), card.model_dump_json(indent=2).encode())


def plain_id(text: str, *, numeric: bool) -> str:
    """An id as it is hashed: a whole number in decimal, where ids are numbers."""
    text = text.strip() if numeric else text
    return str(int(text.partition(".")[0])) if numeric and _WHOLE.fullmatch(text) else text
