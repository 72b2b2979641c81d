"""The next check of a task, as a change of its row: with what was measured of its model, and with the reason.

`apply` calls it for tasks that were taken and for results that are missing, `tasks.checks` after every check. Which
pauses follow from that is decided in `schedule`.
"""

from receiver.core.states import State
from receiver.lifecycle.schedule import Checked, Plan
from receiver.lifecycle.transition import Context, deadline_counts_from
from receiver.store import Transaction, measured
from receiver.store.task_row import TaskChanges, TaskRow

NEWS = "Something new was heard of it; the provider is asked now."


def plan_first_check(
    tx: Transaction, task: TaskRow, context: Context, scheduled: Plan | None, *, from_submission: bool
) -> TaskChanges:
    """Return the first check of a task that was accepted; what was scheduled earlier than that stays."""
    counts_from = deadline_counts_from(task)
    since = min(counts_from, context.now) if from_submission else context.now
    known = measured.read(tx, task.provider, task.model)
    plan = context.schedule.first_check(since, counts_from, known, callback=bool(task.callback_url))
    if scheduled is None and task.state is State.SUBMITTED:
        scheduled = Plan.of(task.next_check_at, task.next_check_because)
    return plan.or_earlier(scheduled).changes() | TaskChanges(gaps=0)


def plan_after_check(
    tx: Transaction, task: TaskRow, context: Context, checked: Checked, until: int, *, scheduled: Plan | None = None
) -> TaskChanges:
    """Return the next check of a task after one that did not end it, at the latest at `until`; what was scheduled
    earlier than that stays."""
    known = measured.read(tx, task.provider, task.model)
    plan = context.schedule.next_check(
        context.now,
        deadline_counts_from(task),
        until,
        measured=known,
        checked=checked,
        gaps=task.gaps,
        chance=context.chance,
    )
    gaps = task.gaps + 1 if context.schedule.grows(known, checked) else 0
    return plan.or_earlier(scheduled).changes() | TaskChanges(gaps=gaps)


def plan_for_missing_result(tx: Transaction, task: TaskRow, context: Context) -> TaskChanges:
    """Return the next check of a success without a result, up to its deadline and in the late watch."""
    due = context.schedule.due(deadline_counts_from(task))
    if context.now >= due:
        return plan_late_check(context, due)
    return plan_after_check(tx, task, context, Checked(empty=True), due)


def plan_late_check(context: Context, ended: int, retry_after: float | None = None) -> TaskChanges:
    """Return the next check of a task whose time was over at `ended`; none after the late watch."""
    if context.now >= context.schedule.watched_until(ended):
        return {"next_check_at": None}
    return context.schedule.late_check(context.now, ended, context.chance, retry_after).changes()
