"""The ledger: every purchase, as proof of whether something was bought twice.

`handlers` records purchases and status requests, `callbacks` the callbacks, `webhooks` the endpoints. With a path, it
is also a file of JSON lines, read at the start. Its methods never await, so nothing can come between looking for a
purchase and recording it. Only one process may use a file at a time.

It is bounded: the oldest purchases are forgotten, and a file that has grown too large is rewritten with the others.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from receiver.sandbox.endpoints import Endpoint
from receiver.sandbox.purchase import CallbackTry, Purchase


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a ledger: purchases, their bytes, the bytes of its file, and the notes for one purchase."""

    purchases: int = 50_000
    size: int = 32 * 1024 * 1024
    file: int = 128 * 1024 * 1024
    notes: int = 1000


class Ledger:
    """All purchases in order, and the registered endpoints by id."""

    def __init__(self, path: Path | None = None, bounds: Bounds = Bounds()) -> None:
        """Open the ledger; the file at `path` is created if it is missing, readable only by its owner."""
        self.purchases: list[Purchase] = []
        self.endpoints: dict[str, Endpoint] = {}
        self._by_id: dict[tuple[str, str], Purchase] = {}
        self._by_key: dict[tuple[str, str], Purchase] = {}
        self._sizes: dict[tuple[str, str], int] = {}
        self._bytes = 0
        self._bounds = bounds
        self._path = path
        self._file = None if path is None else _open_file(path)
        if path is not None:
            with path.open("rb") as lines:
                for line in lines:
                    self._replay(json.loads(line))

    def close(self) -> None:
        """Close the file; nothing can be recorded afterwards."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def find(self, family: str, purchase_id: str) -> Purchase | None:
        """Return a family's purchase with this id."""
        return self._by_id.get((family, purchase_id))

    def bought_under(self, family: str, key: str | None) -> Purchase | None:
        """Return the purchase that was made under this idempotency key."""
        return None if key is None else self._by_key.get((family, key))

    def buy(self, purchase: Purchase) -> None:
        """Record a purchase. It survives a crash once this returns, so only then may it be answered."""
        self._append({"record": "purchase", **asdict(purchase)}, durable=True)
        self._enter(purchase)

    def ask(self, purchase: Purchase) -> None:
        """Count one status request about a purchase."""
        if purchase.status_asks < self._bounds.notes:
            self._note(purchase, "ask")
        purchase.status_asks += 1

    def tried(self, purchase: Purchase, attempt: CallbackTry) -> None:
        """Record one POST to the callback URL and how it was answered."""
        if len(purchase.callbacks) < self._bounds.notes:
            self._note(purchase, "try", **asdict(attempt))
            purchase.callbacks.append(attempt)

    def delivered(self, purchase: Purchase, delivery: str) -> None:
        """Record that a callback was accepted or given up, so that it is not repeated after a restart."""
        self._note(purchase, "delivered", delivery=delivery)
        purchase.delivered.append(delivery)

    def keep(self, endpoint: Endpoint) -> None:
        """Record a new or changed endpoint; its secret is only in the file."""
        self._append({"record": "endpoint", **asdict(endpoint)}, durable=True)
        self.endpoints[endpoint.id] = endpoint

    def drop(self, endpoint: Endpoint) -> None:
        """Record that an endpoint was removed."""
        self._append({"record": "no endpoint", "id": endpoint.id}, durable=True)
        del self.endpoints[endpoint.id]

    def _enter(self, purchase: Purchase) -> None:
        self.purchases.append(purchase)
        self._by_id[purchase.family, purchase.id] = purchase
        self._sizes[purchase.family, purchase.id] = len(json.dumps(asdict(purchase)))
        if purchase.idempotency_key is not None:
            self._by_key[purchase.family, purchase.idempotency_key] = purchase
        self._bytes += self._sizes[purchase.family, purchase.id]
        while len(self.purchases) > 1 and (
            len(self.purchases) > self._bounds.purchases or self._bytes > self._bounds.size
        ):
            self._forget(self.purchases.pop(0))

    def _forget(self, purchase: Purchase) -> None:
        del self._by_id[purchase.family, purchase.id]
        self._bytes -= self._sizes.pop((purchase.family, purchase.id))
        if purchase.idempotency_key is not None:
            self._by_key.pop((purchase.family, purchase.idempotency_key), None)

    def _note(self, purchase: Purchase, record: str, **more: Any) -> None:
        """Record something about a purchase, unless it was forgotten."""
        if (purchase.family, purchase.id) in self._by_id:
            self._append({"record": record, "family": purchase.family, "id": purchase.id, **more})

    def _append(self, record: dict[str, Any], *, durable: bool = False) -> None:
        """Write one line; `durable` waits for the disk, for what a client is told."""
        if self._file is None:
            return
        line = json.dumps(record).encode() + b"\n"
        length = os.fstat(self._file).st_size
        if length + len(line) > self._bounds.file and self._path is not None:
            self._file = _rewrite(self._path, self._file, self._records())
            length = os.fstat(self._file).st_size
        if os.write(self._file, line) < len(line):
            os.ftruncate(self._file, length)
            raise OSError("The ledger could not be written: the disk is full")
        if durable:
            os.fsync(self._file)

    def _records(self) -> Iterator[dict[str, Any]]:
        """Yield everything that is known, as records."""
        for purchase in self.purchases:
            yield {"record": "purchase", **asdict(purchase)}
        for endpoint in self.endpoints.values():
            yield {"record": "endpoint", **asdict(endpoint)}

    def _replay(self, record: dict[str, Any]) -> None:
        kind = record.pop("record")
        if kind == "purchase":
            tries = [CallbackTry(**each) for each in record.pop("callbacks", ())]
            self._enter(Purchase(**record, callbacks=tries))
        elif kind == "endpoint":
            self.endpoints[record["id"]] = Endpoint(**record)
        elif kind == "no endpoint":
            del self.endpoints[record["id"]]
        else:
            self._replay_note(kind, record)

    def _replay_note(self, kind: str, record: dict[str, Any]) -> None:
        purchase = self._by_id.get((record.pop("family"), record.pop("id")))
        if purchase is None:
            return
        if kind == "ask":
            purchase.status_asks += 1
        elif kind == "try":
            purchase.callbacks.append(CallbackTry(**record))
        else:
            purchase.delivered.append(record["delivery"])


def _rewrite(path: Path, before: int, records: Iterator[dict[str, Any]]) -> int:
    """Return the descriptor of a rewritten file, which has replaced the old one."""
    draft = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as writing:
        writing.writelines(json.dumps(record).encode() + b"\n" for record in records)
        writing.flush()
        os.fsync(writing.fileno())
    draft.replace(path)
    os.close(before)
    return _open_file(path)


def _open_file(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    # A crash may have truncated the last line. Its purchase was never answered.
    whole = path.read_bytes()
    os.ftruncate(descriptor, whole.rfind(b"\n") + 1)
    os.fsync(descriptor)
    return descriptor
