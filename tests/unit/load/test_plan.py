"""What may be loaded, and with what."""

from __future__ import annotations

from typing import Any

import pytest

from segue.contracts.errors import InvalidInput
from segue.load.plan import Address, Plan, address_of

HERE = Address("127.0.0.1", 8080, False, "127.0.0.1:8080")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8080", HERE),
        ("http://127.0.0.1:8080/", HERE),
        ("http://localhost", Address("localhost", 80, False, "localhost")),
        ("https://127.9.9.9", Address("127.9.9.9", 443, True, "127.9.9.9")),
        ("http://[::1]:9", Address("::1", 9, False, "[::1]:9")),
    ],
)
def test_this_machine_may_be_loaded(url: str, address: Address) -> None:
    assert address_of(url, remote_allowed=False) == address


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.7:8080", "https://segue.example", "http://localhost.example", "http://127.0.0.1.example"],
)
def test_another_machine_must_be_meant(url: str) -> None:
    with pytest.raises(InvalidInput, match="--allow-remote"):
        address_of(url, remote_allowed=False)
    assert address_of(url, remote_allowed=True).host in url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8080",
        "ftp://127.0.0.1",
        "http://",
        "http://127.0.0.1:99999",
        "http://127.0.0.1/v1",
        "http://[::1",
    ],
)
def test_other_addresses_are_refused_with_an_example(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"http://127\.0\.0\.1:8080"):
        address_of(url, remote_allowed=True)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("rate", {"rate": 0}),
        ("duration", {"warm_up_s": 60}),
        ("duration", {"warm_up_s": -1}),
        ("processes", {"processes": 0}),
        ("connections", {"connections": 0}),
        ("connections", {"connections": 901}),
        ("connections", {"connections": 3, "processes": 4}),
        ("timeout", {"timeout_s": 0}),
        ("speed", {"speed": 0}),
        ("shape", {"shape": (1.0, 0.0)}),
        ("shape", {"shape": ()}),
        ("k", {"k": 0}),
        ("listeners", {"listeners": ()}),
    ],
)
def test_what_cannot_be_is_refused_by_name(field: str, changes: dict[str, Any]) -> None:
    good: dict[str, Any] = {"address": HERE, "listeners": (1,), "rate": 10.0, "duration_s": 60.0}
    Plan(**good)
    with pytest.raises(InvalidInput) as refused:
        Plan(**good | changes)
    assert refused.value.field == field
