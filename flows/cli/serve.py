"""`llmill serve`: a release behind an API that OpenAI's clients speak."""

import argparse
import json
import shlex
import sys
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.options import between, home_store, part_folder, print_json
from storage.addresses import LOOPBACK, check_free
from storage.errors import ConfigError, DataError
from storage.home import home
from tasks.wording import amount, size

if TYPE_CHECKING:
    from deployments.server.adapters import AdapterPlace
    from deployments.server.served import Judge, Place, Served

CHAMPION, NEWEST = "champion", "latest/release"


def add_commands(commands: Any) -> None:
    """Declare the command of this module."""
    serve = commands.add_parser(
        "serve",
        help="answer requests in the form of OpenAI's API, until Ctrl-C",
        description="Serve a release over HTTP, in the form of OpenAI's API. Ctrl-C lets answers under way end first.",
    )
    serve.add_argument(
        "release",
        nargs="?",
        metavar="REF",
        help="champion, a run, latest/release, or a folder in Hugging Face form; default: champion, else newest",
    )
    serve.add_argument(
        "--beside", metavar="REF", help="one more model, such as a candidate: the page has people compare both"
    )
    serve.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME=REF",
        help="a LoRA adapter trained on this model, a folder or such as latest/finetune: requests for the model NAME "
        "are answered by it; may be repeated; default: those of LLMILL_ADAPTERS",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to serve at; any but the loopback needs keys")
    serve.add_argument("--port", type=between(1, 65535, int), default=8000, help="default: 8000")
    serve.add_argument(
        "--engine",
        default="auto",
        metavar="ENGINE",
        help="who makes the answers: torch (the default), llama.cpp, or the address of a server with OpenAI's API",
    )
    serve.add_argument(
        "--moderation",
        metavar="FILE|REF",
        help="what judges prompts and answers: a YAML file of categories, or a run that has made a moderator; "
        "default: the one of the run that is served, where it has one",
    )
    serve.add_argument("--json", action="store_true", help="one JSON object on stdout once it answers")
    serve.set_defaults(command=_serve)


def _serve(options: argparse.Namespace) -> int:
    from deployments.server.accounts import Accounts
    from deployments.server.arenas import share_memory
    from deployments.server.pricing import read_pricing
    from storage.feedback import open_feedback
    from storage.service import open_service

    share_memory()
    accounts = Accounts(open_service(home()), read_pricing())
    if options.host not in LOOPBACK and not accounts.asks:
        raise ConfigError(
            f"--host {options.host}: whoever reaches this address could use the model, since there are no keys. Give "
            "one out (`llmill keys add NAME`), or serve on the loopback and reach it through "
            f"`ssh -L {options.port}:127.0.0.1:{options.port}`"
        )
    host = "127.0.0.1" if options.host == "localhost" else options.host
    check_free("--port", host, options.port)

    from deployments.server.engines.choose import AUTO, is_address

    given = _moderation(options.moderation)
    beside_by = AUTO if is_address(options.engine) else options.engine  # who is at an address has one model
    found = _judged(_find(options.release), given)
    compared = _find_beside(options.beside, found)
    if compared is not None:  # who does not know which of two answers must not learn it from what is refused
        compared = replace(compared, judge=found.judge)

    from deployments.server.adapters import find_adapters
    from deployments.server.run import serve
    from deployments.server.served import serve_model
    from deployments.server.settings import ServerSettings

    settings = ServerSettings()
    taken = [one.name for one in (found, compared) if one is not None]
    adapters = find_adapters(options.adapter, settings.max_adapters, taken, _adapter_folder)
    found = replace(found, adapters=adapters)
    address = f"http://{f'[{host}]' if ':' in host else host}:{options.port}"
    keys = accounts.asks
    serve(
        serve_model(found, settings, options.engine),
        settings,
        accounts,
        open_feedback(home()),
        host,
        options.port,
        lambda served, beside: _say(served, beside, address, keys, settings.stop_seconds, options.json),
        partial(_next, given, adapters) if options.release in (None, CHAMPION) else None,
        serve_model(compared, settings, beside_by) if compared is not None else None,
        options.engine,
    )
    return 0


def _next(given: "Judge | None", adapters: "tuple[AdapterPlace, ...]") -> "Place | None":
    """The champion of now, as the one of before was served."""
    place = _champion()
    return None if place is None else replace(_judged(place, given), adapters=adapters)


def _adapter_folder(reference: str) -> Path:
    return part_folder(reference, "adapter")


def _moderation(given: str | None) -> "Judge | None":
    """The judge that the command line names, opened; ConfigError or DataError for a bad one."""
    if given is None:
        return None
    from deployments.server.moderation_file import open_moderation

    moderator = open_moderation(given, _moderator_folder)
    return lambda: moderator


