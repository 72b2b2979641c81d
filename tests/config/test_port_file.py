"""The file that says where the running service of a data directory listens."""

from pathlib import Path

import pytest

from receiver.config.port_file import NAME, read_port, remove_port, write_port


def test_the_port_is_known_while_the_service_runs(tmp_path: Path) -> None:
    assert read_port(tmp_path) is None
    write_port(tmp_path, 8123)
    assert read_port(tmp_path) == 8123
    remove_port(tmp_path, 8123)
    assert read_port(tmp_path) is None
    remove_port(tmp_path, 8123)


def test_a_service_that_stops_leaves_the_port_of_another(tmp_path: Path) -> None:
    write_port(tmp_path, 8123)
    write_port(tmp_path, 8124)
    remove_port(tmp_path, 8123)
    assert read_port(tmp_path) == 8124


@pytest.mark.parametrize("text", ["", "x", "0", "65536", "-1", "8000 9000"])
def test_what_is_no_port_counts_for_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(text)
    assert read_port(tmp_path) is None


def test_a_directory_that_is_not_there_is_no_fault(tmp_path: Path) -> None:
    write_port(tmp_path / "missing", 8000)
    remove_port(tmp_path / "missing", 8000)
    assert read_port(tmp_path / "missing") is None
