"""A real proxy before the service: nginx, with a configuration of our own, on a free port."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.measuring import HANG, wait_for

CONFIGURATION = """
daemon off; pid {place}/pid; error_log {place}/error.log; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {place}/b; proxy_temp_path {place}/p;
  fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s; client_header_timeout 10s;
  client_body_timeout 10s; keepalive_timeout 5s;
  upstream receiver {{ server 127.0.0.1:{upstream}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port};
    {rules}
    location / {{ proxy_pass http://receiver; proxy_http_version 1.1; proxy_set_header Connection "";
                  proxy_set_header Host $http_host; proxy_request_buffering off; }}
  }}
}}
"""
needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


@contextlib.contextmanager
def nginx(place: Path, upstream: int, rules: str = "") -> Iterator[int]:
    """Run nginx before a port of this machine, with more rules; gives its own port."""
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        port = int(probing.getsockname()[1])
    place.mkdir()
    file = place / "nginx.conf"
    file.write_text(CONFIGURATION.format(place=place, upstream=upstream, port=port, rules=rules))
    words = ["nginx", "-p", str(place), "-c", str(file), "-e", str(place / "error.log")]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)  # noqa: S603 - our own configuration
    try:
        wait_for(lambda: _answers(port))
        yield port
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=HANG, trust_env=False).status_code == 200
    return False
