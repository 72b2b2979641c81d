"""The settings: defaults, every fault named at once with an example, and secrets that show nowhere."""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from receiver.config.settings import VARIABLES, BaseURL, ProviderConfig, Settings
from receiver.core.errors import ConfigError
from receiver.providers import CONFIG_TYPES

KEY = {"REVID_API_KEY": "rk-1"}
"""The least that is not the sandbox."""

SECRET = "hunter2-canary"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class SignedConfig(ProviderConfig):
    """A family that documents a signature over its callbacks."""

    base_url: BaseURL = "https://signed.example.com"
    webhook_secret: SecretStr | None = None


def load(environ: Mapping[str, str], **families: type[ProviderConfig]) -> Settings:
    return Settings.load(environ, families or CONFIG_TYPES)


def faults(environ: Mapping[str, str], **families: type[ProviderConfig]) -> dict[str, str]:
    """Load bad settings; give the words of each line of the message by its variable."""
    with pytest.raises(ConfigError) as caught:
        load(environ, **families)
    first, *lines = str(caught.value).split("\n")
    assert first == "The settings are wrong:"
    pairs = [line.strip().split(": ", 1) for line in lines]
    assert len({name for name, _ in pairs}) == len(pairs), "each variable once"
    return {pair[0]: pair[1] for pair in pairs}


# --- what is read


DEFAULTS: dict[str, Any] = {
    "public_url": None,
    "database_url": None,
    "data_dir": Path("data"),
    "secret_keys": (),
    "api_tokens": (),
    "poller": True,
    "poll_after": None,
    "callback_grace": 300,
    "poll_every": 10,
    "poll_max": 120,
    "deadline": 7200,
    "timeout": 30,
    "confirm": "auto",
    "max_callback_bytes": 1048576,
    "trusted_proxies": (),
    "archive": None,
    "archive_max_bytes": 2147483648,
    "archive_keep_free": 1073741824,
    "notify_url": None,
    "notify_events": ("task.succeeded", "task.failed", "task.expired", "task.unconfirmed", "task.stored"),
    "notify_secrets": (),
    "notify_hosts": (),
    "late_watch": 86400,
    "heartbeat_url": None,
    "host": "127.0.0.1",
    "port": 8000,
}


def test_the_defaults_are_those_of_the_interface() -> None:
    found = load(KEY)
    assert {name: getattr(found, name) for name in DEFAULTS} == DEFAULTS
    assert set(VARIABLES) == set(DEFAULTS)
    assert not found.sandbox
    assert found.warnings == ()
    assert found.database == f"sqlite:///{Path.cwd() / 'data' / 'receiver.db'}"


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected"),
    [
        ("RECEIVER_PUBLIC_URL", "https://hooks.example.com/in/", "public_url", "https://hooks.example.com/in"),
        ("RECEIVER_PUBLIC_URL", "http://192.168.1.5:8000", "public_url", "http://192.168.1.5:8000"),
        ("RECEIVER_PUBLIC_URL", "https://hooks.example.com/in", "path_prefix", "/in"),
        ("RECEIVER_PUBLIC_URL", "https://hooks.example.com/", "path_prefix", ""),
        ("RECEIVER_DATABASE_URL", "sqlite:////tmp/a.db", "database", "sqlite:////tmp/a.db"),
        ("RECEIVER_DATABASE_URL", "postgres://u:p@h/d", "database", "postgresql+psycopg://u:p@h/d"),
        ("DATABASE_URL", "postgres://u:p@h/d", "database", "postgresql+psycopg://u:p@h/d"),
        ("RECEIVER_DATA_DIR", "/srv/receiver", "data_dir", Path("/srv/receiver")),
        ("RECEIVER_DATA_DIR", "/srv/receiver", "database", "sqlite:////srv/receiver/receiver.db"),
        ("RECEIVER_SECRET_KEYS", "new, old,", "secret_keys", (SecretStr("new"), SecretStr("old"))),
        ("RECEIVER_API_TOKENS", "one", "api_tokens", (SecretStr("one"),)),
        ("RECEIVER_POLLER", "off", "poller", False),
        ("RECEIVER_POLLER", "on", "poller", True),
        ("RECEIVER_POLL_AFTER", "0.5", "poll_after", 0.5),
        ("RECEIVER_CALLBACK_GRACE", "1.5", "callback_grace", 1.5),
        ("RECEIVER_POLL_EVERY", "0.1", "poll_every", 0.1),
        ("RECEIVER_POLL_MAX", "60", "poll_max", 60),
        ("RECEIVER_LATE_WATCH", "0", "late_watch", 0),
        ("RECEIVER_HEARTBEAT_URL", "https://hc.example/ping?a=1", "heartbeat_url", "https://hc.example/ping?a=1"),
        ("RECEIVER_DEADLINE", "3600.25", "deadline", 3600.25),
        ("RECEIVER_TIMEOUT", " 5 ", "timeout", 5),
        ("RECEIVER_CONFIRM", "always", "confirm", "always"),
        ("RECEIVER_CONFIRM", "never", "confirm", "never"),
        ("RECEIVER_MAX_CALLBACK_BYTES", "65536", "max_callback_bytes", 65536),
        (
            "RECEIVER_TRUSTED_PROXIES",
            "127.0.0.1, 10.0.0.0/8,fd00::/8,192.168.1.7/24",
            "trusted_proxies",
            tuple(map(ipaddress.ip_network, ("127.0.0.1/32", "10.0.0.0/8", "fd00::/8", "192.168.1.0/24"))),
        ),
        ("RECEIVER_NOTIFY_URL", "http://app:3000/in?from=receiver", "notify_url", "http://app:3000/in?from=receiver"),
        ("RECEIVER_NOTIFY_EVENTS", "task.stored, task.failed", "notify_events", ("task.stored", "task.failed")),
        ("RECEIVER_NOTIFY_SECRETS", f"{WHSEC},{WHSEC}", "notify_secrets", (SecretStr(WHSEC), SecretStr(WHSEC))),
        ("RECEIVER_NOTIFY_HOSTS", "App.Internal:3000, [::1]", "notify_hosts", ("app.internal:3000", "[::1]")),
        ("HOST", "0.0.0.0", "host", "0.0.0.0"),  # noqa: S104 - read, not bound
        ("PORT", "10000", "port", 10000),
    ],
)
def test_a_variable_sets_what_the_interface_says(variable: str, value: str, name: str, expected: Any) -> None:
    assert getattr(load(KEY | {variable: value}), name) == expected


