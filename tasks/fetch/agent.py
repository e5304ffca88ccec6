"""What we call ourselves to the servers that we ask."""

from importlib.metadata import version

AGENT = "llmill"  # the name that robots.txt may address


def user_agent(contact: str = "") -> str:
    """The value of the header User-Agent; `contact` is an address of whoever crawls."""
    return f"{AGENT}/{version('llmill')} (text for language models{f'; {contact}' if contact else ''})"
