"""Secrets in the data directory: generated signing keys and API tokens, the secret that signs our messages, and webhook
secrets that providers show once.

`cli` calls it once at start. A configured value takes precedence and is never written to disk.
"""

import base64
import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from pydantic import SecretStr

from receiver.config.settings import VARIABLES, ProviderConfig, Settings
from receiver.core.errors import ConfigError
from receiver.core.signatures import SECRET_PREFIX, parse_webhook_secret, require_webhook_secret

FILES = {"secret_keys": "secret_keys", "api_tokens": "api_tokens", "notify_secrets": "notify_secrets"}
MIN_SECRET_LENGTH = 16
"""Characters; a shorter secret causes a warning, but is accepted."""
MIN_WEBHOOK_KEY_BYTES = 24
"""Likewise, after Standard Webhooks."""


def list_secrets(settings: Settings) -> list[str]:
    """Return every secret in these settings: what must never be shown."""
    configs = () if settings.sandbox else settings.providers.values()
    values: list[Any] = [*settings.secret_keys, *settings.api_tokens, *settings.notify_secrets]
    values += [getattr(config, name) for config in configs for name in type(config).model_fields]
    found = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    return [*found, *_find_passwords((settings.database_url or "").partition("://")[2])]


def _find_passwords(database: str) -> list[str]:
    """Return the passwords in a database URL, both encoded and decoded."""
    before = re.match(r"[^:/@]*:([^@]*)@", database)
    query = database[before.end() if before else 0 :].partition("?")[2]
    passwords = [before[1] if before else "", *parse_qs(query).get("password", [])]
    return [spelled for each in passwords if each for spelled in (each, unquote(each))]


def list_weak_secrets(settings: Settings) -> list[str]:
    """Return a warning for each configured variable with a key or token that is short enough to be guessed."""
    remedy = "Use a longer one, or remove the variable to have one generated"
    sentences = [
        f"{VARIABLES[name]} has a value of under {MIN_SECRET_LENGTH} characters. Anyone who guesses it can order at"
        f" your expense. {remedy}"
        for name in ("secret_keys", "api_tokens")
        if any(len(value.get_secret_value()) < MIN_SECRET_LENGTH for value in getattr(settings, name))
    ]
    keys = (parse_webhook_secret(value.get_secret_value()) for value in settings.notify_secrets)
    if any(len(key) < MIN_WEBHOOK_KEY_BYTES for key in keys):
        sentences.append(
            f"RECEIVER_NOTIFY_SECRETS has a value of under {MIN_WEBHOOK_KEY_BYTES} bytes. Anyone who guesses it can"
            f" forge messages to your application. {remedy}"
        )
    return sentences


def with_generated_secrets(settings: Settings) -> Settings:
    """Return settings with all secrets: missing ones are generated once, then read. Raises `ConfigError`."""
    missing = {name: file for name, file in FILES.items() if not getattr(settings, name)}
    if missing:
        prepare_data_dir(settings.data_dir)
    found: dict[str, Any] = {
        name: (SecretStr(_read_or_generate(settings.data_dir / file, _GENERATE[name])),)
        for name, file in missing.items()
    }
    for secret in found.get("notify_secrets", ()):
        _require_usable(settings.data_dir / FILES["notify_secrets"], secret)
    providers = {name: _with_webhook_secret(settings, name, config) for name, config in settings.providers.items()}
    return settings.model_copy(update={**found, "providers": providers})


def store_webhook_secret(settings: Settings, account: str, secret: str) -> None:
    """Store the webhook secret of an account in the data directory. Raises `ConfigError`."""
    prepare_data_dir(settings.data_dir)
    file = _webhook_secret_file(settings, account)
    try:
        file.unlink(missing_ok=True)
        _write_once(file, secret)
    except OSError as error:
        raise ConfigError(f"RECEIVER_DATA_DIR: {file} cannot be written: {error.strerror}") from error


def list_secret_files(settings: Settings) -> list[Path]:
    """Return the files of secrets in the data directory. A backup of the database does not contain them."""
    return sorted(file for pattern in (*FILES.values(), "*_webhook_secret") for file in settings.data_dir.glob(pattern))


def _with_webhook_secret(settings: Settings, account: str, config: ProviderConfig) -> ProviderConfig:
    file = _webhook_secret_file(settings, account)
    if (
        "webhook_secret" not in type(config).model_fields
        or getattr(config, "webhook_secret", None)
        or not _exists(file)
    ):
        return config
    return config.model_copy(update={"webhook_secret": SecretStr(_read_or_generate(file, _random_text))})


def _random_text() -> str:
    return secrets.token_urlsafe(32)


def _random_webhook_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


_GENERATE = {"secret_keys": _random_text, "api_tokens": _random_text, "notify_secrets": _random_webhook_secret}


def _require_usable(file: Path, secret: SecretStr) -> None:
    """Raise `ConfigError` for a file in which somebody put what cannot sign."""
    try:
        require_webhook_secret(secret.get_secret_value())
    except ValueError as error:
        raise ConfigError(f"{file} {error}; remove it to have a new secret generated") from error


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except OSError as error:  # the directory belongs to another user
        raise ConfigError(f"RECEIVER_DATA_DIR: {file} cannot be read: {error.strerror}") from error


def _webhook_secret_file(settings: Settings, account: str) -> Path:
    return settings.data_dir / f"{account}_webhook_secret"


def prepare_data_dir(directory: Path) -> None:
    """Create the data directory with mode 0700. Raises `ConfigError` if it cannot be created or written."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"RECEIVER_DATA_DIR: {directory} cannot be created: {error.strerror}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(
            f"RECEIVER_DATA_DIR: {directory} cannot be written; make this user its owner, or use another directory"
        )


def _read_or_generate(file: Path, generate: Callable[[], str]) -> str:
    """Return the secret in a file, generated if there is none. Of several processes, all return the first one's."""
    try:
        if not file.exists():
            _write_once(file, generate())
        value = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"RECEIVER_DATA_DIR: {file} cannot be read or created: {reason}") from error
    if not value:
        raise ConfigError(f"{file} is empty; remove it to have a new secret generated")
    return value


def _write_once(file: Path, secret: str) -> None:
    # A unique temporary name: two containers on one volume may share a process id.
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
