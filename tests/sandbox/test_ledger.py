"""The ledger is the witness: it counts every purchase, forgets none, and gives no secret away."""

import json
import os
from pathlib import Path

import pytest

from receiver.sandbox.app import Sandbox
from receiver.sandbox.ledger import Ledger
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
