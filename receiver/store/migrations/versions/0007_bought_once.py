"""Which attempts may have bought something: at most one purchase a task, by a rule of the database itself."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ATTEMPT = sa.table(
    "attempt",
    sa.column("task_id", sa.String()),
    sa.column("number", sa.Integer()),
    sa.column("outcome", sa.String()),
    sa.column("may_have_bought", sa.Boolean()),
    sa.column("repeats", sa.Boolean()),
)
TASK = sa.table(
    "task",
    sa.column("id", sa.String()),
    sa.column("state", sa.String()),
    sa.column("settled_by", sa.String()),
    sa.column("may_have_cost", sa.Boolean()),
)
ONE_PURCHASE = sa.text("may_have_bought AND NOT repeats")


def upgrade() -> None:
    """Add the columns, fill them from how the attempts ended, and let the database refuse a second purchase."""
    op.add_column("attempt", sa.Column("may_have_bought", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("attempt", sa.Column("repeats", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("attempt", sa.Column("claim", sa.Integer()))
    op.add_column("task", sa.Column("may_have_cost", sa.Boolean(), nullable=False, server_default=sa.false()))
    _fill()
    op.create_index(
        "attempt_one_purchase",
        "attempt",
        ["task_id"],
        unique=True,
        sqlite_where=ONE_PURCHASE,
        postgresql_where=ONE_PURCHASE,
    )


def downgrade() -> None:
    """Refuse, as every step does."""
    raise NotImplementedError("there is no way back; restore a backup")


def _fill() -> None:
    bought_nothing = ATTEMPT.c.outcome.in_(("refused", "not_sent", "busy"))
    op.execute(sa.update(ATTEMPT).where(bought_nothing).values(may_have_bought=False))
    earlier = ATTEMPT.alias("earlier")
    follows = sa.exists().where(
        earlier.c.task_id == ATTEMPT.c.task_id, earlier.c.number < ATTEMPT.c.number, earlier.c.may_have_bought
    )
    # Also what an earlier release sent a second time without a key: it cannot be undone, and must not stop the upgrade.
    op.execute(sa.update(ATTEMPT).where(ATTEMPT.c.may_have_bought, follows).values(repeats=True))
    bought = sa.exists().where(ATTEMPT.c.task_id == TASK.c.id, ATTEMPT.c.may_have_bought)
    cost_nothing = sa.and_(TASK.c.state == "failed", TASK.c.settled_by.in_(("submission", "hand")))
    may_have_cost = sa.and_(bought, sa.not_(sa.func.coalesce(cost_nothing, sa.false())))
    op.execute(sa.update(TASK).where(may_have_cost).values(may_have_cost=True))
