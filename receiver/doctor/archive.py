"""Whether results can be archived: a small file is really put there, read and removed."""

from receiver.doctor.findings import Finding, ok, warning, wrong
from receiver.services import Services
from receiver.storage import Storage, StorageError, StorageFull
from receiver.store import files

NAME = "doctor.txt"
CONTENT = b"written by receiver doctor"


async def examine(services: Services, *, usable: bool) -> list[Finding]:
    """Return a finding about the archive; with a usable database, it tells how many files wait."""
    place = services.settings.archive_place
    if services.storage is None or place is None:
        return [ok("archive", "off: only the links of results are kept, and they die")]
    try:
        await _write_and_read(services.storage)
    except StorageFull as error:
        return [warning("archive", f"{error}", "until then downloads wait, and links may die meanwhile")]
    except StorageError as error:
        return [wrong("archive", f"{error}", "let this user write there, or set RECEIVER_ARCHIVE to another place")]
    waiting = await services.store.read(files.count_waiting) if usable else 0
    return [ok("archive", f"{place} can be written" + (f"; {waiting} files wait" if waiting else ""))]


async def _write_and_read(storage: Storage) -> None:
    upload = await storage.begin(NAME, NAME, len(CONTENT))
    try:
        await upload.write(CONTENT)
        await upload.finish()
    finally:
        await upload.drop()
    found = await storage.load(NAME, len(CONTENT))
    await storage.delete(NAME)
    if found != CONTENT:
        raise StorageError(f"RECEIVER_ARCHIVE: {NAME} was not read as it was written")
