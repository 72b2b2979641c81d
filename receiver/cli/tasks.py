"""Commands about tasks. They work on the database directly, beside a running service."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated

import typer
from rich.text import Text

from receiver.cli import orders, terminal
from receiver.cli.commands import cli
from receiver.cli.completion import complete_accounts, complete_models, complete_task_ids
from receiver.cli.runtime import err, out, print_message, print_result, run
from receiver.core.amounts import to_credits, to_millionths
from receiver.core.errors import Fault, Invalid
from receiver.core.states import SETTLED, State
from receiver.documents import Document, TaskDocument, history_document, read_stats, show, show_all
from receiver.services import Services
from receiver.store import reading
from receiver.store.tables import Task
from receiver.tasks import adoption, submission
from receiver.tasks.batch import Action, Batch, Result
from receiver.tasks.batch import run as run_batch
from receiver.web.api.requests import MAX_KEY

JsonFlag = Annotated[bool, typer.Option("--json", help="print JSON")]
TaskId = Annotated[str, typer.Argument(help="a task's id, tsk_...", autocompletion=complete_task_ids)]
TaskIds = Annotated[list[str], typer.Argument(help="ids of tasks, tsk_...", autocompletion=complete_task_ids)]


def _require_key(key: str | None) -> str | None:
    """Return a valid key; an empty one, such as an unset variable, is refused: without a key each run buys again."""
    if key is not None and not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise typer.BadParameter(f"must be 1 to {MAX_KEY} printable ASCII characters")
    return key


def require_seconds(seconds: float | None) -> float | None:
    """Return a valid number of seconds; any other is refused."""
    if seconds is not None and not 0 <= seconds <= MAX_SECONDS:
        raise typer.BadParameter("must be a number of seconds, 0 or more")
    return seconds


def _require_amount(amount: float | None) -> float | None:
    if amount is not None and not 0 <= amount <= MAX_CREDITS:
        raise typer.BadParameter("must be a number of credits, 0 or more")
    return amount


Key = Annotated[
    str | None,
    typer.Option(
        "--key", callback=_require_key, help="an idempotency key: the same order under the same key buys only once"
    ),
]

NotifyUrl = Annotated[
    str | None, typer.Option("--notify-url", help="is told of this task instead of RECEIVER_NOTIFY_URL")
]

MAX_CREDITS = 1e12
MAX_SECONDS = 10 * 365 * 86400.0
UNSUCCESSFUL = frozenset({State.FAILED, State.EXPIRED, State.UNCONFIRMED})


@cli.command()
def submit(
    provider: Annotated[
        str, typer.Argument(help="the account: rivya, apixo, revid, gateway, kie ...", autocompletion=complete_accounts)
    ],
    model: Annotated[str, typer.Argument(help="the provider's model id", autocompletion=complete_models)],
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="what to make")] = None,
    parameters: Annotated[list[str] | None, typer.Option("--set", help="a parameter, NAME=VALUE; repeatable")] = None,
    input_json: Annotated[str | None, typer.Option("--input", help="the input as JSON; - reads standard input")] = None,
    metadata: Annotated[list[str] | None, typer.Option(help="your own label, KEY=VALUE; repeatable")] = None,
    validate: Annotated[bool, typer.Option(help="validate the input against the model's documentation")] = True,
    key: Key = None,
    notify_url: NotifyUrl = None,
    wait_for_it: Annotated[bool, typer.Option("--wait", help="wait until the task is settled")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Submit a task."""

    async def work(services: Services) -> list[TaskDocument]:
        known = services.provider(provider).models.get(model)
        if known is None:
            print_message(f'{provider} documents no model "{model}": the input is sent unchecked, at an unknown price.')
        whole = sys.stdin.read() if input_json == "-" else input_json
        given = orders.parse_input(known, prompt, parameters or [], whole)
        labels = orders.parse_pairs("metadata", metadata or [])
        body = {"provider": provider, "model": model, "input": given, "metadata": labels, "validate": validate}
        order = submission.NewTask(
            provider,
            model,
            given,
            labels,
            validate=validate,
            key=key,
            digest=submission.digest_of(_with_notify_url(body, notify_url)),
            notify_url=notify_url,
        )
        task_id, _ = await submission.submit(services, order)
        return await _wait(services, [task_id], MAX_SECONDS) if wait_for_it else [await show(services, task_id)]

    _finish(run(work), as_json=as_json, waited=wait_for_it)


