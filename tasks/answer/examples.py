"""What a release shows that it was asked: the prompts of its card's samples (`samples.json`), for whoever tries it."""

import json
from pathlib import Path

from storage.files import is_utf8

SAMPLES = "samples.json"
MOST_BYTES, MOST_EXAMPLES, MOST_CHARACTERS = 1 << 20, 8, 1000


def read_examples(folder: Path) -> tuple[str, ...]:
    """The first short prompts; none where a folder of others has no such file, or one of another kind."""
    path = folder / SAMPLES
    try:
        found = json.loads(path.read_bytes()) if path.stat().st_size <= MOST_BYTES else ()
    except (OSError, ValueError, RecursionError):
        return ()
    rows = found if isinstance(found, list) else ()
    prompts = [row.get("prompt") for row in rows if isinstance(row, dict)]
    fit = [one for one in prompts if isinstance(one, str) and one.strip() and len(one) <= MOST_CHARACTERS]
    return tuple(filter(is_utf8, fit))[:MOST_EXAMPLES]
