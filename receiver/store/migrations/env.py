"""What Alembic runs: the steps, on the connection and in the transaction that `store.schema` opened."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, render_as_batch=True, transactional_ddl=False)
context.run_migrations()
