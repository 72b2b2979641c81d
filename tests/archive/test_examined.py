"""`receiver doctor` really writes into the archive: what it says is right there is."""

from pathlib import Path

import pytest

from receiver.doctor import archive
from receiver.doctor.findings import Finding, Verdict
from tests.behaviour.service import Stage

pytestmark = pytest.mark.anyio


async def examined(stage: Stage, **variables: str | None) -> Finding:
    async with stage.serve(**variables) as service:
        (found,) = await archive.examine(service.app.state.services, usable=True)
        return found


async def test_a_place_that_can_be_written_is_ok_and_stays_as_it_was(stage: Stage) -> None:
    found = await examined(stage, ARCHIVE=None, ARCHIVE_KEEP_FREE="0")
    assert found.verdict is Verdict.OK
    assert str(stage.directory / "outputs") in found.message
    assert [file for file in (stage.directory / "outputs").rglob("*") if file.is_file()] == []


async def test_no_archive_is_said(stage: Stage) -> None:
    found = await examined(stage, ARCHIVE="off")
    assert (found.verdict, found.message.partition(":")[0]) == (Verdict.OK, "off")


async def test_a_disk_without_room_is_a_warning_that_names_the_setting(stage: Stage) -> None:
    found = await examined(stage, ARCHIVE=None, ARCHIVE_KEEP_FREE=str(2**60))
    assert found.verdict is Verdict.WARNING
    assert "RECEIVER_ARCHIVE_KEEP_FREE" in found.message


async def test_a_place_that_cannot_be_written_is_wrong(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    found = await examined(stage, ARCHIVE=str(tmp_path / "a file"), ARCHIVE_KEEP_FREE="0")
    assert found.verdict is Verdict.WRONG
    assert "RECEIVER_ARCHIVE" in found.message
    assert found.remedy is not None
