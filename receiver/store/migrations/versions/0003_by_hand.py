"""What a person resolves, and what limits on spending look up."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add when a task was taken up by hand, and an index over departures."""
    op.add_column("task", sa.Column("adopted_at", sa.BigInteger()))
    op.create_index("attempt_departed", "attempt", ["departed_at"])


def downgrade() -> None:
    """Refuse, as every step does."""
    raise NotImplementedError("there is no way back; restore a backup")
