"""The secrets that the service makes for itself: once, for nobody else's eyes, the same for everybody."""

import contextlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.config.keys import list_secrets, list_weak_secrets, prepare_data_dir, with_generated_secrets
from receiver.config.settings import Settings
from receiver.core.errors import ConfigError
from receiver.core.signatures import parse_webhook_secret
from receiver.providers import CONFIG_TYPES
from tests.store.rig import WHEN_ALL_ARE_READY, all_at_once


def settings(directory: Path, **environ: str) -> Settings:
    return Settings.load({"RECEIVER_DATA_DIR": str(directory), **environ}, CONFIG_TYPES)


def secrets(found: Settings) -> tuple[list[str], list[str]]:
    return (
        [key.get_secret_value() for key in found.secret_keys],
        [token.get_secret_value() for token in found.api_tokens],
    )


WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_read_again(tmp_path: Path) -> None:
    made = secrets(with_generated_secrets(settings(tmp_path / "data")))
    (key,), (token,) = made
    assert key != token
    assert min(len(key), len(token)) >= 40
    assert secrets(with_generated_secrets(settings(tmp_path / "data"))) == made
    assert secrets(with_generated_secrets(settings(tmp_path / "other"))) != made


def test_nobody_else_can_read_them_whatever_the_umask(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "data"
    before = os.umask(0)
    try:
        with_generated_secrets(settings(directory))
    finally:
        os.umask(before)
    assert mode(directory) == 0o700
    assert {path.name: mode(path) for path in directory.iterdir()} == {
        "secret_keys": 0o600,
        "api_tokens": 0o600,
        "notify_secrets": 0o600,
    }


def test_configured_secrets_win_and_are_written_nowhere(tmp_path: Path) -> None:
    given = settings(
        tmp_path / "data",
        RECEIVER_SECRET_KEYS="one,two",
        RECEIVER_API_TOKENS="three",
        RECEIVER_NOTIFY_SECRETS=f"{WHSEC},whsec_AAAA",
    )
    assert secrets(with_generated_secrets(given)) == (["one", "two"], ["three"])
    assert not (tmp_path / "data").exists()


def test_only_what_is_missing_is_made(tmp_path: Path) -> None:
    made = with_generated_secrets(settings(tmp_path / "data", RECEIVER_API_TOKENS="given"))
    assert secrets(made)[1] == ["given"]
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"secret_keys", "notify_secrets"}


def test_the_secret_of_notifications_is_one_of_standard_webhooks_with_32_bytes(tmp_path: Path) -> None:
    made = [with_generated_secrets(settings(tmp_path / "data")).notify_secrets for _ in range(2)]
    assert made[0] == made[1]
    (secret,) = (each.get_secret_value() for each in made[0])
    assert secret.startswith("whsec_")
    assert len(parse_webhook_secret(secret)) == 32
    assert secret in list_secrets(with_generated_secrets(settings(tmp_path / "data")))


def test_a_secret_of_notifications_that_cannot_sign_is_named_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notify_secrets").write_text("my-own-secret\n")
    with pytest.raises(ConfigError, match="must begin with whsec_") as caught:
        with_generated_secrets(settings(tmp_path))
    assert "my-own-secret" not in str(caught.value)
    assert (tmp_path / "notify_secrets").read_text() == "my-own-secret\n"


def test_a_short_secret_of_notifications_is_warned_about(tmp_path: Path) -> None:
    (sentence,) = list_weak_secrets(settings(tmp_path, RECEIVER_NOTIFY_SECRETS=f"{WHSEC},whsec_AAAA"))
    assert sentence.startswith("RECEIVER_NOTIFY_SECRETS has a value of under 24 bytes.")


def test_a_secret_of_ones_own_may_be_put_into_the_file(tmp_path: Path) -> None:
    (tmp_path / "api_tokens").write_text("my-own-token\n")
    assert secrets(with_generated_secrets(settings(tmp_path)))[1] == ["my-own-token"]


MAKE = f"""
from pathlib import Path
from receiver.config.keys import _random_text, _read_or_generate, prepare_data_dir
{WHEN_ALL_ARE_READY}
prepare_data_dir(Path(sys.argv[1]).parent)
print(_read_or_generate(Path(sys.argv[1]), _random_text))
"""


