"""The feed of all changes: reading Server-Sent Events, and connecting again where it was interrupted."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from receiver.client.errors import BadAnswer
from receiver.client.results import FeedEvent
from receiver.client.steps import Item, Outage, Pause, Read, Request, StepsWithItems, bad_answer, exchange, unreachable

EVENT_STREAM = "text/event-stream"
SILENCE = 45.0
"""Seconds without a byte after which the connection is lost: the service sends a comment every 15."""
RECONNECT_PAUSE = 1.0
"""Seconds before connecting again, unless the service asks for others."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the stream: the last id that was sent, the type, and the data."""

    id: str
    event: str
    data: str


class Parser:
    """Reads a stream of Server-Sent Events as the HTML standard interprets it."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        """The id after which to go on: that of the last complete message."""
        self.pause = RECONNECT_PAUSE
        """Seconds before connecting again."""
        self._id = last_id
        self._event = ""
        self._data: list[str] = []
        self._rest = b""
        self._is_first = True
        self._after_cr = False

    def read(self, piece: bytes) -> Iterator[Message]:
        """Yield the messages that these bytes complete; what follows the last empty line is kept for later."""
        for line in self._lines(piece):
            if line:
                self._read_line(line)
            elif (message := self._take()) is not None:
                yield message

    def _lines(self, piece: bytes) -> Iterator[str]:
        """Yield the lines that are complete; one ends with LF, CR or both, which may come in two pieces."""
        if self._after_cr and piece:
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        if not piece:
            return
        *lines, self._rest = (self._rest + piece).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._after_cr = piece.endswith(b"\r")
        for line in lines:
            text = line.decode("utf-8", "replace")
            yield text.removeprefix("\ufeff") if self._is_first else text
            self._is_first = False

    def _read_line(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.pause = int(value) / 1000

    def _take(self) -> Message | None:
        data, event = "\n".join(self._data), self._event
        has_data = bool(self._data)
        self._data, self._event, self.last_id = [], "", self._id
        return Message(self._id, event or "message", data) if has_data else None


def follow(last_id: str | None, patience: float) -> StepsWithItems[FeedEvent]:
    """Give the events after this id, or from now on, for as long as the caller reads; connects again by itself."""
    outage, position = Outage(patience), last_id or ""
    while True:
        headers = {"Accept": EVENT_STREAM, "Cache-Control": "no-store"}
        if position:
            headers["Last-Event-ID"] = position
        request = Request("GET", "/api/events", headers=headers, silence=SILENCE, stream=True)
        response = yield from exchange(request, outage)
        if response.headers.get("content-type", "").partition(";")[0].strip().lower() != EVENT_STREAM:
            raise bad_answer(response)
        # Where the service begins: if the connection breaks before the first change, that is where to go on.
        parser = Parser(position or response.headers.get("last-event-id", ""))
        try:
            while (piece := (yield Read())) is not None:
                outage.end()
                for message in parser.read(piece):
                    if message.event in ("task", "reset"):
                        yield Item(_event(message))
            failure: httpx.TransportError = httpx.ReadError("the stream ended")
        except httpx.TransportError as error:
            failure = error
        position = parser.last_id
        yield Pause(max(outage.pause(unreachable(failure)).seconds, parser.pause))


def _event(message: Message) -> FeedEvent:
    if message.event == "reset":
        return FeedEvent(message.id, "reset", None)
    try:
        task = json.loads(message.data)
    except (ValueError, RecursionError) as error:
        raise BadAnswer("An event of the feed holds no task.") from error
    return FeedEvent(message.id, "task", task)
