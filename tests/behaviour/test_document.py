"""Interface, section 3: the task as the API gives it, field by field."""

import re
from typing import Any

import pytest

from tests.behaviour.families import APIXO, CREATED, ENDED, FAMILIES, GATEWAY, REVID, RIVYA, Family, revid_done
from tests.behaviour.provider import Provider, says, slams
from tests.behaviour.service import NOW, Service, Stage, milliseconds

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
ID = "the-remote-id"
FIELDS = [
    "id", "state", "provider", "model", "remote_id", "remote_state", "progress", "input", "validated", "metadata",
    "outputs", "result", "error", "credits", "settled_by", "evidence", "notices", "retry_of", "attempts", "checks",
    "deliveries", "sandbox", "created_at", "submitted_at", "finished_at", "updated_at", "next_check_at",
    "next_check_because",
]  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))


@every_family
async def test_a_new_task_has_every_field_of_the_interface(family: Family, service: Service) -> None:
    task = await service.order(family.order())
    assert sorted(task) == sorted(FIELDS)
    assert re.fullmatch(r"tsk_[0-9a-z]+", task["id"])
    assert {name: task[name] for name in ("provider", "model", "progress", "metadata", "result", "retry_of")} == {
        "provider": family.name,
        "model": family.model,
        "progress": None,
        "metadata": {},
        "result": None,
        "retry_of": None,
    }
    assert (task["validated"], task["sandbox"]) == (True, False)
    assert (task["attempts"], task["checks"], task["deliveries"]) == (1, 0, 0)
    assert (task["outputs"], task["notices"]) == ([], [])
    assert sorted(task["credits"]) == ["charged", "estimated", "reserved"]
    assert task["evidence"] == {"token": False, "signature": None, "confirmed_at": None}
    for name in ("created_at", "submitted_at", "updated_at", "next_check_at"):
        assert TIME.fullmatch(task[name]), name
    assert task["finished_at"] is None


async def test_an_output_has_every_field_of_the_interface(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says(REVID.accepted(ID)))
    task = await service.order(REVID.order())
    await service.call_back(task["id"], REVID.done(ID, URL))
    assert (await service.task(task["id"]))["outputs"] == [
        {"url": URL, "kind": "video", "expires_at": None, "archive": "off", "problem": None, "stored": None}
    ]


# --- times


async def test_times_are_of_what_they_say(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says({"message": "busy"}, 429, Retry_After="10"), says(REVID.accepted(ID)))
    task = await service.order(REVID.order())
    await service.poll_after(10)
    service.clock.advance(50)
    await service.call_back(task["id"], REVID.done(ID, URL))
    service.clock.advance(40)
    await service.call_back(task["id"], REVID.done(ID, URL))
    task = await service.task(task["id"])
    told = {
        name: milliseconds(task[name]) - NOW for name in ("created_at", "submitted_at", "finished_at", "updated_at")
    }
    assert told == {"created_at": 0, "submitted_at": 10_000, "finished_at": 60_000, "updated_at": 100_000}


async def test_a_task_that_never_left_has_no_departure(service: Service, provider: Provider) -> None:
    assert (await service.order(REVID.order()))["submitted_at"] is not None
    provider.on_create(REVID, slams())
    assert (await service.order(REVID.order()))["submitted_at"] is not None, "it may have been received"


DAY = 24 * 3600 * 1000
ENDS = [
    pytest.param(NOW - 5000, NOW - 5000 + DAY, id="their-end"),
    pytest.param(NOW + 3_600_000, NOW + DAY, id="an-end-to-come-is-disbelieved"),
    pytest.param(1, NOW + DAY, id="an-end-long-before-the-beginning-is-disbelieved"),
]


@pytest.mark.parametrize(("ended", "expires"), ENDS)
async def test_apixos_files_expire_a_day_after_the_end(
    ended: int, expires: int, service: Service, provider: Provider
) -> None:
    provider.on_create(APIXO, says(APIXO.accepted(ID)))
    task = await service.order(APIXO.order())
    assert await service.call_back(task["id"], APIXO.done(ID, URL, ended=ended)) == "applied"
    [output] = (await service.task(task["id"]))["outputs"]
    assert milliseconds(output["expires_at"]) == expires


