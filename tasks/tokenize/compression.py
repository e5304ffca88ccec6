"""The stage compression: how many bytes a token holds, with the run's tokenizer and with another one, on equal text.

Read is held-out text as it was written, of each source in each language the first SAMPLE_CHARACTERS in the order of the
shards, so that the cost is bounded however large the corpus is. It is a stage of its own: another tokenizer to compare
with makes no token anew. Part `compression` holds compression.json: `{"other": name, "rows": [{"source", "language",
"bytes" (UTF-8), "tokens", "other_tokens"}, ...]}`, sorted by source and language.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints

from storage.canonical import canonical_json
from storage.documents import HELDOUT, UNDETERMINED, read_rows
from storage.errors import DataError
from storage.source_hashes import hash_files
from storage.store.artifacts import Artifact
from tasks.engine.config import LOCATION, StageConfig
from tasks.engine.context import Context, Summary
from tasks.engine.stage import stage
from tasks.tokenize.control import TOKENIZER
from tasks.tokenize.stage import TokenizeConfig
from tasks.tokenize.tokenizer import encode, load_tokenizer, read_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SAMPLE_CHARACTERS = 1 << 20  # of each source in each language
MAX_TOKENIZER_BYTES = 1 << 27  # the largest vocabularies take a quarter of it
OPTION = "tokenize.compare_with"
TRIAL = "A word, 春, ไทย."

Location = Annotated[str, StringConstraints(min_length=1)]
Owner = tuple[str, str]  # source and language


class TokenizeSection(TokenizeConfig):
    """What a recipe can set for tokenizing: the tokens, and what their number is compared with."""

    compare_with: Location | None = Field(
        None,
        description="Another tokenizer (its tokenizer.json, or a folder with one), whose bytes per token on held-out "
        "text the report shows beside this run's; null: none.",
        json_schema_extra=LOCATION,
    )

    @property
    def comparing(self) -> "CompressionConfig | None":
        """The config of the stage compression, if there is one."""
        return CompressionConfig(path=self.compare_with) if self.compare_with is not None else None


class CompressionConfig(StageConfig):
    """The other tokenizer."""

    path: Location = Field(description="A tokenizer.json, or a folder with one.", json_schema_extra=LOCATION)


def observe_other(config: CompressionConfig) -> dict[str, str]:
    """The other tokenizer's name -> SHA-256 of its file; DataError for a file that cannot be used."""
    (file,) = hash_files([(f"{other_name(config.path)}/{TOKENIZER}", _file_of(config.path))])
    return {file.name: file.digest}


@stage(
    "compression",
    parts=("compression",),
    reads={"clean": ("documents",), "tokenizer": ("tokenizer",)},
    observe=observe_other,
    libraries=("tiktoken", "tokenizers"),
    about="tasks.tokenize.about.COMPRESSION",
)
def compare_compression(
    config: CompressionConfig, clean: Artifact, tokenizer: Artifact, *, context: Context
) -> Summary:
    """Count the tokens of held-out text by the run's tokenizer and another one. Summary: the text, bytes per token."""
    encoders = (load_tokenizer(tokenizer["tokenizer"].path), _other(config.path))
    taken: Counter[Owner] = Counter()  # characters
    sizes: Counter[Owner] = Counter()
    tokens: tuple[Counter[Owner], Counter[Owner]] = (Counter(), Counter())
    documents = 0
    shards = clean["documents"].files
    for number, file in enumerate(shards):
        owners, texts = _sample(file.path, taken)
        documents += len(texts)
        sizes.update(_totals(owners, [len(text.encode()) for text in texts]))
        for encoder, counted in zip(encoders, tokens, strict=True):
            counted.update(_totals(owners, [len(ids) for ids, _ in encode(encoder, texts)]))
        context.progress(number + 1, len(shards), "shards")
    rows = [
        {"source": owner[0], "language": owner[1], "bytes": sizes[owner]}
        | {"tokens": tokens[0][owner], "other_tokens": tokens[1][owner]}
        for owner in sorted(sizes)
    ]
    found = {"other": other_name(config.path), "rows": rows}
    (context.part("compression") / "compression.json").write_bytes(canonical_json(found) + b"\n")
    ours, others = (round(sizes.total() / counted.total(), 3) if counted.total() else 0.0 for counted in tokens)
    return {
        "compared_documents": documents,
        "compared_bytes": sizes.total(),
        "bytes_per_token": ours,
        "other_bytes_per_token": others,
    }


def _sample(shard: Path, taken: Counter[Owner]) -> tuple[list[Owner], list[str]]:
    """Held-out texts of a shard and whose they are, as far as SAMPLE_CHARACTERS are not `taken` yet, which grows."""
    owners, texts = [], []
    for row in read_rows(shard, columns=["text", "source", "lang", "split"]):
        owner = (row["source"], row["lang"] or UNDETERMINED)
        text = row["text"][: SAMPLE_CHARACTERS - taken[owner]] if row["split"] == HELDOUT else ""
        if text:
            taken[owner] += len(text)
            owners.append(owner)
            texts.append(text)
    return owners, texts


def _totals(owners: Sequence[Owner], amounts: Sequence[int]) -> Counter[Owner]:
    totals: Counter[Owner] = Counter()
    for owner, amount in zip(owners, amounts, strict=True):
        totals[owner] += amount
    return totals


def other_name(path: str) -> str:
    """What the other tokenizer is called: after its file, or after the folder of a `tokenizer.json`."""
    place = Path(path).absolute()
    return place.parent.name if place.name == TOKENIZER else place.name.removesuffix(".json")


def _file_of(path: str) -> Path:
    """The other tokenizer's file; DataError where there is none, or it is too large to be one."""
    place = Path(path)
    if place.is_dir():
        place /= TOKENIZER
    if not place.is_file():
        raise DataError(f"{OPTION}: {place}: no such file; name a {TOKENIZER}, or a folder with one")
    if place.stat().st_size > MAX_TOKENIZER_BYTES:
        raise DataError(f"{OPTION}: {place}: larger than {MAX_TOKENIZER_BYTES:,} bytes; this is not a {TOKENIZER}")
    return place


def _other(path: str) -> "Tokenizer":
    """The other tokenizer, which takes texts whole; DataError for one that cannot encode."""
    file = _file_of(path)
    try:
        tokenizer = read_tokenizer(file)
    except (OSError, ValueError, DataError) as error:
        raise DataError(f"{OPTION}: {file}: cannot be read: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    try:
        can_encode = bool(tokenizer.encode(TRIAL, add_special_tokens=False).ids)
    except Exception as error:  # the library raises a bare Exception
        raise DataError(f"{OPTION}: {file}: cannot encode {TRIAL!r} ({error}); name another tokenizer") from None
    if not can_encode:
        raise DataError(f"{OPTION}: {file}: makes no token of {TRIAL!r}; name another tokenizer")
    return tokenizer
