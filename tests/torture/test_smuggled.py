"""Requests that two parsers may read differently, sent raw to the real server: what hides in one is never answered."""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from receiver.web.pages.login_throttle import FAILURES
from tests.cli.rig import QUICK, Home, Served, serving
from tests.measuring import HANG, Duration, Stopwatch, longest
from tests.torture.front import needs_nginx, nginx
from tests.torture.harness import Torture

CLOSED_WITHIN = 15.0
"""Seconds after which nobody may be left waiting."""
HOST = b"Host: receiver.example\r\n"
HIDDEN = b"GET /tasks/smuggled HTTP/1.1\r\nHost: receiver.example\r\n\r\n"
"""Where it is answered, the answer names it: it sends the browser to the login, and back."""
CHUNKED = b"Transfer-Encoding: chunked\r\n"
END = b"0\r\n\r\n"


def post(*headers: bytes, body: bytes = b"", path: bytes = b"/login", version: bytes = b"1.1") -> bytes:
    return b"POST %s HTTP/%s\r\n%s%s\r\n%s" % (path, version, HOST, b"".join(headers), body)


def length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(body)


def codings(*values: bytes) -> bytes:
    return b"".join(b"Transfer-Encoding: " + value + b"\r\n" for value in values)


REFUSED = {
    "CL.TE": post(length(END + HIDDEN), CHUNKED, body=END + HIDDEN),
    "TE.CL": post(b"Content-Length: 4\r\n", CHUNKED, body=b"%x\r\n%s\r\n" % (len(HIDDEN), HIDDEN) + END),
    "CL.TE, the length first and last": post(length(END), CHUNKED, length(END), body=END + HIDDEN),
    "CL.TE, in HTTP/1.0": post(length(END), CHUNKED, body=END + HIDDEN, version=b"1.0"),
    "CL.TE, folded": post(length(END), b"Transfer-Encoding:\r\n chunked\r\n", body=END + HIDDEN),
    "CL.TE behind a bare LF": post(length(END), b"X: a\nTransfer-Encoding: chunked\r\n", body=END + HIDDEN),
    "CL.TE in capitals": post(length(END), b"TRANSFER-ENCODING: CHUNKED\r\n", body=END + HIDDEN),
    "CL.TE with a tab": post(length(END), b"Transfer-Encoding:\tchunked\r\n", body=END + HIDDEN),
    "chunked in HTTP/1.0": post(CHUNKED, body=END + HIDDEN, version=b"1.0"),
    "TE.TE": post(codings(b"chunked", b"identity"), body=END + HIDDEN),
    "TE.TE, twice the same": post(codings(b"chunked", b"chunked"), body=END + HIDDEN),
    "TE.TE, listed": post(codings(b"chunked, identity"), body=END + HIDDEN),
    "identity, chunked": post(codings(b"identity, chunked"), body=END + HIDDEN),
    "gzip, chunked": post(codings(b"gzip, chunked"), body=END + HIDDEN),
    "xchunked": post(codings(b"xchunked"), body=END + HIDDEN),
    "quoted": post(codings(b'"chunked"'), body=END + HIDDEN),
    "a vertical tab before chunked": post(codings(b"\x0bchunked"), body=END + HIDDEN),
    "a NUL in chunked": post(codings(b"chunked\x00"), body=END + HIDDEN),
    "a blank before the colon": post(b"Transfer-Encoding : chunked\r\n", body=END + HIDDEN),
    "two lengths": post(length(b""), length(HIDDEN), body=HIDDEN),
    "two lengths in one": post(b"Content-Length: 0, %d\r\n" % len(HIDDEN), body=HIDDEN),
    "a signed length": post(b"Content-Length: +%d\r\n" % len(HIDDEN), body=HIDDEN),
    "a hexadecimal length": post(b"Content-Length: 0x10\r\n", body=HIDDEN),
    "a length with a blank": post(b"Content-Length: 1 0\r\n", body=HIDDEN),
    "a length of 30 digits": post(b"Content-Length: " + b"9" * 30 + b"\r\n", body=HIDDEN),
    "two hosts": post(b"Host: evil.example\r\n", length(b"")) + HIDDEN,
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n" + HIDDEN,
    "a NUL in a header": post(b"X: a\x00b\r\n", length(b"")) + HIDDEN,
    "a NUL in a name": post(b"X\x00: a\r\n", length(b"")) + HIDDEN,
    "a bare CR in a header": post(b"X: a\rTransfer-Encoding: chunked\r\n", body=END + HIDDEN),
    "a header without a name": post(b": a\r\n", length(b"")) + HIDDEN,
    "a folded first header": b"GET /healthz HTTP/1.1\r\n X: a\r\n" + HOST + b"\r\n" + HIDDEN,
    "a whole URL": b"GET http://evil.example/healthz HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "a whole URL without a path": b"GET http://evil.example HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "CONNECT": b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "HTTP/0.9": b"GET /healthz\r\n" + HIDDEN,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\n" + HOST + b"\r\n" + HIDDEN,
    "two blanks": b"GET  /healthz HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "a tab in the first line": b"GET\t/healthz HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "an umlaut in the path": "GET /ü HTTP/1.1\r\n".encode() + HOST + b"\r\n" + HIDDEN,
    "a chunk's size with 0x": post(CHUNKED, body=b"0x3\r\nabc\r\n" + END + HIDDEN),
    "a chunk's size with a sign": post(CHUNKED, body=b"-1\r\nabc\r\n" + END + HIDDEN),
    "a chunk's size of 30 digits": post(CHUNKED, body=b"f" * 30 + b"\r\nabc\r\n" + END + HIDDEN),
    "a chunk that is longer than it says": post(CHUNKED, body=b"1\r\nabc\r\n" + END + HIDDEN),
    "a chunk's end with bare LFs": post(CHUNKED, body=b"0\n\n" + HIDDEN),
}
"""What ends the connection with 400."""
READ = {
    # Read in one way only, so that what looks like a request in a body is one to nobody.
    "a request as a body": post(length(HIDDEN), body=HIDDEN),
    "a request as a body that nobody reads": post(length(HIDDEN), body=HIDDEN, path=b"/nothing"),
    "a request as a body of a static file": post(length(HIDDEN), body=HIDDEN, path=b"/static/page.css"),
    "a request as a body of a GET": post(length(HIDDEN), body=HIDDEN).replace(b"POST", b"GET", 1),
    "a request as a body of a HEAD": post(length(HIDDEN), body=HIDDEN).replace(b"POST", b"HEAD", 1),
    "a request as a chunk": post(CHUNKED, body=b"%x\r\n%s\r\n" % (len(HIDDEN), HIDDEN) + END),
    "a request as a chunk's extension": post(CHUNKED, body=b"0;" + HIDDEN.replace(b"\r\n", b" ") + b"\r\n\r\n"),
    "a request as trailers": post(CHUNKED, body=b"0\r\nX: " + HIDDEN.replace(b"\r\n", b" ") + b"\r\n\r\n"),
    "a request behind a name that is not quite the coding's": post(
        length(HIDDEN), b"Transfer_Encoding: chunked\r\n", b"X-Transfer-Encoding: chunked\r\n", body=HIDDEN
    ),
    "the same length twice": post(length(HIDDEN), length(HIDDEN), body=HIDDEN),
    "a body that never comes": post(length(HIDDEN), path=b"/callbacks/revid/x"),
    "a body that comes in half": post(length(HIDDEN), body=HIDDEN[:20], path=b"/login"),
    "a chunk that never comes": post(CHUNKED, body=b"10\r\nabc", path=b"/callbacks/revid/x"),
    "an upgrade to HTTP/2": post(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n",
                                 length(HIDDEN), body=HIDDEN),
    "an upgrade to a web socket": post(b"Connection: Upgrade\r\nUpgrade: websocket\r\n", length(HIDDEN), body=HIDDEN),
    "100-continue": post(b"Expect: 100-continue\r\n", length(HIDDEN), body=HIDDEN),
    "a folded header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n GET /tasks/smuggled HTTP/1.1\r\n\r\n",
    "lines that end with bare LFs": b"GET /healthz HTTP/1.1\nHost: a\n\n",
    "a header of 1 MB": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "a head of 100,000 headers": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 100_000 + b"\r\n",
    "nothing": b"",
    "lines only": b"\r\n\r\n\r\n",
}  # fmt: skip
SHAPES = REFUSED | READ
CONTROL = post(length(b"")) + HIDDEN
"""Two requests that are just that."""


