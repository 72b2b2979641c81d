"""The schema's history, one file a step. Steps never use `tables`, which shows today's schema only."""

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010")
"""Every step, oldest first: so that a current database is recognised without loading Alembic."""
