"""Bad input of `llmill serve`: what cannot be served, and where."""

from collections.abc import Callable
from pathlib import Path

from bad_input import EMPTY, OWN, BadInput
from bad_models import Damage, fewer_rows, pickled
from open_models import write_eurobert, write_llama

SERVE = "serve model"


def _folder(name: str, damage: Damage, *holds: str, write: Callable[[Path], Path] = write_llama) -> BadInput:
    """A row about a folder that could be served but for what `damage` does to it."""

    def prepare(folder: Path, home: Path) -> None:
        damage(write(folder / "model"))

    return BadInput(name, SERVE, holds, prepare=prepare)


def _damaged_release(folder: Path, home: Path) -> None:
    (weights,) = home.glob("store/parts/release/release/*/model.safetensors")
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-100] + b"\0" * 100)


def _other_sums(folder: Path) -> None:
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  model.safetensors\n")


ROWS = (
    BadInput("serve before any run", "serve", ("no completed run yet", "llmill run"), home=EMPTY),
    BadInput("serve a champion before there is one", "serve champion", ("no champion yet", "llmill promote RUN")),
    BadInput("serve what nobody knows", "serve nothing", ("nothing: neither a run nor a digest",)),
    BadInput("serve a stage that is no release", "serve latest/tokenizer", ("latest/tokenizer", "release")),
    BadInput("serve a damaged release", "serve latest", ("model.safetensors",), prepare=_damaged_release, home=OWN),
    BadInput("serve for all to reach", "serve --host 0.0.0.0", ("there are no keys", "ssh -L 8000:127.0.0.1")),
    BadInput("compare a model with itself", "serve latest --beside latest", ("--beside latest: is the same model",)),
    BadInput("compare with what nobody knows", "serve latest --beside nothing", ("neither a run nor a digest",)),
    BadInput("serve at no port", "serve --port 70000", ("--port", "65535")),
    BadInput("serve an empty folder", SERVE, ("is not a release: it has no config.json",), {"model/notes.txt": "x"}),
    _folder("serve pickled weights", pickled, "is not a release: it has no model.safetensors"),
    _folder("serve weights that do not fit", fewer_rows, "they do not belong together"),
    _folder("serve other weights than its sums say", _other_sums, "model.safetensors"),
    _folder("serve an encoder", lambda folder: None, "is an encoder", write=write_eurobert),
)
WITH_ENVIRONMENT = (
    BadInput(
        "serve with a database at no address",
        "serve",
        ("LLMILL_SERVICE_DATABASE=service.db", "not an address", "such as postgresql://"),
        environment={"LLMILL_SERVICE_DATABASE": "service.db"},
    ),
    BadInput(
        "prices that are none",
        "keys add ada",
        ("prices.yaml: plans.free.prompt", "greater than or equal to 0"),
        {"prices.yaml": "currency: EUR\nplans: {free: {prompt: -1, cached: 0, made: 0}}\n"},
        environment={"LLMILL_PRICING": "prices.yaml"},
    ),
)
