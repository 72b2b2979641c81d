"""Receiver submits tasks to reseller APIs, hears back, and never loses or buys one twice.

Read it in this order: `states` (the machine), `messages` (what crosses the provider boundary), one file of
`providers`, `lifecycle` (the one function that changes a task), then `submission`, `inbox`, `checks` and `poller`
(the ways in), and `app` (how it hangs together).
"""

from importlib.metadata import version

__version__ = version("receiver")
