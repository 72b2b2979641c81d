"""Fetches the operator's heartbeat URL, with which a dead man's switch notices when nobody sweeps any more.

`tasks.poller` calls it after a sweep. It never raises and never logs the URL, which is a secret.
"""

import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
import structlog

from receiver.outbound.active_timeout import active_timeout
from receiver.outbound.client import FAILURES, USER_AGENT, default_tls
from receiver.outbound.connecting import Network
from receiver.outbound.transport import Transport

log = structlog.get_logger()

FETCH_SECONDS = 10.0


class HeartbeatURL:
    """One URL that is fetched now and then. Only a change of what comes of it is logged."""

    def __init__(self, url: str, network: Network | None = None, trusted: ssl.SSLContext | None = None) -> None:
        self._url = url
        self._network = network or Network()
        self._trusted = trusted
        self._problem: str | None = None

    async def fetch(self) -> None:
        """Send one GET and read nothing but the status, within ten seconds."""
        try:
            async with active_timeout(FETCH_SECONDS):
                status = await self._get()
        except FAILURES as error:
            problem: str | None = f"no answer: {type(error).__name__}"
        else:
            problem = None if 200 <= status < 300 else f"it answered {status}"
        if problem != self._problem:
            if problem is None:
                log.info("heartbeat_url_answers")
            else:
                log.warning("heartbeat_url_failed", reason=problem, remedy="check RECEIVER_HEARTBEAT_URL")
        self._problem = problem

    async def _get(self) -> int:
        client = httpx.AsyncClient(
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(None, connect=FETCH_SECONDS / 2),
            transport=Transport(self._network, self._trusted or default_tls(), max_idle=0),
            follow_redirects=False,
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        async with client, client.stream("GET", self._url) as response:
            return response.status_code
