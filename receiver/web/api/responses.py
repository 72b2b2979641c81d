"""How the API writes its answers."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from receiver.documents import to_json


def json_response(document: Mapping[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with a JSON document."""
    return Response(to_json(document).encode("ascii"), status, headers, media_type="application/json")
