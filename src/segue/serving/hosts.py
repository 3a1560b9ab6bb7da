"""Which names callers may use for this server, as they stand in the Host header.

A page from anywhere can make its own name point to 127.0.0.1 (DNS rebinding) and then read, with the browser's blessing,
what a server there answers: here that is anybody's history. The browser does say the page's name in the Host header, so a
server on a loopback address answers only to the names of that address and to those its settings add.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from segue.settings.tree import Serving

LOCAL: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


def allowed_hosts(serving: Serving) -> frozenset[str] | None:
    """The names that are answered, in small letters and without a port; None: any."""
    if not serving.allowed_hosts and not _is_loopback(serving.host):
        return None
    own = f"[{serving.host}]" if ":" in serving.host else serving.host
    return LOCAL | {name.lower() for name in (own, *serving.allowed_hosts)}


def name_of(host: bytes) -> str:
    """The name in a Host header: without the port, in small letters."""
    text = host.decode("latin-1").lower()
    end = text.find("]") + 1 if text.startswith("[") else text.find(":")
    return text[:end] if end > 0 else text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
