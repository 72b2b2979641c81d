"""Callbacks to an account instead of a task: kept until the id in them is learned."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Let a delivery wait for its task: with the id that it names, what it says, and no place in a history yet."""
    with op.batch_alter_table("delivery") as delivery:
        delivery.alter_column("history_id", existing_type=ID, nullable=True)
        delivery.add_column(sa.Column("remote_id", sa.String()))
        delivery.add_column(sa.Column("event", sa.Text()))
        delivery.create_index("delivery_remote", ["provider", "remote_id"])


def downgrade() -> None:
    """Refuse, as every step does."""
    raise NotImplementedError("there is no way back; restore a backup")
