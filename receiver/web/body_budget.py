"""Memory for the bodies of requests without an API token. Pure: no sockets, no clock.

`web.bodies` takes memory from it while a body arrives.
"""

from collections.abc import Callable

BODIES_BYTES = 8 * 1024 * 1024
"""Memory for the bodies of all requests without an API token together; for four of the largest in any case."""


class BodyBudget:
    """Memory for bodies. Where it runs out, the body that has been arriving for longest is evicted."""

    def __init__(self, most: int = BODIES_BYTES) -> None:
        """Begin with so many bytes."""
        self._most = most
        self._held = 0
        self._arriving: dict[Share, None] = {}

    def share(self) -> "Share":
        """Return the share of one body, which holds its memory as a context manager."""
        return Share(self)

    def join(self, share: "Share") -> None:
        """Let a body begin to arrive."""
        self._arriving[share] = None

    def take(self, share: "Share", size: int) -> None:
        """Take so many bytes more for a body, at the expense of those that have been arriving for longer."""
        share.size += size
        self._held += size
        while self._held > self._most and self._arriving:
            self._evict(next(iter(self._arriving)))

    def stop_waiting(self, share: "Share") -> None:
        """Note that a body no longer arrives, so that it cannot be evicted."""
        self._arriving.pop(share, None)

    def free(self, share: "Share") -> None:
        """Give the memory of a body back."""
        self._arriving.pop(share, None)
        self._held -= share.size
        share.size = 0

    def _evict(self, share: "Share") -> None:
        self.free(share)
        share.is_evicted = True
        if share.on_eviction is not None:
            share.on_eviction()


class Share:
    """The memory that one body holds, as long as the context lasts. `on_eviction` is called when it is taken away."""

    __slots__ = ("_budget", "is_evicted", "on_eviction", "size")

    def __init__(self, budget: BodyBudget) -> None:
        """Begin with nothing."""
        self.size = 0
        self.is_evicted = False
        self.on_eviction: Callable[[], None] | None = None
        self._budget = budget

    def __enter__(self) -> "Share":
        """Begin to arrive."""
        self._budget.join(self)
        return self

    def __exit__(self, *_error: object) -> None:
        """Give the memory back."""
        self._budget.free(self)

    def take(self, size: int) -> None:
        """Take so many bytes more, unless this body was evicted."""
        if not self.is_evicted:
            self._budget.take(self, size)

    def has_arrived(self) -> None:
        """Note that the body is complete: from now on it is not evicted."""
        self._budget.stop_waiting(self)
