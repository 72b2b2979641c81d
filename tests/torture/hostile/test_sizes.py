"""Bodies of every size and framing, on a live service: what is too large is refused early, and never kept in memory."""

import contextlib
import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain

import httpx
import pytest

from tests.behaviour.families import APIXO, GATEWAY, REVID, Family
from tests.measuring import HANG
from tests.torture.harness import Torture
from tests.torture.hostile.live import MEGABYTE, TOKEN, Live, healthy

HUGE = 100 * MEGABYTE
TOO_MUCH = HUGE + MEGABYTE
"""More than any place takes, a file among them."""
BUFFERED = 16 * MEGABYTE
"""Bytes that the two sides' kernels may take for a service that reads nothing any more."""
URL = "https://cdn.example.com/out.mp4"
BLOCK = b"x" * 65_536


@dataclass
class Answered:
    """What came back for a request, and how much of it could be sent before the connection was closed."""

    status: int
    sent: int


def post(serving: Live, path: str, parts: Iterator[bytes], **headers: str) -> Answered:
    """Send a POST piece by piece, as long as the other side takes it."""
    named = {"Host": "x", "Authorization": f"Bearer {TOKEN}", **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in named.items())]
    sent, answer = 0, b""
    with socket.create_connection(("127.0.0.1", serving.port), timeout=HANG) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            for part in parts:
                connection.sendall(part)
                sent += len(part)
        with contextlib.suppress(ConnectionError):
            while not answer.partition(b"\r\n\r\n")[1] and (part := connection.recv(65_536)):
                answer += part
    return Answered(int(answer.split()[1]) if answer else 0, sent)


def blocks(size: int) -> Iterator[bytes]:
    for _ in range(size // len(BLOCK)):
        yield BLOCK
    if size % len(BLOCK):
        yield BLOCK[: size % len(BLOCK)]


def chunks(parts: Iterator[bytes]) -> Iterator[bytes]:
    for part in filter(None, parts):
        yield f"{len(part):x}\r\n".encode() + part + b"\r\n"
    yield b"0\r\n\r\n"


PLACES = {
    "a callback": 413,
    "an order": 413,
    "a file": 413,
    "a login": 413,
    "a callback to nobody": 404,
    "an order of a stranger": 401,
}
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'


def place(serving: Live, name: str) -> tuple[str, dict[str, str]]:
    """The path and the headers of a place that takes bodies."""
    paths = {
        "a callback": serving.target("revid").path,
        "an order": "/api/tasks",
        "a file": "/api/files",
        "a login": "/login",
        "a callback to nobody": "/callbacks/revid/no-token",
        "an order of a stranger": "/api/tasks",
    }
    kinds = {"a file": {"Content_Type": MULTIPART}, "a login": {"Content_Type": FORM}}
    strange = {"an order of a stranger": {"Authorization": "Bearer no-token"}}
    return paths[name], {**kinds.get(name, {}), **strange.get(name, {})}


@pytest.mark.row("D6")
@pytest.mark.row("I10")
@pytest.mark.parametrize("framing", ["declared", "chunked"])
def test_a_hundred_megabytes_are_refused_before_they_are_read(serving: Live, torture: Torture, framing: str) -> None:
    """The answer may be lost where the sender goes on regardless; that the connection is closed cannot be."""
    sent: dict[str, int] = {}
    with healthy(serving, torture):
        for name, status in PLACES.items():
            path, headers = place(serving, name)
            head = PART if name == "a file" else b""
            parts = chain([head], blocks(TOO_MUCH))
            if framing == "declared":
                found = post(serving, path, parts, Content_Length=str(len(head) + TOO_MUCH), **headers)
            else:
                found = post(serving, path, chunks(parts), Transfer_Encoding="chunked", **headers)
            assert found.status in (status, 0), name
            sent[name] = found.sent
    if framing == "chunked":
        del sent["a file"]  # it may have as many
    torture.figures(most_megabytes_sent=max(sent.values()) / 1e6)
    assert max(sent.values()) < BUFFERED, "the sender notices"


@pytest.mark.row("D6")
@pytest.mark.parametrize(("name", "limit"), [("a callback", MEGABYTE), ("an order", MEGABYTE), ("a login", 16 * 1024)])
@pytest.mark.parametrize("framing", ["declared", "chunked"])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_a_body_is_taken_up_to_its_limit_to_the_byte(
    serving: Live, name: str, limit: int, framing: str, beyond: int
) -> None:
    path, headers = place(serving, name)
    size = limit + beyond
    if framing == "declared":
        found = post(serving, path, blocks(size), Content_Length=str(size), **headers)
    else:
        found = post(serving, path, chunks(blocks(size)), Transfer_Encoding="chunked", **headers)
    read = {"a callback": 200, "an order": 400, "a login": 403}[name]
    assert found.status == (read if beyond <= 0 else 413)


@pytest.mark.row("D6")
def test_a_declared_length_that_lies_stores_nothing(serving: Live) -> None:
    """Less than was promised is no body; more is another request, and a broken one."""
    target = serving.target("revid")
    body = json.dumps(REVID.done(target.remote_id, URL)).encode()
    with socket.create_connection(("127.0.0.1", serving.port)) as connection:
        head = f"POST {target.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) + 10}\r\n\r\n"
        connection.sendall(head.encode() + body)
    assert serving.task(target.task_id)["deliveries"] == 0
    found = post(serving, target.path, iter([body]), Content_Length=str(len(body) - 10))
    assert found.status == 200
    assert [event["outcome"] for event in serving.deliveries(target.task_id)] == ["unreadable"]
    assert serving.task(target.task_id)["state"] == "submitted"


@pytest.mark.row("D6")
@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "9" * 30, "1, 2", "+5", " "])
@pytest.mark.parametrize("name", ["a callback", "an order", "a file", "a login"])
def test_a_length_that_is_none_is_a_4xx(serving: Live, name: str, length: str) -> None:
    path, headers = place(serving, name)
    found = post(serving, path, iter([b"{}"]), Content_Length=length, **headers)
    assert found.status in (400, 413)