@dataclass(frozen=True)
class Told:
    """Everything that a server said on one connection, whether it closed it then, and when that was."""

    raw: bytes
    closed: bool
    took: Duration

    @property
    def codes(self) -> list[int]:
        """The statuses of the answers."""
        return [int(code) for code in re.findall(rb"^HTTP/1\.1 (\d{3})", self.raw, re.MULTILINE) if code != b"100"]


def tell(port: int, raw: bytes, *, cut: int | None = None) -> Told:
    """Send bytes, in two parts where they are cut, and listen until the server closes the connection."""
    watch, answer, closed = Stopwatch(), b"", True
    with socket.create_connection(("127.0.0.1", port), timeout=HANG) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for part in (raw[:cut], raw[cut:]) if cut else (raw,):
                connection.sendall(part)
            while part := connection.recv(65536):
                answer += part
        except TimeoutError:
            closed = False
        except OSError:  # it was reset
            pass
    return Told(answer, closed, watch.read())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(Home(tmp_path_factory.mktemp("smuggled"), dict(QUICK))) as served:
        yield served


@pytest.fixture(scope="module")
def port(served: Served) -> int:
    return int(served.home.settings["PORT"])


@pytest.fixture(scope="module")
def told(port: int) -> dict[str, Told]:
    """What the server said to each shape, all of them sent at once."""
    sent = SHAPES | {"control": CONTROL}
    with ThreadPoolExecutor(len(sent)) as threads:
        return dict(zip(sent, threads.map(lambda raw: tell(port, raw), sent.values()), strict=True))


