"""Tasks, their outputs, attempts, deliveries, checks and history."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.BigInteger()


def upgrade() -> None:
    """Create all tables."""
    _create_task()
    _create_history()
    _create_output()
    _create_attempt()
    _create_delivery()
    _create_status_check()


def downgrade() -> None:
    """Refuse: going back would lose what callbacks told."""
    raise NotImplementedError("there is no way back; restore a backup")


def _create_task() -> None:
    op.create_table(
        "task",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text()),
        sa.Column("validated", sa.Boolean(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.String(), unique=True),
        sa.Column("order_digest", sa.String()),
        sa.Column("retry_of", sa.String()),
        sa.Column("remote_id", sa.String()),
        sa.Column("remote_state", sa.String()),
        sa.Column("progress", sa.Float()),
        sa.Column("result", sa.Text()),
        sa.Column("error_code", sa.String()),
        sa.Column("error_message", sa.Text()),
        sa.Column("estimated", sa.Float()),
        sa.Column("reserved", sa.Float()),
        sa.Column("charged", sa.Float()),
        sa.Column("settled_by", sa.String()),
        sa.Column("token_seen", sa.Boolean(), nullable=False),
        sa.Column("signature", sa.String()),
        sa.Column("confirmed_at", TIME),
        sa.Column("notices", sa.Text(), nullable=False),
        sa.Column("pending", sa.Text()),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("attempts", "checks", "deliveries", "unstored", "empties", "gaps")
        ),
        sa.Column("callback_url", sa.Boolean(), nullable=False),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.Column("leased_until", TIME),
        sa.Column("next_check_at", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("submitted_at", TIME),
        sa.Column("finished_at", TIME),
        sa.Column("updated_at", TIME, nullable=False),
    )
    op.create_index("task_remote", "task", ["provider", "remote_id"], unique=True)
    op.create_index("task_due", "task", ["provider", "next_check_at"])
    op.create_index("task_state", "task", ["state"])


def _create_history() -> None:
    op.create_table(
        "history",
        sa.Column("id", ID, primary_key=True),
        sa.Column("task_id", sa.String(), sa.ForeignKey("task.id"), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
    )
    op.create_index("ix_history_task_id", "history", ["task_id"])


def _create_output() -> None:
    op.create_table(
        "output",
        sa.Column("id", ID, primary_key=True),
        sa.Column("task_id", sa.String(), sa.ForeignKey("task.id"), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("stored", sa.String()),
    )
    op.create_index("ix_output_task_id", "output", ["task_id"])


def _create_attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("id", ID, primary_key=True),
        sa.Column("history_id", ID, sa.ForeignKey("history.id"), nullable=False),
        sa.Column("task_id", sa.String(), sa.ForeignKey("task.id"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("departed_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("outcome", sa.String()),
        sa.Column("http_status", sa.Integer()),
        sa.Column("message", sa.Text()),
        sa.Column("answer", sa.LargeBinary()),
    )
    op.create_index("attempt_number", "attempt", ["task_id", "number"], unique=True)


def _create_delivery() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", ID, primary_key=True),
        sa.Column("history_id", ID, sa.ForeignKey("history.id"), nullable=False),
        sa.Column("task_id", sa.String(), sa.ForeignKey("task.id")),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
    )
    op.create_index("ix_delivery_task_id", "delivery", ["task_id"])


def _create_status_check() -> None:
    op.create_table(
        "status_check",
        sa.Column("id", ID, primary_key=True),
        sa.Column("history_id", ID, sa.ForeignKey("history.id"), nullable=False),
        sa.Column("task_id", sa.String(), sa.ForeignKey("task.id"), nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("http_status", sa.Integer()),
        sa.Column("message", sa.Text()),
        sa.Column("answer", sa.LargeBinary()),
    )
    op.create_index("ix_status_check_task_id", "status_check", ["task_id"])
