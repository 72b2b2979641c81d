"""What was measured of each model, and why a task's next check is when it is."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and the column; nothing is measured of tasks that are settled already."""
    op.add_column("task", sa.Column("next_check_because", sa.Text()))
    op.create_table(
        "model_record",
        sa.Column("provider", sa.String(), primary_key=True),
        sa.Column("model", sa.String(), primary_key=True),
        sa.Column("times", sa.Text(), nullable=False),
        sa.Column("awaited", sa.Integer(), nullable=False),
        sa.Column("arrived", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    """Refuse, as every step does."""
    raise NotImplementedError("there is no way back; restore a backup")
