"""Which URLs a task may name for messages about it."""

import pytest

from receiver.outbound.guard import ForbiddenLink
from receiver.outbound.webhooks import check_receiver


@pytest.mark.parametrize(
    "url",
    ["http://app.example.com/", "ftp://app.example.com/", "app.example.com", "", "https://", "https:///x",
     "https://user:password@app.example.com/", "https://localhost/", "https://LOCALHOST:3000/", "https://a.localhost/",
     "https://localhost./", "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f.0.0.1/",
     "https://0177.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[fe80::1%25eth0]/",
     "https://10.0.0.1/", "https://192.168.1.1/", "https://169.254.169.254/latest", "https://0/", "https://1.2.3.4.5/",
     "https://\uff11\uff12\uff17.0.0.1/", "https://[64:ff9b::a00:1]/", "https://app.example.com:99999/",
     "javascript:alert(1)", "https://app.example.com\\@127.0.0.1/", "https://0x/", "https://127.0.0.1./"],
)  # fmt: skip
def test_a_url_that_leads_to_private_places_or_is_not_https_is_refused(url: str) -> None:
    with pytest.raises(ForbiddenLink) as refused:
        check_receiver(url, [])
    assert "password" not in str(refused.value).replace("a user name or password", "")


@pytest.mark.parametrize(
    "url",
    ["https://app.example.com/told?by=receiver", "https://app.example.com:8443/", "https://93.184.216.34/",
     "https://münchen.example/", "https://[2606:2800:220:1::1]/", "https://app.internal/", "https://1.example.com/"],
)  # fmt: skip
def test_public_https_is_accepted_and_guarded(url: str) -> None:
    assert check_receiver(url, ["other.example.com"]) is True


@pytest.mark.parametrize(
    ("url", "listed"),
    [
        ("http://app.internal:3000/told", "app.internal:3000"),
        ("http://APP.internal:3000/told", "app.internal:3000"),
        ("http://app.internal/told", "app.internal"),
        ("https://app.internal/told", "app.internal"),
        ("https://app.internal/told", "app.internal:443"),
        ("https://127.0.0.1:8443/told", "127.0.0.1:8443"),
        ("http://[::1]:3000/", "[::1]:3000"),
        ("http://localhost:3000/", "localhost:3000"),
    ],
)
def test_a_listed_host_may_be_anywhere(url: str, listed: str) -> None:
    assert check_receiver(url, ["other:1", listed]) is False


@pytest.mark.parametrize(
    ("url", "listed"),
    [
        ("http://app.internal:3001/", "app.internal:3000"),
        ("http://app.internal:3000/", "app.internal"),
        ("http://x.app.internal:3000/", "app.internal:3000"),
        ("http://app.internal.example.com/", "app.internal"),
        ("https://127.0.0.1/", "app.internal"),
        ("ftp://app.internal/", "app.internal"),
        ("http://user:password@app.internal/", "app.internal"),
    ],
)
def test_a_listed_host_lists_no_other_port_name_or_scheme(url: str, listed: str) -> None:
    with pytest.raises(ForbiddenLink):
        check_receiver(url, [listed])