def test_the_own_database_variable_goes_before_the_platforms() -> None:
    both = {"RECEIVER_DATABASE_URL": "sqlite:////tmp/a.db", "DATABASE_URL": "mysql://x"}
    assert load(KEY | both).database == "sqlite:////tmp/a.db"
    assert load(KEY | {"RECEIVER_DATABASE_URL": " ", "DATABASE_URL": "sqlite:////tmp/b.db"}).database.endswith("/b.db")


@pytest.mark.parametrize("name", [*VARIABLES.values(), "DATABASE_URL", "REVID_BASE_URL", "REVID_MAX_RUNNING"])
def test_an_empty_variable_counts_as_unset(name: str) -> None:
    assert load(KEY | {name: ""}) == load(KEY) == load(KEY | {name: "  "})


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError):
        load(KEY).timeout = 5


# --- what is wrong


BAD = {
    "RECEIVER_PUBLIC_URL": [
        "hooks.example.com",
        "http://hooks.example.com",
        "https://h.example.com/?a=b",
        "https://h:x",
    ],
    "RECEIVER_DATABASE_URL": ["mysql://h/d", "receiver.db", "sqlite://"],
    "RECEIVER_POLLER": ["maybe", "2"],
    "RECEIVER_POLL_AFTER": ["-1", "soon", "inf"],
    "RECEIVER_CALLBACK_GRACE": ["-1", "5m"],
    "RECEIVER_POLL_EVERY": ["0", "nan"],
    "RECEIVER_POLL_MAX": ["0", "x"],
    "RECEIVER_LATE_WATCH": ["-1", "a day"],
    "RECEIVER_HEARTBEAT_URL": ["hc.example/ping", "ftp://hc.example", "https://hc.example/a b", "https://u:p@h/"],
    "RECEIVER_DEADLINE": ["0", "-3600", "2h"],
    "RECEIVER_TIMEOUT": ["0", "-1", "fast", "1e999"],
    "RECEIVER_CONFIRM": ["sometimes"],
    "RECEIVER_MAX_CALLBACK_BYTES": ["0", "-1", "1.5", "1MB"],
    "RECEIVER_TRUSTED_PROXIES": ["proxy.example.com", "10.0.0.0/33", "10.0.0.1,300.1.1.1"],
    "RECEIVER_NOTIFY_URL": ["app.example.com", "ftp://x", "https://u:p@h.example.com", "https://h/#f", "https://h/a b"],
    "RECEIVER_NOTIFY_EVENTS": ["task.done", "task.failed,all", "succeeded"],
    "RECEIVER_NOTIFY_SECRETS": ["a-secret", "whsec_", "whsec_???", f"{WHSEC},x"],
    "RECEIVER_NOTIFY_HOSTS": ["https://app:3000", "app/x", "app:0", "app:65536", "-", "a b"],
    "PORT": ["-1", "65536", "http"],
    "REVID_BASE_URL": ["api.revidapi.com", "ftp://x", "https://u:p@h.example.com"],
    "REVID_MAX_RUNNING": ["0", "many", "1.5"],
    "REVID_MAX_CREDITS_PER_DAY": ["0", "-5", "inf", "lots"],
    "REVID_API_KEY": ["with a blank", "schlüssel", "two\nlines", "\u201cquoted\u201d"],
}


