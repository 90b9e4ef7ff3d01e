"""Numbered manifests of a store: what it holds, published last and each of them once.

A writer reads the newest manifest, writes its files under new names, and publishes the manifest with the next number.
Of two writers that began with the same one, the second cannot publish: it reads the first one's and tries again. A
writer that is killed leaves files that no manifest names, and the state before it.
"""

from dataclasses import dataclass

from fraud_detection.storage.base import Storage

_DIGITS = 8
_ENDING = ".json.gz"


@dataclass(frozen=True)
class Manifests:
    """The manifests in one folder of a storage."""

    storage: Storage
    folder: str
    """Ends with a slash."""

    def newest(self) -> tuple[int, bytes] | None:
        """The number and the content of the manifest in force; None before the first one.

        Raises:
            FraudDetectionError: the storage cannot be read.
        """
        for number in reversed(self.numbers()):
            content = self.storage.read(self.name(number))
            if content is not None:
                return number, content
        return None

    def publish(self, number: int, content: bytes) -> bool:
        """Publish the manifest after `number - 1`; False where another writer was first.

        Raises:
            FraudDetectionError: the storage cannot be written.
        """
        return self.storage.write_once(self.name(number), content)

    def numbers(self) -> list[int]:
        """Of all manifests that are kept, rising."""
        names = (name.removeprefix(self.folder) for name in self.storage.names(self.folder))
        return sorted(int(name.removesuffix(_ENDING)) for name in names if name.removesuffix(_ENDING).isdigit())

    def name(self, number: int) -> str:
        """The name of a manifest."""
        return f"{self.folder}{number:0{_DIGITS}d}{_ENDING}"
