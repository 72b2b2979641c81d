"""The HTTP side: callbacks (the hot path), the API, the pages. It reads requests and writes answers; decisions are
made below it."""
