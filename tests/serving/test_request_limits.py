"""What a request may cost before it is known whose it is: lines and pieces."""

import h11
import pytest

from receiver.serving.request_limits import (
    CHUNK_BYTES,
    FREE_PIECES,
    MAX_HEAD,
    MAX_HEAD_READS,
    MAX_HEADERS,
    MAX_LINE,
    READ_BYTES,
    LimitedConnection,
)

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def head(*headers: bytes, path: bytes = b"/") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + b"".join(each + b"\r\n" for each in headers) + b"\r\n"


def fed(*parts: bytes) -> LimitedConnection:
    connection = LimitedConnection()
    for part in parts:
        connection.receive_data(part)
        while connection.next_event() not in (h11.NEED_DATA, h11.PAUSED):
            pass
    return connection


def refused(*parts: bytes) -> bool:
    try:
        fed(*parts)
    except h11.RemoteProtocolError:
        return True
    return False


LONG = [b"a: " + b"b" * 7000] * 4
LEFT = MAX_HEAD - len(head(*LONG, b"a: ")) + len(b"\n\r\n")
HEADS = {
    "headers": [head(*(b"a%d: b" % n for n in range(MAX_HEADERS - 1 + beyond))) for beyond in (0, 1)],
    "a header": [head(b"a: " + b"b" * (MAX_LINE - 4 + beyond)) for beyond in (0, 1)],
    "the first line": [head(path=b"/" + b"b" * (MAX_LINE - 15 + beyond)) for beyond in (0, 1)],
    "all of it": [head(*LONG, b"a: " + b"b" * (LEFT + beyond)) for beyond in (0, 1)],
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_is_taken_up_to_its_limit_and_no_further(kind: str) -> None:
    within, beyond = HEADS[kind]
    assert not refused(within)
    assert not refused(within[:-2], within[-2:])
    assert refused(beyond)


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_that_has_not_ended_is_refused_when_it_is_too_large(kind: str) -> None:
    """Or a sender who never ends it would fill the memory."""
    assert refused(HEADS[kind][1][:-2] + b"c: d\r\n")


def test_the_limits_hold_for_every_request_of_a_connection() -> None:
    connection = fed(head())
    connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.start_next_cycle()
    connection.receive_data(HEADS["headers"][1])
    with pytest.raises(h11.RemoteProtocolError):
        connection.next_event()


def pieces(raw: bytes, size: int) -> list[bytes]:
    return [raw[start : start + size] for start in range(0, len(raw), size)]


def test_a_head_comes_in_a_bounded_number_of_pieces() -> None:
    raw = head(b"a: " + b"b" * 1000)
    assert not refused(*pieces(raw, len(raw) // MAX_HEAD_READS + 1))
    assert refused(*pieces(raw, 1))


def test_a_body_comes_in_pieces_as_its_size_allows() -> None:
    size = READ_BYTES * FREE_PIECES
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    assert not refused(post, *pieces(b"x" * size, READ_BYTES // 2))
    assert refused(post, *pieces(b"x" * size, READ_BYTES // 4))
    assert not refused(post.replace(b"%d" % size, b"200"), *pieces(b"x" * 200, 1)), "a small one may drip"


def test_a_body_comes_in_chunks_as_its_size_allows() -> None:
    def chunks(number: int, size: int) -> bytes:
        return b"%x\r\n%s\r\n" % (size, b"x" * size) * number

    assert not refused(CHUNKED + chunks(FREE_PIECES, 1))
    assert refused(CHUNKED + chunks(FREE_PIECES + 1, 1))
    assert not refused(CHUNKED + chunks(4 * FREE_PIECES, CHUNK_BYTES))
    assert refused(CHUNKED + chunks(4 * FREE_PIECES, CHUNK_BYTES // 4))