@pytest.mark.parametrize(
    ("variable", "value"), [pytest.param(name, value, id=f"{name}={value}") for name in BAD for value in BAD[name]]
)
def test_a_bad_setting_is_named_with_what_is_wrong_and_an_example(variable: str, value: str) -> None:
    found = faults(KEY | {variable: value})
    assert list(found) == [variable]
    words, _, example = found[variable].partition("; for example ")
    assert words
    assert re.match(rf"{variable}=\S", example)


@pytest.mark.parametrize("variable", BAD)
def test_the_example_in_the_message_works(variable: str) -> None:
    _, _, example = faults(KEY | {variable: BAD[variable][0]})[variable].partition(f"; for example {variable}=")
    for value in example.split(" or "):
        assert load(KEY | {variable: value}).warnings == ()


def test_every_bad_setting_is_named_in_one_message() -> None:
    environ = {name: values[0] for name, values in BAD.items()} | {"GATEWAY_API_KEY": "k", "APIXO_WEBHOOK_SECRET": "s"}
    assert faults(environ).keys() == {*BAD, "GATEWAY_BASE_URL", "APIXO_WEBHOOK_SECRET"}


def test_the_platforms_database_variable_is_named_where_it_is_the_wrong_one() -> None:
    assert faults(KEY | {"DATABASE_URL": "mysql://h/d"}).keys() == {"DATABASE_URL"}


def test_a_webhook_secret_is_an_error_where_no_signature_is_documented_with_or_without_a_key() -> None:
    for family in ("APIXO", "REVID", "GATEWAY"):
        assert faults({f"{family}_WEBHOOK_SECRET": SECRET}).keys() == {f"{family}_WEBHOOK_SECRET"}
        assert faults(KEY | {f"{family}_WEBHOOK_SECRET": SECRET}).keys() == {f"{family}_WEBHOOK_SECRET"}


def test_a_webhook_secret_is_taken_where_a_signature_is_documented() -> None:
    found = load({"SIGNED_API_KEY": "k", "SIGNED_WEBHOOK_SECRET": SECRET}, signed=SignedConfig)
    config = found.providers["signed"]
    assert isinstance(config, SignedConfig)
    assert config.webhook_secret == SecretStr(SECRET)
    assert SECRET not in repr(found)


def test_a_variable_that_looks_like_ours_is_pointed_out() -> None:
    found = load(KEY | {"RECEIVER_PUBLIC_URI": "https://h.example.com", "RECEIVER_X": SECRET, "PATH": "/bin"})
    assert found.warnings == (
        "RECEIVER_PUBLIC_URI is not a setting; did you mean RECEIVER_PUBLIC_URL?",
        "RECEIVER_X is not a setting",
    )


# --- secrets


SECRETS = {
    "REVID_API_KEY": SECRET,
    "RECEIVER_SECRET_KEYS": f"{SECRET},{SECRET}2",
    "RECEIVER_API_TOKENS": SECRET,
    "RECEIVER_DATABASE_URL": f"postgresql://u:{SECRET}@db.example.com/x",
    "GATEWAY_API_KEY": SECRET,
    "GATEWAY_BASE_URL": "https://gateway.example.com",
    "GATEWAY_X_API_KEY": SECRET,
    "GATEWAY_X_BASE_URL": "https://x.example.com",
}


@pytest.mark.row("C8")
def test_secrets_are_there_and_show_in_no_spelling_of_the_settings() -> None:
    found = load(SECRETS)
    assert found.providers["gateway-x"].api_key.get_secret_value() == SECRET
    assert found.secret_keys[1].get_secret_value() == f"{SECRET}2"
    for shown in (repr(found), str(found), repr(found.providers), f"{found}", repr(found.secret_keys)):
        assert SECRET not in shown