@pytest.mark.parametrize("family", [RIVYA, REVID, GATEWAY], ids=["rivya", "revid", "gateway"])
async def test_files_expire_at_no_known_time_where_no_document_gives_one(
    family: Family, service: Service, provider: Provider
) -> None:
    provider.on_create(family, says(family.accepted(ID)))
    provider.on_check(family, says(family.done(ID, URL)))
    task = await service.order(family.order())
    await service.poll_when_due(task["id"])
    [output] = (await service.task(task["id"]))["outputs"]
    assert output["expires_at"] is None


# --- credits

ESTIMATES: list[Any] = [
    pytest.param(RIVYA.order(), 6, id="rivya-sora-2"),
    pytest.param({**RIVYA.order(), "model": "sora-2-pro"}, 75, id="rivya-sora-2-pro"),
    pytest.param(REVID.order(), 50, id="revid-10s-by-default"),
    pytest.param({**REVID.order(), "input": {"prompt": "x", "n_frames": "15"}}, 60, id="revid-15s"),
    pytest.param(
        {
            **REVID.order(),
            "model": "sora-2-pro-text-to-video",
            "input": {"prompt": "x", "size": "high", "n_frames": "15"},
        },
        790,
        id="revid-pro-high-15s",
    ),
    pytest.param({**REVID.order(), "model": "sora-watermark-remover"}, 20, id="revid-watermark-remover"),
    pytest.param(APIXO.order(), None, id="apixo-gives-no-price"),
    pytest.param(GATEWAY.order(), None, id="gateway-gives-no-price"),
    pytest.param({**REVID.order(), "model": "veo-3"}, None, id="unknown-model"),
]


@pytest.mark.parametrize(("order", "estimated"), ESTIMATES)
async def test_credits_are_estimated_from_the_documents_prices(
    order: dict[str, Any], estimated: int | None, service: Service
) -> None:
    task = await service.order(order)
    assert task["credits"]["estimated"] == estimated
    assert task["credits"]["charged"] is None


async def test_credits_are_reserved_and_charged_as_the_provider_says(service: Service, provider: Provider) -> None:
    provider.on_create(RIVYA, says(RIVYA.accepted(ID)))
    task = await service.order(RIVYA.order())
    assert task["credits"] == {"estimated": 6, "reserved": 6, "charged": None}
    provider.on_check(RIVYA, says({**RIVYA.done(ID, URL), "final_credits": 5}))
    await service.poll_when_due(task["id"])
    assert (await service.task(task["id"]))["credits"] == {"estimated": 6, "reserved": 6, "charged": 5}


async def test_a_failed_rivya_task_is_charged_nothing(service: Service, provider: Provider) -> None:
    provider.on_create(RIVYA, says(RIVYA.accepted(ID)))
    task = await service.order(RIVYA.order())
    provider.on_check(RIVYA, says(RIVYA.failed(ID)))
    await service.poll_when_due(task["id"])
    assert (await service.task(task["id"]))["credits"]["charged"] == 0


async def test_late_news_fills_in_credits_that_are_still_empty(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says(REVID.accepted(ID)))
    task = await service.order(REVID.order())
    await service.call_back(task["id"], REVID.done(ID, URL))
    assert (await service.task(task["id"]))["credits"]["charged"] is None
    late = await service.call_back(task["id"], revid_done(ID, URL, creditsConsumed=50))
    assert late == "repeated"
    assert (await service.task(task["id"]))["credits"]["charged"] == 50


# --- who settled it, and why it failed


async def test_settled_by_names_who_brought_the_news(stage: Stage, provider: Provider) -> None:
    async with stage.serve() as service:
        by: dict[str, str | None] = {}
        for name, script in {"submission": says({"code": 400, "msg": "no"}, 400)}.items():
            provider.on_create(REVID, script)
            by[name] = (await service.order(REVID.order()))["settled_by"]
        for name in ("callback", "check", "open"):
            provider.on_create(REVID, says(REVID.accepted(name)))
            task = await service.order(REVID.order())
            if name == "callback":
                await service.call_back(task["id"], REVID.done(name, URL))
            if name == "check":
                provider.on_check(REVID, says(REVID.done(name, URL)))
                await service.post(f"/api/tasks/{task['id']}/check")
            by[name] = (await service.task(task["id"]))["settled_by"]
        assert by == {"submission": "submission", "callback": "callback", "check": "check", "open": None}


