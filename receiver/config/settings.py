"""The settings: read once from the environment, validated together, immutable.

`cli` loads them and passes them on. Nothing here reads the process environment, and no error message contains a value
that could be a secret.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    SerializeAsAny,
    ValidationError,
)

from receiver.config import unknown_variables
from receiver.config.addresses import (
    check_archive,
    check_base_url,
    check_database_url,
    check_endpoint_url,
    check_host,
    check_public_url,
)
from receiver.core.errors import ConfigError
from receiver.core.message_types import MessageType
from receiver.core.signatures import require_webhook_secret


def _split_list(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(item for item in (part.strip() for part in value.split(",")) if item)


def _parse_networks(value: Any) -> Any:
    items = _split_list(value)
    return tuple(ipaddress.ip_network(item, strict=False) for item in items) if isinstance(value, str) else items


def _require_sendable(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError("must be printable ASCII without spaces, because it is sent in a header")
    return value


def _require_webhook_secrets(values: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for value in values:
        require_webhook_secret(value.get_secret_value())
    return values


def _check_hosts(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(check_host, values))


def _parse_message_types(value: Any) -> Any:
    items = _split_list(value)
    if not set(items) <= set(MessageType):
        raise ValueError(f"must be some of: {', '.join(MessageType)}")
    return tuple(map(MessageType, items))


BaseURL = Annotated[str, AfterValidator(check_base_url), Field(examples=["https://api.example.com"])]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_split_list), Field(examples=["a-long-random-text"])]
WebhookSecrets = Annotated[
    tuple[SecretStr, ...],
    BeforeValidator(_split_list),
    AfterValidator(_require_webhook_secrets),
    Field(examples=["whsec_cmVwbGFjZS10aGlzLWJ5LTMyLXJhbmRvbS1ieXRlcyE="]),
]
Hosts = Annotated[
    tuple[str, ...], BeforeValidator(_split_list), AfterValidator(_check_hosts), Field(examples=["app.internal:3000"])
]
MessageTypes = Annotated[
    tuple[MessageType, ...], BeforeValidator(_parse_message_types), Field(examples=["task.succeeded,task.failed"])
]
Networks = Annotated[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], BeforeValidator(_parse_networks)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86400, allow_inf_nan=False, examples=["30"])]
NonNegativeSeconds = Annotated[float, Field(ge=0, le=30 * 86400, allow_inf_nan=False, examples=["30"])]


class ProviderConfig(BaseModel):
    """The settings of one account, read from `<NAME>_*`; a family with more settings adds fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    allows_several: ClassVar[bool] = False
    """Whether `<FAMILY>_<X>_*` adds further accounts, named `<family>-<x>`."""

    api_key: Annotated[SecretStr, AfterValidator(_require_sendable)] = Field(
        examples=["the-key-from-the-provider's-dashboard"]
    )
    base_url: BaseURL
    max_running: Annotated[int, Field(ge=1, examples=["20"])] | None = None
    max_credits_per_day: Annotated[float, Field(gt=0, allow_inf_nan=False, examples=["5000"])] | None = None


class ServiceSettings(BaseModel):
    """The settings of the service itself, in the order of `docs/settings.md`. Durations are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    public_url: Annotated[str, AfterValidator(check_public_url)] | None = Field(
        None, examples=["https://hooks.example.com"]
    )
    database_url: Annotated[str, AfterValidator(check_database_url)] | None = Field(
        None, repr=False, examples=["sqlite:////var/lib/receiver/receiver.db"]
    )
    data_dir: Path = Field(Path("data"), examples=["/var/lib/receiver"])
    secret_keys: Secrets = ()
    api_tokens: Secrets = ()
    poller: bool = Field(default=True, examples=["on", "off"])
    poll_after: NonNegativeSeconds | None = None
    callback_grace: NonNegativeSeconds = 300
    poll_every: Seconds = 10
    poll_max: Seconds = 120
    deadline: Seconds = Field(7200, examples=["7200"])
    timeout: Seconds = 30
    confirm: Literal["auto", "always", "never"] = Field("auto", examples=["auto", "always", "never"])
    max_callback_bytes: Annotated[int, Field(ge=1, le=64 * 1024 * 1024, examples=["1048576"])] = 1_048_576
    trusted_proxies: Networks = Field((), examples=["127.0.0.1,10.0.0.0/8"])
    archive: Annotated[str, AfterValidator(check_archive)] | None = Field(
        None, examples=["/var/lib/receiver/outputs", "s3://bucket/prefix", "off"]
    )
    archive_max_bytes: Annotated[int, Field(ge=1, examples=["2147483648"])] = 2_147_483_648
    archive_keep_free: Annotated[int, Field(ge=0, examples=["1073741824"])] = 1_073_741_824
    notify_url: Annotated[str, AfterValidator(check_endpoint_url)] | None = Field(
        None, repr=False, examples=["https://app.example.com/receiver"]
    )
    notify_events: MessageTypes = tuple(MessageType)
    notify_secrets: WebhookSecrets = ()
    notify_hosts: Hosts = ()
    late_watch: NonNegativeSeconds = Field(86_400, examples=["86400"])
    heartbeat_url: Annotated[str, AfterValidator(check_endpoint_url)] | None = Field(
        None, repr=False, examples=["https://hc-ping.com/your-uuid"]
    )
    host: str = Field("127.0.0.1", examples=["0.0.0.0"])  # noqa: S104 - an example, not a default
    port: Annotated[int, Field(ge=0, le=65535, examples=["8000"])] = 8000

    @property
    def local_url(self) -> str:
        """Return the http URL under which this machine reaches the service."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


