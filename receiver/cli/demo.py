"""The sandbox's demo: one task of each family, one of them with its callback dropped, so that it is polled.

`receiver serve --demo` runs it.
"""

from receiver.cli.runtime import print_message
from receiver.services import Services
from receiver.store import reading
from receiver.tasks.submission import NewTask, submit

_PROMPT = "A paper boat sails through warm summer rain, slow dolly in"
TASKS = (
    ("rivya", "sora-2", f"{_PROMPT} [sandbox: after=4]"),
    ("apixo", "sora-2", f"{_PROMPT} [sandbox: callback=drop after=6]"),
    ("revid", "sora-2-text-to-video", f"{_PROMPT} [sandbox: after=3]"),
    ("gateway", "sora-2", f"{_PROMPT} [sandbox: after=5]"),
    ("kie", "wan/2-7-text-to-video", f"{_PROMPT} [sandbox: after=4]"),
)


async def submit_demo(services: Services) -> None:
    """Submit the demo tasks, one after the other, unless the database already has tasks; print where they are shown."""
    pages = f"{services.settings.local_url}{services.settings.path_prefix}/"
    if await services.store.read(lambda session: reading.listing(session, reading.Filter(limit=1))):
        print_message(f"The demo tasks of the first run are listed at {pages}")
        return
    print_message(f"Submitting {len(TASKS)} demo tasks. Watch them at {pages}")
    for provider, model, prompt in TASKS:
        await submit(services, NewTask(provider, model, {"prompt": prompt}, {"demo": True}))
