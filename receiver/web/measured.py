"""What was measured of each model, as a document: what is used to plan its checks, and why.

The API and the pages show it. It only tells what `lifecycle.schedule` makes of it.
"""

from collections.abc import Mapping
from functools import partial

from receiver.core.measured import Measured
from receiver.documents import Document, provider_documents
from receiver.lifecycle.schedule import SLOW, USUAL
from receiver.services import Services
from receiver.store import measured

MeasuredModels = Mapping[tuple[str, str], Measured]
"""What was measured, by account and model."""


async def show_providers(services: Services) -> list[Document]:
    """Return the documents of all accounts, with what was measured of their models."""
    known = await services.store.read(measured.read_all)
    documents = provider_documents(services.providers, services.settings)
    return [document | {"measured": measured_documents(services, document["name"], known)} for document in documents]


def measured_documents(services: Services, account: str, known: MeasuredModels) -> list[Document]:
    """Return what was measured of an account's models, and when their tasks are checked first because of it."""
    provider = services.providers.get(account)
    calls_back = provider is not None and provider.takes_callbacks and services.settings.public_url is not None
    first_pause = partial(services.context(account).schedule.first_pause, callback=calls_back)
    return [
        {
            "model": services.redactor.redact_text(model),
            "tasks": found.tasks,
            "usual_seconds": round(found.quantile(USUAL), 1),
            "slow_seconds": round(found.quantile(SLOW), 1),
            "callbacks": {"awaited": found.awaited, "arrived": found.arrived},
            "first_check_seconds": round(first_pause(found)[0], 1),
            "because": first_pause(found)[1],
        }
        for (name, model), found in known.items()
        if name == account
    ]
