"""What scanners that others wrote find at the real service, from within a session: nothing."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.rig import QUICK, Home, Served, serving
from tests.measuring import HANG
from tests.torture.front import needs_nginx, nginx
from tests.torture.harness import Torture

MODULES = (
    "backup,blindsql,cookieflags,crlf,csp,csrf,exec,file,htaccess,http_headers,methods,permanentxss,redirect,sql,xss"
)
"""Those that speak to nobody else."""
EXPLAINED = {
    # It is the proxy's to say, which terminates TLS; the rest of that kind are set.
    ("HTTP Secure Headers", "Strict-Transport-Security is not set"),
    # Over plain http on this machine a cookie cannot be Secure; behind TLS it is (row F3).
    ("Secure Flag cookie", "Secure flag is not set in the cookie : receiver_session"),
    # Superseded by the content security policy, and harmful in the browsers that knew it.
    ("HTTP Secure Headers", "X-XSS-Protection is not set"),
    # `frame-ancestors` in the policy says the same to every browser of the last ten years.
    ("HTTP Secure Headers", "X-Frame-Options is not set"),
}
QUERY = "?q=boat&provider=revid&model=sora&since=2026-01-01T00:00&until=2027-01-01T00:00&state=queued"
SECONDS = 1200
pytestmark = pytest.mark.row("F7")


@pytest.fixture
def scanned(tmp_path: Path, torture: Torture) -> Iterator[tuple[Served, str]]:
    """A service with a few tasks, and the cookie of a session."""
    if not torture.full:
        pytest.skip("only at full size: a scan takes minutes")
    with serving(Home(tmp_path, dict(QUICK))) as served, served.home.client() as client:
        for prompt in ("a boat", "a train [sandbox: result=fail]", "a bus [sandbox: submit=mute]"):
            order = {"provider": "revid", "model": "sora-2-text-to-video", "input": {"prompt": prompt}}
            client.post("/api/tasks", json=order)
        with httpx.Client(base_url=served.home.url, timeout=HANG, trust_env=False) as browser:
            entered = browser.post("/login", data={"password": served.home.token()})
        yield served, entered.headers["set-cookie"].partition(";")[0]


@needs_nginx
@pytest.mark.skipif(shutil.which("wapiti") is None, reason="wapiti is not installed")
def test_wapiti_finds_nothing(scanned: tuple[Served, str], tmp_path: Path, torture: Torture) -> None:
    served, cookie = scanned
    report = tmp_path / "report.json"
    # It sends every form, and its option to leave one out fails on this Python: so nginx keeps it from logging out.
    stay = "location = /logout { return 403; }"
    with nginx(tmp_path / "nginx", int(served.home.settings["PORT"]), stay) as port:
        words = ["wapiti", "-u", f"http://127.0.0.1:{port}/", "-m", MODULES, "--scope", "folder", "-f", "json"]
        words += ["-o", str(report), "-H", f"Cookie: {cookie}", "--store-session", str(tmp_path), "--flush-session"]
        words += ["--store-config", str(tmp_path), "--max-scan-time", "300", "--max-attack-time", "60", "-d", "3"]
        words += ["--no-bugreport", "-v", "0"]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603 - loopback
    assert report.exists(), ran.stdout[-3000:] + ran.stderr[-3000:]
    told = json.loads(report.read_text())
    found = {
        (kind, each["info"].strip())
        for part in ("vulnerabilities", "anomalies")
        for kind, findings in told[part].items()
        for each in findings
        if each["path"] != "/logout"  # where nginx refuses it, with a right token and a wrong one
    }
    torture.figures(wapiti_pages=told["infos"].get("crawled_pages_nbr", 0), wapiti_findings=len(found - EXPLAINED))
    assert found - EXPLAINED == set()
    assert "Traceback" not in served.told()


@pytest.mark.skipif(shutil.which("sqlmap") is None, reason="sqlmap is not installed")
def test_sqlmap_injects_nothing(scanned: tuple[Served, str], tmp_path: Path, torture: Torture) -> None:
    served, cookie = scanned
    words = ["sqlmap", "-u", f"{served.home.url}/{QUERY}", f"--cookie={cookie}", "--batch", "--disable-coloring"]
    words += ["--flush-session", f"--output-dir={tmp_path}", "--dbms=SQLite", "--technique=BEUS", "--threads=2"]
    words += ["--level=1", "--risk=2", "-p", "q,provider,model,since,until,state", "--drop-set-cookie"]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603 - loopback
    assert "redirect" not in ran.stdout, "it came in"
    assert "all tested parameters do not appear to be injectable" in ran.stdout, ran.stdout[-3000:]
    assert "Traceback" not in served.told()
    torture.figures(sqlmap_parameters=6)
