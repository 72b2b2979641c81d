"""Secrets kept in the data directory: the signing keys and API tokens that this service makes for itself, and signing
secrets that providers told once.

`cli` calls it once at start. A configured value always wins and is never written down.
"""

import contextlib
import os
import re
import secrets
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from pydantic import SecretStr

from receiver.config.settings import VARIABLES, ProviderConfig, Settings
from receiver.core.errors import ConfigError

FILES = {"secret_keys": "secret_keys", "api_tokens": "api_tokens"}
GUESSABLE = 16
"""Characters below which a secret that guards this service is said to be too short; it is taken all the same."""


def known(settings: Settings) -> list[str]:
    """List every secret that these settings hold: what must show nowhere."""
    configs = () if settings.sandbox else settings.providers.values()
    values: list[Any] = [*settings.secret_keys, *settings.api_tokens]
    values += [getattr(config, name) for config in configs for name in type(config).model_fields]
    found = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    return [*found, *_passwords((settings.database_url or "").partition("://")[2])]


def _passwords(database: str) -> list[str]:
    """Find the password in a database's URL, as it stands there and as it is meant."""
    before = re.match(r"[^:/@]*:([^@]*)@", database)
    query = database[before.end() if before else 0 :].partition("?")[2]
    passwords = [before[1] if before else "", *parse_qs(query).get("password", [])]
    return [spelled for each in passwords if each for spelled in (each, unquote(each))]


def guessable(settings: Settings) -> list[str]:
    """Say in a sentence each which of the configured keys and tokens are so short that they can be guessed."""
    return [
        f"{VARIABLES[name]} has a value of under {GUESSABLE} characters, which can be guessed: whoever does may"
        " order at your expense. Without this variable a good one is made"
        for name in FILES
        if any(len(value.get_secret_value()) < GUESSABLE for value in getattr(settings, name))
    ]


def with_secrets(settings: Settings) -> Settings:
    """Return settings whose secrets are all set: generated once, then read again. Raises `ConfigError`."""
    missing = {name: file for name, file in FILES.items() if not getattr(settings, name)}
    if missing:
        prepare_data_dir(settings.data_dir)
    found: dict[str, Any] = {name: (SecretStr(_generated(settings.data_dir / file)),) for name, file in missing.items()}
    providers = {name: _with_webhook_secret(settings, name, config) for name, config in settings.providers.items()}
    return settings.model_copy(update={**found, "providers": providers})


def keep_webhook_secret(settings: Settings, account: str, secret: str) -> None:
    """Keep the signing secret that a provider told once, in the data directory. Raises `ConfigError`."""
    prepare_data_dir(settings.data_dir)
    file = _webhook_file(settings, account)
    try:
        file.unlink(missing_ok=True)
        _make(file, secret)
    except OSError as error:
        raise ConfigError(f"RECEIVER_DATA_DIR: {file} cannot be written: {error.strerror}") from error


def secret_files(settings: Settings) -> list[Path]:
    """Name the files of secrets in the data directory: what is lost with them is in no backup of the database."""
    return sorted(file for pattern in (*FILES.values(), "*_webhook_secret") for file in settings.data_dir.glob(pattern))


def _with_webhook_secret(settings: Settings, account: str, config: ProviderConfig) -> ProviderConfig:
    file = _webhook_file(settings, account)
    if (
        "webhook_secret" not in type(config).model_fields
        or getattr(config, "webhook_secret", None)
        or not _is_there(file)
    ):
        return config
    return config.model_copy(update={"webhook_secret": SecretStr(_generated(file))})


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except OSError as error:  # the directory of another user
        raise ConfigError(f"RECEIVER_DATA_DIR: {file} cannot be read: {error.strerror}") from error


def _webhook_file(settings: Settings, account: str) -> Path:
    return settings.data_dir / f"{account}_webhook_secret"


def prepare_data_dir(directory: Path) -> None:
    """Create the data directory with mode 0700; raises `ConfigError` where that cannot be done."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"RECEIVER_DATA_DIR: {directory} cannot be created: {error.strerror}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(f"RECEIVER_DATA_DIR: {directory} cannot be written; give it to this user or name another")


def _generated(file: Path) -> str:
    """Read the secret in a file, or make one. Whoever links the file first wins; everyone reads the same."""
    try:
        if not file.exists():
            _make(file, secrets.token_urlsafe(32))
        value = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        words = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"RECEIVER_DATA_DIR: {file} cannot be read or made: {words}") from error
    if not value:
        raise ConfigError(f"{file} is empty; remove it, and a new one is made")
    return value


def _make(file: Path, secret: str) -> None:
    # A draft of a name that nobody else has: two containers on one volume may share a process id.
    handle, draft = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "w") as writing:
            writing.write(secret + "\n")
            writing.flush()
            os.fsync(handle)
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        Path(draft).unlink()
