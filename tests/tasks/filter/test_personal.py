"""What people type without what names or costs them: secrets whole, and numbers and addresses in every script."""

import pytest
from hypothesis import given
from hypothesis import strategies as some
from support import cost_in_loops

from tasks.filter.cards import CARD
from tasks.filter.personal import redact_personal, without_personal_data
from tasks.filter.redact import EMAIL, IPV4, PHONE
from tasks.filter.secrets import SECRET

KEY = "sk-llmill-" + "aB3-_x" * 8  # longer than the form asks for: nothing of it may stay
BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"
TOKENS = (
    KEY,
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a" * 22 + "_" + "b" * 59,
    "glpat-" + "a1-_" * 6,
    "AIza" + "a1-_B" * 7,
    "hf_" + "aB" * 17,
    "npm_" + "a1B2" * 9,
    "xoxb-" + "123456789012-" * 2 + "aB3" * 8,
    "sk_live_" + "aB3" * 9,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
    f"-----BEGIN PRIVATE KEY-----\n{BODY}\nabc=\n-----END PRIVATE KEY-----",
    f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AB\n\n{BODY}\n"
    "-----END RSA PRIVATE KEY-----",
    f"-----BEGIN EC PRIVATE KEY-----\\n{BODY}\\n-----END EC PRIVATE KEY-----",  # as JSON has it
    f"-----BEGIN PRIVATE KEY-----\n{BODY}\n{BODY}",  # cut off
)


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:30])
@pytest.mark.parametrize("written", ["use {} now", "KEY={}", '"{}"', "密钥是{}，谢谢", "รหัส{}", "कुंजी {}।"])
def test_a_secret_is_replaced_whole(token: str, written: str) -> None:
    text = without_personal_data(written.format(token))
    assert text == written.format(SECRET)
    assert without_personal_data(text) == text, "a second pass changes nothing"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("我的邮箱是ada.l@gmail.com谢谢", f"我的邮箱是{EMAIL}谢谢"),
        ("メールはada@gmail.comへ", f"メールは{EMAIL}へ"),
        ("전화는010-1234-5678입니다", f"전화는{PHONE}입니다"),
        ("電話は03-1234-5678です", f"電話は{PHONE}です"),
        ("โทร081-234-5678นะครับ", f"โทร{PHONE}นะครับ"),
        ("加我13812345678吧", f"加我{PHONE}吧"),
        ("मुझे 9876543210 पर फोन करें", f"मुझे {PHONE} पर फोन करें"),
        ("Ruf mich unter 0171 1234567 an", f"Ruf mich unter {PHONE} an"),
        ("卡号4111111111111111，ip是93.184.216.34。", f"卡号{CARD}，ip是{IPV4}。"),
        ("nguyễn@gmail.com và tôi", f"{EMAIL} và tôi"),
    ],
)
def test_personal_data_are_found_beside_letters_of_every_script(text: str, wanted: str) -> None:
    assert without_personal_data(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "中国2024年有3个苹果abc，共1400000000人",
        "订单20241130123456，版本v1.2.3",
        "sk-learn is a library, sk-2024 a street; AKIA is a prefix, ghp_short",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "eyJhbGciOiJIUzI1NiJ9 alone",
        "\ue000中a" + "".join(map(chr, range(0xE000, 0xF8FF))),
    ],
)
def test_other_text_stays(text: str) -> None:
    assert without_personal_data(text) == text


@given(some.text(alphabet="a1中ก \ue000\ue001@.8", max_size=60))
def test_nothing_but_what_is_found_is_changed(text: str) -> None:
    found, number = redact_personal(text, ("secret", "email", "phone"), ("CN",))
    assert (found == text) or number
    if number:
        assert found.count("\ue000") + found.count("\ue001") == text.count("\ue000") + text.count("\ue001")


def test_no_text_is_slow() -> None:
    def cost(count: int) -> float:
        pieces = ("-----BEGIN PRIVATE KEY-----", f"-----BEGIN PRIVATE KEY-----\n{BODY}", "sk-", "eyJaaaaaaaaaa.", "中a")
        texts = [piece * (count // len(piece)) for piece in (*pieces, "13812345678 ", "-")]
        return cost_in_loops(lambda: [redact_personal(text, ("secret", "phone"), ("CN",)) for text in texts])

    assert cost(80_000) < 20 * cost(8_000)
