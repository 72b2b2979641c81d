"""Commands that run and maintain the service."""

import asyncio
import contextlib
import json
import mimetypes
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from receiver.accounts import NewFile, fetch_balance, register_webhook, upload_file
from receiver.app import create_app
from receiver.archive.archiver import Archiver
from receiver.cli import terminal
from receiver.cli.commands import cli
from receiver.cli.completion import complete_accounts
from receiver.cli.demo import submit_demo
from receiver.cli.runtime import load_settings, prepare_secrets, print_message, print_result, run, stop_on_signal
from receiver.cli.tasks import JsonFlag, require_seconds
from receiver.config.keys import prepare_data_dir, with_generated_secrets
from receiver.config.port_file import remove_port, write_port
from receiver.core.errors import StoreUnavailable
from receiver.documents import provider_documents
from receiver.notifications.sender import Sender
from receiver.providers import CONFIG_TYPES, connect
from receiver.sandbox.access import is_loopback
from receiver.sandbox.app import Sandbox
from receiver.sandbox.app import create_app as create_sandbox
from receiver.services import Services
from receiver.serving import logs, server
from receiver.store import schema
from receiver.tasks import poller
from receiver.tasks.recovery import recover
from receiver.web.pages.login import login_link as make_login_link


@cli.command()
def serve(
    demo: Annotated[bool, typer.Option(help="in the sandbox, submit a demo task for each provider")] = False,
    login_link: Annotated[bool, typer.Option(help="print a link that logs a browser in")] = False,
) -> None:
    """Run the service: callbacks, API, pages and poller. Creates and migrates its database."""
    logs.configure()
    settings = load_settings()
    listening = server.listen(settings.host, settings.port)
    settings = prepare_secrets(settings.with_port(listening.getsockname()[1]))
    prepare_data_dir(settings.data_dir)
    schema.migrate(settings.database)
    for risk in schema.durability_warnings(settings.database):
        print_message(risk)
    app = create_app(settings)

    def started() -> None:
        services: Services = app.state.services
        write_port(settings.data_dir, settings.port)
        if settings.sandbox:
            print_message("No provider key is set, so this is the sandbox: simulated providers, at no cost.")
        print_message(f"Serving on {settings.local_url}")
        if login_link or demo:
            print_message(f"Open {make_login_link(services)}")
        if demo and settings.sandbox:
            services.background.start(submit_demo(services))

    def stopping() -> None:
        app.state.services.stopping.set()

    try:
        server.run(app, settings, listening, started, stopping)
    finally:
        remove_port(settings.data_dir, settings.port)


async def _work_on_what_is_due(services: Services, report: Counter[str], stop: asyncio.Event) -> None:
    sweeps = [poller.sweep(services, report, stop)]
    if services.storage is not None:
        sweeps.append(Archiver(services, services.storage).sweep(stop))
    await asyncio.gather(*sweeps)


