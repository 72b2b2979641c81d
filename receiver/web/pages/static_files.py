"""Our own style sheet, script and icon, served from memory: they need no login, so they must cost next to nothing."""

import hashlib
import mimetypes
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class StaticFiles:
    """The files of one directory, as an ASGI application. Browsers cache them and revalidate them by ETag."""

    def __init__(self, directory: Path) -> None:
        """Read the files; they do not change while the service runs."""
        self._files = {file.name: _responses(file) for file in directory.iterdir() if file.is_file()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a file, or with 304 if the browser has it; raises `HTTPException`."""
        request = Request(scope)
        if request.method not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        name = scope["path"].removeprefix(f"{scope.get('root_path', '')}/")
        if name not in self._files:
            raise HTTPException(404)
        whole, unchanged = self._files[name]
        is_cached = whole.headers["etag"] in request.headers.get("if-none-match", "")
        await (unchanged if is_cached else whole)(scope, receive, send)


def _responses(file: Path) -> tuple[Response, Response]:
    content = file.read_bytes()
    headers = {
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return Response(content, 200, headers, media_type), Response(b"", 304, headers)
