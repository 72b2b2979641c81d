"""The ledger is the witness: it counts every purchase, forgets none but the oldest of very many, and keeps secrets."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from receiver.sandbox.app import Sandbox
from receiver.sandbox.ledger import Bounds, Ledger
from receiver.sandbox.purchase import CallbackTry, Purchase

from .conftest import Clock
from .rig import CALLING_BACK, FAMILIES, HEADERS, Buyer, id_in, order, unserved

pytestmark = pytest.mark.anyio


def purchase(purchase_id: str = "task_1", key: str | None = None) -> Purchase:
    return Purchase(
        id=purchase_id,
        family="rivya",
        model="sora-2",
        prompt="A cat",
        order={"prompt": "A cat"},
        callback_url=None,
        idempotency_key=key,
        video_url="http://sandbox.example/media/task_1.mp4",
        bought_at=1757584164.5,
    )


@pytest.mark.parametrize("family", FAMILIES)
async def test_every_accepted_create_is_a_purchase_of_its_own(shop: Buyer, family: str) -> None:
    ids = [id_in(await shop.buy(family, "A cat")) for _ in range(3)]
    assert [listed["id"] for listed in await shop.purchases()] == ids
    assert len(set(ids)) == 3


async def test_a_purchase_is_on_the_disk_before_it_is_answered(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    synced: list[bytes] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(path.read_bytes())

    async with unserved(Sandbox(ledger_path=path, clock=clock)) as shop:
        monkeypatch.setattr(os, "fsync", watched)
        task_id = id_in(await shop.buy("revid", "A cat"))
    assert task_id.encode() in synced[0]


async def test_a_restart_forgets_no_purchase_and_no_key(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "ledger.jsonl"
    async with unserved(Sandbox(ledger_path=path, clock=clock)) as before:
        first = id_in(await before.buy("rivya", "A cat", key="k1"))
        await before.ask("rivya", first)
        listed = await before.purchases()
    clock.now += 3
    async with unserved(Sandbox(ledger_path=path, clock=clock)) as after:
        assert await after.purchases() == listed
        assert id_in(await after.buy("rivya", "A cat", key="k1")) == first
        assert (await after.ask("rivya", first)).json()["status"] == "succeeded"
        assert len(await after.purchases()) == 1


def test_what_was_recorded_is_read_back_as_it_was(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    bought = purchase(key="k1")
    ledger.buy(bought)
    ledger.ask(bought)
    ledger.tried(bought, CallbackTry("end", 1757584167.5, "ConnectError"))
    ledger.tried(bought, CallbackTry("end", 1757584168.5, 200))
    ledger.delivered(bought, "end")
    ledger.close()
    again = Ledger(tmp_path / "ledger.jsonl")
    assert again.purchases == [bought]
    assert again.bought_under("rivya", "k1") == again.find("rivya", "task_1") == bought
    assert (bought.status_asks, len(bought.callbacks), bought.delivered) == (1, 2, ["end"])
    again.close()


def test_a_line_cut_off_by_a_crash_spoils_neither_its_neighbours_nor_the_next(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.buy(purchase("task_1"))
    ledger.close()
    with path.open("ab") as file:
        file.write(b'{"record": "purchase", "id": "ta')
    ledger = Ledger(path)
    ledger.buy(purchase("task_2"))
    ledger.close()
    ledger = Ledger(path)
    assert [kept.id for kept in ledger.purchases] == ["task_1", "task_2"]
    ledger.close()


def test_the_file_is_for_its_owners_eyes_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    Ledger(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_public_list_shows_no_callback_token(shop: Buyer) -> None:
    for family in CALLING_BACK:
        await shop.buy(family, "A cat [sandbox: after=60]", "https://caller.example/callbacks/x/token-1?key=token-2")
    listed = await shop.purchases()
    assert "token-" not in json.dumps(listed)
    assert {entry["callback_url"] for entry in listed} == {"https://caller.example/callbacks/x/[redacted]"}


async def test_the_public_list_shows_no_token_of_a_progress_url_either(shop: Buyer) -> None:
    path, body = order("kie", "A cat")
    hooks = {"progressCallBackUrl": "https://caller.example/callbacks/x/token-1"}
    await shop.client.post(path, json=body | hooks, headers=HEADERS["kie"])
    assert "token-" not in json.dumps(await shop.purchases())


async def test_no_credential_is_kept_anywhere(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "ledger.jsonl"
    async with unserved(Sandbox(ledger_path=path, clock=clock)) as shop:
        await shop.buy("rivya", "A cat")
        listed = await shop.purchases()
    assert "rvya_sk_any" not in json.dumps(listed)
    assert "rvya_sk_any" not in path.read_text()


# --- bounds


def many(number: int, size: int = 10) -> list[Purchase]:
    return [replace(purchase(f"task_{n}", f"key_{n}"), order={"prompt": "x" * size}) for n in range(number)]


def test_beyond_its_bounds_it_forgets_the_oldest() -> None:
    ledger = Ledger(bounds=Bounds(purchases=10, size=20_000))
    for each in many(25):
        ledger.buy(each)
    assert [each.id for each in ledger.purchases] == [f"task_{n}" for n in range(15, 25)]
    assert ledger.find("rivya", "task_3") is None
    assert ledger.bought_under("rivya", "key_3") is None
    assert ledger.bought_under("rivya", "key_24") is not None
    for each in many(3, size=9_000):
        ledger.buy(each)
    assert len(ledger.purchases) == 2, "in bytes, too"


def test_a_file_that_has_grown_is_written_anew_and_read_back_the_same(tmp_path: Path) -> None:
    bounds = Bounds(purchases=10, file=20_000)
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, bounds)
    forgotten, *_, last = bought = many(60)
    for each in bought:
        ledger.buy(each)
        ledger.tried(each, CallbackTry("end", 1.5, 200))
        for _ in range(20):
            ledger.ask(each)
        ledger.delivered(each, "end")
        assert path.stat().st_size <= 20_000
    ledger.tried(forgotten, CallbackTry("end", 2.5, 503))
    assert (path.stat().st_mode & 0o777, last.status_asks) == (0o600, 20)
    assert os.listdir(tmp_path) == ["ledger.jsonl"]  # noqa: PTH208 - names
    ledger.close()
    again = Ledger(path, bounds)
    assert again.purchases == ledger.purchases
    again.close()


def test_what_is_said_of_a_purchase_is_bounded(tmp_path: Path) -> None:
    ledger, one = Ledger(tmp_path / "ledger.jsonl", Bounds(notes=5)), purchase()
    ledger.buy(one)
    before = (tmp_path / "ledger.jsonl").stat().st_size
    for number in range(1000):
        ledger.ask(one)
        ledger.tried(one, CallbackTry("end", number, 500))
    assert (one.status_asks, len(one.callbacks)) == (1000, 5)
    assert (tmp_path / "ledger.jsonl").stat().st_size < before + 2000
    ledger.close()