@pytest.mark.row("C8")
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RECEIVER_DATABASE_URL", f"mysql://u:{SECRET}@db.example.com/x"),
        ("DATABASE_URL", f"postgres://u:two@{SECRET}@db.example.com/x"),
        ("DATABASE_URL", f"postgres://u:two@h:{SECRET}@db.example.com:5432/x"),
        ("DATABASE_URL", f"mysql://u:{SECRET}@db.example.com/x"),
        ("RECEIVER_PUBLIC_URL", f"https://u:{SECRET}@hooks.example.com"),
        ("RECEIVER_PUBLIC_URL", f"https://u:{SECRET}@exa\u2100mple.com"),
        ("RECEIVER_PUBLIC_URL", f"https://hooks.example.com:{SECRET}"),
        ("RECEIVER_PUBLIC_URL", f"https://hooks.example.com?key={SECRET}"),
        ("REVID_BASE_URL", f"https://u:{SECRET}@api.example.com"),
        ("REVID_API_KEY", f"{SECRET}\u2026"),
        ("APIXO_WEBHOOK_SECRET", SECRET),
        ("GATEWAY_API_KEY", SECRET),
    ],
)
def test_no_message_about_bad_settings_holds_a_secret(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(SECRETS | {"GATEWAY_BASE_URL": ""} | {"RECEIVER_DATABASE_URL": ""} | {variable: value})
    error: BaseException | None = caught.value
    while error is not None:  # a traceback shows what is chained, too
        assert SECRET not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# --- providers


def test_only_a_provider_with_a_key_is_configured_at_its_documented_origin() -> None:
    environ = {
        "RIVYA_API_KEY": "a",
        "APIXO_API_KEY": "b",
        "REVID_API_KEY": "c",
        "GATEWAY_BASE_URL": "https://g.example",
    }
    assert {name: config.base_url for name, config in load(environ).providers.items()} == {
        "rivya": "https://rivya.ai",
        "apixo": "https://api.apixo.ai/api/v1",
        "revid": "https://api.revidapi.com",
    }


def test_the_settings_of_a_provider_are_read_by_its_name() -> None:
    config = load(
        {
            "APIXO_API_KEY": " k ",
            "APIXO_BASE_URL": "https://proxy.example.com/apixo/",
            "APIXO_MAX_RUNNING": "20",
            "APIXO_MAX_CREDITS_PER_DAY": "99.5",
        }
    ).providers["apixo"]
    assert config.api_key.get_secret_value() == "k"
    assert (config.base_url, config.max_running, config.max_credits_per_day) == (
        "https://proxy.example.com/apixo",
        20,
        99.5,
    )
    others = load(KEY).providers["revid"]
    assert (others.max_running, others.max_credits_per_day) == (None, None)


def test_a_gateway_needs_its_base_url() -> None:
    assert faults({"GATEWAY_API_KEY": "k"}).keys() == {"GATEWAY_BASE_URL"}
    assert "is missing" in faults({"GATEWAY_API_KEY": "k"})["GATEWAY_BASE_URL"]


def test_further_gateways_are_named_by_what_stands_in_their_variables() -> None:
    found = load(
        {
            "GATEWAY_YUTO_API_KEY": "a",
            "GATEWAY_YUTO_BASE_URL": "https://yuto.example.com",
            "GATEWAY_YUTO_MAX_RUNNING": "3",
            "GATEWAY_SECOND_ONE_API_KEY": "b",
            "GATEWAY_SECOND_ONE_BASE_URL": "https://second.example.com",
            "GATEWAY_UNUSED_BASE_URL": "https://unused.example.com",
        }
    )
    assert {name: (config.base_url, config.max_running) for name, config in found.providers.items()} == {
        "gateway-yuto": ("https://yuto.example.com", 3),
        "gateway-second-one": ("https://second.example.com", None),
    }
    assert not found.sandbox


def test_a_fault_of_a_further_gateway_names_its_own_variable() -> None:
    environ = KEY | {"GATEWAY_X_API_KEY": "k", "GATEWAY_X_MAX_RUNNING": "0", "GATEWAY_X_WEBHOOK_SECRET": "s"}
    assert faults(environ).keys() == {"GATEWAY_X_BASE_URL", "GATEWAY_X_MAX_RUNNING", "GATEWAY_X_WEBHOOK_SECRET"}


def test_only_gateways_can_be_several() -> None:
    assert load(KEY | {"REVID_X_API_KEY": "k", "REVID_X_BASE_URL": "https://x.example.com"}).providers.keys() == {
        "revid"
    }


# --- the sandbox


def test_without_any_provider_key_the_sandbox_is_configured_with_short_times_and_its_own_database() -> None:
    found = load({"RECEIVER_DATA_DIR": "/srv/r", "DATABASE_URL": "sqlite:////tmp/a.db", "PORT": "9000"})
    assert found.sandbox
    assert found.database == "sqlite:////srv/r/sandbox.db"
    assert found.public_url == "http://127.0.0.1:9000"
    assert (found.poll_after, found.callback_grace) == (5, 10)
    assert {name: config.base_url for name, config in found.providers.items()} == {
        family: f"http://127.0.0.1:9000/sandbox/{family}" for family in CONFIG_TYPES
    }


def test_the_sandbox_is_its_own_public_url_whatever_is_set_and_keeps_times_that_are_set() -> None:
    found = load({"RECEIVER_PUBLIC_URL": "https://hooks.example.com", "RECEIVER_POLL_AFTER": "1.5"})
    assert found.public_url == "http://127.0.0.1:8000"
    assert (found.poll_after, found.callback_grace) == (1.5, 10)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),  # noqa: S104 - read, not bound
        ("::", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("localhost", "http://localhost:8000"),
        ("192.168.1.5", "http://192.168.1.5:8000"),
        ("8.8.8.8", "http://8.8.8.8:8000"),
        ("vm.example.com", "http://vm.example.com:8000"),
    ],
)
def test_the_sandbox_reaches_itself_where_it_listens(host: str, address: str) -> None:
    assert load({"HOST": host}).public_url == address


