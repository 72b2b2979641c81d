"""Nothing is fetched or called on anybody's word: requests go to the addresses of the settings, and nowhere else."""

import asyncio
import contextlib
import io
import ipaddress
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.config.addresses import check_base_url, check_public_url, is_private
from receiver.config.settings import Settings
from receiver.core.errors import ConfigError, ProviderError, Unreadable
from receiver.core.messages import Order, Remote
from receiver.outbound.client import Outbound
from receiver.providers import CONFIG_TYPES, connect
from receiver.providers.base import AcceptsUploads, Flow, HasBalance, Provider, RegistersWebhooks, Upload
from tests.behaviour.families import CALLING_BACK, FAMILIES, GATEWAY, REVID, RIVYA, Family
from tests.behaviour.provider import asked_about, says
from tests.behaviour.service import Stage, staged
from tests.measuring import HANG
from tests.outbound.test_client import NOW, Peer, answering, http
from tests.torture.harness import Torture, corpus

ID = "the-remote-id"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def stage(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path, tmp_path_factory) as stage:
        yield stage


@dataclass
class Canary:
    """Servers where nobody should ever come: each connection to them is a fault."""

    ports: list[int] = field(default_factory=list)
    visits: int = 0

    @property
    def urls(self) -> list[str]:
        """Addresses of the canaries, as strangers may write them."""
        port = self.ports[0]
        hosts = ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]",
                 "user:password@127.0.0.1", "127.0.0.2", "LOCALHOST", "localhost."]  # fmt: skip
        return [f"http://{host}:{port}/canary" for host in hosts] + [f"//127.0.0.1:{port}/canary"]

    async def seen(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()


@contextlib.asynccontextmanager
async def canaries() -> AsyncIterator[Canary]:
    it = Canary()
    server = await asyncio.start_server(it.seen, "0.0.0.0", 0)  # noqa: S104 - it listens for what must not come
    it.ports = [socket.getsockname()[1] for socket in server.sockets]
    try:
        yield it
        # Whatever was started in passing would have come by now, or comes while this turns.
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert it.visits == 0
    finally:
        server.close()
        await server.wait_closed()


# --- what providers say in callbacks and answers


def naming(url: str, family: Family, remote_id: str, *, done: bool) -> dict[str, Any]:
    """A body that names an address wherever one could be believed."""
    body = dict(family.done(remote_id, url) if done else family.working(remote_id))
    lures = {
        "callBackUrl": url, "callback_url": url, "notify_hook": url, "status_url": url, "statusUrl": url,
        "poll_url": url,
        "url": url, "next": url, "redirect": url, "webhook": {"url": url}, "links": [{"rel": "self", "href": url}],
    }  # fmt: skip
    inner = body.get("data")
    if isinstance(inner, dict):
        param = json.dumps({"callBackUrl": url, "input": {"prompt": "x", "image_urls": [url]}})
        body["data"] = lures | inner | {"param": param}
    return {**lures, **body}


@pytest.mark.anyio
@pytest.mark.row("E7")
@pytest.mark.parametrize("family", CALLING_BACK, ids=[family.name for family in CALLING_BACK])
async def test_a_callback_makes_nobody_go_anywhere_but_to_the_providers_own_address(
    family: Family, stage: Stage, torture: Torture
) -> None:
    async with canaries() as canary, stage.serve(CONFIRM="always") as service:
        for number, url in enumerate(canary.urls):
            remote_id = f"{ID}-{number}"
            stage.provider.on_create(family, says(family.accepted(remote_id)))
            task = await service.order(family.order())
            await service.call_back(task["id"], naming(url, family, remote_id, done=False))
            stage.provider.on_check(family, says(naming(url, family, remote_id, done=True)))
            await service.call_back(task["id"], naming(url, family, remote_id, done=True))
            done = await service.until_state(task["id"], "succeeded")
            assert done["remote_id"] == remote_id
            for page in (f"/tasks/{task['id']}", f"/api/tasks/{task['id']}", f"/api/tasks/{task['id']}/history"):
                await service.client.get(page)
        asked = stage.provider.asked()
        assert {asked_about(request).rpartition("-")[0] for request in asked} == {ID}
        assert {request.account for request in stage.provider.received} == {family.name}
    torture.figures(**{f"addresses in callbacks of {family.name}": len(canary.urls), "visits": canary.visits})


@pytest.mark.anyio
@pytest.mark.row("E7")
async def test_a_callback_that_names_another_task_asks_about_neither(stage: Stage) -> None:
    async with stage.serve() as service:
        stage.provider.on_create(REVID, says(REVID.accepted("of-one")), says(REVID.accepted("of-another")))
        one, _ = await service.order(REVID.order()), await service.order(REVID.order())
        assert await service.call_back(one["id"], REVID.done("of-another", "https://x.test/a.mp4")) == "unmatched"
        assert await service.call_back(one["id"], REVID.done("of-nobody", "https://x.test/a.mp4")) == "unmatched"
        assert stage.provider.asked() == []


@pytest.mark.anyio
@pytest.mark.row("E7")
@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
async def test_an_answer_moves_no_later_request(family: Family, stage: Stage) -> None:
    """Where to ask stands in the settings, whatever address an answer recommends."""
    async with canaries() as canary, stage.serve() as service:
        url = canary.urls[0]
        accepted = naming(url, family, ID, done=False) | dict(family.accepted(ID))
        stage.provider.on_create(
            family, says(accepted, Location=url, Link=f"<{url}>; rel=monitor", Refresh=f"0;url={url}")
        )
        task = await service.order(family.order())
        assert task["remote_id"] == ID
        for _ in range(3):
            await service.poll_when_due(task["id"])
        assert len(stage.provider.asked(family)) == 3


@pytest.mark.anyio
@pytest.mark.row("E7")
@pytest.mark.parametrize("family", [REVID, GATEWAY, RIVYA], ids=lambda family: family.name)
async def test_addresses_in_an_order_are_passed_on_and_never_fetched(family: Family, stage: Stage) -> None:
    async with canaries() as canary, stage.serve() as service:
        order = family.order()
        order["input"] |= {"image_urls": canary.urls, "image": canary.urls[0]}
        await service.order(order | {"validate": False})
        sent = stage.provider.bought(family)[0].body.decode()
        assert all(json.dumps(url) in sent for url in canary.urls)


# --- redirects


def accounts(base_url: str) -> dict[str, Provider]:
    """Every family, its account at one address."""
    environ = {"RECEIVER_PUBLIC_URL": "https://hooks.example.com"}
    for family in CONFIG_TYPES:
        environ |= {f"{family.upper()}_API_KEY": "the-key", f"{family.upper()}_BASE_URL": base_url}
    environ["KIE_FILES_URL"] = base_url
    return connect(Settings.load(environ, CONFIG_TYPES).providers)


def flows(provider: Provider) -> dict[str, Flow[Any]]:
    """Everything that an account can be asked."""
    order = Order("tsk_1", next(iter(provider.models), "any"), {"prompt": "boat"}, fill_defaults=False)
    found: dict[str, Flow[Any]] = {
        "submit": provider.submit(order, "https://hooks.example.com/x", "a-key"),
        "status": provider.status(Remote(ID, order.model)),
    }
    if isinstance(provider, HasBalance):
        found["balance"] = provider.balance()
    if isinstance(provider, RegistersWebhooks):
        found["register"] = provider.register_webhook("https://hooks.example.com/x")
    if isinstance(provider, AcceptsUploads):
        content = io.BytesIO(b"picture")
        found["upload"] = provider.upload(Upload("file_1", "image", order.model, "a.png", "image/png", 7, content))
    return found


@pytest.mark.anyio
@pytest.mark.row("E8")
@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"])
async def test_no_request_of_any_provider_follows_a_redirect(status: bytes, torture: Torture) -> None:
    asked = 0
    async with canaries() as canary:
        for url in (*canary.urls, f"https://127.0.0.1:{canary.ports[0]}/", "file:///etc/passwd", "gopher://127.0.0.1/"):
            headers = (b"Location: " + url.encode(), b"Set-Cookie: a=b; Domain=127.0.0.1", b"Set-Cookie: c=d")
            raw = http(b'{"code":200}', *headers, status=status)
            async with Peer(answering(raw)).listening() as peer:
                asked += await _all_refused(f"http://127.0.0.1:{peer.port}")
                assert peer.connections == len(peer.heads)
                assert not [head for _, head in peer.heads if b"cookie" in head.lower()]
    torture.figures(redirects=asked, visits=canary.visits)


async def _all_refused(base_url: str) -> int:
    """Send every request of every account; each must end as one that brought no answer. Returns how many."""
    outbound, number = Outbound(HANG, lambda: NOW), 0
    for account, provider in accounts(base_url).items():
        for flow in flows(provider).values():
            number += 1
            with pytest.raises((ProviderError, Unreadable)):
                await outbound.run(account, flow, on_answer=lambda _: None)
    await outbound.close()
    return number


# --- which addresses the settings take


def web_platform_urls() -> list[str]:
    cases = json.loads(next(corpus("wpt-url").glob("*.json")).read_text())
    listed = [case for case in cases if isinstance(case, dict)]
    return [value for case in listed for value in {case["input"], case.get("href") or case["input"]}]


@pytest.mark.row("E7")
def test_no_odd_url_gets_through_the_settings_or_breaks_them(torture: Torture) -> None:
    """What is taken is http or https to one host, without anybody's name, and means the same to every reader."""
    urls, taken, faults = web_platform_urls(), 0, set()
    assert len(urls) > 800
    for value in urls:
        for check in (check_base_url, check_public_url):
            try:
                url = check(value)
            except ValueError as fault:
                faults.add(str(fault))
                continue
            taken += 1
            read = httpx.URL(url)
            assert read.scheme in ("http", "https")
            assert not read.userinfo
            assert not read.query
            host = httpx.URL(f"http://{url.split('/')[2]}").raw_host
            assert read.raw_host == host
    assert all(fault.startswith("must ") for fault in faults)
    torture.figures(urls=len(urls), taken=taken)


@pytest.mark.row("E7")
def test_an_odd_url_in_a_setting_stops_the_start_with_the_settings_own_error() -> None:
    environ = {"REVID_API_KEY": "the-key"}
    faults = []
    for value in web_platform_urls():
        try:
            Settings.load(environ | {"REVID_BASE_URL": value, "RECEIVER_PUBLIC_URL": value}, CONFIG_TYPES)
        except ConfigError as fault:
            faults.append(str(fault))
    assert len(faults) > 500
    assert all("REVID_BASE_URL" in fault or "RECEIVER_PUBLIC_URL" in fault for fault in faults)


HTTP_IS_FINE = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "::1",
    "fc00::/7",
    "fe80::/10",
)


@pytest.mark.row("E7")
def test_what_others_call_a_public_address_gets_no_plain_http(torture: Torture) -> None:
    vectors = json.loads((corpus("svix-ssrf-vectors") / "vectors.json").read_text())["vectors"]
    networks = [ipaddress.ip_network(network) for network in HTTP_IS_FINE]
    for vector in vectors:
        address = ipaddress.ip_address(vector["addr"])
        if vector["allowed"]:
            assert not is_private(vector["addr"])
        if any(address in network for network in networks if network.version == address.version):
            assert is_private(vector["addr"])
    torture.figures(addresses=len(vectors))