@cache
def packed(kind: str, size: int) -> bytes:
    """A bomb: a little that would be much."""
    packer = zlib.compressobj(wbits=31 if kind == "gzip" else 15)
    return b"".join(packer.compress(BLOCK) for _ in range(size // len(BLOCK))) + packer.flush()


@pytest.mark.row("D6")
@pytest.mark.parametrize("kind", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x-gzip"])
@pytest.mark.parametrize("name", ["a callback", "an order", "a file", "a login"])
def test_an_encoded_body_is_never_inflated(serving: Live, name: str, kind: str) -> None:
    path, headers = place(serving, name)
    bomb = packed("gzip" if "gzip" in kind else "deflate", HUGE)
    found = post(serving, path, iter([bomb]), Content_Encoding=kind, Content_Length=str(len(bomb)), **headers)
    assert found.status == 415


@pytest.mark.row("D6")
@pytest.mark.parametrize(
    "kind", ["UTF-8", "utf8", "identity", "Identity, utf-8", "", "none", "iso-8859-1", "aws-chunked", "8bit", "json"]
)
def test_a_content_encoding_that_compresses_nothing_changes_nothing(serving: Live, kind: str) -> None:
    target = serving.target("gateway")
    body = json.dumps(GATEWAY.done(target.remote_id, URL)).encode()
    length = str(len(body))
    assert post(serving, target.path, iter([body]), Content_Encoding=kind, Content_Length=length).status == 200
    assert serving.task(target.task_id)["state"] == "succeeded"
    assert post(serving, "/api/tasks", iter([b"["]), Content_Encoding=kind, Content_Length="1").status == 400


@pytest.mark.row("D6")
def test_a_compression_that_stands_in_a_header_of_its_own_is_seen(serving: Live) -> None:
    path, _ = place(serving, "a callback")
    twice = {"Content_Encoding": "utf-8\r\nContent-Encoding: GZIP"}
    assert post(serving, path, iter([b"{}"]), Content_Length="2", **twice).status == 415


@pytest.mark.row("D6")
@pytest.mark.parametrize("behind", ["/", "//", "%2F", "/?x=1"])
def test_a_slash_behind_a_callbacks_path_changes_nothing(serving: Live, behind: str) -> None:
    target = serving.target("gateway")
    body = json.dumps(GATEWAY.done(target.remote_id, URL)).encode()
    assert post(serving, target.path + behind, iter([body]), Content_Length=str(len(body))).status == 200
    assert serving.task(target.task_id)["state"] == "succeeded"
    assert serving.client.get(target.path + behind).status_code == 405


@pytest.mark.row("D6")
@pytest.mark.parametrize("family", [APIXO, REVID, GATEWAY], ids=lambda family: family.name)
def test_a_callback_whose_json_was_encoded_twice_is_read(serving: Live, family: Family) -> None:
    target = serving.target(family.name)
    body = json.dumps(json.dumps(family.done(target.remote_id, URL))).encode()
    assert post(serving, target.path, iter([body]), Content_Length=str(len(body))).status == 200
    assert serving.task(target.task_id)["state"] == "succeeded"
    assert serving.client.post("/api/tasks", content=json.dumps("{}")).status_code == 400, (
        "the API is for our own users"
    )


@pytest.mark.row("D6")
def test_a_bomb_that_is_not_declared_as_one_is_unreadable(serving: Live) -> None:
    target = serving.target("revid")
    answer = serving.deliver(target.path, gzip.compress(b"x" * HUGE))
    assert answer.json() == {"outcome": "unreadable"}


@pytest.mark.row("D6")
@pytest.mark.parametrize("kind", [MULTIPART, FORM, "", "text/xml", "application/json; charset=utf-16", "\xff", ";;;"])
def test_any_content_type_is_read_by_callbacks_and_the_api(serving: Live, kind: str) -> None:
    target = serving.target("revid")
    body = json.dumps(REVID.done(target.remote_id, URL)).encode()
    headers = [(b"content-type", kind.encode("latin-1"))] if kind else []
    answer = serving.client.post(target.path, content=body, headers=headers)
    assert answer.json() == {"outcome": "applied"}
    assert serving.client.post("/api/tasks", content=b"[", headers=headers).status_code == 400


@pytest.mark.row("D6")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b--\r\n",
        b"--b\r\n\r\n\r\n--b--\r\n",
        b"no multipart at all",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n',
        b"--b\r\n" + b"X: y\r\n" * 10_000 + b"\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="provider"\r\n\r\n' + b"x" * 60_000 + b"\r\n--b--\r\n",
        b"".join(b'--b\r\nContent-Disposition: form-data; name="%d"\r\n\r\n\r\n' % n for n in range(900))
        + b"--b--\r\n",
    ],
    ids=["nothing", "no-part", "no-name", "no-form", "cut", "headers", "long-field", "many-fields"],
)
def test_a_broken_form_with_a_file_is_a_4xx(serving: Live, body: bytes) -> None:
    answer = serving.client.post("/api/files", content=body, headers={"Content-Type": MULTIPART})
    assert 400 <= answer.status_code < 500, answer.text


@pytest.mark.row("D6")
def test_a_head_of_many_or_long_headers_is_stored_bounded_or_refused(serving: Live) -> None:
    target = serving.target("revid")
    many = [(f"X-{n}".encode(), b"y") for n in range(90)]
    assert serving.client.post(target.path, content=b"[", headers=many).status_code == 200
    (delivery,) = serving.deliveries(target.task_id)
    assert len(delivery["headers"]) <= 60
    for beyond in ([(b"X-%d" % n, b"y") for n in range(2000)], [(b"X", b"y" * 9000)], [(b"X", b"y" * 200_000)]):
        with contextlib.suppress(httpx.TransportError):  # cut off before all of it was sent
            assert serving.client.post(target.path, content=b"[", headers=beyond).status_code == 400
    assert len(serving.deliveries(target.task_id)) == 1
