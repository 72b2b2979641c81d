"""Counting tasks by account and state, and finding those that run, without reading the tasks."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let the index of states hold the account, too."""
    op.drop_index("task_state", "task")
    op.create_index("task_state", "task", ["state", "provider"])


def downgrade() -> None:
    """Refuse, as every step does."""
    raise NotImplementedError("there is no way back; restore a backup")
