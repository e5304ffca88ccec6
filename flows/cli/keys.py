"""`llmill keys` and `llmill usage`: who may ask the model server, and what was used."""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from flows.cli.options import add_json_option, between, print_json
from flows.terminal.columns import table
from storage.errors import ConfigError

if TYPE_CHECKING:
    from storage.service import Key, Limits, Service

COLUMNS = ("requests", "prompt_tokens", "cached_tokens", "made_tokens", "price")
MILLIONTHS = Decimal(1_000_000)


def add_commands(commands: Any) -> None:
    """Declare the commands of this module."""
    keys = commands.add_parser("keys", help="who may ask the model server: add, list, revoke, allow")
    actions = keys.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="give out a key; it is shown once")
    add.add_argument("name", metavar="NAME", help="whose it is, for lists and the ledger")
    add.add_argument("--plan", default="standard", help="of deployments/pricing.yaml; default: standard")
    add.add_argument("--requests-per-minute", type=between(1, 1_000_000, int), metavar="N", help="default: the plan's")
    add.add_argument("--tokens-per-day", type=between(1, 10**15, int), metavar="N", help="default: the plan's")
    add.add_argument("--budget", metavar="AMOUNT", help="money in its whole life; default: the plan's")
    add_json_option(add)
    add.set_defaults(command=_add)
    listed = actions.add_parser("list", help="all keys, without their secrets")
    add_json_option(listed)
    listed.set_defaults(command=_list)
    revoke = actions.add_parser("revoke", help="take a key back: within a second no server takes it")
    revoke.add_argument("name", metavar="NAME")
    add_json_option(revoke)
    revoke.set_defaults(command=_revoke)

    allow = actions.add_parser("allow", help="let a key go on that moderation has slowed or stopped")
    allow.add_argument("name", metavar="NAME")
    add_json_option(allow)
    allow.set_defaults(command=_allow)

    usage = commands.add_parser("usage", help="what was asked of the model server, and what it costs")
    date_option(usage)
    usage.add_argument("--until", metavar="DATE", help="the day after the last one (UTC); default: all there is")
    usage.add_argument("--by", choices=("key", "day", "model"), default="key", help="a row for each; default: key")
    usage.add_argument("--csv", action="store_true", help="as CSV on stdout, for an invoice")
    add_json_option(usage)
    usage.set_defaults(command=_usage)


def _service() -> "Service":
    from storage.home import prepare_home
    from storage.service import open_service

    return open_service(prepare_home())


def _add(options: argparse.Namespace) -> int:
    from deployments.server.pricing import read_pricing

    limits = _limits(options, read_pricing().plan(options.plan).limits)
    secret = _service().add_key(options.name, options.plan, limits)
    if options.json:
        print_json({"name": options.name, "key": secret, "plan": options.plan})
        return 0
    print(secret)
    print("This is shown once: only its digest is kept. Servers ask for keys from now on", file=sys.stderr)
    return 0


def _limits(options: argparse.Namespace, plan: "Limits") -> "Limits":
    from deployments.server.pricing import micros
    from storage.service import Limits

    budget = plan.budget
    if options.budget is not None:
        try:
            amount = Decimal(options.budget)
        except InvalidOperation:
            raise ConfigError(f"--budget {options.budget}: write an amount, such as 12.50") from None
        if not amount.is_finite() or not 0 <= amount <= 10**9 or amount.as_tuple().exponent < -6:  # type: ignore[operator]
            raise ConfigError(
                f"--budget {options.budget}: write an amount from 0 to a billion, with six decimals at most"
            )
        budget = micros(amount)
    requests = options.requests_per_minute or plan.requests_per_minute
    return Limits(requests, options.tokens_per_day or plan.tokens_per_day, budget)