def _fail(**data: Any) -> dict[str, Any]:
    return {"code": 501, "data": {"taskId": ID, "state": "fail", **data}}


FAILURES: list[Any] = [
    pytest.param(APIXO, APIXO.failed(ID), "CONTENT_VIOLATION", "Content violates policy", id="apixo"),
    pytest.param(REVID, REVID.failed(ID), "500", "Internal server error", id="revid"),
    pytest.param(GATEWAY, GATEWAY.failed(ID), "FAILURE", "may violate our guardrails", id="gateway-its-state-word"),
    pytest.param(GATEWAY, GATEWAY.failed(ID, "violation", "guard"), "violation", "guard", id="gateway-json-reason"),
    pytest.param(REVID, _fail(failCode=None, failMsg=None), "fail", None, id="revid-its-state-word"),
    pytest.param(REVID, _fail(failCode=501, failMsg=""), "501", None, id="revid-a-number"),
]


@pytest.mark.parametrize(("family", "body", "code", "words"), FAILURES)
async def test_an_error_is_in_the_providers_words(
    family: Family, body: dict[str, Any], code: str, words: str | None, service: Service
) -> None:
    service.provider.on_create(family, says(family.accepted(ID)))
    task = await service.order(family.order())
    assert await service.call_back(task["id"], body) == "applied"
    error = (await service.task(task["id"]))["error"]
    assert sorted(error) == ["code", "message"]
    assert error["code"] == code
    assert isinstance(error["message"], str)
    assert words is None or error["message"] == words


# --- orders

PASSED: list[Any] = [
    pytest.param({**GATEWAY.order(), "model": "veo3.1", "input": {"prompt": "x", "seed": 7}}, id="unknown-model"),
    pytest.param({**REVID.order(), "model": "sora-watermark-remover", "input": {"video_url": URL}}, id="no-parameters"),
    pytest.param({**REVID.order(), "input": {"prompt": "", "n_frames": 3}, "validate": False}, id="validate-false"),
]


@pytest.mark.parametrize("order", PASSED)
async def test_what_no_document_describes_passes_untouched(
    order: dict[str, Any], service: Service, provider: Provider
) -> None:
    task = await service.order(order)
    assert (task["validated"], task["input"]) == (False, order["input"])
    [request] = provider.bought()
    sent = request.json.get("input", request.json)
    assert {name: sent[name] for name in order["input"]} == order["input"]
    assert set(sent) - set(order["input"]) <= {"model", "notify_hook"}, "no defaults"


async def test_documented_defaults_are_sent_explicitly_and_never_a_prompt(service: Service, provider: Provider) -> None:
    for family in FAMILIES.values():
        await service.order(family.order("p"))
    sent = {it.account: it.json for it in provider.bought()}
    assert sent["revid"]["input"] == {
        "prompt": "p", "aspect_ratio": "landscape", "n_frames": "10", "remove_watermark": True,
    }  # fmt: skip
    assert sent["rivya"]["params"] == {
        "n_frames": "10", "aspect_ratio": "landscape", "remove_watermark": "false", "upload_method": "s3",
    }  # fmt: skip
    assert (sent["rivya"]["model"], sent["rivya"]["prompt"]) == ("sora-2", "p")
    assert (sent["apixo"]["request_type"], sent["apixo"]["provider"]) == ("callback", "official")
    assert sent["apixo"]["input"]["remove_watermark"] is True
    assert sent["gateway"]["hd"] is False
    missing = {**REVID.order(), "input": {"n_frames": "10"}}
    answer = await service.post("/api/tasks", missing)
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["input", "prompt"])


async def test_the_providers_times_are_read_in_their_own_unit(service: Service, provider: Provider) -> None:
    """Milliseconds here, seconds at the gateway: neither may turn a file's lifetime into nonsense."""
    assert CREATED < ENDED
    provider.on_create(GATEWAY, says(GATEWAY.accepted(ID)))
    task = await service.order(GATEWAY.order())
    assert await service.call_back(task["id"], GATEWAY.done(ID, URL)) == "applied"
    assert milliseconds((await service.task(task["id"]))["finished_at"]) == NOW, "finished_at is ours"