@cli.command()
def poll(
    every: Annotated[
        float | None,
        typer.Option(min=1, callback=require_seconds, help="repeat, with so many seconds in between"),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Work on all due tasks once, then exit. For cron; safe beside a running service."""
    logs.configure()

    async def repeat(services: Services) -> None:
        stop = stop_on_signal()
        sender = Sender(services, stop)
        async with contextlib.AsyncExitStack() as stack:
            if every is not None:  # beside the sweeps: a slow receiver must not delay them
                await stack.enter_async_context(sender.running())
            await work(services, sender, stop)

    async def work(services: Services, sender: Sender, stop: asyncio.Event) -> None:
        while not stop.is_set():
            report: Counter[str] = Counter()
            try:
                await recover(services)
                await _work_on_what_is_due(services, report, stop)
                if every is None:
                    await sender.send_due()
            except StoreUnavailable as error:
                if every is None:
                    raise
                print_message(str(error))
            counted = {name: report[name] for name in poller.COUNTED}
            print_result(counted, " ".join(f"{name} {number}" for name, number in counted.items()), as_json=as_json)
            if every is None:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await stop.wait()

    run(repeat)


@cli.command()
def providers(as_json: JsonFlag = False) -> None:
    """List providers, their models and prices."""
    settings = load_settings()
    documents = provider_documents(connect(settings.providers), settings)
    print_result({"providers": documents}, terminal.provider_table(documents), as_json=as_json)


@cli.command("register")
def register(
    provider: Annotated[str, typer.Argument(help="the account, for example rivya", autocompletion=complete_accounts)],
) -> None:
    """Register the public URL at a provider that has one webhook per account, and store its signing secret."""
    made = run(lambda services: register_webhook(services, provider))
    print_message(f"Registered as {made}. Restart the service, so that it verifies the signatures.")


@cli.command("balance")
def show_balance(
    provider: Annotated[str, typer.Argument(help="the account", autocompletion=complete_accounts)],
    as_json: JsonFlag = False,
) -> None:
    """Show an account's balance at its provider."""
    left = run(lambda services: fetch_balance(services, provider))
    print_result({"name": provider, "credits": left}, f"{left:,.10g} credits", as_json=as_json)


@cli.command("upload")
def upload(
    provider: Annotated[str, typer.Argument(help="the account to upload to", autocompletion=complete_accounts)],
    file: Annotated[Path, typer.Argument(help="the file", exists=True, dir_okay=False, readable=True)],
    kind: Annotated[str, typer.Option(help="image, video or audio")],
    model: Annotated[str, typer.Option(help="the model that the file is for")],
    as_json: JsonFlag = False,
) -> None:
    """Upload a reference file; prints, as JSON, the part of an order's input that refers to it."""
    with file.open("rb") as content:
        mime_type = mimetypes.guess_type(file.name)[0] or ""
        new = NewFile(provider, model, kind, file.name, mime_type, file.stat().st_size, content)
        found = dict(run(lambda services: upload_file(services, new)).input)
    print_result(found, json.dumps(found, indent=2), as_json=as_json)


@cli.command()
def token(
    notify: Annotated[bool, typer.Option("--notify", help="print the secret that signs notifications instead")] = False,
) -> None:
    """Print the API token, which is also the pages' password; it is created on first use."""
    settings = with_generated_secrets(load_settings())
    secrets = settings.notify_secrets if notify else settings.api_tokens
    typer.echo(secrets[0].get_secret_value())


@cli.command()
def migrate() -> None:
    """Create the database, or migrate it to this release's schema."""
    settings = load_settings()
    prepare_data_dir(settings.data_dir)
    before, after = schema.migrate(settings.database)
    for risk in schema.durability_warnings(settings.database):
        print_message(risk)
    if before == after:
        print_message(f"The schema is current: {after}.")
    else:
        print_message(f"Migrated the schema from {before} to {after}." if before else f"Created the schema: {after}.")


@cli.command()
def sandbox(
    ledger: Annotated[Path | None, typer.Option(help="a file that keeps purchases across restarts")] = None,
    late_by: Annotated[float, typer.Option(help="seconds after completion at which a late callback is sent")] = 15.0,
) -> None:
    """Run the simulated providers alone, on HOST and PORT."""
    logs.configure()
    settings = load_settings()
    listening = server.listen(settings.host, settings.port)
    settings = settings.with_port(listening.getsockname()[1])
    is_local = is_loopback(settings.host)
    tokens = () if is_local else [each.get_secret_value() for each in with_generated_secrets(settings).api_tokens]

    def started() -> None:
        for family in CONFIG_TYPES:
            print_message(f"{family.upper()}_BASE_URL={settings.local_url}/{family}")
        if not is_local:
            print_message("From another machine, use the API token as each provider's key; `receiver token` prints it.")

    app = create_sandbox(Sandbox(ledger_path=ledger, late_by=late_by, tokens=tokens))
    server.run(app, settings, listening, started)
