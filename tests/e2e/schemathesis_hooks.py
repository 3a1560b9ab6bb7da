"""What schemathesis must be told about our media types."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(ctx: Any, value: Any) -> bytes:
    """Lines of events are described as text, and are sent as they are."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else repr(value).encode()
