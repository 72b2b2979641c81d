"""The sandbox's demonstration: one task of each family, one of them with its callback dropped, so that polling is
seen at work. `receiver serve --demo` runs it."""

import structlog

from receiver.services import Services
from receiver.store import reading
from receiver.tasks.submission import NewTask, submit

log = structlog.get_logger()

_PROMPT = "A paper boat sails through warm summer rain, slow dolly in"
TASKS = (
    ("rivya", "sora-2", f"{_PROMPT} [sandbox: after=4]"),
    ("apixo", "sora-2", f"{_PROMPT} [sandbox: callback=drop after=6]"),
    ("revid", "sora-2-text-to-video", f"{_PROMPT} [sandbox: after=3]"),
    ("gateway", "sora-2", f"{_PROMPT} [sandbox: after=5]"),
    ("kie", "wan/2-7-text-to-video", f"{_PROMPT} [sandbox: after=4]"),
)


async def submit_demo(services: Services) -> None:
    """Submit the demonstration's tasks, one after the other, unless the database has tasks already."""
    if await services.store.read(lambda session: reading.listing(session, reading.Filter(limit=1))):
        return
    for provider, model, prompt in TASKS:
        task_id, _ = await submit(services, NewTask(provider, model, {"prompt": prompt}, {"demo": True}))
        log.info("demo_task", task=task_id, provider=provider)
