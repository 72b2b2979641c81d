"""nginx and Caddy with the files of `deploy/` in front of a real service: callbacks, client addresses, logs."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from receiver.core.links import Links
from receiver.web.pages.login_throttle import FAILURES
from tests.cli.rig import Home, Served, serving
from tests.deploy.rig import DOMAIN, Certificate, Proxy, caddy, free_ports, nginx
from tests.measuring import HANG, wait_for

SECRET = "a-key-for-the-tests-of-proxies"
LARGEST = 4 * 1024 * 1024
"""The largest callback that the service accepts, in bytes: four times its own default and that of nginx."""
PUBLIC_URL = f"https://{DOMAIN}"
PROXIES = {"nginx": nginx, "caddy": caddy}
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
pytestmark = needs_openssl


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with one account behind a trusted proxy; it does not poll."""
    settings = {
        "RECEIVER_PUBLIC_URL": PUBLIC_URL,
        "RECEIVER_TRUSTED_PROXIES": "127.0.0.1",
        "RECEIVER_SECRET_KEYS": SECRET,
        "RECEIVER_POLLER": "off",
        "RECEIVER_MAX_CALLBACK_BYTES": str(LARGEST),
        "REVID_API_KEY": "made-up",
        "REVID_BASE_URL": "http://127.0.0.1:1",
    }
    with serving(Home(tmp_path_factory.mktemp("service"), settings)) as served:
        yield served


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module", params=list(PROXIES))
def proxy(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    service: Served,
    certificate: Certificate,
) -> Iterator[Proxy]:
    """Each of the proxies, in front of the service."""
    require(request.param)
    port = int(service.home.settings["PORT"])
    with PROXIES[request.param](tmp_path_factory.mktemp(request.param), port, certificate) as running:
        yield running


def require(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed: apt-get install {tool}")


def callback_path(task_id: str) -> str:
    """Return the path of the callback URL of a task."""
    url = Links([SECRET], PUBLIC_URL).callback_url("revid", task_id)
    assert url is not None
    return urlsplit(url).path


def tracked(client: httpx.Client, remote_id: str) -> str:
    """Follow a task that was bought elsewhere, so that nothing is sent to the provider."""
    order = {"provider": "revid", "model": "sora-2-text-to-video", "remote_id": remote_id}
    answer = client.post("/api/tasks", json=order)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def finished(remote_id: str) -> bytes:
    """Return the body of a RevidAPI callback for a finished video."""
    result = json.dumps({"resultUrls": [f"https://cdn.example.com/{remote_id}.mp4"]})
    data = {"taskId": remote_id, "state": "success", "resultJson": result}
    return json.dumps({"code": 200, "data": data}).encode()


def test_a_callback_through_the_proxy_is_answered_200_and_settles_its_task(proxy: Proxy, service: Served) -> None:
    with service.home.client() as client:
        task_id = tracked(client, f"bought-{proxy.port}")
        answer = proxy.post(callback_path(task_id), finished(f"bought-{proxy.port}"))
        assert answer.status_code == 200, answer.text
        task = client.get(f"/api/tasks/{task_id}").json()
    assert (task["state"], task["settled_by"]) == ("succeeded", "callback")


def test_the_service_sees_the_clients_address_and_ignores_what_the_client_claims(proxy: Proxy) -> None:
    def guess(sender: str, claimed: int) -> int:
        address = {"X-Forwarded-For": f"192.0.2.{claimed}"}
        return proxy.post("/login", b"password=wrong", sender=sender, **address, **FORM).status_code

    guessing, other = (f"127.0.{proxy.port % 200}.{number}" for number in (2, 3))
    assert [guess(guessing, claimed) for claimed in range(FAILURES + 2)] == [403] * FAILURES + [429] * 2
    assert guess(other, 1) == 403, "another client is not throttled"


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_a_session_behind_the_proxy_has_a_secure_cookie(proxy: Proxy, service: Served) -> None:
    answer = proxy.post("/login", f"password={service.home.token()}".encode(), sender="127.0.0.9", **FORM)
    assert answer.status_code == 303
    assert answer.headers["set-cookie"].startswith("__Host-")


def test_plain_http_is_redirected_to_https(proxy: Proxy) -> None:
    url = f"http://127.0.0.1:{proxy.plain_port}/tasks?q=boat"
    answer = httpx.get(url, headers={"Host": DOMAIN}, trust_env=False, timeout=HANG)
    assert answer.status_code in (301, 308)
    assert urlsplit(answer.headers["location"])[:4:2] == ("https", "/tasks")
    assert answer.headers["location"].endswith("?q=boat")


def test_a_callback_of_any_size_that_the_service_accepts_passes_the_proxy(proxy: Proxy, service: Served) -> None:
    with service.home.client() as client:
        task_id = tracked(client, f"large-{proxy.port}")
    answer = proxy.post(callback_path(task_id), finished(f"large-{proxy.port}") + b" " * (LARGEST - 10_000))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", PROXIES)
def test_the_proxys_log_holds_no_token(name: str, tmp_path: Path, certificate: Certificate) -> None:
    """Caddy logs requests that it could not pass on, nginx logs every request."""
    require(name)
    (nobody,) = free_ports(1)
    path = callback_path("tsk_" + "0" * 26)
    with PROXIES[name](tmp_path, nobody, certificate) as proxy:
        assert proxy.post(path, b"{}").status_code == 502
        assert proxy.get("/login?token=a-login-link").status_code == 502
        told = wait_for(lambda: text if "/login" in (text := proxy.log.read_text()) else None)
    assert "/callbacks/revid/TOKEN" in told
    assert path.rpartition("/")[2] not in told
    if name == "nginx":
        assert "a-login-link" not in told
