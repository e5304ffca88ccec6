"""A server that speaks OpenAI's API (vLLM, SGLang, llama.cpp's, another `llmill serve`), as it is found at first."""

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from storage.addresses import LOOPBACK, check_form, without_credentials
from storage.errors import ConfigError

KEY_VARIABLE = "LLMILL_ENGINE_KEY"
CONNECT_SECONDS, ASK_SECONDS = 5.0, 30.0
CONTEXT_FIELDS = ("max_model_len", "context_length")  # of vLLM and SGLang, and of llmill


@dataclass(frozen=True, slots=True)
class Address:
    """Where requests go: `base` ends in /v1, `model` is what the engine there calls its model."""

    base: str
    model: str
    key: str = ""
    context_length: int | None = None  # tokens of prompt and answer together, where it says so

    def client_options(self) -> dict[str, Any]:
        """Arguments of httpx's clients. This machine is never asked through a proxy of the environment."""
        return {
            "headers": {"authorization": f"Bearer {self.key}"} if self.key else {},
            "trust_env": urlsplit(self.base).hostname not in LOOPBACK,
            "timeout": httpx.Timeout(None, connect=CONNECT_SECONDS),
        }


def find_address(url: str, named: str) -> Address:
    """The server at an address, and its model: what follows a `#`, else the one it has, else that of the name `named`.

    ConfigError where nobody answers, where it is no such server, or where it is not clear which model is meant.
    """
    url, _, wanted = url.partition("#")
    check_form("--engine", url, ("http", "https"))
    if urlsplit(url).username is not None:
        raise ConfigError(f"--engine {without_credentials(url)}: give its key in {KEY_VARIABLE}, not in the address")
    base = url.rstrip("/")
    base = base if base.endswith("/v1") else f"{base}/v1"
    address = Address(base, "", os.environ.get(KEY_VARIABLE, ""))
    models = {str(one["id"]): one for one in _models(address)}
    names = list(models)
    model = wanted or (names[0] if len(names) == 1 else named)
    if model not in models:
        raise ConfigError(f"--engine {base}: serves {', '.join(names)}; say which: --engine {url}#{names[0]}")
    lengths = [models[model][name] for name in CONTEXT_FIELDS if isinstance(models[model].get(name), int)]
    return Address(base, model, address.key, min(lengths, default=None))


def _models(address: Address) -> list[dict[str, Any]]:
    where = f"--engine {address.base}"
    try:
        with httpx.Client(**address.client_options() | {"timeout": ASK_SECONDS}) as client:
            answer = client.get(f"{address.base}/models")
    except httpx.HTTPError as error:
        raise ConfigError(
            f"{where}: nobody answers ({error or type(error).__name__}); start the engine first"
        ) from None
    if answer.status_code in (401, 403):
        raise ConfigError(f"{where}: asks for a key, or refuses the one it was given; set {KEY_VARIABLE}")
    try:
        found = answer.json()["data"] if answer.status_code == 200 else None
    except (ValueError, TypeError, KeyError):
        found = None
    if not found or not all(isinstance(one, dict) and "id" in one for one in found):
        raise ConfigError(
            f"{where}: does not speak OpenAI's API: GET /models gives {answer.status_code} and no list of models"
        )
    return list(found)
