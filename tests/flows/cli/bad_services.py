"""Bad input of what `llmill serve` stands on: its database, its prices, keys, limits, hosts and ports, odd models."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from bad_homes import USED_PORT, use_port
from bad_input import OWN, BadInput
from open_models import write_llama
from safetensors.torch import load_file, save_file

from storage.service import Limits, Service

SERVE = "serve model"
PRICES = "plans: {standard: {prompt: 1, cached: 1, made: 1}}\n"
PASSWORD = "not-to-be-shown"


def _damaged(folder: Path, home: Path) -> None:
    (home / "service").mkdir(parents=True, exist_ok=True)
    (home / "service" / "service.db").write_bytes(b"x" * 9000)


def _folder_for_database(folder: Path, home: Path) -> None:
    (home / "service" / "service.db").mkdir(parents=True)


def _file_for_service(folder: Path, home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "service").write_text("I am no folder.")


def _other_tables(folder: Path, home: Path) -> None:
    (home / "service").mkdir(parents=True)
    with closing(sqlite3.connect(home / "service" / "service.db")) as database:
        database.execute("create table keys (name text)")
        database.commit()


def _read_only(folder: Path, home: Path) -> None:
    """A database of a format that this SQLite may only read, whoever asks: byte 18 of its head (SQLite's file format,
    1.3.3)."""
    path = home / "service" / "service.db"
    path.parent.mkdir(parents=True)
    service = Service(f"sqlite:///{path}")
    service.add_key("ada", "standard", Limits())
    service._database._engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        database.execute("pragma journal_mode=delete")
    data = bytearray(path.read_bytes())
    data[18] = 3
    path.write_bytes(data)


def _model(name: str, change: Callable[[Path], None], *holds: str) -> BadInput:
    def prepare(folder: Path, home: Path) -> None:
        change(write_llama(folder / "model"))

    return BadInput(name, SERVE, holds, prepare=prepare)


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _not_finite(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] += torch.nan
    save_file(tensors, folder / "model.safetensors")


def _cut(name: str, size: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:size])

    return change


def _evil_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ cycler.__init__.__globals__.os.system('true') }}")


def _prices(name: str, text: str | bytes, *holds: str) -> BadInput:
    files = {"prices.yaml": text}
    return BadInput(name, "keys add ada", holds, files, environment={"LLMILL_PRICING": "prices.yaml"})


ROWS = (
    BadInput("keys without an action", "keys", ("ACTION",)),
    BadInput("a key without a name", "keys add", ("NAME",)),
    BadInput("a key of a long name", f"keys add {'x' * 65}", ("write 1 to 64 letters",)),
    BadInput("a key of two lines", "keys add 'a\nb'", ("letters that can be shown",)),
    BadInput("a key of an unknown plan", "keys add ada --plan fre", ("plan 'fre'", "did you mean 'free'")),
    BadInput("a budget that is none", "keys add ada --budget nan", ("--budget nan", "write an amount")),
    BadInput("a budget below nothing", "keys add ada --budget=-1", ("--budget -1", "0 to a billion")),
    BadInput("a budget of atoms", "keys add ada --budget 0.0000001", ("six decimals",)),
    BadInput("no requests a minute", "keys add ada --requests-per-minute 0", ("--requests-per-minute",)),
    BadInput("tokens without end", f"keys add ada --tokens-per-day {10**16}", ("--tokens-per-day",)),
    BadInput("revoke whom nobody knows", "keys revoke nobody", ("there is no such key", "llmill keys list")),
    BadInput("usage by the week", "usage --by week", ("--by", "day")),
    BadInput("usage since a month that is none", "usage --since 2026-13-01", ("--since 2026-13-01", "write a date")),
    BadInput(
        "usage until before it begins", "usage --since 2026-12-01 --until 2026-12-01", ("--until 2026-12-01", "--since")
    ),
    BadInput("usage in two forms", "usage --csv --json", ("choose one",)),
    BadInput("keys in a damaged database", "keys list", ("service.db", "not a database"), {}, _damaged, OWN),
    BadInput("usage of a damaged database", "usage", ("service.db", "not a database"), {}, _damaged, OWN),
    BadInput("serve with a damaged database", "serve", ("service.db", "not a database"), {}, _damaged, OWN),
    BadInput("a folder for the database", "keys list", ("service.db", "unable to open"), {}, _folder_for_database, OWN),
    BadInput("a file for its folder", "keys list", ("service", "LLMILL_HOME"), {}, _file_for_service, OWN),
    BadInput("a database of somebody else's", "keys add ada", ("service.db", "no such column"), {}, _other_tables, OWN),
    BadInput("a database that is read-only", "keys add eve", ("service.db", "readonly"), {}, _read_only, OWN),
    BadInput("serve at a port in use", f"serve --port {USED_PORT}", (f"port {USED_PORT} is in use",), {}, use_port),
    BadInput("serve at no address", "serve --host no.such.host.invalid", ("no.such.host.invalid",)),
    BadInput("serve a file", "serve notes.txt", ("notes.txt",), {"notes.txt": "x"}),
    BadInput("serve documents", "serve latest/collect", ("latest/collect", "release")),
    BadInput("serve an engine that is none", "serve --engine quantum", ("--engine",)),
    _model("serve weights that are no numbers", _not_finite, "scores are not finite"),
    _model("serve weights that are cut", _cut("model.safetensors", 3000), "model: not a model folder", "incomplete"),
    _model("serve a tokenizer that is cut", _cut("tokenizer.json", 300), "tokenizer.json"),
    _model("serve a config that is cut", _cut("config.json", 40), "model: not a model folder", "line 1 column 41"),
    _model("serve a kind of model that nobody knows", _config(model_type="oracle"), "oracle"),
    _model("serve a width that is not that of the weights", _config(hidden_size=96), "model"),
    _model("serve a template that wants more than words", _evil_template, "chat_template.jinja", "not allowed"),
)
WITH_ENVIRONMENT = (
    BadInput(
        "a database that is away",
        "keys list",
        ("127.0.0.1:1", "onnection"),
        environment={"LLMILL_SERVICE_DATABASE": f"postgresql://llmill:{PASSWORD}@127.0.0.1:1/service"},
    ),
    BadInput(
        "a database of another kind",
        "usage",
        ("LLMILL_SERVICE_DATABASE", "postgresql"),
        environment={"LLMILL_SERVICE_DATABASE": "mysql://localhost/service"},
    ),
    BadInput("prices that are not there", "keys add ada", ("none.yaml",), environment={"LLMILL_PRICING": "none.yaml"}),
    BadInput("a folder for prices", "serve", ("prices",), {"prices/x": ""}, environment={"LLMILL_PRICING": "prices"}),
    _prices("prices that are not YAML", "plans: {", "prices.yaml"),
    _prices("prices that are not text", b"\xff\xfe\x00", "prices.yaml"),
    _prices("prices that are empty", "", "prices.yaml"),
    _prices("prices of no currency", PRICES, "prices.yaml: currency"),
    _prices("prices of a currency that is none", f"currency: euro\n{PRICES}", "prices.yaml: currency"),
    _prices("prices with a field too many", f"currency: EUR\ntaxes: 19\n{PRICES}", "prices.yaml: taxes"),
    _prices("prices that are code", "currency: !!python/object/apply:os.system ['true']\n", "prices.yaml"),
    _prices("prices of a tenth of a millionth", f"currency: EUR\n{PRICES.replace('1,', '0.0000001,')}", "decimal"),
)
