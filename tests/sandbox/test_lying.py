"""A callback to the right URL, with a right id and a right signature, that says the opposite of the truth."""

import json
from typing import Any

import pytest

from receiver.sandbox.app import Sandbox
from receiver.sandbox.plan import LYING_VIDEO
from tests.measuring import until

from .conftest import Clock
from .rig import CALLING_BACK, Rig, Stage, id_in, id_told, tells_of_failure

pytestmark = pytest.mark.anyio


def final(calls: list[Any]) -> list[Any]:
    """The calls without the gateway's news of the start."""
    return [call for call in calls if "IN_PROGRESS" not in call.raw.decode()]


@pytest.mark.parametrize("family", CALLING_BACK)
async def test_work_that_will_succeed_is_told_to_have_failed_and_then_the_truth(rig: Rig, family: str) -> None:
    task_id = id_in(await rig.buy(family, "A cat [sandbox: callback=lying after=0.15]", rig.sink.link("t1")))
    await rig.settled(task_id)
    lie, honest = final(rig.sink.of("t1"))
    assert (id_told(lie.body), tells_of_failure(lie.body)) == (task_id, True)
    assert (id_told(honest.body), tells_of_failure(honest.body)) == (task_id, False)


@pytest.mark.parametrize("family", CALLING_BACK)
async def test_work_that_will_fail_is_told_to_have_succeeded_with_a_wrong_result(rig: Rig, family: str) -> None:
    prompt = "A cat [sandbox: callback=lying result=fail after=0.15]"
    task_id = id_in(await rig.buy(family, prompt, rig.sink.link("t1")))
    await rig.settled(task_id)
    lie, honest = final(rig.sink.of("t1"))
    assert (id_told(lie.body), tells_of_failure(lie.body)) == (task_id, False)
    assert LYING_VIDEO in json.dumps(lie.body)
    assert (tells_of_failure(honest.body), "lying.invalid" in honest.raw.decode()) == (True, False)


async def test_the_lie_comes_while_the_status_answer_still_knows_of_no_end(slow: Rig, clock: Clock) -> None:
    task_id = id_in(await slow.buy("kie", "A cat [sandbox: callback=lying after=60]", slow.sink.link("t1")))
    clock.move_on(59)
    (lie,) = await slow.sink.until("t1")
    assert lie.body["data"]["state"] == "fail"
    assert (await slow.ask("kie", task_id)).json()["data"]["state"] == "generating"


@pytest.mark.parametrize("option", ["lying", "forged"])
async def test_the_truth_waits_until_the_lie_is_heard_even_when_the_work_takes_no_time(rig: Rig, option: str) -> None:
    rig.sink.open.clear()
    await rig.buy("revid", f"A cat [sandbox: callback={option} after=0]", rig.sink.link("token"))
    await until(lambda: len(rig.sink.calls) == 1)
    await rig.buy("revid", "A dog [sandbox: after=0]", rig.sink.link("honest"))
    await rig.sink.until("honest")
    lie, _ = rig.sink.calls
    assert lie.token != "honest"
    rig.sink.open.set()
    truth = (await rig.sink.until("token", 2 if option == "lying" else 1))[-1]
    assert (truth.raw != lie.raw, tells_of_failure(truth.body)) == (True, False)


async def test_a_lie_is_signed_like_the_truth(stage: Stage) -> None:
    async with stage.playing(Sandbox(kie_webhook_key="a-key", retry_factor=0.01)) as rig:
        prompt = "A cat [sandbox: callback=lying after=0]"
        await rig.settled(id_in(await rig.buy("kie", prompt, rig.sink.link("t1"))))
        lie, honest = rig.sink.of("t1")
    signatures = {call.headers["x-webhook-timestamp"]: call.headers["x-webhook-signature"] for call in (lie, honest)}
    # The body is not covered, so at the same second the signatures are even the same.
    assert len({*signatures.values()}) == len(signatures)


async def test_a_lie_that_is_not_taken_is_told_again(slow: Rig, clock: Clock) -> None:
    slow.sink.answers["t1"] = [503]
    task_id = id_in(await slow.buy("apixo", "A cat [sandbox: callback=lying after=60]", slow.sink.link("t1")))
    clock.move_on(59)
    await slow.sink.until("t1", 2)
    clock.move_on(1)
    purchase = await slow.settled(task_id)
    assert [tried["delivery"] for tried in purchase["callbacks"]] == ["lie", "lie", "end"]