def _moderator_folder(reference: str) -> Path:
    """The folder of a moderator: one that is named, or that of a run."""
    from flows.inspect.references import find_part
    from storage.runs import find_run

    if (folder := Path(reference).expanduser()).is_dir():
        return folder
    store = home_store()
    try:
        find_run(store.home, reference, "moderator")
    except DataError:
        return find_part(store, reference, "moderator").path
    return find_part(store, f"{reference}/moderator", "moderator").path


def _judged(place: "Place", given: "Judge | None") -> "Place":
    """The place of a model with the judge that is given, else with the one that its run has made."""
    from deployments.server.moderation_file import moderator_of_run

    # When the model is loaded, not each time that somebody looks for another champion.
    return replace(place, judge=given or (lambda: moderator_of_run(home(), place.name, _moderator_folder)))


def _find(reference: str | None) -> "Place":
    from deployments.server.served import Place, folder_digest
    from flows.inspect.references import find_part
    from storage.runs import find_run

    if reference is not None and (folder := Path(reference).expanduser()).is_dir():
        return Place(folder, folder.resolve().name, folder_digest(folder))
    champion = _champion() if reference in (None, CHAMPION) else None
    if champion is not None:
        return champion
    if reference == CHAMPION:
        raise DataError("there is no champion yet: `llmill retrain` makes one, or `llmill promote RUN`")
    store, reference = home_store(), reference or NEWEST
    run = reference.partition("/")[0]
    try:
        name = find_run(store.home, run, "release")["run"]
    except DataError:
        name = run
    else:
        reference = f"{run}/release" if "/" not in reference else reference
    part = find_part(store, reference, "release")
    return Place(part.path, name, part.digest, created=partial(_ended, store.home, name))


def _find_beside(reference: str | None, found: "Place") -> "Place | None":
    """The model to compare with: another one, of another name."""
    if reference is None:
        return None
    other = _find(reference)
    if other.digest == found.digest:
        raise ConfigError(f"--beside {reference}: is the same model as {found.name} ({found.digest[:8]}); name another")
    return replace(other, name=f"{other.name}-{other.digest[:8]}") if other.name == found.name else other


def _champion() -> "Place | None":
    from deployments.server.served import Place
    from flows.champion.champion import champion_ref
    from flows.inspect.references import find_part

    store = home_store()
    champion = champion_ref(store)
    if champion is None:
        return None
    part = find_part(store, champion.artifact, "release")
    run = str(champion.note["run"])
    return Place(part.path, run, part.digest, created=partial(_ended, store.home, run))


def _ended(folder: Path, run: str) -> int | None:
    """When a run ended, in Unix seconds; None where no record says so. Files of the store have no time."""
    from storage.runs import find_run

    try:
        finished = find_run(folder, run, "release").get("finished")
    except DataError:
        return None
    return int(datetime.fromisoformat(finished).timestamp()) if finished else None


def _say(
    served: "Served", beside: "Served | None", address: str, keys: bool, stop_seconds: float, as_json: bool
) -> None:
    judged = [category.name for category in served.moderator.config.categories] if served.moderator else []
    if as_json:
        other: dict[str, Any] = (
            {"beside": {"model": beside.name, "digest": beside.digest}} if beside is not None else {}
        )
        other |= {"moderation": judged} if judged else {}
        if served.adapted:
            other["adapters"] = [{"model": one.name, "digest": one.digest} for one in served.adapted]
        known = {"model": served.name, "digest": served.digest, "engine": served.engine_name}
        print_json({"address": address, **known, **other, "keys": keys})
        sys.stdout.flush()
        return
    from deployments.server.pages import examples_of

    prompt = examples_of(served)[0]
    body: dict[str, Any]
    if served.settings.prompt_form == "plain":
        route, body = "completions", {"prompt": prompt}
    else:
        route, body = "chat/completions", {"messages": [{"role": "user", "content": prompt}]}
    for head, one in (("Model", served), ("Beside", beside)):
        if one is not None:
            print(f"{head:6} {_described(one)}")
    for one in served.adapted:
        print(f"Also   {one.name} ({one.digest[:8]}), an adapter beside it, up to {size(one.memory_bytes)} of memory")
    print(f"Engine {served.engine_name}")
    who = "a key is asked for" if keys else "open to whoever reaches it: there are no keys (`llmill keys add NAME`)"
    header = ' -H "authorization: Bearer $KEY"' if keys else ""
    sent = f"-H 'content-type: application/json' -d {shlex.quote(json.dumps(body))}"
    print(f"Page   {address}")
    print(f"API    {address}/v1, {who}")
    if judged:
        print(f"Judge  refuses prompts and sentences of answers that are {', '.join(judged)}")
    print(f"Try    curl {address}/v1/{route}{header} {sent}")
    print(f"Ctrl-C stops it; answers under way get {stop_seconds:g} s to end", flush=True)


def _described(served: "Served") -> str:
    parameters = amount(served.release.model.shape.parameters)
    memory = f"up to {size(served.memory_bytes)} of memory" if served.memory_bytes else "its weights elsewhere"
    return f"{served.name} ({served.digest[:8]}), {parameters} parameters, context {served.context_length}, {memory}"
