"""Sessions that were logged out of, so that a stolen cookie is dead after that."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "ended_session",
        sa.Column("digest", sa.String(), primary_key=True),
        sa.Column("until", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_ended_session_until", "ended_session", ["until"])


def downgrade() -> None:
    """Refuse, as every step does."""
    raise NotImplementedError("there is no way back; restore a backup")
