"""E-mails (.eml) -> the text of the message; of HTML alone, the text of its page. Runs in the child process.

The subject is the title, the day that of the header `Date`. Attachments are counted and not read.
"""

import re
from collections.abc import Iterator, Mapping
from email import message_from_bytes, policy
from email.errors import HeaderParseError
from email.message import EmailMessage, Message
from email.utils import parsedate_to_datetime
from typing import Any

from tasks.collect.encodings import AUTO
from tasks.collect.pages.charset import decoded_page, guessed
from tasks.collect.pages.main_text import read_page

# Before each e-mail of an mbox: a blank line, the sender and a day, and then a header.
_MBOX = re.compile(rb"(?:\A|\n\r?\n)From \S+ [^\r\n]*\d{4}[^\r\n]*\r?\n(?=[A-Za-z-]+:)")
_MIME = ("From", "Date", "Subject", "Received", "Message-ID", "MIME-Version", "To")


def read_eml(request: Mapping[str, Any], body: bytes) -> dict[str, Any] | str:
    """The fields of a Page, or why there is none."""
    count = len(_MBOX.findall(body))
    if count > 1:
        return f"an mbox of {count:,} e-mails, and .eml is one: split it (git mailsplit -oFOLDER FILE; name them .eml)"
    message = message_from_bytes(body, policy=policy.default)
    if not any(name in message for name in _MIME):
        return "not an e-mail: it has no header"
    plain: list[str] = []
    pages: list[bytes] = []
    attachments = 0
    charset = encoding = ""
    for part in _parts(message):
        kind, data = part.get_content_type(), _data(part)
        if _is_attached(part) or kind not in ("text/plain", "text/html"):
            attachments += 1
        elif kind == "text/plain":
            decoded, unstated = decoded_page(data, _charset(part), _asked(request, _charset(part)))
            plain.append(decoded)
            encoding = encoding or unstated
        else:
            pages.append(data)
            charset = charset or _charset(part)
    text = "\n\n".join(piece.strip() for piece in plain if piece.strip())
    for page in pages if not text else ():
        found = read_page({**request, "charset": charset, "encoding": _asked(request, charset)}, page)
        if isinstance(found, dict):
            text, encoding = found["text"], found["about"].get("encoding", "")
            break
    if not text:
        return "no text"
    about: dict[str, Any] = {"from": _header(message, "From"), **guessed(encoding)}
    return {
        "text": text,
        "title": _header(message, "Subject"),
        "date": _day(message),
        "about": {name: value for name, value in (about | {"attachments": attachments}).items() if value},
    }


def _parts(message: Message) -> Iterator[Message]:
    """The parts that hold something; what is inside a forwarded message is part of it."""
    for part in message.walk():
        if not part.is_multipart():
            yield part


def _data(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _is_attached(part: Message) -> bool:
    return "attachment" in str(part.get("Content-Disposition", "")).lower()[:20]


def _charset(part: Message) -> str:
    try:
        return part.get_content_charset() or ""
    except (LookupError, ValueError, HeaderParseError):
        return ""


def _asked(request: Mapping[str, Any], charset: str) -> str:
    """The encoding that the source states, for a part that states none itself."""
    return AUTO if charset else request["encoding"]


def _header(message: EmailMessage | Message, name: str) -> str:
    """A header on one line, decoded; as it stands where it is malformed, and empty where that fails too."""
    try:
        value = str(message[name] or "")
    except Exception:  # of the many that the standard library has for malformed headers
        return ""
    return " ".join(value.encode("utf-8", "replace").decode().split())


def _day(message: Message) -> str:
    try:
        return parsedate_to_datetime(_header(message, "Date")).date().isoformat()
    except (TypeError, ValueError, OverflowError):
        return ""
