"""Where the service is, and the token: what both clients are made of."""

from typing import Any

import httpx

from receiver.client.steps import Request

TIMEOUT = 60.0
PATIENCE = 60.0


class Connection:
    """The service's address and the API token, and how requests are built from them."""

    def __init__(self, url: str, token: str, timeout: float) -> None:
        self.url = _require_url(url)
        self._token = _require_token(token)
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<{self.url}>"  # never the token

    def options(self) -> dict[str, Any]:
        """Return how the HTTP client is made.

        No connection is kept: a service closes one when it likes, and then it is unknown whether a request arrived.
        """
        return {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {self._token}"},
            "timeout": self._timeout,
            "verify": self.url.scheme == "https",  # loading certificates takes 20 ms, and plain http needs none
            "limits": httpx.Limits(max_keepalive_connections=0),
        }

    def arguments(self, request: Request) -> dict[str, Any]:
        """Return a request as the arguments of `build_request`."""
        silence = self._timeout if request.silence is None else request.silence
        return {
            "method": request.method,
            "url": request.path,
            "params": list(request.params) or None,
            "json": request.body,
            "headers": dict(request.headers),
            "timeout": httpx.Timeout(self._timeout, read=silence),
        }


def _require_url(url: str) -> httpx.URL:
    example = "must be the service's URL, such as http://127.0.0.1:8000"
    try:
        found = httpx.URL(url.strip().rstrip("/"))
    except httpx.InvalidURL as error:
        raise ValueError(f"url: {example}") from error
    if found.scheme not in ("http", "https") or not found.host or found.query or found.fragment or found.userinfo:
        raise ValueError(f"url: {example}")
    return found


def _require_token(token: str) -> str:
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ValueError("token: must be an API token; `receiver token` prints it")
    return token