def assert_alone(told: Told, *, refused: bool) -> None:
    """Hold a server to having answered nothing that hid in a request, and to having ended the connection in time."""
    assert b"smuggled" not in told.raw, told.raw
    assert all(code < 500 for code in told.codes), told.codes
    assert told.codes[1:] in ([], [400]), told.codes
    assert told.closed
    if refused:
        assert told.codes == [400], told.raw
        assert b"connection: close" in told.raw.lower()


@pytest.mark.row("D7")
def test_a_request_that_hides_in_nothing_is_answered(told: dict[str, Told]) -> None:
    """Or those that are not would prove nothing."""
    assert b"smuggled" in told["control"].raw


@pytest.mark.row("D7")
@pytest.mark.parametrize("shape", SHAPES)
def test_what_hides_in_a_request_is_never_answered(told: dict[str, Told], shape: str) -> None:
    assert_alone(told[shape], refused=shape in REFUSED)


@pytest.mark.row("D7")
def test_after_all_of_them_it_is_alive_and_has_no_fault_in_its_log(
    served: Served, told: dict[str, Told], torture: Torture
) -> None:
    with served.home.client() as client:
        assert client.get("/readyz").status_code == 200
    assert '"error"' not in served.told()
    assert "Traceback" not in served.told()
    took = longest(each.took for each in told.values())
    torture.within(took, CLOSED_WITHIN)
    torture.figures(shapes=len(SHAPES), refused=len(REFUSED), longest=took)


@pytest.mark.row("D7")
def test_requests_that_come_in_two_parts_hide_nothing_either(port: int, torture: Torture) -> None:
    """Cut anywhere: in a name, between CR and LF, in a chunk's size."""
    chance, cuts = torture.random, []
    for raw in REFUSED.values():
        if 1 < len(raw) < 1000:
            cuts += [(raw, chance.randrange(1, len(raw))) for _ in range(torture.size(2, 60))]
    with ThreadPoolExecutor(32) as threads:
        for answer in threads.map(lambda each: tell(port, each[0], cut=each[1]), cuts):
            assert_alone(answer, refused=True)
    torture.figures(cut_requests=len(cuts))