VARIABLES: Mapping[str, str] = {
    name: name.upper() if name in ("host", "port") else f"RECEIVER_{name.upper()}"
    for name in ServiceSettings.model_fields
}
"""The variable of every field of `ServiceSettings`."""

SANDBOX_DEFAULTS = {"poll_after": "5", "callback_grace": "10", "poll_every": "2", "poll_max": "10"}
"""Settings of the sandbox, unless they are set."""
SANDBOX_KEY = "sandbox"


class Settings(ServiceSettings):
    """All validated settings."""

    public_url: str | None = None
    """As `ServiceSettings` validated it; in the sandbox its own address, which is plain http wherever it listens."""
    providers: Mapping[str, SerializeAsAny[ProviderConfig]] = Field(default_factory=dict)
    """The configured accounts by name: `revid`, `gateway`, `gateway-x`."""
    sandbox: bool = False
    given: frozenset[str] = frozenset()
    """The fields that were set: what is measured replaces a default, and never what was set."""
    warnings: tuple[str, ...] = ()
    """One sentence for each variable that has no effect."""

    @classmethod
    def load(cls, environ: Mapping[str, str], families: Mapping[str, type[ProviderConfig]]) -> Self:
        """Return the settings in these variables; empty ones count as unset. Without a provider key, it is a sandbox.

        Raises `ConfigError` with every wrong variable.
        """
        given = {name: value.strip() for name, value in environ.items() if value.strip()}
        accounts = _find_accounts(given, families)
        sandbox = not any(f"{prefix}_API_KEY" in given for prefix, _ in accounts.values())
        raw = {name: given[variable] for name, variable in VARIABLES.items() if variable in given}
        variables = dict(VARIABLES)
        if "database_url" not in raw and "DATABASE_URL" in given:
            raw["database_url"], variables["database_url"] = given["DATABASE_URL"], "DATABASE_URL"
        if sandbox:
            raw = SANDBOX_DEFAULTS | raw
        faults: list[str] = []
        service = _validate(ServiceSettings, raw, lambda name: variables[name.lower()], faults)
        providers = _read_providers(given, accounts, faults)
        address = _local_url(service, faults) if sandbox and service else None
        if faults or service is None:
            raise ConfigError("The settings are wrong:\n" + "\n".join(f"  {fault}" for fault in faults))
        fields = dict(service)
        if address is not None:
            fields |= {"public_url": address, "database_url": None}
            providers = _sandbox_accounts(families, address)
        owned = {name: _list_variables(prefix, config_type) for name, (prefix, config_type) in accounts.items()}
        known = {*VARIABLES.values(), *(variable for variables in owned.values() for variable in variables)}
        warnings = (
            *unknown_variables.find_unknown(given, known),
            *unknown_variables.find_unused(given, owned, sandbox=sandbox),
        )
        return cls(**fields, providers=providers, sandbox=sandbox, given=frozenset(raw), warnings=warnings)

    def with_port(self, port: int) -> Self:
        """Return these settings for the port that was bound, with the sandbox's own addresses on it."""
        settings = self.model_copy(update={"port": port})
        if not self.sandbox:
            return settings
        families = {name: type(config) for name, config in self.providers.items()}
        address = settings.local_url
        return settings.model_copy(update={"public_url": address, "providers": _sandbox_accounts(families, address)})

    @property
    def path_prefix(self) -> str:
        """Return the path in the public URL, which prefixes all our paths; empty, or with a leading slash."""
        return urlsplit(self.public_url or "").path

    @property
    def database(self) -> str:
        """Return the database's SQLAlchemy URL: the configured one, or a file in the data directory."""
        file = "sandbox.db" if self.sandbox else "receiver.db"
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / file}"

    @property
    def archive_place(self) -> str | None:
        """Return where results are kept: a directory or the URL of a bucket; None if only their links are."""
        if self.archive == "off":
            return None
        if self.sandbox or self.archive is None:
            return str(self.data_dir.absolute() / ("sandbox-outputs" if self.sandbox else "outputs"))
        return self.archive

    @property
    def root_url(self) -> str:
        """Return the URL that links to this service begin with: the public one, else this machine's."""
        return self.public_url or self.local_url