@cli.command("list")
def list_tasks(
    state: Annotated[list[State] | None, typer.Option(help="only tasks in this state; repeatable")] = None,
    provider: Annotated[
        str | None, typer.Option(help="only tasks of this account", autocompletion=complete_accounts)
    ] = None,
    model: Annotated[str | None, typer.Option(help="only tasks of this model")] = None,
    q: Annotated[str | None, typer.Option("--q", help="part of a prompt, id or remote id")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="how many at most")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List tasks, newest first."""
    wanted = reading.Filter(states=state or (), provider=provider, model=model, q=q, limit=limit)

    async def work(services: Services) -> list[TaskDocument]:
        tasks, following = await show_all(services, wanted)
        while following is not None and len(tasks) < limit:
            rest = replace(wanted, before=following, limit=limit - len(tasks))
            more, following = await show_all(services, rest)
            tasks += more
        return tasks

    tasks = run(work)
    print_result({"tasks": tasks}, terminal.task_table(tasks) if tasks else Text("no tasks"), as_json=as_json)


@cli.command("show")
def show_task(task_id: TaskId, as_json: JsonFlag = False) -> None:
    """Show one task and its history."""

    async def work(services: Services) -> tuple[TaskDocument, list[Document]]:
        task = await show(services, task_id)
        rows = await services.store.read(lambda session: reading.history(session, task_id))
        return task, [history_document(row, detail, services.redactor) for row, detail in rows]

    task, events = run(work)
    print_result({**task, "history": events}, terminal.task_details(task, events), as_json=as_json)


@cli.command()
def stats(as_json: JsonFlag = False) -> None:
    """Show tasks by state, and credits spent by account and day."""
    counted = run(read_stats)
    print_result(counted, terminal.stats_table(counted), as_json=as_json)


@cli.command()
def wait(
    task_ids: TaskIds,
    seconds: Annotated[
        float,
        typer.Option(
            "--timeout", callback=require_seconds, show_default="no limit", help="give up after so many seconds"
        ),
    ] = MAX_SECONDS,
    as_json: JsonFlag = False,
) -> None:
    """Wait until tasks are settled; the exit code is 1 if one did not succeed."""
    _finish(run(lambda services: _wait(services, task_ids, seconds)), as_json=as_json, waited=True)


@cli.command()
def check(task_ids: TaskIds, as_json: JsonFlag = False) -> None:
    """Check tasks at their providers now."""
    act_on_tasks(Batch(Action.CHECK, _distinct(task_ids)), as_json=as_json)


@cli.command()
def retry(
    task_ids: TaskIds,
    key: Key = None,
    max_credits: Annotated[
        float | None,
        typer.Option(callback=_require_amount, help="order nothing if the estimates add up to more than this"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask for confirmation")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Place the same orders again as new tasks: this buys, after showing the price."""
    digest = submission.digest_of({"retry": task_ids, "max_credits": max_credits})
    ids = _distinct(task_ids)

    async def confirm(services: Services) -> None:
        prices = [(await show(services, task_id))["credits"]["estimated"] for task_id in ids]
        print_message(_describe_price(prices))
        if err.is_terminal and sys.stdin.isatty() and not yes:
            typer.confirm("Order it?" if len(prices) == 1 else "Order them?", abort=True, err=True)

    act_on_tasks(Batch(Action.RETRY, ids, max_credits, key, digest), confirm, as_json=as_json)


def _describe_price(prices: list[float | None]) -> str:
    what = "it" if len(prices) == 1 else f"{len(prices)} tasks"
    unknown, total = prices.count(None), sum(to_millionths(price) for price in prices if price is not None)
    if unknown == len(prices):
        return f"This buys {what} again, at an unknown price."
    more = f", and {unknown} at an unknown price" if unknown else ""
    return f"This buys {what} again, for about {to_credits(total)} credits{more}."


@cli.command()
def cancel(task_ids: TaskIds, as_json: JsonFlag = False) -> None:
    """Cancel tasks that are still queued."""
    act_on_tasks(Batch(Action.CANCEL, _distinct(task_ids)), as_json=as_json)


@cli.command()
def adopt(
    task_id: TaskId,
    remote_id: Annotated[str | None, typer.Argument(help="the id that you found at the provider")] = None,
    not_bought: Annotated[
        bool, typer.Option("--not-bought", help="you looked at the provider: it was not bought")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Resolve an unconfirmed task, or an expired one without remote id, by hand."""
    if (remote_id is None) is not not_bought:
        raise Invalid([Fault(("adopt",), "give either the provider's id or --not-bought")])

    async def work(services: Services) -> list[TaskDocument]:
        if remote_id is not None:
            await adoption.adopt(services, task_id, remote_id)
        else:
            await adoption.not_bought(services, task_id)
        return [await show(services, task_id)]

    _print(run(work), as_json=as_json)


@cli.command()
def track(
    provider: Annotated[str, typer.Argument(help="the account where it was bought", autocompletion=complete_accounts)],
    remote_id: Annotated[str, typer.Argument(help="the provider's id")],
    model: Annotated[str, typer.Option(help="the model, which some providers' status requests need")] = "unknown",
    key: Key = None,
    notify_url: NotifyUrl = None,
    as_json: JsonFlag = False,
) -> None:
    """Follow a task that was bought elsewhere: only status requests are sent."""

    async def work(services: Services) -> list[TaskDocument]:
        body = {"provider": provider, "model": model, "remote_id": remote_id}
        digest = submission.digest_of(_with_notify_url(body, notify_url))
        order = submission.NewTask(provider, model, {}, key=key, digest=digest, notify_url=notify_url)
        task_id, _ = await adoption.track(services, order, remote_id)
        return [await show(services, task_id)]

    _finish(run(work), as_json=as_json)


def _with_notify_url(body: Document, notify_url: str | None) -> Document:
    """Return an order as the API would be sent it, so that the same order under the same key is the same task."""
    return body if notify_url is None else body | {"notify_url": notify_url}


def act_on_tasks(batch: Batch, before: Callable[[Services], Awaitable[None]] | None = None, *, as_json: bool) -> None:
    """Do something with tasks, and print them; the exit code is 1 if it was not possible with one of them.

    `before` may ask a person first.
    """

    async def work(services: Services) -> tuple[list[TaskDocument], list[Result]]:
        if before is not None:
            await before(services)
        results, _ = await run_batch(services, batch)
        return [await show(services, each.shown) for each in results if each.shown is not None], results

    tasks, results = run(work)
    errors = [(result.task_id, result.error) for result in results if result.error is not None]
    if len(results) == 1 and errors:
        raise errors[0][1]
    for task_id, error in errors:
        print_message(f"{task_id}: {error}")
    if errors or batch.action is Action.ACKNOWLEDGE:  # which says nothing about how a task ended
        _print(tasks, as_json=as_json)
    else:
        _finish(tasks, as_json=as_json)
    if errors:
        raise typer.Exit(1)


def _distinct(task_ids: list[str]) -> list[str]:
    return list(dict.fromkeys(task_ids))


async def _wait(services: Services, task_ids: list[str], seconds: float) -> list[TaskDocument]:
    """Return tasks once they are settled, with progress bars on a terminal; raises `NotFound` for an unknown one."""
    wanted = [(await show(services, task_id))["id"] for task_id in dict.fromkeys(task_ids)]
    with terminal.ProgressBars(err) as bars:

        def are_settled(tasks: list[Task | None]) -> bool:
            known = [task for task in tasks if task is not None]
            for task in known:
                bars.update(task.id, task.state.value, task.progress)
            return all(task.state in SETTLED for task in known)

        await services.store.until(
            lambda session: [reading.task(session, task_id) for task_id in wanted], are_settled, seconds, of=wanted
        )
    return [await show(services, task_id) for task_id in wanted]


def _finish(tasks: list[TaskDocument], *, as_json: bool, waited: bool = False) -> None:
    """Print tasks; exit with 1 if one went wrong, or was waited for and did not succeed."""
    _print(tasks, as_json=as_json)
    if any(task["state"] != State.SUCCEEDED if waited else task["state"] in UNSUCCESSFUL for task in tasks):
        raise typer.Exit(1)


def _print(tasks: list[TaskDocument], *, as_json: bool) -> None:
    if as_json or out.is_terminal:
        print_result(tasks[0] if len(tasks) == 1 else {"tasks": tasks}, terminal.task_table(tasks), as_json=as_json)
    else:
        for task in tasks:
            typer.echo("\t".join((task["id"], task["state"], terminal.summarize(task).plain)))
