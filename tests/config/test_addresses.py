"""Which URLs the settings may hold."""

import pytest

from receiver.config.addresses import check_base_url, check_database_url, check_public_url, is_private


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("https://api.example.com/", "https://api.example.com"),
        ("http://api.example.com:8080/v1/", "http://api.example.com:8080/v1"),
        ("HTTPS://Api.Example.com", "HTTPS://Api.Example.com"),
        ("https://[2001:db8::1]:8443/a/b", "https://[2001:db8::1]:8443/a/b"),
        ("https://bücher.example", "https://bücher.example"),
    ],
)
def test_a_base_url_ends_after_its_path_and_without_a_slash(value: str, expected: str) -> None:
    assert check_base_url(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "api.example.com",
        "//api.example.com",
        "ftp://api.example.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https:///path",
        "https://:8000",
        "https://user@example.com",
        "https://user:password@example.com",
        "https://:password@example.com",
        "https://example.com?key=password",
        "https://example.com/?",
        "https://example.com#",
        "https://example.com/#fragment",
        "https://example.com/a b",
        "https://example.com\n",
        "https://exa\tmple.com",
        "https://example.com\\@evil.example",
        "https://example.com:65536",
        "https://example.com:password",
        "https://[::1",
        "https://[nonsense]",
        "https://user:password@exa\u2100mple.com",
        "https://exa\x01mple.com",
        "https://exa<mple.com",
        "https://exa%41mple.com",
        "https://127\u30020\u30020\u30021",
    ],
)
@pytest.mark.row("E7")
def test_anything_else_is_no_base_url_and_the_words_about_it_quote_nothing(value: str) -> None:
    with pytest.raises(ValueError, match=r"^must ") as caught:
        check_base_url(value)
    assert "password" not in str(caught.value).replace("a user name or password", "")


@pytest.mark.parametrize(
    "value",
    [
        "https://hooks.example.com",
        "https://hooks.example.com/receiver",
        "http://localhost:8000",
        "http://127.0.0.1:8000",
        "http://127.0.0.1.:8000",
        "http://[::1]:8000",
        "http://10.1.2.3",
        "http://172.16.0.1",
        "http://192.168.1.5:8000/receiver",
        "http://[fd00::1]",
        "http://169.254.1.1",
        "http://receiver:8000",
        "http://receiver.local",
        "http://host.docker.internal:8000",
    ],
)
def test_a_public_url_is_https_or_leads_to_a_private_host(value: str) -> None:
    assert check_public_url(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "http://hooks.example.com",
        "http://8.8.8.8",
        "http://172.32.0.1",
        "http://[2606:4700::1111]",
        "http://localhost.example.com",
        "http://10.0.0.1.example.com",
    ],
)
@pytest.mark.row("E7")
def test_plain_http_to_anybody_else_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="must be https"):
        check_public_url(value)


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("printer", True),
        ("printer.local", True),
        ("db.internal", True),
        ("a.localhost", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("fe80::1", True),
        ("fc00::1", True),
        ("example.com", False),
        ("local.example.com", False),
        ("notlocal.example", False),
        ("xlocal", True),
        ("example.xlocal", False),
        ("1.1.1.1", False),
        ("2606:4700::1111", False),
    ],
)
def test_private_is_this_machine_a_name_without_a_domain_or_a_private_network(host: str, private: bool) -> None:  # noqa: FBT001 - a column of the table
    assert is_private(host) is private


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("postgres://u:p@db.example.com/receiver", "postgresql+psycopg://u:p@db.example.com/receiver"),
        ("postgresql://db.example.com/receiver", "postgresql+psycopg://db.example.com/receiver"),
        ("postgresql+psycopg://db/receiver?sslmode=require", "postgresql+psycopg://db/receiver?sslmode=require"),
        ("postgresql+psycopg2://db/receiver", "postgresql+psycopg://db/receiver"),
        ("postgresql+asyncpg://db/receiver", "postgresql+psycopg://db/receiver"),
        ("postgres://u:p%40/?#ss@[::1]:5432/r", "postgresql+psycopg://u:p%40/?#ss@[::1]:5432/r"),
        ("postgres://u@db:5432/r?host=a@b", "postgresql+psycopg://u@db:5432/r?host=a@b"),
        ("postgres:///r?host=/run/postgresql", "postgresql+psycopg:///r?host=/run/postgresql"),
        ("sqlite:///receiver.db", "sqlite:///receiver.db"),
        ("sqlite:////var/lib/receiver/receiver.db", "sqlite:////var/lib/receiver/receiver.db"),
        ("sqlite:////var/lib/receiver.db?timeout=5", "sqlite:////var/lib/receiver.db?timeout=5"),
        ("sqlite+pysqlite:///receiver.db", "sqlite:///receiver.db"),
    ],
)
def test_any_url_of_sqlite_or_postgresql_is_taken_and_gets_our_driver(value: str, expected: str) -> None:
    assert check_database_url(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "receiver.db",
        "/var/lib/receiver.db",
        "mysql://u:password@db/x",
        "sqlite+pysqlcipher://:password@/receiver.db",
        "postgresqlx://db/receiver",
        "postgresql://u:a@password@db/db",
        "postgresql://u:a@b:password@db:5432/db",
        "postgresql://u:a@b/password@db/db",
        "postgresql://u:a@b:port/db",
        "redis://db",
        "sqlite:receiver.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://?timeout=5",
        "sqlite:///:memory:?cache=shared",
        "sqlite:///file::memory:?uri=true",
        "sqlite:///file:receiver?mode=memory&uri=true",
        "sqlite://receiver.db",
    ],
)
def test_another_database_or_one_in_memory_is_refused_without_quoting_it(value: str) -> None:
    with pytest.raises(ValueError, match=r"^must ") as caught:
        check_database_url(value)
    assert "password" not in str(caught.value)