def _list(options: argparse.Namespace) -> int:
    from storage.service import Standing, day_ago

    service = _service()
    keys, standings = service.keys(), service.standings(day_ago())
    if options.json:
        print_json({"keys": [_row(key) | asdict(standings.get(key.name, Standing())) for key in keys]})
        return 0
    if not keys:
        print("no keys: on the loopback `llmill serve` is open to all. `llmill keys add NAME` gives one out")
        return 0
    rows = []
    for key in keys:
        standing = standings.get(key.name, Standing())
        state = "revoked" if key.revoked else "stopped" if standing.stopped else "valid"
        rows.append((key.name, f"{key.begins}...", key.plan, _limits_text(key), str(standing.hits), state))
    print(table(("name", "begins", "plan", "limits", "hits", "state"), rows))
    return 0


def _row(key: "Key") -> dict[str, Any]:
    limits = key.limits
    budget = None if limits.budget is None else str(limits.budget / MILLIONTHS)
    numbers = {
        "requests_per_minute": limits.requests_per_minute,
        "tokens_per_day": limits.tokens_per_day,
        "budget": budget,
    }
    times = {"created": key.created, "revoked": key.revoked}
    return {"name": key.name, "begins": key.begins, "plan": key.plan, **numbers, **times}


def _limits_text(key: "Key") -> str:
    limits = key.limits
    said = [
        f"{limits.requests_per_minute:,} requests/min" if limits.requests_per_minute else "",
        f"{limits.tokens_per_day:,} tokens/day" if limits.tokens_per_day else "",
        f"budget {limits.budget / MILLIONTHS:f}" if limits.budget is not None else "",
    ]
    return ", ".join(filter(None, said)) or "none"


def _revoke(options: argparse.Namespace) -> int:
    changed = _service().revoke(options.name)
    if options.json:
        print_json({"name": options.name, "revoked": changed})
    else:
        print(f"{options.name}: {'revoked' if changed else 'was revoked before'}")
    return 0


def _allow(options: argparse.Namespace) -> int:
    service = _service()
    known = service.keys()
    if all(key.name != options.name for key in known):
        raise ConfigError(f"NAME {options.name!r}: there is no such key. `llmill keys list` has those there are")
    service.note(options.name, "allowed")
    if options.json:
        print_json({"name": options.name, "allowed": True})
    else:
        print(f"{options.name}: its hits count from 0 again")
    return 0


def _usage(options: argparse.Namespace) -> int:
    from deployments.server.pricing import read_pricing

    if options.csv and options.json:
        raise ConfigError("--csv and --json: choose one")
    currency = read_pricing().currency
    since, until = since_date(options.since), since_date(options.until, "--until")
    if until and until <= since:
        raise ConfigError(f"--until {options.until}: no day is before it and not before --since {options.since}")
    rows = _service().usage(since, options.by, until)
    if options.json:
        priced = [{**row, "price": str(row["price"] / MILLIONTHS)} for row in rows]
        print_json({"currency": currency, "by": options.by, "rows": priced})
    elif options.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([options.by, *COLUMNS, "currency"])
        writer.writerows([_named(row[options.by]), *_cells(row), currency] for row in rows)
    elif not rows:
        bounds = [f" {name} {given}" for name, given in (("since", options.since), ("until", options.until)) if given]
        print("nothing was asked" + ("".join(bounds) or " yet"))
    else:
        heads = (options.by, "requests", "prompt", "cached", "made", currency)
        shown = 16 if options.by == "model" else None
        print(table(heads, [(_named(row[options.by], shown), *_cells(row)) for row in rows]))
    return 0


def _cells(row: Mapping[str, Any]) -> Sequence[str]:
    return [*(str(row[name]) for name in COLUMNS[:-1]), f"{row['price'] / MILLIONTHS:f}"]


def _named(value: str, most: int | None = None) -> str:
    return value[:most] or "(no key)"


def date_option(parser: argparse.ArgumentParser) -> None:
    """`--since`, of commands that show what a server has kept."""
    parser.add_argument("--since", metavar="DATE", help="such as 2026-12-01 (UTC); default: all there is")


def since_date(given: str | None, option: str = "--since") -> str:
    """The beginning of a day that an option names, as records have it; ConfigError for what is no date."""
    if given is None:
        return ""
    try:
        return date.fromisoformat(given).isoformat()
    except ValueError:
        raise ConfigError(f"{option} {given}: write a date, such as 2026-12-01") from None
