"""Which addresses are public, and which sources of pages are refused with the recipe."""

from typing import Any

import pytest
from pydantic import ValidationError

from tasks.fetch.addresses import is_public, literal_address
from tasks.fetch.config import CrawlSource


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::", True),
        ("10.0.0.1", False),
        ("172.16.3.4", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    found = literal_address(address)
    assert found is not None and is_public(found) is public


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "no start"),
        ({"urls": ("http://127.0.0.1:1/",)}, "allow_private"),
        ({"urls": ("ftp://example.org/",)}, "urls"),
        ({"urls": ("https://user:word@example.org/",)}, "no passwords"),
        ({"urls": ("https://example.org/",), "include": ("docs",)}, "include"),
    ],
)
def test_a_source_that_cannot_be_meant_is_refused_with_the_recipe(settings: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CrawlSource(**settings)
