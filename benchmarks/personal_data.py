"""How much of planted personal data is found: `python -m benchmarks.personal_data --clean FILE... [--seed 0]`.

Items of each kind, made by a seed, are planted between words of the clean files' texts, as people write them, beside
look-alikes (wrong check digits, private addresses, versions, digests, sizes). An item counts as found where a span of
its kind covers it; a span of a kind is right where it meets an item of that kind. False alarms: spans a megabyte in the
files as they are, which may hold real ones: `--show` prints them. Each FILE is .jsonl.zst with `text`.
"""

import argparse
import itertools
import random
import re
import string
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import phonenumbers

from benchmarks.filter_keeps import documents
from tasks.filter.accounts import _LENGTHS
from tasks.filter.cards import _check_sum as luhn
from tasks.filter.phones import BY_LANGUAGE, TRUNK_ZERO, countries_of
from tasks.filter.redact import KINDS, redacted_spans

ITEMS = 1000  # of each kind
PIECE = 1000  # characters of clean text around each
NAMES = ("ada", "grace", "alan", "linus", "margaret", "edsger", "ken", "donald", "john", "jörg", "zoë", "li", "nguyen")
HOSTS = ("gmail.com", "uni-bonn.de", "mail.corp.co.uk", "proton.me", "yahoo.co.jp", "exämple-firma.de", "ya.ru")
TOUCHING = (("我的是", "谢谢 "), ("ติดต่อ", "ครับ "))  # before and behind an item that no space parts from them
TOUCHING_SHARE = 0.2
FORMS = phonenumbers.PhoneNumberFormat


def email(rng: random.Random) -> str:
    first, last = rng.sample(NAMES, 2)
    local = rng.choice(
        [f"{first}.{last}", f"{first[0]}{last}", f"{first}_{last}{rng.randrange(99)}", f"{first}+{last}"]
    )
    return f"{local}@{rng.choice(HOSTS)}"


def number_of(rng: random.Random, region: str) -> phonenumbers.PhoneNumber:
    """A valid number of a country, its last six digits drawn."""
    kind = rng.choice([phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE])
    example = phonenumbers.example_number_for_type(region, kind) or phonenumbers.example_number(region)
    assert example is not None
    for _ in range(200):
        drawn = str(example.national_number)[:-6] + f"{rng.randrange(10**6):06}"
        number = phonenumbers.PhoneNumber(example.country_code, int(drawn))
        if phonenumbers.is_valid_number(number):
            return number
    return example


def phone(rng: random.Random, language: str) -> str:
    """International of any country, North American, or national of a country that the text's language makes likely."""
    form = rng.randrange(4)
    if form == 0:
        return phonenumbers.format_number(
            number_of(rng, rng.choice(sorted(phonenumbers.SUPPORTED_REGIONS))), FORMS.E164
        )
    if form == 1:
        region = rng.choice([*TRUNK_ZERO, "US", "ES", "PL", "PT", "RU", "BR"])
        return phonenumbers.format_number(number_of(rng, region), FORMS.INTERNATIONAL)
    if form == 2:
        area, middle = rng.randrange(201, 990), rng.randrange(201, 999)
        written = rng.choice(["({}) {}-{:04}", "{}-{}-{:04}", "1-{}-{}-{:04}"])
        return written.format(area, middle, rng.randrange(1, 10_000, 2))
    region = rng.choice(countries_of(language))
    return phonenumbers.format_number(number_of(rng, region), FORMS.NATIONAL)


