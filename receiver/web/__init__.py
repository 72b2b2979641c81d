"""The HTTP side: callbacks (the hot path), the API, the pages. It reads requests and writes responses; the layers
below decide."""
