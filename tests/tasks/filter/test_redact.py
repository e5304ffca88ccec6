"""Personal data goes, look-alikes stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.filter.accounts import IBAN
from tasks.filter.cards import CARD
from tasks.filter.presets import ALL_PII
from tasks.filter.redact import EMAIL, IPV4, IPV6, KINDS, PHONE, redact, redacted_spans
from tasks.filter.secrets import SECRET
from tasks.filter.ssn import SSN

ADDRESSES = ("email", "phone", "ip")

PIECES = [
    "a@b.co",
    "x",
    "@",
    ".",
    "+49 30 1234567",
    "212-555-0199",
    "8.8.84.85",
    "2600::1",
    " ",
    "\n",
    "1",
    "é",
    "v",
    "电",
    "ครับ",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail jane.doe+x@mail.uni-bonn.de, now", f"mail {EMAIL}, now"),
        ("<jörg@exämple-firma.de>", f"<{EMAIL}>"),
        ("a@b.org,c@d.org", f"{EMAIL},{EMAIL}"),
        ("Write to bob@corp.io.", f"Write to {EMAIL}."),
        ("call (212) 555-7890 today", f"call {PHONE} today"),
        ("call 1-212-555-7890.", f"call {PHONE}."),
        ("+49 (0)30 1234-5678", PHONE),
        ("+442071838750", PHONE),
        ("tel. +1\u00a0212\u2011555\u20117890", f"tel. {PHONE}"),
        ("from 93.184.216.34 and [151.101.1.69]:80", f"from {IPV4} and [{IPV4}]:80"),
        ("http://93.184.216.34/x", f"http://{IPV4}/x"),
        ("ping 2a00:1450:4001:81b::200e", f"ping {IPV6}"),
    ],
)
def test_redacted(text: str, expected: str) -> None:
    assert redact(text, ALL_PII)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "@property def f(self) -> a @ b",  # no address
        "x@y and user@localhost and me@example.com",  # no domain; reserved ones
        "version 10.123.45.678 and v93.184.216.34 and lib==93.184.216.34",  # versions
        "Chrome/93.184.216.34 and 1.2.3.4.5 and section 3.1.1.6",  # user agent, longer chain, section
        "127.0.0.1 10.200.30.40 192.168.100.200 203.0.113.77 255.255.255.0",  # nobody's
        "93.184.216.034 and 300.184.216.34 and ٩٣.184.216.34",  # not valid, not ASCII
        "a[::2], std::dead::beef, 12:34:56, 00:1b:63:84:45:e6, 2001:db8::1000",  # no public IPv6
        "2020-01-31 10:20:30, ISBN 978-3-16-148410-0, 3.14159265358979",  # dates, ISBN, decimals
        "+12.07938445 and x+2147483647 and 1e+10 and 4111111111111111",  # numbers with signs
        "555-0100 and 123-456-7890 and 2125557890",  # no area code starts with 1; plain digits
    ],
)
def test_left_alone(text: str) -> None:
    assert redact(text, ADDRESSES) == (text, dict.fromkeys(ADDRESSES, 0))


ITEMS = {"ada.holm@gmail.com": EMAIL, "+49 30 901820": PHONE, "84.112.33.204": IPV4, "2a02:8108::1d3a:2c05": IPV6}
ITEMS |= {"4556 7375 8689 9855": CARD, "DE89370400440532013000": IBAN, "219-09-9998": SSN, f"ghp_{'a1B2' * 9}": SECRET}


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize(
    "written", ["号码是{}谢谢", "連絡先は{}です", "ติดต่อ{}ครับ", "번호는 {}입니다", "पता {}है", "是{}，{}。"]
)
def test_what_touches_letters_that_no_space_parts_goes_and_is_said_where(item: str, written: str) -> None:
    text = written.replace("{}", item)
    redacted, found = redacted_spans(text, KINDS)
    assert redacted == written.replace("{}", ITEMS[item])
    assert [text[one.start : one.end] for one in found] == [item] * written.count("{}")


NAMED = {"SSN:219-09-9998": SSN, "?ssn=219-09-9998&x=1": SSN, "client_ip=84.112.33.204": IPV4}
NAMED |= {"from <84.112.33.204>": IPV4, "IP:2a02:8108::1d3a:2c05": IPV6, "card_no=4556737586899855": CARD}


@pytest.mark.parametrize("text", NAMED)
def test_what_a_word_and_a_sign_name_goes(text: str) -> None:
    assert NAMED[text] in redact(text, KINDS)[0]


@pytest.mark.parametrize(
    "text",
    [
        *("12:219-09-9998", "?id=219-09-9998", "lib=84.112.33.204", "lib<84.112.33.204", "?id=4556737586899855"),
        *("00:2a:2a02:8108:8ac0:2f00:1d3a:2c05", "https://a.org/?v=84.112.33.204"),
    ],
)
def test_what_only_a_sign_is_before_stays(text: str) -> None:
    assert redact(text, KINDS)[0] == text


def test_years_in_any_script_are_no_telephone_number() -> None:
    for text in ("家具与欧洲1600-1800新画廊", "in den Jahren 1950-1990", "from 1914 1918 on"):
        assert redact(text, ALL_PII, ("CN", "TW", "DE", "AT"))[0] == text


def test_only_what_is_asked_for_is_replaced_and_counted() -> None:
    text = "a@b.org 93.184.216.34 (212) 555-7890 c@d.org"
    assert redact(text, ("email",)) == (f"{EMAIL} 93.184.216.34 (212) 555-7890 {EMAIL}", {"email": 2})
    assert redact(text, ALL_PII)[1] == dict.fromkeys(ALL_PII, 0) | {"email": 2, "phone": 1, "ip": 1}
    assert redact(text, ()) == (text, {})


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_a_second_pass_changes_nothing(text: str) -> None:
    once, _ = redact(text, ALL_PII)
    assert redact(once, ALL_PII) == (once, dict.fromkeys(ALL_PII, 0))


@pytest.mark.parametrize(
    "text", ["a" * 200_000, "a." * 100_000, "@" * 200_000, "@a." * 60_000, "1-" * 100_000, "+1 " * 60_000]
)
def test_hostile_text_costs_linear_time(text: str) -> None:
    redact(text, ALL_PII)  # a quadratic pattern would need minutes