def ip(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return "2a00:1450:" + ":".join(f"{rng.randrange(1, 65536):x}" for _ in range(6))
    return ".".join(map(str, (rng.choice([8, 23, 52, 93, 151, 185, 212]), *(rng.randrange(10, 250) for _ in range(3)))))


def card(rng: random.Random, wrong: bool = False) -> str:
    start, length = rng.choice([("4", 16), ("51", 16), ("2221", 16), ("34", 15), ("6011", 16), ("3530", 16)])
    digits = [int(digit) for digit in start] + [rng.randrange(10) for _ in range(length - len(start) - 1)] + [0]
    digits[-1] = -luhn(digits) % 10
    if wrong:
        digits[-1] = (digits[-1] + rng.randrange(1, 10)) % 10
    text, separator = "".join(map(str, digits)), rng.choice(["", " ", "-"])
    cuts = (0, 4, 10, 15) if length == 15 else (0, 4, 8, 12, 16)
    return separator.join(text[a:b] for a, b in itertools.pairwise(cuts))


def iban(rng: random.Random, wrong: bool = False) -> str:
    country = rng.choice(sorted(_LENGTHS))
    account = "".join(rng.choice(string.digits) for _ in range(_LENGTHS[country] - 4))
    if country in ("GB", "NL", "IE"):
        account = "".join(rng.choice(string.ascii_uppercase) for _ in range(4)) + account[4:]
    check = 98 - int("".join(str(int(letter, 36)) for letter in f"{account}{country}00")) % 97
    whole = f"{country}{(check + wrong * rng.randrange(1, 90)) % 100:02}{account}"
    return " ".join(whole[at : at + 4] for at in range(0, len(whole), 4)) if rng.random() < 0.5 else whole


def ssn(rng: random.Random) -> str:
    area = rng.choice([rng.randrange(1, 666), rng.randrange(667, 900)])
    group, serial = rng.randrange(1, 100), rng.randrange(1, 10_000)
    written = rng.choice(["{:03}-{:02}-{:04}", "{:03}-{:02}-{:04}", "SSN: {:03} {:02} {:04}", "SSN {:03}{:02}{:04}"])
    return written.format(area, group, serial)


def secret(rng: random.Random) -> str:
    def drawn(letters: str, count: int) -> str:
        return "".join(rng.choice(letters) for _ in range(count))

    words, hexadecimal = string.ascii_letters + string.digits, "0123456789abcdef"
    capitals = string.ascii_uppercase + string.digits
    named = ('api_key = "{}"', "secret: {}", "AUTH_TOKEN={}", '"password": "{}"', "Authorization: Bearer {}")
    forms = (
        lambda: f"AKIA{drawn(capitals, 16)}",
        lambda: f"ghp_{drawn(words, 36)}",
        lambda: f"sk-{drawn(words, 48)}",
        lambda: f"sk-ant-api03-{drawn(words, 80)}",
        lambda: f"xoxb-{drawn(string.digits, 12)}-{drawn(string.digits, 12)}-{drawn(words, 24)}",
        lambda: f"AIza{drawn(words, 35)}",
        lambda: f"hf_{drawn(string.ascii_letters, 34)}",
        lambda: f"sk_live_{drawn(words, 24)}",
        lambda: f"eyJ{drawn(words, 30)}.eyJ{drawn(words, 60)}.{drawn(words, 43)}",
        lambda: f"SG.{drawn(words, 22)}.{drawn(words, 43)}",
        lambda: rng.choice(named).format(drawn(words, rng.randrange(24, 64))),
        lambda: rng.choice(named).format(drawn(hexadecimal, rng.choice([32, 40, 64]))),
    )
    return rng.choice(forms)()


def look_alike(rng: random.Random) -> str:
    """What no kind is."""
    hexadecimal = f"{rng.getrandbits(160):040x}"
    forms: tuple[Callable[[], str], ...] = (
        lambda: card(rng, wrong=True),
        lambda: iban(rng, wrong=True),
        lambda: f"192.168.{rng.randrange(256)}.{rng.randrange(256)}",
        lambda: (
            f"version {rng.randrange(99)}.{rng.randrange(10, 99)}.{rng.randrange(10, 99)}.{rng.randrange(100, 255)}"
        ),
        lambda: f"commit {hexadecimal}",
        lambda: f"sha1={hexadecimal}",
        lambda: (
            f"{hexadecimal[:8]}-{hexadecimal[8:12]}-4{hexadecimal[13:16]}-8{hexadecimal[17:20]}-{hexadecimal[20:32]}"
        ),
        lambda: f"{rng.randrange(1900, 2030)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
        lambda: f"000-{rng.randrange(10, 99)}-{rng.randrange(1000, 9999)}",
        lambda: f"978-{rng.randrange(10)}-{rng.randrange(10, 99)}-{rng.randrange(100000, 999999)}-{rng.randrange(10)}",
        lambda: f"{rng.randrange(10**6):,} of {rng.randrange(10**9):,}",
        lambda: f"@decorator{rng.randrange(9)} git@github.com:team/repository.git user@localhost",
        lambda: 'api_key = "YOUR_API_KEY_GOES_HERE"',
        lambda: f"PublicKeyToken={hexadecimal[:16]}",
    )
    return rng.choice(forms)()


def planted(rng: random.Random, text: str, kind: str, language: str) -> tuple[str, tuple[int, int]]:
    """The text with an item of the kind and a look-alike between its words, and the item's span."""
    makers = {"email": email, "ip": ip, "card": card, "iban": iban, "ssn": ssn, "secret": secret}
    item = phone(rng, language) if kind == "phone" else makers[kind](rng)
    before, between, after = (" ".join(part) for part in thirds(rng, text.split()))
    other, here = look_alike(rng), rng.choice(["", "", "(", "Write or call: "])
    end = rng.choice([" ", ", ", ". ", ") " if here == "(" else " "])
    if rng.random() < TOUCHING_SHARE:
        here, end = rng.choice(TOUCHING)
    start = len(f"{before} {here}")
    return f"{before} {here}{item}{end}{between} {other} {after}", (start, start + len(item))


def thirds(rng: random.Random, words: list[str]) -> tuple[list[str], list[str], list[str]]:
    first, second = sorted(rng.sample(range(1, len(words)), 2))
    return words[:first], words[first:second], words[second:]


def measure(kind: str, pieces: list[str], seed: int, show: bool) -> tuple[int, Counter[str]]:
    """How many of ITEMS are found; spans found by kind and rightness."""
    rng, found_items, spans = random.Random(f"{seed} {kind}"), 0, Counter[str]()
    for _ in range(ITEMS):
        language = rng.choice(sorted(BY_LANGUAGE))
        text, (start, end) = planted(rng, rng.choice(pieces), kind, language)
        _, found = redacted_spans(text, KINDS, countries_of(language))
        value = text[start:end]
        # Of `api_key = "..."` and `SSN: ...` the value alone is the item; of all others all of it.
        named = re.match(r"""["\w]+["]?[ :=]+(?:Bearer )?"?(?=\S{20})|SSN:? """, value)
        inner = start + (named.end() if named else 0)
        hit = any(one.kind == kind and one.start <= inner and one.end >= end - 1 for one in found)
        if not hit and show:
            print(f"missed {kind}: {text[max(0, start - 20) : end + 10]!r} {found}")
        found_items += hit
        for one in found:
            right = one.kind == kind and one.start < end and one.end > start
            spans[f"{one.kind} {'right' if right else 'wrong'}"] += 1
            if not right and show:
                print(f"wrong {one.kind}: {text[max(0, one.start - 20) : one.end + 10]!r}")
    return found_items, spans


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clean", nargs="+", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    texts = [text for path in options.clean for text, _ in documents(path)]
    size = sum(len(text.encode()) for text in texts) / 1e6
    pieces = [text[at : at + PIECE] for text in texts for at in range(0, len(text) - PIECE, 20 * PIECE)]
    started, alarms = time.process_time(), Counter[str]()
    for text in texts:
        for one in redacted_spans(text, KINDS, countries_of("en"))[1]:
            alarms[one.kind] += 1
            if options.show:
                print(f"clean {one.kind}: {text[max(0, one.start - 30) : one.end + 15]!r}")
    seconds = time.process_time() - started
    clean = [
        piece for piece in pieces if not redacted_spans(piece, KINDS, countries_of("en"))[1] and len(piece.split()) > 9
    ]
    found, spans = {}, Counter[str]()
    for kind in KINDS:
        found[kind], more = measure(kind, clean, options.seed, options.show)
        spans += more
    print(f"{len(texts):,} texts, {size:.1f} MB, {size / seconds:.1f} MB a CPU-second; {ITEMS:,} items of each kind\n")
    print("| kind | recall | precision | false alarms a MB |\n|---|---|---|---|")
    for kind in KINDS:
        right, wrong = spans[f"{kind} right"], spans[f"{kind} wrong"]
        print(
            f"| {kind} | {found[kind] / ITEMS:.3f} | {right / max(1, right + wrong):.3f} | {alarms[kind] / size:.2f} |"
        )


if __name__ == "__main__":
    main()