M = TypeVar("M", bound=BaseModel)


def _find_accounts(
    given: Mapping[str, str], families: Mapping[str, type[ProviderConfig]]
) -> dict[str, tuple[str, type[ProviderConfig]]]:
    accounts = {family: (family.upper(), config_type) for family, config_type in families.items()}
    for family, config_type in families.items():
        if not config_type.allows_several:
            continue
        pattern = re.compile(rf"({family.upper()}_([A-Z0-9]+(?:_[A-Z0-9]+)*))_(?:API_KEY|BASE_URL)")
        for match in filter(None, map(pattern.fullmatch, sorted(given))):
            accounts[f"{family}-{match[2].lower().replace('_', '-')}"] = (match[1], config_type)
    return accounts


def _list_variables(prefix: str, config_type: type[ProviderConfig]) -> list[str]:
    """Return an account's variables, the key's first."""
    return [f"{prefix}_{field.upper()}" for field in config_type.model_fields]


def _read_providers(
    given: Mapping[str, str], accounts: Mapping[str, tuple[str, type[ProviderConfig]]], faults: list[str]
) -> dict[str, ProviderConfig]:
    providers = {}
    for name, (prefix, config_type) in accounts.items():
        if f"{prefix}_WEBHOOK_SECRET" in given and "webhook_secret" not in config_type.model_fields:
            faults.append(f"{prefix}_WEBHOOK_SECRET: {name} does not sign its callbacks; remove it")
        if f"{prefix}_API_KEY" not in given:
            continue
        raw = {
            field: given[variable]
            for field in config_type.model_fields
            if (variable := f"{prefix}_{field.upper()}") in given
        }
        config = _validate(config_type, raw, partial("{}_{}".format, prefix), faults)
        if config is not None:
            providers[name] = config
    return providers


def _validate(model: type[M], raw: Mapping[str, str], variable: Callable[[str], str], faults: list[str]) -> M | None:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            name = str(fault["loc"][0])
            words = "is missing" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
            shown = variable(name.upper())
            faults.append(f"{shown}: {words}; for example {shown}={_example(model, name)}")
    return None


def _example(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    examples = field.examples or [
        example for item in _annotations(field.annotation) for example in getattr(item, "examples", None) or ()
    ]
    return " or ".join(str(example) for example in examples)


def _annotations(annotation: Any) -> list[Any]:
    """Return the metadata inside an optional annotation, which pydantic does not merge."""
    nested = [item for part in getattr(annotation, "__args__", ()) for item in _annotations(part)]
    return [*getattr(annotation, "__metadata__", ()), *nested]


def _local_url(service: ServiceSettings, faults: list[str]) -> str | None:
    try:
        return check_base_url(service.local_url)
    except ValueError:
        faults.append("HOST: must be an address at which the sandbox reaches itself; for example HOST=127.0.0.1")
        return None


def _sandbox_accounts(families: Mapping[str, type[ProviderConfig]], address: str) -> dict[str, ProviderConfig]:
    """Return an account of every family at the simulated provider, whose other hosts are simulated, too."""
    configs = {}
    for family, config_type in families.items():
        hosts = {"files_url": f"{address}/sandbox/{family}-files"} if "files_url" in config_type.model_fields else {}
        raw = {"api_key": SANDBOX_KEY, "base_url": f"{address}/sandbox/{family}", **hosts}
        configs[family] = config_type.model_validate(raw)
    return configs
