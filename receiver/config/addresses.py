"""Which URLs a setting may hold, and which hosts count as private. Pure; `settings` calls it.

It checks what the operator configures. It is no protection against addresses in untrusted input.
"""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

import httpx

_POSTGRESQL = re.compile(r"postgres(ql)?(\+\w+)?")
_SQLITE = re.compile(r"sqlite(\+(pysqlite|aiosqlite))?")
_BUCKETS = ("s3", "gs", "az")
_HOST = re.compile(r"(\[[\da-fA-F:.]+\]|[a-zA-Z\d]([\w.-]*[a-zA-Z\d])?)(:(?P<port>\d{1,5}))?", re.ASCII)
_LOCAL_SUFFIXES = (".local", ".internal", ".localhost", ".localdomain")


def check_base_url(value: str) -> str:
    """Return an http(s) URL without a trailing slash.

    Raises `ValueError` unless it has a host and ends after its path.
    """
    parts = _split_url(value)
    if parts.query or parts.fragment or re.search(r"[\s\\?#]", value):
        raise ValueError("must end after its path: no query, fragment or spaces")
    return value.rstrip("/")


def check_endpoint_url(value: str) -> str:
    """Return the http(s) URL of something that is sent requests; it may have a query. Raises `ValueError`."""
    if _split_url(value).fragment or re.search(r"[^!-~]|[\\#]", value):
        raise ValueError("must be written in ASCII, without spaces, backslashes and a fragment")
    return value


def check_host(value: str) -> str:
    """Return a host, with or without a port, in lower case. Raises `ValueError`."""
    found = _HOST.fullmatch(value)
    if found is None or int(found["port"] or 1) not in range(1, 65536):
        raise ValueError("must be hosts, with or without a port from 1 to 65535, and without a scheme or path")
    return value.lower()


def _split_url(value: str) -> SplitResult:
    """Return the parts of an http(s) URL with a host and no credentials. Raises `ValueError`."""
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - reading it raises where it is no port
        httpx.URL(value)  # the HTTP client must be able to read it, too
    except (ValueError, httpx.InvalidURL):  # do not chain: the error may quote a password
        raise ValueError("must be a complete http:// or https:// URL; a port is at most 65535") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a complete http:// or https:// URL")
    if re.search(r"[^\w.:-]", parts.hostname):  # clients differ in how they treat other characters
        raise ValueError("must have a host of letters, digits, dots and hyphens")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user name or password")
    return parts


def check_public_url(value: str) -> str:
    """Return the URL under which providers reach us.

    Raises `ValueError` unless it is https, or http to a private host.
    """
    url = check_base_url(value)
    parts = urlsplit(url)
    if parts.port == 0:
        raise ValueError("must have a port from 1 to 65535, or none")
    if parts.scheme == "http" and not is_private(parts.hostname or ""):
        raise ValueError("must be https; plain http works for private addresses only")
    return url


def _check_postgresql(rest: str) -> None:
    """Raise `ValueError` for a URL that the driver would misread: its error could quote part of a password."""
    place = re.sub(r"^[^:/@]*(:[^@]*)?@", "", rest).partition("?")[0]
    server = place.partition("/")[0]
    if "@" in place or not re.fullmatch(r"([\w.%-]+|\[[\da-fA-F:.]+\])?(:\d{1,5})?", server):
        raise ValueError("must have a host, with or without a port; write any other @ as %40")


def check_database_url(value: str) -> str:
    """Return the SQLAlchemy URL of an SQLite file or a PostgreSQL database, with our driver.

    Raises `ValueError`.
    """
    scheme, _, rest = value.partition("://")
    if _POSTGRESQL.fullmatch(scheme):
        _check_postgresql(rest)
        return f"postgresql+psycopg://{rest}"
    if not _SQLITE.fullmatch(scheme):
        raise ValueError("must be the SQLAlchemy URL of an SQLite file or a PostgreSQL database")
    if rest.split("?")[0] in ("", "/") or ":memory:" in rest or "mode=memory" in rest:
        raise ValueError("must name a file: a database in memory loses everything at the next restart")
    if not rest.startswith("/"):
        raise ValueError("must have three slashes before a relative path, four before an absolute one")
    return f"sqlite://{rest}"


def check_archive(value: str) -> str:
    """Return a directory, the URL of a bucket, or `off`. Raises `ValueError`."""
    if "://" not in value:
        return value
    parts = urlsplit(value)
    if parts.scheme not in _BUCKETS or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must be a directory, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, or off")
    return value.rstrip("/")


def is_private(host: str) -> bool:
    """Return whether a host is this machine, a name without a domain, or an address of a private network."""
    name = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(_LOCAL_SUFFIXES)
    return address.is_private or address.is_loopback or address.is_link_local