@pytest.mark.row("D7")
@needs_nginx
def test_behind_nginx_nothing_that_hides_is_answered(port: int, tmp_path: Path, torture: Torture) -> None:
    if not torture.full:
        pytest.skip("only at full size: nginx takes its time")
    shapes = {name: raw for name, raw in SHAPES.items() if raw}
    with nginx(tmp_path / "nginx", port) as front, ThreadPoolExecutor(len(shapes)) as threads:
        found = dict(zip(shapes, threads.map(lambda raw: tell(front, raw), shapes.values()), strict=True))
    for name, answer in found.items():
        assert answer.closed, name
        assert b"smuggled" not in answer.raw or not has_body(shapes[name]) or name in LENIENT, name
    torture.figures(behind_nginx=len(found))


LENIENT = frozenset({"a chunk's end with bare LFs"})
"""What nginx mends: it takes the body for whole, and passes on two requests as two."""


def has_body(raw: bytes) -> bool:
    """Tell whether a request says that a body follows: what follows another is no part of it, but the next request."""
    head = raw.partition(b"\r\n\r\n")[0].lower()
    return b"transfer-encoding" in head or bool(re.search(rb"content-length: [1-9]", head))


# --- odd methods and paths


def codes_of(served: Served, requests: list[bytes]) -> dict[bytes, Told]:
    """Ask with every credential that there is, each on a connection of its own."""
    with served.home.client() as client:
        login = client.post("/login", data={"password": served.home.token()})
    cookie = login.headers["set-cookie"].partition(";")[0]
    credentials = f"Authorization: Bearer {served.home.token()}\r\nCookie: {cookie}\r\n".encode()
    head = HOST + credentials + b"Connection: close\r\n\r\n"
    lines = [line if b"\r\n" in line else line + b" HTTP/1.1\r\n" for line in requests]
    port = int(served.home.settings["PORT"])
    with ThreadPoolExecutor(16) as threads:
        return dict(zip(requests, threads.map(lambda line: tell(port, line + head), lines), strict=True))


METHODS = (
    "TRACE",
    "TRACK",
    "CONNECT",
    "PROPFIND",
    "DEBUG",
    "MKCOL",
    "COPY",
    "LOCK",
    "PATCH",
    "DELETE",
    "get",
    "X" * 3000,
)
PATHS = ("/", "/login", "/logout", "/api/tasks", "/api/tasks/x", "/callbacks/revid/x", "/static/page.css", "/healthz")


@pytest.mark.row("D12")
def test_odd_methods_do_nothing(served: Served) -> None:
    requests = [f"{method} {path}".encode() for method in METHODS for path in PATHS]
    override = b" HTTP/1.1\r\nX-HTTP-Method-Override: %s\r\nX-Method-Override: %s\r\nContent-Length: 0\r\n"
    requests += [b"POST /api/stats" + override % (b"GET", b"GET"), b"POST /healthz" + override % (b"HEAD", b"HEAD")]
    requests += [b"GET /api/poll" + override % (b"POST", b"POST"), b"GET /logout" + override % (b"POST", b"POST")]
    for request, answer in codes_of(served, requests).items():
        assert answer.codes in ([405], [400], [404]), request
        assert b"Bearer" not in answer.raw, request  # TRACE would give it back


