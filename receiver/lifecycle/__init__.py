"""What may run inside a transaction: the state of a task, its changes, and what follows from them.

Nothing here awaits.
"""
