"""Credits as whole millionths instead of binary fractions; what holds a task back, and when its deadline begins."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

AMOUNTS = ("estimated", "reserved", "charged")
MILLIONTHS = 1_000_000


def upgrade() -> None:
    """Convert the amounts, and add the columns."""
    if op.get_bind().dialect.name == "postgresql":
        _convert_in_place()
    else:
        _convert_in_a_copy()
    op.add_column("task", sa.Column("held_by", sa.String()))
    op.add_column("task", sa.Column("deadline_from", sa.BigInteger()))


def downgrade() -> None:
    """Refuse, as every step does."""
    raise NotImplementedError("there is no way back; restore a backup")


def _convert_in_place() -> None:
    changes = (
        f"ALTER COLUMN {name} TYPE BIGINT USING round({name}::numeric * {MILLIONTHS})::bigint" for name in AMOUNTS
    )
    op.execute(f"ALTER TABLE task {', '.join(changes)}")


def _convert_in_a_copy() -> None:
    """Multiply first, then copy the table with its new types: SQLite cannot change a column's type."""
    known = " OR ".join(f"{name} IS NOT NULL" for name in AMOUNTS)
    values = ", ".join(f"{name} = round({name} * {MILLIONTHS})" for name in AMOUNTS)
    op.execute(f"UPDATE task SET {values} WHERE {known}")  # noqa: S608 - our own names
    with op.batch_alter_table("task", recreate="always") as batch:
        for name in AMOUNTS:
            batch.alter_column(name, existing_type=sa.Float(), type_=sa.BigInteger())
