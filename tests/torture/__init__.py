"""The torture bench: rows that try to make the service lose, buy twice, or let somebody in.

A row is a test marked `row("A1")`, wherever it stands; those that need a service under fire stand here. `scripts/test`
runs each at a bounded size, `scripts/torture` at its full one and prints its figures. `sabotage/` holds the breakages
that prove that the rows can fail.
"""
