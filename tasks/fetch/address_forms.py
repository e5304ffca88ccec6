"""Addresses in the forms that people write them: what each means, and what to write where it is not read.

Some write the address of a data set's page where its name belongs, or leave https:// out, or name a bucket of S3.
"""

import re
from urllib.parse import urlsplit

COMMON_CRAWL = "https://data.commoncrawl.org/"
_ADDRESS = re.compile(r"https?://[^\s/]+\S*", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_HUB = re.compile(
    r"(?:hf:/{0,2}|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)datasets/([^/?#@\s]+)(?:/([^/?#@\s]+))?"
)
# Names are ASCII there; a counted `\w`, of all scripts, would take pydantic a tenth of a second at each start.
DATASET = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,95})?$"
PATH_RULE = r"^/\S*$"
_PARTS_OF_A_PAGE = ("tree", "blob", "resolve", "viewer", "discussions", "raw")  # behind a name without an owner


def fetched_address(value: object) -> object:
    """An address that can be fetched, as it is; ValueError that says what to write for anything else."""
    if not isinstance(value, str) or _ADDRESS.fullmatch(value):
        return value
    scheme = _SCHEME.match(value)
    if scheme is None:
        hint = f"write https://{value}" if re.match(r"[\w-]+(\.[\w-]+)+([/:]|$)", value) else "it begins with https://"
        raise ValueError(f"{value!r} is not an address: {hint}")
    if value.startswith("s3://commoncrawl/"):
        raise ValueError(f"{value} is not fetched by s3: write {COMMON_CRAWL}{value.removeprefix('s3://commoncrawl/')}")
    raise ValueError(
        f"{value} is not fetched: only http and https are; download it, and give its path in collect.files"
    )


def named_host(value: object) -> object:
    """The name of a host in lower case; ValueError that says which to write for an address, or one with a port."""
    if not isinstance(value, str):
        return value
    host = urlsplit(value if "//" in value else f"//{value}").hostname if value.count(":") < 2 else value
    if not host or value.lower() != host:
        hint = f": write {host}" if host else ""
        raise ValueError(f"{value!r} is not the name of a host{hint}")
    return host


def dataset_of(address: str) -> str:
    """The name of the hub's data set that an address is of (OWNER/NAME, or NAME alone); empty for any other."""
    found = _HUB.match(address)
    if found is None:
        return ""
    owner, name = found.groups()
    return owner if not name or name in _PARTS_OF_A_PAGE else f"{owner}/{name}"


def named_dataset(value: object) -> object:
    """The name of a data set, as it is; ValueError that says which to write for the address of one."""
    if isinstance(value, str) and (name := dataset_of(value)):
        raise ValueError(f"{value} is an address: write dataset: {name}")
    if isinstance(value, str) and not re.search(DATASET, value):
        raise ValueError(f"{value!r} is not the name of a data set, OWNER/NAME as its page has it")
    return value


def path_rule(value: object) -> object:
    """A pattern of paths, as it is; ValueError that says what to write for one of anything else."""
    if not isinstance(value, str) or re.search(PATH_RULE, value):
        return value
    path = urlsplit(value).path if _ADDRESS.fullmatch(value) else ""
    hint = f"write {path or '/'}" if path or "//" in value else "it begins with /, such as /docs/*"
    raise ValueError(f"{value!r} is not a path: {hint}")
