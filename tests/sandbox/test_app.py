"""The sandbox as an application: where it is mounted, what it shows, what it keeps apart from."""

import ast
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

import receiver.sandbox.app
from receiver.sandbox.answers import SilentAnswer
from receiver.sandbox.app import create_app

from .conftest import Clock
from .rig import Buyer, Rig, id_in

pytestmark = pytest.mark.anyio

PACKAGE = Path(receiver.sandbox.app.__file__).parent


async def test_a_result_url_leads_to_the_video_wherever_the_sandbox_is_mounted(rig: Rig) -> None:
    task_id = id_in(await rig.buy("gateway", "A cat [sandbox: after=0]"))
    url = (await rig.ask("gateway", task_id)).json()["data"]["output"]
    assert url.startswith(f"{rig.client.base_url}media/")
    video = await rig.client.get(url)
    assert video.headers["content-type"] == "video/mp4"
    assert video.content == (PACKAGE / "media.mp4").read_bytes()
    assert video.content[4:8] == b"ftyp"


async def test_a_result_url_of_an_id_with_a_colon_works_too(rig: Rig) -> None:
    body = {"model": "sora-2-pro", "prompt": "A cat [sandbox: after=0]"}
    answer = await rig.client.post("/gateway/v2/videos/generations", json=body, headers={"Authorization": "Bearer k"})
    url = (await rig.ask("gateway", id_in(answer))).json()["data"]["output"]
    assert (await rig.client.get(url)).status_code == 200


async def test_a_browser_may_ask_for_a_part_of_the_video(shop: Buyer) -> None:
    part = await shop.client.get("/media/any.mp4", headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")


def test_the_video_can_play_while_it_loads_and_is_small() -> None:
    video = (PACKAGE / "media.mp4").read_bytes()
    assert video.index(b"moov") < video.index(b"mdat")
    assert len(video) < 20_000


async def test_the_sandbox_alone_calls_back_within_its_own_lifespan(rig: Rig) -> None:
    app = create_app()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://alone.example") as client,
    ):
        task_id = id_in(await Buyer(client).buy("apixo", "A cat [sandbox: after=0]", rig.sink.link("t1")))
        (call,) = await rig.sink.until("t1")
    assert call.body["data"]["resultJson"] == f'{{"resultUrls":["http://alone.example/media/{task_id}.mp4"]}}'


async def test_a_client_that_never_goes_away_is_let_go_after_a_while() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await SilentAnswer(seconds=0.05)(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mute.example") as client:
        assert (await client.get("/")).status_code == 504


async def test_a_family_does_not_know_the_purchases_of_another(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("rivya", "A cat"))
    assert (await shop.ask("apixo", task_id)).status_code == 404


def test_the_sandbox_shares_nothing_with_the_service_it_tests() -> None:
    for module in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, module
                names = [node.module or ""]
            ours = [name for name in names if name.split(".")[0] == "receiver"]
            assert all(name.startswith("receiver.sandbox.") for name in ours), module
