"""Bank accounts, social security numbers and keys are found, look-alikes stay, and it is said where all were."""

import re
from pathlib import Path

import pytest
from document_sets import rows_of, run, texts_of, training
from hypothesis import given
from hypothesis import strategies as some

from tasks.filter import FilterConfig, filter_documents
from tasks.filter.accounts import IBAN
from tasks.filter.cards import CARD
from tasks.filter.edit import edit
from tasks.filter.redact import EMAIL, KINDS, PHONE, redact, redacted_spans
from tasks.filter.secrets import SECRET
from tasks.filter.ssn import SSN
from tasks.filter.stage import job_settings

HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("an DE89 3704 0044 0532 0130 00, bitte", f"an {IBAN}, bitte"),
        ("IBAN:GB82WEST12345698765432.", f"IBAN:{IBAN}."),
        ("FR1420041010050500013M02606", IBAN),
        ("账号NL91ABNA0417164300。", f"账号{IBAN}。"),
        ("SSN 219-09-9999 on file", f"SSN {SSN} on file"),
        ("social security number is 219099999", f"social security number is {SSN}"),
        ("my ssn: 219 09 9999;", f"my ssn: {SSN};"),
        (f'api_key = "{HASH}"', f'api_key = "{SECRET}"'),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtn9FEMI/K7MDENG/bPxRfiCY8K2mQ0zLp", f"AWS_SECRET_ACCESS_KEY={SECRET}"),
        ("Authorization: Bearer 8xLOxBtZp8aQ12wZr77sTq0P", f"Authorization: Bearer {SECRET}"),
        ('{"password": "c3RhY2s0NzExb3Zlcmc5"}', f'{{"password": "{SECRET}"}}'),
        ("<p> 93.184.216.34</p>", "<p> 192.0.2.1</p>"),
        ("ring +4930123456 or +6837012.", f"ring {PHONE} or {PHONE}."),
        ("+5511961698716 1998", f"{PHONE} 1998"),
    ],
)
def test_what_is_found_is_replaced(text: str, expected: str) -> None:
    assert redact(text, KINDS)[0] == expected
    assert redact(expected, KINDS)[0] == expected, "a second pass changes nothing"


@pytest.mark.parametrize(
    "text",
    [
        "DE88 3704 0044 0532 0130 00 and DE89 3704 0044 0532 0130 0",  # wrong check digits, too short
        "ZZ89370400440532013000 and XDE89370400440532013000 and DE893704004405320130009",  # no country, parts of more
        "000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000 219 09 9999 219099999",  # never given out; unnamed
        "2019-09-9999 and 219-09-99990 and 1-219-09-9999 and a219-09-9999",  # parts of more
        f"sha256 = {HASH} and commit {HASH[:40]}",  # digests
        "Version=4.0.0.0, PublicKeyToken=b77a5c561934e089 and public_key_token=b77a5c561934e089b77a5c561934e089",
        'token = "550e8400-e29b-41d4-a716-446655440000", password: "correct horse battery"',  # UUID, words
        "api_key = YOUR_API_KEY_GOES_HERE, secret_name = kubernetes.io/service-account-token",  # no key
        "ticks 638586236835683086 at 20220606101038",  # times
    ],
)
def test_look_alikes_stay(text: str) -> None:
    assert redact(text, KINDS)[0] == text


def test_digits_of_a_bank_account_are_no_card() -> None:
    assert redact("DE67 6553 5174 3881 7127 08", ("card",))[1] == {"card": 0}


@pytest.mark.parametrize("digit", range(22))
def test_one_wrong_character_makes_no_bank_account(digit: int) -> None:
    """97 is a prime: the check finds each single wrong digit."""
    number = "DE89370400440532013000"
    wrong = number[:digit] + ("7" if number[digit] != "7" else "8") + number[digit + 1 :]
    assert redact(wrong, ("iban",))[1] == {"iban": 0}


ITEMS = [
    "ada@uni-bonn.de",
    "219-09-9999",
    "4111 1111 1111 1111",
    "+49 30 1234567",
    "DE89370400440532013000",
    "8.8.84.85",
]


@given(some.lists(some.sampled_from([*ITEMS, "word", "@x", "é", "1", "+"]), max_size=9), some.booleans())
def test_spans_tell_what_was_replaced(words: list[str], stand_ins: bool) -> None:
    """What is between the spans is left, and nothing in the result is found again."""
    text = " ".join(words)
    redacted, found = redacted_spans(text, KINDS, stand_ins=stand_ins)
    between = [0, *(place for one in found for place in (one.start, one.end)), len(text)]
    left = [text[start:end] for start, end in zip(between[::2], between[1::2], strict=True)]
    assert between == sorted(between)
    assert re.fullmatch(".*".join(map(re.escape, left)), redacted, re.DOTALL)
    assert redacted_spans(redacted, KINDS, stand_ins=stand_ins) == (redacted, [])


def test_stand_ins_are_the_same_for_the_same_value_and_differ_for_others() -> None:
    text, other = "ada@firma.de wrote to bob@firma.de from 93.184.216.34", "bob@firma.de answered"
    first, _ = redacted_spans(text, KINDS, stand_ins=True)
    second, _ = redacted_spans(other, KINDS, stand_ins=True)
    ada, bob = re.findall(r"\S+@example\.com", first)
    assert ada != bob and second == f"{bob} answered" and "firma" not in first and "93.184" not in first


def test_spans_are_those_of_the_document_as_it_came_in() -> None:
    """Line rules and citation marks take text before redaction looks at it."""
    config = job_settings(FilterConfig(preset="c4"))
    lines = [
        *("", "", "Home page [12]", "", ""),
        "The whole report[3] is long, and it was written by ada@uni-bonn.de in May.",
        *("", "menu", "", "", ""),
        "It names the card[citation needed] 4111 1111 1111 1111, which nobody should know.",
        *("Please read our privacy policy, bob@uni-bonn.de.", "last"),
    ]
    text = "\n".join(lines)
    edited, done = edit(text, config)
    assert EMAIL in edited and CARD in edited and "menu" not in edited
    found = [(one.kind, text[one.start : one.end]) for one in done["redactions"]]
    assert found == [("email", "ada@uni-bonn.de"), ("card", "4111 1111 1111 1111")]
    assert (done["emails_redacted"], done["cards_redacted"], done["lines_removed"]) == (1, 1, 4)


def test_the_stage_says_of_each_document_where_what_was(home: Path) -> None:
    texts = ["Nothing is here to be seen.", "Pay to DE89370400440532013000, says ada@uni-bonn.de today."]
    artifact, summary = run(home, filter_documents, FilterConfig(), training(*texts))
    found = rows_of(artifact, "redactions")
    assert [(row["row"], row["kind"], texts[1][row["start"] : row["end"]]) for row in found] == [
        (1, "iban", "DE89370400440532013000"),
        (1, "email", "ada@uni-bonn.de"),
    ]
    assert {row["id"] for row in found} == {rows_of(artifact, "signals")[1]["id"]}
    assert (summary["ibans_redacted"], summary["emails_redacted"], summary["secrets_redacted"]) == (1, 1, 0)
    assert texts_of(artifact)[1] == f"Pay to {IBAN}, says {EMAIL} today."
    again, _ = run(home, filter_documents, FilterConfig(), training(*texts, "Pay to DE89370400440532013000."))
    assert [row["row"] for row in rows_of(again, "redactions")] == [1, 1, 2], "also where a shard is measured anew"
