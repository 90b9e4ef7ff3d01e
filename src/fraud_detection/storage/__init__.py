"""Where files come from and where results go: the only module that knows what a path or a URL means.

Reading: `input_files` lists what an input path holds and `open_input` opens one of its files. Writing: a `Storage` is a
folder in which every object appears whole or not at all, also when the process is killed or the disk is full. A path is
on this machine, `file:///…` too; `s3a://bucket/key` and `s3://bucket/key` are in an object storage (`docs/storage.md`).
"""

from fraud_detection.locations import is_object, local_path
from fraud_detection.storage.base import InputEntry, Storage, StoredObject
from fraud_detection.storage.manifests import Manifests
from fraud_detection.storage.urls import input_entries, input_files, open_folder, open_input

__all__ = [
    "InputEntry",
    "Manifests",
    "Storage",
    "StoredObject",
    "input_entries",
    "input_files",
    "is_object",
    "local_path",
    "open_folder",
    "open_input",
]