ODD = [
    *("//", "///", "/./", "/.", "/..", "/../", "/../../etc/passwd", "/%2e%2e/", "/%2e%2e%2fetc/passwd", "/..;/", "/;"),
    *("/;jsessionid=1", "/login;x", "/login/", "/login%20", "/login%00", "/login%0a", "/login%2f", "/LOGIN"),
    *("//login", "/./login", "/x/../login", "/%2flogin", "/api//tasks", "/api/./tasks", "/api/tasks/", "/api/tasks;x"),
    *("/api/tasks/%00", "/api/tasks/..%2f..%2f", "/api/tasks/%2e%2e", "/api/tasks/x/../../stats"),
    *("/tasks/%00", "/tasks/%ff%fe", "/tasks/%ed%a0%80", "/tasks/..", "/tasks/x%2f..%2f", "/new/"),
    *("/static", "/static/", "/static/.", "/static/..", "/static/%2e%2e/pages.py", "/static/..%2fpages.py"),
    *("/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/%00", "/static/page.css%00.html"),
    *("/static/..%5cpages.py", "/static/%252e%252e/pages.py", "/static/\\\\host\\share", "/static/C:/x"),
    *("/callbacks/revid/", "/callbacks//x", "/callbacks/revid/x/y", "/healthz/", "/metrics/", "/openapi.json/"),
    *("/.env", "/.git/config", "/data/api_tokens", "/sandbox.db", "/server-status", "/admin", "/debug", "/docs"),
    *("/" + "a" * 16_384, "/static/" + "a" * 16_384, "/tasks/" + "a" * 16_384, "/api/tasks/" + "%61" * 5000),
    *("/" + "../" * 5000, "/" + "/" * 16_384, "/%", "/%zz", "/%u002e", "/#login", "/*"),
]  # fmt: skip


@pytest.mark.row("D12")
def test_odd_paths_lead_nowhere(served: Served, torture: Torture) -> None:
    requests = [f"{method} {path}".encode() for path in ODD for method in ("GET", "POST")]
    found = codes_of(served, requests)
    for request, answer in found.items():
        assert answer.codes in ([404], [405], [414], [400]), (request[:80], answer.codes)
        assert b"root:" not in answer.raw
    assert "Traceback" not in served.told()
    torture.figures(odd_paths=len(ODD), odd_methods=len(METHODS))


# --- who is asking


def guesses(home: Home, *clients: str) -> list[int]:
    """Guess a token, each time as another client says the header that proxies set."""
    with httpx.Client(base_url=home.url, timeout=HANG, trust_env=False) as client:
        return [
            client.post("/login", data={"password": "wrong"}, headers={"X-Forwarded-For": name}).status_code
            for name in clients
        ]


@pytest.mark.row("D10")
@pytest.mark.row("F8")
def test_a_client_is_who_the_socket_says_and_not_who_it_says_itself(tmp_path: Path) -> None:
    with serving(Home(tmp_path, dict(QUICK))) as served:
        clients = [f"192.0.2.{number}" for number in range(FAILURES + 3)]
        assert guesses(served.home, *clients) == [403] * FAILURES + [429] * 3
        with served.home.client() as client:
            assert client.get("/api/tasks").status_code == 200, "the API goes on"
            assert client.post("/callbacks/revid/x", content=b"{}").status_code == 404, "and so do callbacks"


@pytest.mark.row("D10")
@pytest.mark.row("F3")
def test_a_trusted_proxy_is_believed_also_on_a_socket_for_both_families(tmp_path: Path) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine knows no IPv6")
    home = Home(tmp_path, QUICK | {"HOST": "::", "RECEIVER_TRUSTED_PROXIES": "127.0.0.0/8"})
    with serving(home):
        assert guesses(home, *["192.0.2.1"] * FAILURES, "192.0.2.1", "192.0.2.2") == [403] * FAILURES + [429, 403]
        spoofed = [f"10.9.9.{number}, 192.0.2.1" for number in range(2)]
        assert guesses(home, *spoofed) == [429, 429], "what the client itself put before the proxy's word"
        with home.client() as client:
            secure = client.post("/login", data={"password": home.token()}, headers={"X-Forwarded-Proto": "https"})
            plain = client.post("/login", data={"password": home.token()})
        assert "__Host-receiver_session=" in secure.headers["set-cookie"]
        assert "Secure" in secure.headers["set-cookie"]
        assert "Secure" not in plain.headers["set-cookie"]
