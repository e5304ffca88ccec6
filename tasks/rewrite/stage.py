"""The stage rewrite: training documents in, what another model has made of some of them out; augment adds it to them.

In: documents, and of a teacher on this machine its weights and tokenizer. Out: `rewritten` (a file for each shard: id
of the source, text), `ledger` (a row for each document that was chosen: id, outcome, tokens, why).

Documents are chosen by a hash of their ids, at most `most_requests`. They are asked for in their order, WAVE at a time,
for as long as what a request may cost at most still fits into `most_tokens`. Answers are kept as they come
(answers.py): whatever ends the stage, what was answered is not asked again. Nothing is silent: each outcome is counted.

| outcome | |
|---|---|
| rewritten | used |
| refused | the model or its server would not answer |
| cut | the answer was not finished within `most_answer_tokens` |
| unlike | empty, as it was, or `most_apart` times shorter or longer |
| failed | the server does not take the request, the answer is none of a chat, or the prompt is too long |
| too_long | more than `most_characters`: not asked for |
| not_asked | the budget of tokens was used up |
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import pyarrow as pa

from storage.canonical import fraction_of
from storage.documents import TRAIN, RowWriter, read_rows
from storage.home import home
from storage.store.artifacts import Artifact, StoredFile
from tasks.engine.context import Context, Summary
from tasks.engine.stage import stage
from tasks.notices import NOTICES
from tasks.rewrite.answers import ANSWERED, CUT, FAILED, REFUSED, Answer, Known
from tasks.rewrite.config import PLACE, WAVE, RewriteConfig

REWRITTEN, UNLIKE, TOO_LONG, NOT_ASKED = "rewritten", "unlike", "too_long", "not_asked"
OUTCOMES = (REWRITTEN, REFUSED, CUT, UNLIKE, FAILED, TOO_LONG, NOT_ASKED)
FORM_TOKENS = 64  # of a prompt: what a chat form adds to its text, at most
TEXTS_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("id", "text")])
LEDGER_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("id", "outcome", "why")),
        pa.field("tokens", pa.int64(), nullable=False),
    ]
)

Row = dict[str, Any]


class Asks(Protocol):
    """Who answers: a server, or a teacher on this machine."""

    @property
    def identity(self) -> dict[str, Any]: ...

    def ask(self, prompts: Sequence[str], keep: Callable[[str, Answer], None]) -> list[Answer]: ...


@stage(
    "rewrite",
    parts=(REWRITTEN, "ledger"),
    reads={"documents": ("documents",), "teacher": ("model", "tokenizer")},
    libraries=("pyarrow", "torch", "tokenizers", "tiktoken"),
    about="tasks.rewrite.about.REWRITE",
    optional=("teacher",),
)
def rewrite(
    config: RewriteConfig, documents: Artifact, teacher: Artifact | None = None, *, context: Context
) -> Summary:
    """Ask another model for training documents in other words. Summary: outcomes, tokens, requests made."""
    files = documents["documents"].files
    most = _most_position(config, files)
    texts, ledger = context.part(REWRITTEN), context.part("ledger")
    outcomes = Counter[str]()
    with ExitStack() as opened:
        budget = Budget(config, _asks(config, teacher, opened))
        for number, file in enumerate(files):
            with (
                RowWriter(texts / file.name, TEXTS_SCHEMA) as made,
                RowWriter(ledger / file.name, LEDGER_SCHEMA) as rows,
            ):
                for row, answer in budget.answered(_chosen(config, file, most)):
                    outcome = outcome_of(config, row["text"], answer)
                    outcomes[outcome] += 1
                    if outcome == REWRITTEN:
                        made.add({"id": row["id"], "text": answer.text})
                    rows.add({"id": row["id"], "outcome": outcome, "why": answer.why, "tokens": answer.tokens or 0})
            context.progress(number + 1, len(files), "shards", requests=budget.asked)
    return {
        **{outcome: outcomes[outcome] for outcome in OUTCOMES},
        "tokens": budget.spent,
        NOTICES: list(_notices(config, outcomes)),
    }


def _asks(config: RewriteConfig, teacher: Artifact | None, opened: ExitStack) -> Asks:
    if teacher is not None:
        from tasks.rewrite.teacher import Teacher

        return Teacher(config, teacher)
    from tasks.rewrite.server import Server

    return opened.enter_context(Server(config))


def _most_position(config: RewriteConfig, files: Sequence[StoredFile]) -> float:
    """The position below which documents are chosen: a share of them, and `most_requests` at most. In memory: eight
    bytes a document."""
    found = sorted(
        place
        for file in files
        for row in read_rows(file.path, ["id", "split"])
        if row["split"] == TRAIN and (place := _position(config, row["id"])) < config.share
    )
    return found[config.most_requests] if len(found) > config.most_requests else config.share


def _chosen(config: RewriteConfig, file: StoredFile, most: float) -> Iterator[Row]:
    for row in read_rows(file.path, ["id", "text", "split"]):
        if row["split"] == TRAIN and _position(config, row["id"]) < most:
            yield row


def _position(config: RewriteConfig, identity: str) -> float:
    return fraction_of(f"augment {config.seed} rewrite", identity)


class Budget:
    """Asks for documents as long as there are tokens; `spent` are those of all answers, the known ones too, and `asked`
    the requests that were made now."""

    def __init__(self, config: RewriteConfig, asks: Asks) -> None:
        self.spent = self.asked = 0
        self._config, self._asks = config, asks
        self._known = Known(home() / "cache" / "rewritten")
        self._over = False

    def answered(self, rows: Iterator[Row]) -> Iterator[tuple[Row, Answer]]:
        """Each row with its answer, in order."""
        wave: list[Row] = []
        for row in rows:
            if len(row["text"]) > self._config.most_characters:
                yield row, Answer(TOO_LONG)
                continue
            wave.append(row)
            if len(wave) == WAVE:
                yield from self._wave(wave)
                wave = []
        yield from self._wave(wave)

    def _wave(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Answer]]:
        while rows:
            fit = self._that_fit(rows)
            if not fit:
                self._over = True
                yield from ((row, Answer(NOT_ASKED)) for row in rows)
                return
            prompts = [self._prompt(row) for row in rows[:fit]]
            answers = self._answers(prompts)
            for row, prompt, answer in zip(rows, prompts, answers, strict=False):
                self.spent += self._most_tokens(prompt) if answer.tokens is None else answer.tokens
                yield row, answer
            rows = rows[fit:]

    def _that_fit(self, rows: Sequence[Row]) -> int:
        """How many of the rows can be asked for whatever their answers cost; none once one could not."""
        left = 0 if self._over else self._config.most_tokens - self.spent
        for number, row in enumerate(rows):
            left -= self._most_tokens(self._prompt(row))
            if left < 0:
                return number
        return len(rows)

    def _most_tokens(self, prompt: str) -> int:
        """Of a prompt and its answer: no token is less than a byte."""
        return len(prompt.encode()) + FORM_TOKENS + self._config.most_answer_tokens

    def _answers(self, prompts: Sequence[str]) -> list[Answer]:
        known = {prompt: self._known.get(self._question(prompt)) for prompt in prompts}
        unknown = [prompt for prompt, answer in known.items() if answer is None]
        self.asked += len(unknown)
        new = self._asks.ask(unknown, lambda prompt, answer: self._known.keep(self._question(prompt), answer))
        found = known | dict(zip(unknown, new, strict=True))
        return [answer for prompt in prompts if (answer := found[prompt]) is not None]

    def _prompt(self, row: Row) -> str:
        return self._config.prompt.replace(PLACE, row["text"])

    def _question(self, prompt: str) -> Row:
        """What an answer is known by."""
        chosen = {"temperature": self._config.temperature, "most_tokens": self._config.most_answer_tokens}
        return {"by": self._asks.identity, "prompt": prompt, **chosen}


def outcome_of(config: RewriteConfig, text: str, answer: Answer) -> str:
    """What becomes of an answer."""
    if answer.state != ANSWERED:
        return answer.state
    sizes = sorted((len(text.strip()), len(answer.text)))
    same = answer.text == text.strip()
    return UNLIKE if same or not sizes[0] or sizes[1] > config.most_apart * sizes[0] else REWRITTEN


def _notices(config: RewriteConfig, outcomes: Counter[str]) -> Iterator[str]:
    fields = {CUT: "most_answer_tokens", UNLIKE: "most_apart", TOO_LONG: "most_characters", NOT_ASKED: "most_tokens"}
    lost = [
        f"{outcomes[outcome]:,} {outcome.replace('_', ' ')}"
        + (f" (augment.rewrite.{fields[outcome]})" if outcome in fields else "")
        for outcome in OUTCOMES[1:]
        if outcomes[outcome]
    ]
    if lost:
        yield f"rewrite: of {outcomes.total():,} documents {outcomes[REWRITTEN]:,} were rewritten: {', '.join(lost)}"
