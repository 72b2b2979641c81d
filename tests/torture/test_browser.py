"""A real browser opens pages that strangers have written on: nothing of that runs, and nothing of it is fetched."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from receiver.config.keys import with_generated_secrets
from receiver.config.settings import Settings
from receiver.core.links import Links
from receiver.providers import CONFIG_TYPES
from receiver.web.pages.login import link_token
from tests.cli.rig import QUICK, Home, Served, serving
from tests.measuring import HANG
from tests.torture.harness import Torture

SECONDS = 600
MARK = "document.documentElement.setAttribute('pwned',1)"
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=3000"]  # fmt: skip
pytestmark = [
    pytest.mark.row("F1"),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed"),
]


class Evil(BaseHTTPRequestHandler):
    """Somebody else's server, which notes what it is asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(MARK.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def evil() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Noting", (Evil,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def hostile(url: str) -> str:
    """Everything at once that runs or fetches where it is taken for markup."""
    return (
        f"\"'></title></textarea></pre></script><script>{MARK}</script><script src={url}/script></script>"
        f'<img src={url}/image onerror="{MARK}"><svg onload="{MARK}"><iframe src="{url}/frame"></iframe>'
        f"<link rel=stylesheet href={url}/style><video autoplay src={url}/video></video>"
        f"<object data={url}/object></object><base href={url}/base>"
    )


REFRESH = '<meta http-equiv=refresh content="0;url={}/refresh">'
"""Where it works, nothing of the page is left to look at."""


def opened(address: str, profile: Path) -> str:
    """Open an address with a browser that knows nothing; return the page as it then stands."""
    words = ["chromium", *QUIET, f"--user-data-dir={profile}", "--dump-dom", address]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603 - our page
    assert "<html" in ran.stdout, ran.stderr[-2000:]
    return ran.stdout


def told(served: Served, words: str) -> dict[str, str]:
    """Order tasks and call back as their provider, so that words stand wherever a stranger's can; returns paths."""
    home = served.home
    links = Links([(home.data / "secret_keys").read_text().strip()], home.url)
    paths = {}
    with home.client() as client:
        for name in ("fails", "succeeds"):
            order = {
                "provider": "revid",
                "model": "sora-2-text-to-video",
                "input": {"prompt": f"{words} [sandbox: callback=drop after=1000]"},
                "metadata": {words: words},
            }
            task = client.post("/api/tasks", json=order).json()
            data = {"taskId": task["remote_id"], "state": "fail", "failCode": words, "failMsg": words}
            if name == "succeeds":
                urls = '["javascript:document.documentElement.setAttribute(`pwned`,1)", "//evil.example/a.mp4"]'
                data = {"taskId": task["remote_id"], "state": "success", "resultJson": f'{{"resultUrls": {urls}}}'}
            body = {"code": 200, "msg": words, "data": {"model": words, "param": words, **data}}
            url = links.callback_url("revid", task["id"]) or ""
            assert httpx.post(url, json=body, timeout=HANG, trust_env=False).json() == {"outcome": "applied"}
            paths[name] = f"/tasks/{task['id']}"
    settings = with_generated_secrets(Settings.load(home.environ(), CONFIG_TYPES))
    return {
        name: f"{home.url}/login?token={link_token(links, settings)}&next={path}"
        for name, path in {**paths, "list": "/"}.items()
    }


def test_nothing_that_strangers_write_runs_in_a_browser(
    tmp_path: Path, evil: tuple[str, list[str]], torture: Torture
) -> None:
    if not torture.full:
        pytest.skip("only at full size: a browser takes its time")
    url, asked = evil
    control = tmp_path / "control.html"
    control.write_text(f"<!doctype html><title>{hostile(url)}</title>")
    assert "pwned" in opened(control.as_uri(), tmp_path / "control").partition("<head")[0], "this browser runs scripts"
    assert asked, "and fetches"
    asked.clear()
    with serving(Home(tmp_path, dict(QUICK))) as served:
        for name, address in told(served, hostile(url) + REFRESH.format(url)).items():
            page = opened(address, tmp_path / name)
            assert page.partition("<head")[0].count("pwned") == 0, name
            assert "&lt;script&gt;" in page, "it is there, as text"
            assert '<a class="name" href="/">Receiver</a>' in page, "and the page is whole"
    assert asked == []
