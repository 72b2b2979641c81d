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


def upgrade() -> None:
    """Add the columns and tables; files of tasks that are settled already are left where they are."""
    op.add_column("task", sa.Column("notify_url", sa.Text()))
    op.add_column("task", sa.Column("fresh_links_until", sa.BigInteger()))
    _archive()
    _notifications()
    op.create_table(
        "feed",
        sa.Column("number", ID, primary_key=True, autoincrement=True),
        sa.Column("task_id", sa.String(), sa.ForeignKey("task.id"), nullable=False, unique=True),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "attention",
        sa.Column("task_id", sa.String(), sa.ForeignKey("task.id"), primary_key=True),
        sa.Column("reason", sa.String(), primary_key=True),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text()),
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
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary()),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.BigInteger()),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.Column("leased_until", sa.BigInteger()),
    )
    op.create_index(
        "notification_to_send",
        "notification",
        ["next_try_at"],
        sqlite_where=MESSAGES_TO_SEND,
        postgresql_where=MESSAGES_TO_SEND,
    )
    op.create_table(
        "notification_try",
        sa.Column("id", ID, primary_key=True),
        sa.Column("notification_id", ID, sa.ForeignKey("notification.id"), nullable=False, index=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("problem", sa.Text()),
    )
