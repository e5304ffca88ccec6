"""The stage mix: documents and their tokens in, the order in which pretraining reads them out.

Only in the plan of a recipe with `collect.mix`. Nothing is copied: an order (storage/token_order.py) names documents.
Part `mix` has `mix.json`: `[{"share", "names": {NAME: {"there", "wanted", "given", "documents"}}}, ...]`, a row a
phase, in tokens; of a curriculum by a score with `"scores": [least, greatest]`, null where no document has one. Cost:
one column of the documents (by a score in their metadata, two), and a second for a million documents drawn.
"""

from dataclasses import dataclass
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
from tasks.mix.curriculum import Stretch, scores_of, stretches, without_score
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
    drawn = [[pool.draw(int(given)) for pool, given in zip(pools, one.given, strict=True)] for one in planned]
    notices = _notices(config, corpus, planned)
    if config.curriculum is None:
        read = [_Read(one.share, np.concatenate(own, axis=1)) for one, own in zip(planned, drawn, strict=True)]
        rows = [_figures(corpus, one, own) for one, own in zip(planned, drawn, strict=True)]
    else:
        scores = scores_of(config.curriculum, documents["documents"], clean["signals"], corpus)
        cut_up = stretches(config.curriculum, np.concatenate(drawn[0], axis=1), scores)
        read = [_Read(1 / len(cut_up), one.pieces) for one in cut_up]
        rows = [_figures_of_stretch(corpus, one) for one in cut_up]
        notices += without_score(config.curriculum, scores)
    phases = []
    for number, own in enumerate(read):
        pieces = np.concatenate([own.pieces, _share_of(canaries, read, number)], axis=1)
        phases.append(Phase(own.share, shuffled(pieces, config.seed, number)))
        context.progress(number + 1, len(read), "phases")
    write_order(context.part("order"), phases)
    shown = [{"share": own.share, **row} for own, row in zip(read, rows, strict=True)]
    (context.part("mix") / "mix.json").write_bytes(canonical_json(shown) + b"\n")
    return {
        "tokens": sum(int(phase.pieces[2].sum()) for phase in phases),
        "documents": sum(phase.pieces.shape[1] for phase in phases),
        "phases": len(phases),
        NOTICES: notices,
    }


@dataclass(frozen=True, slots=True)
class _Read:
    """What a share of the steps reads, without canaries."""

    share: float
    pieces: Pieces


def _share_of(canaries: Pieces, read: list[_Read], number: int) -> Pieces:
    """Each canary is met in one phase, as often as it was planted."""
    borders = np.rint(np.cumsum([0.0, *(own.share for own in read)]) * canaries.shape[1]).astype(int)
    return canaries[:, borders[number] : borders[number + 1]]


def _figures(corpus: Corpus, phase: Amounts, drawn: list[Pieces]) -> dict[str, Any]:
    rows = zip(corpus.names, corpus.tokens.tolist(), phase.wanted.tolist(), phase.given.tolist(), drawn, strict=True)
    return {
        "names": {
            name: {"there": there, "wanted": round(wanted), "given": given, "documents": pieces.shape[1]}
            for name, there, wanted, given, pieces in rows
        }
    }


def _figures_of_stretch(corpus: Corpus, stretch: Stretch) -> dict[str, Any]:
    """As of a phase that wants what it is given; and from which score to which it goes."""
    owners, size = corpus.owners[stretch.pieces[0]], len(corpus.names)
    given = np.bincount(owners, stretch.pieces[2], size).astype(np.int64).tolist()
    rows = zip(corpus.names, corpus.tokens.tolist(), given, np.bincount(owners, minlength=size).tolist(), strict=True)
    return {
        "scores": stretch.scores,
        "names": {
            name: {"there": there, "wanted": tokens, "given": tokens, "documents": documents}
            for name, there, tokens, documents in rows
        },
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
