"""The stage mix: documents and their tokens in, the order in which pretraining reads them out.

Only in the plan of a recipe with `collect.mix`. Nothing is copied: an order (storage/token_order.py) names documents.
Part `mix` has `mix.json`: `[{"share", "names": {NAME: {"there", "wanted", "given", "documents"}}}, ...]`, a row a
phase, in tokens. Cost: one column of the documents, and a second for a million documents drawn.
"""

from typing import Any

import numpy as np

from storage.canonical import canonical_json
from storage.documents import TRAIN, UNDETERMINED
from storage.errors import DataError
from storage.store.artifacts import Artifact
from storage.token_order import Phase, Pieces, write_order
from storage.tokens import TokenSet
from tasks.engine.context import Context, Summary
from tasks.engine.stage import stage
from tasks.mix.amounts import Amounts, amounts
from tasks.mix.config import MixingConfig
from tasks.mix.corpus import Corpus, corpus_of
from tasks.mix.pool import Pool, shuffled, whole_documents
from tasks.notices import NOTICES

NOTICEABLE = 0.01  # of the mix: how far a share may be from the one wanted before it is said


@stage(
    "mix",
    parts=("order", "mix"),
    reads={"tokens": ("tokens",), "documents": ("documents",), "clean": ("signals",)},
    about="tasks.mix.about.MIX",
)
def mix(config: MixingConfig, tokens: Artifact, documents: Artifact, clean: Artifact, *, context: Context) -> Summary:
    """Draw what pretraining reads.

    `documents` are those of the tokens, `clean` knows their languages. Summary: tokens and documents of the mix,
    repeats counted, and its phases.
    """
    token_set = TokenSet(tokens["tokens"].path, TRAIN)
    corpus = corpus_of(config, documents["documents"], clean["signals"], token_set)
    planned = amounts(config, corpus.names, corpus.tokens)
    _check_there(corpus, planned)
    pools = [Pool(whole_documents(corpus.documents_of(n), corpus.sizes), config.seed) for n in range(len(corpus.names))]
    canaries = shuffled(whole_documents(np.arange(len(corpus.owners), len(corpus.sizes)), corpus.sizes), config.seed)
    phases, rows = [], []
    for number, phase in enumerate(planned):
        drawn = [pool.draw(int(tokens)) for pool, tokens in zip(pools, phase.given, strict=True)]
        own = _share_of(canaries, planned, number)
        phases.append(Phase(phase.share, shuffled(np.concatenate([*drawn, own], axis=1), config.seed, number)))
        rows.append({"share": phase.share, "names": _figures(corpus, phase, drawn)})
        context.progress(number + 1, len(planned), "phases")
    write_order(context.part("order"), phases)
    (context.part("mix") / "mix.json").write_bytes(canonical_json(rows) + b"\n")
    return {
        "tokens": sum(int(phase.pieces[2].sum()) for phase in phases),
        "documents": sum(phase.pieces.shape[1] for phase in phases),
        "phases": len(phases),
        NOTICES: _notices(config, corpus, planned),
    }


def _share_of(canaries: Pieces, planned: list[Amounts], number: int) -> Pieces:
    """Each canary is met in one phase, as often as it was planted."""
    borders = np.rint(np.cumsum([0.0, *(phase.share for phase in planned)]) * canaries.shape[1]).astype(int)
    return canaries[:, borders[number] : borders[number + 1]]


def _figures(corpus: Corpus, phase: Amounts, drawn: list[Pieces]) -> dict[str, dict[str, Any]]:
    rows = zip(corpus.names, corpus.tokens.tolist(), phase.wanted.tolist(), phase.given.tolist(), drawn, strict=True)
    return {
        name: {"there": there, "wanted": round(wanted), "given": given, "documents": pieces.shape[1]}
        for name, there, wanted, given, pieces in rows
    }


def _check_there(corpus: Corpus, planned: list[Amounts]) -> None:
    if not any(phase.given.any() for phase in planned):
        raise DataError("mix: no training text of what collect.mix names; give other names, or add text")


def _notices(config: MixingConfig, corpus: Corpus, planned: list[Amounts]) -> list[str]:
    """What a limit has changed."""
    wanted = np.sum([phase.wanted for phase in planned], axis=0)
    given = np.sum([phase.given for phase in planned], axis=0)
    sentences = [
        f"mix: {name} is {has / given.sum():.1%} of the mix in place of {asked / wanted.sum():.1%}: more would repeat "
        f"its {there:,} tokens over {config.max_epochs:g} times (collect.mix.max_epochs)"
        for name, asked, has, there in zip(corpus.names, wanted, given, corpus.tokens.tolist(), strict=True)
        if has < asked and asked / wanted.sum() - has / given.sum() > NOTICEABLE
    ]
    if given.sum() < (1 - NOTICEABLE) * wanted.sum():
        sentences.append(
            f"mix: there are {given.sum():,} tokens for a mix of {wanted.sum():,.0f}: training goes through it more "
            "than once (raise collect.mix.max_epochs, lower pretrain.tokens, or add text)"
        )
    unknown = dict(zip(corpus.names, given / max(1, given.sum()), strict=True)).get(UNDETERMINED, 0.0)
    if config.by == "language" and unknown > NOTICEABLE:
        sentences.append(
            f"mix: the language of {unknown:.1%} of the mix is not known ({UNDETERMINED}): choose a filter.preset "
            "that finds it, or state it (lang) with the source"
        )
    return sentences
