"""Memory for the bodies of requests without an API token. Pure: no sockets, no clock.

`web.bodies` reserves memory in it while a body arrives.
"""

from collections.abc import Callable

BODIES_BYTES = 8 * 1024 * 1024
"""Memory for the bodies of all requests without an API token together, but at least for four of the largest."""


class BodyBudget:
    """Memory for bodies. When it runs out, the body that has been arriving longest is evicted."""

    def __init__(self, maximum: int = BODIES_BYTES) -> None:
        """Start with `maximum` bytes."""
        self._maximum = maximum
        self._held = 0
        self._arriving: dict[Share, None] = {}

    def share(self) -> "Share":
        """Return the share of one body: a context manager that holds its memory."""
        return Share(self)

    def join(self, share: "Share") -> None:
        """Note that a body starts to arrive."""
        self._arriving[share] = None

    def take(self, share: "Share", size: int) -> None:
        """Reserve more bytes for a body, at the expense of those that have been arriving longer."""
        share.size += size
        self._held += size
        while self._held > self._maximum and self._arriving:
            self._evict(next(iter(self._arriving)))

    def stop_waiting(self, share: "Share") -> None:
        """Note that a body is complete, so that it cannot be evicted."""
        self._arriving.pop(share, None)

    def free(self, share: "Share") -> None:
        """Release the memory of a body."""
        self._arriving.pop(share, None)
        self._held -= share.size
        share.size = 0

    def _evict(self, share: "Share") -> None:
        self.free(share)
        share.is_evicted = True
        if share.on_eviction is not None:
            share.on_eviction()


class Share:
    """The memory that one body holds within the context. `on_eviction` is called when it is taken away."""

    __slots__ = ("_budget", "is_evicted", "on_eviction", "size")

    def __init__(self, budget: BodyBudget) -> None:
        """Start with no memory."""
        self.size = 0
        self.is_evicted = False
        self.on_eviction: Callable[[], None] | None = None
        self._budget = budget

    def __enter__(self) -> "Share":
        """Start to arrive."""
        self._budget.join(self)
        return self

    def __exit__(self, *_error: object) -> None:
        """Release the memory."""
        self._budget.free(self)

    def take(self, size: int) -> None:
        """Reserve more bytes, unless this body was evicted."""
        if not self.is_evicted:
            self._budget.take(self, size)

    def complete(self) -> None:
        """Note that the body is complete: from now on it cannot be evicted."""
        self._budget.stop_waiting(self)
