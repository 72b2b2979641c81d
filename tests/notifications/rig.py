"""Services that tell an application of tasks: ordering tasks that end, and what became of the messages."""

import asyncio
from collections.abc import Callable
from typing import Any

from receiver.notifications.sender import Sender
from tests.behaviour.families import REVID
from tests.behaviour.service import Service, Task
from tests.measuring import HANG

URL = "https://cdn.example.com/a.mp4"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
Document = dict[str, Any]


async def succeed(service: Service, prompt: str = "a boat", **more: Any) -> Task:
    """Order a task and let it succeed."""
    task = await service.order(REVID.order(prompt, **more))
    await service.call_back(task["id"], REVID.done(task["remote_id"], URL))
    return task


async def notifications(service: Service, **query: str) -> list[Document]:
    """List messages."""
    answer = await service.client.get("/api/notifications", params=query)
    assert answer.status_code == 200, answer.text
    found: list[Document] = answer.json()["notifications"]
    return found


async def send_due(service: Service) -> None:
    """Send what is due now."""
    await Sender(service.app.state.services).send_due()


async def until_all(service: Service, condition: Callable[[list[Document]], bool]) -> list[Document]:
    """Wait until the messages are as told; what is due meanwhile is sent."""
    async with asyncio.timeout(HANG):
        while True:
            found = await notifications(service)
            if condition(found):
                return found
            await send_due(service)
            await asyncio.sleep(0.005)


async def until(service: Service, condition: Callable[[Document], bool]) -> Document:
    """Wait until the one message that there is is as told."""
    (message,) = await until_all(service, lambda found: len(found) == 1 and condition(found[0]))
    return message


async def until_tried(service: Service, times: int = 1) -> Document:
    """Wait until the one message that there is was tried so often."""
    return await until(service, lambda message: len(message["tries"]) >= times)


async def until_delivered(service: Service) -> Document:
    """Wait until the one message that there is was delivered."""
    return await until(service, lambda message: bool(message["state"] == "delivered"))
