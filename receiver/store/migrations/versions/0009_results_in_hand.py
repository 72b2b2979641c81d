"""Results in the hands of users: archived files, messages to the application, the feed, what needs attention."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FILES_TO_FETCH = sa.text("fetch_at IS NOT NULL")
MESSAGES_TO_SEND = sa.text("next_try_at IS NOT NULL")
NEEDS_ATTENTION = {
    "unconfirmed": "state = 'unconfirmed'",
    "expired": "state = 'expired'",
    "charged_but_failed": "state = 'failed' AND charged > 0",
    "paid_without_result": "state = 'succeeded' AND result IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM output WHERE output.task_id = task.id)",
}
"""What is on the attention list from the beginning: tasks that an earlier release left so."""


def upgrade() -> None:
    """Add the columns and tables; files of tasks that are settled already are left where they are."""
    op.add_column("task", sa.Column("notify_url", sa.Text()))
    op.add_column("task", sa.Column("fresh_links_until", sa.BigInteger()))
    _archive()
    _notifications()
    op.create_table(
        "feed",
        sa.Column("number", ID, primary_key=True, autoincrement=True),
        sa.Column("task_id", sa.String(), nullable=False),
    )
    op.execute("INSERT INTO feed (task_id) SELECT id FROM task ORDER BY updated_at, id")
    op.create_table(
        "attention",
        sa.Column("task_id", sa.String(), sa.ForeignKey("task.id"), primary_key=True),
        sa.Column("reason", sa.String(), primary_key=True),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text()),
    )
    for reason, of_task in NEEDS_ATTENTION.items():
        op.execute(
            "INSERT INTO attention (task_id, reason, since)"  # noqa: S608 - constants of this module
            f" SELECT id, '{reason}', COALESCE(finished_at, updated_at) FROM task WHERE {of_task}"
        )
    op.create_table(
        "batch_request",
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("task_ids", sa.Text(), nullable=False),
        sa.Column("next", sa.String()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    """Refuse, as every step does."""
    raise NotImplementedError("there is no way back; restore a backup")


def _archive() -> None:
    for column in (
        sa.Column("archive", sa.String(), nullable=False, server_default="off"),
        sa.Column("problem", sa.Text()),
        sa.Column("bytes", sa.BigInteger()),
        sa.Column("sha256", sa.String()),
        sa.Column("media_type", sa.String()),
        sa.Column("stored_at", sa.BigInteger()),
        sa.Column("host", sa.String()),
        sa.Column("fetch_at", sa.BigInteger()),
        sa.Column("fetch_tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("fetch_claim", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("fetch_leased_until", sa.BigInteger()),
        sa.Column("link_refreshed", sa.Boolean(), nullable=False, server_default=sa.false()),
    ):
        op.add_column("output", column)
    op.create_index(
        "output_to_fetch", "output", ["fetch_at"], sqlite_where=FILES_TO_FETCH, postgresql_where=FILES_TO_FETCH
    )


def _notifications() -> None:
    op.create_table(
        "notification",
        sa.Column("id", ID, primary_key=True),
        sa.Column("webhook_id", sa.String(), nullable=False, unique=True),
        sa.Column("task_id", sa.String(), sa.ForeignKey("task.id"), nullable=False, index=True),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("own_url", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary()),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.BigInteger()),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.Column("leased_until", sa.BigInteger()),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
    )
    op.create_index(
        "notification_to_send",
        "notification",
        ["host", "next_try_at"],
        sqlite_where=MESSAGES_TO_SEND,
        postgresql_where=MESSAGES_TO_SEND,
    )
    op.create_index("notification_state", "notification", ["state", "id"])
    op.create_table(
        "notification_try",
        sa.Column("id", ID, primary_key=True),
        sa.Column("notification_id", ID, sa.ForeignKey("notification.id"), nullable=False, index=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("problem", sa.Text()),
    )
