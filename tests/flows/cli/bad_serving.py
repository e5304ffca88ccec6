"""Bad input of `llmill serve`: what cannot be served, and where."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bad_input import ADDRESS, EMPTY, OWN, BadInput
from bad_models import Damage, adapter_config, fewer_rows, of_other_weights, pickled, pickled_adapter
from open_models import write_adapter, write_eurobert, write_llama

from model.adapter_config import TENSORS

SERVE = "serve model"
SAID_OTHERWISE = {"ids": [5], "tokens": [6], "text": "x", "log_probabilities": [-0.001], "margins": [5.0]}


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


class _Odd(BaseHTTPRequestHandler):
    """A server that speaks no API that we know, or asks for a key."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, *_: object) -> None:
        pass


class _Closed(_Odd):
    status = 401


@contextmanager
def _answering(handler: type[_Odd]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def _plain_folder(folder: Path, home: Path) -> None:
    write_llama(folder / "model")


def _golden(text: str) -> Damage:
    return lambda folder: (folder / "golden.json").write_text(text) and None


def _adapter(
    name: str, arguments: str, *holds: str, damage: Damage = lambda folder: None, environment: str = ""
) -> BadInput:
    """A row about a good model with the adapter `tone`, which is good but for what `damage` does to it."""

    def prepare(folder: Path, home: Path) -> None:
        damage(write_adapter(folder / "tone", write_llama(folder / "model")))

    given = {"LLMILL_ADAPTERS": environment} if environment else {}
    return BadInput(f"serve {name}", f"{SERVE} {arguments}".strip(), holds, prepare=prepare, environment=given)


ADAPTER = "--adapter tone=tone"
ADAPTERS = (
    _adapter("an adapter without a name", "--adapter tone", "--adapter tone: say NAME=REF, such as polite="),
    _adapter("an adapter of an odd name", "--adapter 'a b=tone'", "--adapter a b=tone: say NAME=REF"),
    _adapter("two adapters of one name", f"{ADAPTER} {ADAPTER}", "the name tone is another adapter's"),
    _adapter(
        "an adapter of its model's name", "--adapter model=tone", "the name model is what requests call the model"
    ),
    _adapter("an adapter called default", "--adapter default=tone", "the name default is what requests call the"),
    _adapter("an adapter that is not there", "--adapter tone=none", "none: neither a run nor a digest"),
    _adapter("a model for an adapter", "--adapter tone=model", "model: has no adapter_config.json, so it is not an"),
    _adapter("too many adapters", " ".join(f"--adapter a{n}=tone" for n in range(17)), "17 adapters; 16 at most"),
    _adapter("adapters of an environment that is wrong", "", "LLMILL_ADAPTERS x: say NAME=REF", environment="a=tone x"),
    _adapter("an adapter by llama.cpp", f"{ADAPTER} --engine llama.cpp", "our own engine", "use --engine torch"),
    _adapter("an adapter at an address", f"{ADAPTER} --engine http://127.0.0.1:9", "use --engine torch"),
    _adapter("a pickled adapter", ADAPTER, "adapter_model.bin is pickled", damage=pickled_adapter),
    _adapter(
        "an adapter that is cut",
        ADAPTER,
        "--adapter tone: ",
        "no adapter that can be read",
        damage=lambda folder: (folder / TENSORS).write_bytes((folder / TENSORS).read_bytes()[:-9]),
    ),
    _adapter(
        "an adapter of a map that is not there",
        ADAPTER,
        "--adapter tone: ",
        "target_modules: a llama model has no map lm_head; it has down_proj, gate_proj",
        damage=adapter_config(target_modules=["lm_head"]),
    ),
    _adapter("an adapter of another rank", ADAPTER, "lora_A.weight has the shape (3, 64)", damage=adapter_config(r=5)),
    _adapter(
        "an adapter of another kind", ADAPTER, "peft_type is 'IA3'; only 'LORA'", damage=adapter_config(peft_type="IA3")
    ),
    _adapter(
        "an adapter of other weights",
        ADAPTER,
        "--adapter tone: ",
        "was trained on other weights than those of model",
        damage=of_other_weights,
    ),
)
NOWHERE = "http://127.0.0.1:9"  # discard: nobody listens there
ROWS = (
    BadInput(
        "serve by an engine that is down",
        f"serve --engine {NOWHERE}",
        ("127.0.0.1:9/v1", "nobody answers", "start the engine"),
    ),
    BadInput(
        "serve by an engine of no name",
        "serve --engine vllm",
        ("--engine vllm", "say auto, torch, llama.cpp, or an address"),
    ),
    BadInput("serve by an address that is none", "serve --engine ftp://x", ("--engine=ftp://x", "not an address")),
    BadInput(
        "serve by an address with a password",
        "serve --engine http://ada:secret@127.0.0.1:9",
        ("LLMILL_ENGINE_KEY",),
    ),
    BadInput(
        "serve by what speaks another API",
        f"serve --engine {ADDRESS}",
        ("does not speak OpenAI's API", "GET /models gives 200"),
        serve=lambda: _answering(_Odd),
    ),
    BadInput(
        "serve by an engine with a key that is not given",
        f"serve --engine {ADDRESS}",
        ("asks for a key", "LLMILL_ENGINE_KEY"),
        serve=lambda: _answering(_Closed),
    ),
    BadInput(
        "serve by llama.cpp what has no GGUF",
        f"{SERVE} --engine llama.cpp",
        ("has no *-F16.gguf or *-Q8_0.gguf", "release.formats"),
        prepare=_plain_folder,
    ),
    _folder("serve golden prompts that are cut", _golden('{"prompts": ['), "golden.json", "JSON"),
    _folder("serve golden prompts that are none", _golden('{"prompts": [{"ids": [1]}]}'), "golden.json", "prompts.0"),
    _folder(
        "serve what says something else than its golden prompts",
        _golden(json.dumps({"prompts": [SAID_OTHERWISE]})),
        "golden prompt 1 of 1",
        "is said, where the release said 'x'",
    ),
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
    *ADAPTERS,
    BadInput(
        "serve by llama.cpp where it is not installed",
        "serve --engine llama.cpp",
        ("llama.cpp is not installed", "pip install"),
        {"sitecustomize.py": "import sys\nsys.modules['xllamacpp'] = None\n"},
        environment={"PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1"},
    ),
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
