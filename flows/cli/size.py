"""`llmill size`: what a model of a named size is and costs, before anything runs."""

import argparse
from typing import Any

from flows.cli.options import add_json_option, between, show
from flows.terminal.columns import table
from tasks.wording import amount, size


def add_commands(commands: Any) -> None:
    """Declare the command of this module."""
    parser = commands.add_parser(
        "size",
        help="what a model of a size is and costs: parameters, memory, time, money",
        description="The shape of a named size, what it takes in operations and memory, and how long its training "
        "takes on devices that were measured. Nothing is started.",
    )
    parser.add_argument("name", metavar="NAME", help="a size that a recipe can name: nano, micro, ..., 1b")
    parser.add_argument(
        "--vocabulary",
        type=between(1, 10_000_000, int),
        metavar="N",
        help="tokens of the tokenizer (default: as in a recipe)",
    )
    parser.add_argument(
        "--tokens", type=between(8, 10**14, int), metavar="N", help="tokens trained on (default: those of the size)"
    )
    parser.add_argument(
        "--price", type=between(0, 1e6, float), metavar="AMOUNT", help="price of an hour of a device: adds the cost"
    )
    add_json_option(parser)
    parser.set_defaults(command=_size)


def _size(options: argparse.Namespace) -> int:
    from flows.sizes import VOCABULARY, size_and_cost

    found = size_and_cost(options.name, options.vocabulary or VOCABULARY, options.tokens, options.price)
    show(found, lambda: _text(found), options)
    return 0


def _text(found: dict[str, Any]) -> str:
    weights = ", ".join(f"{name} {size(count)}" for name, count in found["weight_bytes"].items())
    head = "one table of tokens" if found["tied_embeddings"] else "a head of its own"
    lines = [
        f"shape       {found['layers']} layers, width {found['width']:,}, {found['heads']} heads "
        f"({found['key_value_heads']} of keys and values), feed-forward {found['feed_forward']:,}, "
        f"context {found['context_length']:,}",
        f"parameters  {amount(found['parameters'])}, with a vocabulary of {found['vocabulary']:,} and {head}",
        f"training    {amount(found['tokens'])} tokens, {amount(found['batch_tokens'])} a step, "
        f"{found['flop_per_token']:.3g} FLOP a token, {found['flop_per_token'] * found['tokens']:.3g} in all",
        f"memory      {size(found['training_bytes'])} for weights, gradients and optimizer, activations on top",
        f"answering   weights {weights}; keys and values of a full context {size(found['cache_bytes'])}",
    ]
    forms = {"device": "", "tokens_per_second": ",.0f", "hours": ",.2f", "cost": ",.2f"}
    names = [name for name in forms if name in found["devices"][0]]
    heads = [name.replace("_per_", "/").replace("second", "s") for name in names]
    rows = [[format(one[name], forms[name]) for name in names] for one in found["devices"]]
    said = "Measured with 124m on the GPU, and with nano to 124m on a core of a server; other sizes by their FLOP."
    return "\n".join([*lines, "", table(heads, rows), "", said])