@pytest.mark.parametrize("host", ["two words", ":::", "a/b?c", "user@host"])
def test_an_address_that_the_sandbox_could_not_reach_itself_at_is_a_settings_error(host: str) -> None:
    assert faults({"HOST": host}).keys() == {"HOST"}


def test_the_sandbox_follows_to_the_port_that_was_really_bound() -> None:
    found = load({"PORT": "0"}).with_port(54321)
    assert (found.port, found.public_url) == (54321, "http://127.0.0.1:54321")
    assert {name: config.base_url for name, config in found.providers.items()} == {
        family: f"http://127.0.0.1:54321/sandbox/{family}" for family in CONFIG_TYPES
    }


def test_outside_the_sandbox_the_bound_port_changes_no_address() -> None:
    given = KEY | {"PORT": "0", "RECEIVER_PUBLIC_URL": "https://hooks.example.com"}
    found = load(given).with_port(54321)
    assert (found.port, found.public_url) == (54321, "https://hooks.example.com")
    assert found.providers == load(given).providers


@pytest.mark.parametrize("environ", [{"REVID_API_KEY": ""}, {"GATEWAY_BASE_URL": "https://g.example.com"}])
def test_a_provider_without_a_key_does_not_end_the_sandbox(environ: dict[str, str]) -> None:
    assert load(environ).sandbox


@pytest.mark.parametrize(
    "environ",
    [
        {"RIVYA_API_KEY": "k"},
        {"GATEWAY_API_KEY": "k", "GATEWAY_BASE_URL": "https://g.example.com"},
        {"GATEWAY_X_API_KEY": "k", "GATEWAY_X_BASE_URL": "https://g.example.com"},
    ],
)
def test_any_provider_key_ends_the_sandbox_and_its_short_times(environ: dict[str, str]) -> None:
    found = load(environ)
    assert not found.sandbox
    assert found.public_url is None
    assert (found.poll_after, found.callback_grace) == (None, 300)


def test_bad_settings_are_found_in_the_sandbox_too() -> None:
    assert faults({"PORT": "x", "RECEIVER_PUBLIC_URL": "http://hooks.example.com"}).keys() == {
        "PORT",
        "RECEIVER_PUBLIC_URL",
    }


def test_what_is_set_and_does_nothing_is_named() -> None:
    found = load({"REVID_BASE_URL": "https://x.example.com", "DATABASE_URL": "postgres://h/d", "GATEWAY_X_API_KEY": ""})
    assert found.sandbox
    assert [sentence.split(" ", 1)[0] for sentence in found.warnings] == ["REVID_BASE_URL", "DATABASE_URL"]
    further = load({"GATEWAY_X_API_KEY": "k", "GATEWAY_X_BASE_URL": "https://x.example.com"})
    assert further.warnings == ()
