"""Runs the proxies with the files of `deploy/`; only addresses, ports, certificates and log paths are replaced."""

import contextlib
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.measuring import FRESH, HANG, wait_for

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOMAIN = "hooks.example.com"
"""The domain in the files, and in the tests' certificate."""


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for `DOMAIN`."""

    file: Path
    key: Path

    @classmethod
    def make(cls, directory: Path) -> "Certificate":
        made = cls(directory / "certificate.pem", directory / "key.pem")
        words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
        names = ["-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN}"]
        command = [*words.split(), *names, "-keyout", str(made.key), "-out", str(made.file)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - a fixed command
        return made


@dataclass(frozen=True)
class Proxy:
    """A running proxy: its ports for TLS and for plain HTTP, and its log."""

    port: int
    plain_port: int
    log: Path
    certificate: Certificate

    def post(self, path: str, content: bytes, *, sender: str = "127.0.0.1", **headers: str) -> httpx.Response:
        """Send a request for `DOMAIN` from a loopback address."""
        with self._client(sender) as client:
            return client.post(path, content=content, headers=headers, extensions={"sni_hostname": DOMAIN})

    def get(self, path: str) -> httpx.Response:
        with self._client("127.0.0.1") as client:
            return client.get(path, extensions={"sni_hostname": DOMAIN})

    def _client(self, sender: str) -> httpx.Client:
        transport = httpx.HTTPTransport(
            verify=ssl.create_default_context(cafile=self.certificate.file),
            local_address=sender,
            limits=FRESH,
            trust_env=False,
        )
        address = f"https://127.0.0.1:{self.port}"
        return httpx.Client(base_url=address, headers={"Host": DOMAIN}, transport=transport, timeout=HANG)


def free_ports(number: int) -> list[int]:
    """Return ports on which nothing listens."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """Replace parts of a text, each of which must occur in it."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def nginx(place: Path, upstream: int, certificate: Certificate) -> Iterator[Proxy]:
    """Run nginx with `deploy/nginx/receiver.conf` as Debian's nginx.conf includes it."""
    port, plain = free_ports(2)
    site = replaced(
        (DEPLOY / "nginx" / "receiver.conf").read_text(),
        {
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl;\n": "",
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "http://127.0.0.1:8000;": f"http://127.0.0.1:{upstream};",
            f"/etc/letsencrypt/live/{DOMAIN}/fullchain.pem": str(certificate.file),
            f"/etc/letsencrypt/live/{DOMAIN}/privkey.pem": str(certificate.key),
            "/var/log/nginx/receiver.log": str(place / "access.log"),
        },
    )
    (place / "receiver.conf").write_text(site)
    temporary = " ".join(f"{kind}_temp_path {place}/{kind};" for kind in TEMPORARY)
    user = "user root; " if os.getuid() == 0 else ""  # so that its workers may write into the test's directory
    process = f"{user}daemon off; pid {place}/pid; worker_processes 1; events {{}}"
    (place / "nginx.conf").write_text(f"{process}\nhttp {{ {temporary} include receiver.conf; }}")
    command = ["nginx", "-p", str(place), "-c", str(place / "nginx.conf"), "-e", str(place / "error.log")]
    with _running(command, place / "error.log", port):
        yield Proxy(port, plain, place / "access.log", certificate)


TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextlib.contextmanager
def caddy(place: Path, upstream: int, certificate: Certificate) -> Iterator[Proxy]:
    """Run Caddy with `deploy/caddy/Caddyfile`."""
    port, plain = free_ports(2)
    site = replaced(
        (DEPLOY / "caddy" / "Caddyfile").read_text(),
        {
            "\n{\n": f"\n{{\n\tadmin off\n\thttp_port {plain}\n\thttps_port {port}\n\tdefault_bind 127.0.0.1\n",
            "\treverse_proxy": f"\ttls {certificate.file} {certificate.key}\n\treverse_proxy",
        },
    )
    (place / "Caddyfile").write_text(site)
    environ = {"DOMAIN": DOMAIN, "UPSTREAM": f"127.0.0.1:{upstream}", "HOME": str(place), "XDG_DATA_HOME": str(place)}
    command = ["caddy", "run", "--config", str(place / "Caddyfile"), "--adapter", "caddyfile"]
    with _running(command, place / "log", port, environ):
        yield Proxy(port, plain, place / "log", certificate)


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path, port: int, environ: Mapping[str, str] | None = None) -> Iterator[None]:
    """Run a proxy; it accepts connections when this yields."""
    with log.open("a") as told:
        process = subprocess.Popen(command, stdout=told, stderr=told, env={**os.environ, **(environ or {})})  # noqa: S603 - our own configuration

    def listens() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), HANG):
            return True
        return False

    try:
        wait_for(listens)
        yield
    finally:
        process.terminate()
        process.wait()
