"""`receiver doctor` as people and scripts run it: lines, JSON, exit codes, and no secret in either."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor.conftest import has_polled
from tests.measuring import wait_for

from .rig import Home, Ran, Served, serving

pytestmark = pytest.mark.usefixtures("polled")
VERDICTS = ("ok", "skipped", "warning", "wrong")


@pytest.fixture(scope="module")
def polled(served: Served) -> None:
    """The service's poller has been at work."""
    wait_for(lambda: has_polled(served.home.database))


@pytest.fixture
def stopped(served: Served, tmp_path: Path) -> Home:
    """The home of the running service under a port where nothing listens."""
    return Home(served.home.directory, {**served.home.settings, "PORT": "1"})


def lines(ran: Ran) -> dict[str, str]:
    """The lines of a report by what they are about: verdict and words."""
    found = {}
    for line in ran.out.splitlines():
        verdict, subject, words = line[:8].strip(), line[9:25].strip(), line[26:]
        assert verdict in VERDICTS, line
        assert ("Remedy: " in words) == (verdict in ("warning", "wrong")), line
        found[subject] = f"{verdict}: {words}"
    return found


def test_a_running_service_is_fine_and_the_exit_code_is_0(home: Home) -> None:
    ran = home.run("doctor")
    assert (ran.code, ran.err) == (0, "")
    told = lines(ran)
    assert list(told) == [
        "settings", "data directory", "database", "journal", "integrity", "poller", "tasks", "archive", "service",
        "public URL", "keys", "clock",
    ]  # fmt: skip
    assert told["service"].startswith(f"ok: {home.url} leads to this installation")
    assert "sandbox" in told["settings"]
    assert told["keys"].startswith("skipped: ")


def test_json_says_the_same(home: Home) -> None:
    ran = home.call("doctor", "--json")
    assert ran.code == 0
    findings = ran.document["findings"]
    assert {tuple(finding) for finding in findings} == {("verdict", "subject", "found", "remedy")}
    assert {finding["verdict"] for finding in findings} <= set(VERDICTS)
    assert ran.document["worst"] in ("ok", "skipped", "warning")


def test_something_wrong_exits_1(stopped: Home) -> None:
    ran = stopped.call("doctor", RECEIVER_POLER="off")
    told = lines(ran)
    assert ran.code == 1
    assert told["service"].startswith("wrong: nothing listens at http://127.0.0.1:1. Remedy: start `receiver serve`")
    assert "did you mean RECEIVER_POLLER?" in ran.out
    assert ran.err == "", "said once"
    assert stopped.call("doctor", "--json").code == 1


def test_without_a_database_it_exits_2_names_the_path_and_makes_nothing(empty: Home) -> None:
    ran = empty.run("doctor")
    assert ran.code == 2
    assert f"There is no database at {empty.database}. Remedy: `receiver serve`" in ran.out
    assert list(empty.directory.iterdir()) == []


def as_a_user_with_no_access(home: Home, *words: str) -> Ran:
    """Run a command as one whom modes stop: root is stripped of what lets it through."""
    stripped = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed")
        stripped = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    command = [*stripped, sys.executable, "-m", "receiver", *words]
    ran = subprocess.run(  # noqa: S603 - our own command
        command, cwd=home.directory, env=home.environ(), capture_output=True, text=True, check=False
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def test_the_data_directory_of_another_user_is_reported_with_a_remedy(empty: Home) -> None:
    assert empty.call("migrate").code == 0
    empty.data.chmod(0)
    try:
        listed, seen = as_a_user_with_no_access(empty, "list"), as_a_user_with_no_access(empty, "doctor")
    finally:
        empty.data.chmod(0o700)
    words = (
        f"The database at {empty.database} cannot be reached (Permission denied). Run this as the user who owns it.\n"
    )
    assert (listed.code, listed.out, listed.err) == (2, "", words)
    assert (seen.code, seen.err) == (2, "")
    told = lines(seen)
    assert told["data directory"].startswith(f"wrong: {empty.data} cannot be written. Remedy: chmod 700 {empty.data}")
    assert told["database"].endswith("cannot be reached (Permission denied). Remedy: Run this as the user who owns it")


def test_wrong_settings_and_wrong_use_exit_2(empty: Home) -> None:
    ran = empty.call("doctor", RECEIVER_PUBLIC_URL="http://example.com", REVID_API_KEY="x")
    assert (ran.code, ran.out) == (2, "")
    assert "RECEIVER_PUBLIC_URL: must be https" in ran.err
    assert "for example RECEIVER_PUBLIC_URL=https://" in ran.err
    assert empty.call("doctor", "--jsn").code == 2


def test_no_secret_is_shown_whatever_is_wrong(served: Served, tmp_path: Path) -> None:
    home = Home(tmp_path, {"PORT": served.home.settings["PORT"]})
    assert home.call("migrate", REVID_API_KEY="x").code == 0
    secrets = {
        "RECEIVER_SECRET_KEYS": "hunter2-the-signing-key",
        "RECEIVER_API_TOKENS": "hunter2-the-api-token",
        "REVID_API_KEY": "hunter2-the-key",
        "RIVYA_API_KEY": "hunter2-another",
        "RIVYA_WEBHOOK_SECRET": "whsec_aHVudGVyMg==",
    }
    elsewhere = {
        "REVID_BASE_URL": f"{served.home.url}/nowhere",
        "RIVYA_BASE_URL": "http://127.0.0.1:1",
        "RECEIVER_PUBLIC_URL": served.home.url,
    }
    for words in (["doctor"], ["doctor", "--json"]):
        ran = home.call(*words, **secrets, **elsewhere)
        assert ran.code == 1
        assert "another installation" in ran.out
        assert "hunter2" not in ran.out + ran.err
        assert "aHVudGVyMg" not in ran.out + ran.err
        assert "callbacks/doctor/" not in ran.out + ran.err


@pytest.fixture(scope="module")
def dying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(Home(tmp_path_factory.mktemp("dying"))) as served:
        yield served


def test_a_stopped_service_is_reported_at_once(dying: Served) -> None:
    wait_for(lambda: has_polled(dying.home.database))
    assert dying.home.call("doctor").code == 0
    dying.stop()
    told = json.loads(dying.home.call("doctor", "--json").out)["findings"]
    assert {finding["subject"] for finding in told if finding["verdict"] == "wrong"} == {"service"}
