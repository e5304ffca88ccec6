"""`llmill generate`."""

import argparse
from typing import Any

from flows.commands.options import between

EXAMPLE_PROMPT = "def add_edge(graph, source, target)"


def add_commands(commands: Any) -> None:
    """Declare the commands of this module."""
    generate = commands.add_parser("generate", help="ask the newest release")
    generate.add_argument("prompt", metavar="PROMPT", help=f'such as "{EXAMPLE_PROMPT}"')
    generate.add_argument("--release", metavar="REF", default="latest/release", help="default: latest/release")
    generate.add_argument("--max-new-tokens", type=between(1, 100_000, int), default=64, help="default: 64")
    generate.add_argument("--temperature", type=between(0, 10, float), default=0.0, help="0 (default): the likeliest")
    generate.add_argument("--top-p", type=between(0, 1, float), default=1.0, help="share of the likeliest mass kept")
    generate.add_argument("--seed", type=between(0, 2**31, int), default=0, help="default: 0")
    generate.add_argument("--raw", action="store_true", help="continue the text as it is: no chat form")
    generate.set_defaults(command=_generate)


def _generate(options: argparse.Namespace) -> int:
    from flows.references import find_part
    from storage.home import home
    from storage.store import Store
    from tasks.generation import generate_text

    release = find_part(Store(home()), options.release, "release")
    pieces = generate_text(
        release.path,
        options.prompt,
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        raw=options.raw,
    )
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    return 0
