"""Where archived files are kept: a directory of this machine, or an object store.

`open_storage` returns one or the other. Nothing here knows what a task is: a file has a name, and that is all.
"""

from receiver.storage.base import FileMissing, Storage, StorageError, StorageFull, Upload
from receiver.storage.directory import Directory

__all__ = ["Directory", "FileMissing", "Storage", "StorageError", "StorageFull", "Upload", "open_storage"]


def open_storage(place: str, keep_free: int) -> Storage:
    """Return the storage at a path or a URL; a directory keeps so many bytes of its disk free."""
    if "://" in place:
        from receiver.storage.object_store import ObjectStore  # noqa: PLC0415 - it takes 50 ms that most never need

        return ObjectStore(place)
    return Directory(place, keep_free)