def namespaced(command: list[str]) -> list[str]:
    """Run a command as process 1 of its own world, as each container does; where that is allowed."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        return command
    wrapped = [unshare, "--pid", "--fork", *command]
    tried = subprocess.run([unshare, "--pid", "--fork", "true"], check=False, capture_output=True)  # noqa: S603
    return wrapped if tried.returncode == 0 else command


def test_many_processes_at_once_get_the_same_secret(tmp_path: Path) -> None:
    """Also such that have the same process id: two containers on one volume."""
    file = tmp_path / "data" / "secret_keys"
    command = namespaced([sys.executable, "-c", MAKE, str(file)])
    processes = [
        subprocess.Popen(  # noqa: S603 - our own script
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(5)
    ]
    told = all_at_once(processes)
    assert [errors for _, errors in told] == [""] * 5
    assert len({secret for secret, _ in told}) == 1
    assert told[0][0].strip() == file.read_text().strip() != ""
    assert [path.name for path in file.parent.iterdir()] == ["secret_keys"], "no drafts are left"


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00"])
def test_a_file_without_a_secret_is_named_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret_keys"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        with_generated_secrets(settings(tmp_path))
    assert str(file) in str(caught.value)
    assert file.read_bytes() == content


def test_a_secret_that_is_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "api_tokens").mkdir()
    with pytest.raises(ConfigError, match="api_tokens"):
        with_generated_secrets(settings(tmp_path))


@pytest.mark.parametrize("place", ["a-file", "a-file/data"])
def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "a-file").write_text("in the way")
    with pytest.raises(ConfigError, match="RECEIVER_DATA_DIR") as caught:
        with_generated_secrets(settings(tmp_path / place))
    assert str(tmp_path / place) in str(caught.value)


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    with read_only(directory), pytest.raises(ConfigError, match="RECEIVER_DATA_DIR") as caught:
        with_generated_secrets(settings(directory))
    assert str(directory) in str(caught.value)
    assert list(directory.iterdir()) == []


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    directory.chmod(0o500)
    mounted = os.geteuid() == 0  # whom modes do not stop
    options = (["--bind", str(directory)], ["-o", "remount,bind,ro"]) if mounted else ()
    for option in options:
        if subprocess.run(["mount", *option, str(directory)], check=False, capture_output=True).returncode:  # noqa: S603, S607
            pytest.skip("SKIPPED, NOT TESTED: a folder can only be made read-only for root by a mount")
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", str(directory)], check=False, capture_output=True)  # noqa: S603, S607
        directory.chmod(0o700)


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir(mode=0o750)
    before = mode(directory)
    prepare_data_dir(directory)
    assert mode(directory) == before


# --- what is said of them


def test_every_secret_of_the_settings_is_known(tmp_path: Path) -> None:
    environ = {
        "RECEIVER_SECRET_KEYS": "sign-1,sign-2",
        "RECEIVER_API_TOKENS": "token-1",
        "KIE_API_KEY": "kie-key",
        "KIE_WEBHOOK_SECRET": "kie-secret",
        "GATEWAY_X_API_KEY": "gateway-key",
        "GATEWAY_X_BASE_URL": "https://x.example.com",
    }
    database = "postgres://user:p%40ss?word@db.example.com/x?sslmode=require&password=another"
    found = settings(tmp_path, **environ, RECEIVER_DATABASE_URL=database)
    secret = {value for name, value in environ.items() if not name.endswith("_URL")} - {"sign-1,sign-2"}
    assert set(list_secrets(found)) == secret | {"sign-1", "sign-2", "p%40ss?word", "p@ss?word", "another"}
    assert (
        list_secrets(settings(tmp_path, **environ, RECEIVER_DATABASE_URL="postgres://user@db.example.com/x"))[-1] != ""
    )
    assert list_secrets(settings(tmp_path)) == [], "the sandbox's keys are the word"


def test_keys_and_tokens_that_can_be_guessed_are_named_and_not_shown(tmp_path: Path) -> None:
    short = settings(tmp_path, RECEIVER_SECRET_KEYS=f"{'k' * 16},shrt", RECEIVER_API_TOKENS="t" * 15)
    sentences = list_weak_secrets(short)
    assert [sentence.split()[0] for sentence in sentences] == ["RECEIVER_SECRET_KEYS", "RECEIVER_API_TOKENS"]
    assert not any("shrt" in sentence or "tttt" in sentence for sentence in sentences)
    assert list_weak_secrets(settings(tmp_path, RECEIVER_SECRET_KEYS="k" * 16, RECEIVER_API_TOKENS="t" * 16)) == []
    assert list_weak_secrets(with_generated_secrets(settings(tmp_path))) == []
