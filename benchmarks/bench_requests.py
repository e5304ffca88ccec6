"""Requests of real benchmarks as lm-eval makes them: shared by the scorer's speed benchmark and its tests.

Sources are the files of `bench` in the data folder beside the checkout. Contexts and continuations are split as
lm-eval splits them, after `<|endoftext|>`, which is also its prefix token for our tokenizers. Five-shot questions
have examples of their own each, drawn with a seed, as lm-eval's default sampler does.
"""

import io
import json
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from storage.tokens import END_OF_TEXT

Encode = Callable[[str], list[int]]
Request = tuple[list[int], list[int]]
Text = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Questions:
    """Requests in groups of one item each, and the number of the right one in each group; None: the greedy answer."""

    name: str
    items: list[list[Request]]
    gold: list[int | None]

    @property
    def requests(self) -> list[Request]:
        return [request for item in self.items for request in item]

    def accuracy(self, answers: Sequence[tuple[float, bool]]) -> float:
        """Share of items whose right answer is likelier than all others, or greedy where it is alone."""
        following = iter(answers)
        right = 0
        for item, gold in zip(self.items, self.gold, strict=True):
            nats, greedy = zip(*(next(following) for _ in item), strict=True)
            right += greedy[0] if gold is None else nats.index(max(nats)) == gold
        return right / len(self.items)


def blimp(folder: Path, encode: Encode, pairs: int) -> Questions:
    """The first pairs of each of the 67 sets: which sentence is likelier."""
    items: list[list[Text]] = []
    packed = zstandard.ZstdDecompressor().stream_reader((folder / "blimp.tar.zst").read_bytes()).read()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            file = archive.extractfile(member) if member.name.endswith(".jsonl") else None
            for row in map(json.loads, file.read().splitlines()[:pairs] if file else ()):
                items.append([("", row["sentence_good"]), ("", row["sentence_bad"])])
    return _questions("BLiMP", encode, items, [0] * len(items))


def arc_easy(folder: Path, encode: Encode, count: int, shots: int) -> Questions:
    """Cloze form: the likeliest of the answers, each after the question."""
    rows = list(_rows(folder / "arc_easy.jsonl"))
    choose = random.Random(1234)
    items = []
    for row in rows[:count]:
        examples = choose.sample([other for other in rows if other is not row], shots)
        solved = [f"{one['query']}\nAnswer: {one['choices'][one['gold']]}\n\n" for one in examples]
        context = "".join([*solved, row["query"], "\nAnswer:"])
        items.append([(context, f" {choice}") for choice in row["choices"]])
    return _questions(f"ARC-easy {shots}-shot", encode, items, [row["gold"] for row in rows[:count]])


def winogrande(folder: Path, encode: Encode, count: int) -> Questions:
    """Which of two beginnings makes the ending likelier."""
    rows = [row for row, _ in zip(_rows(folder / "winogrande.jsonl"), range(count), strict=False)]
    items = [[(context, f" {row['continuation']}") for context in row["context_options"]] for row in rows]
    return _questions("WinoGrande", encode, items, [row["gold"] for row in rows])


def boolq(folder: Path, encode: Encode, count: int) -> Questions:
    """Long passages of very uneven length, each with a question and the answers no and yes."""
    rows = [row for row, _ in zip(_rows(folder / "boolq.jsonl"), range(count), strict=False)]
    items = [[(f"{row['query']}\nAnswer:", f" {choice}") for choice in row["choices"]] for row in rows]
    return _questions("BoolQ", encode, items, [row["gold"] for row in rows])


def lambada(folder: Path, encode: Encode, count: int) -> Questions:
    """The last word of a passage, greedily."""
    rows = [row for row, _ in zip(_rows(folder / "lambada_openai.jsonl"), range(count), strict=False)]
    items = [[(row["context"], f" {row['continuation']}")] for row in rows]
    return _questions("LAMBADA", encode, items, [None] * len(items))


def corpus_texts(path: Path, most_bytes: int) -> list[str]:
    """The first documents of a corpus file, up to a number of bytes."""
    texts: list[str] = []
    size = 0
    with zstandard.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            texts.append(json.loads(line)["text"])
            size += len(texts[-1].encode())
            if size >= most_bytes:
                break
    return texts


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _questions(name: str, encode: Encode, items: list[list[Text]], gold: Sequence[int | None]) -> Questions:
    return Questions(name, [[_split(encode, *texts) for texts in item] for item in items], list(gold))


def _split(encode: Encode, context: str, continuation: str) -> Request:
    """Encoded together and cut where the context alone ends; spaces at its end go to the continuation."""
    kept = context.rstrip()
    together = encode(kept + context[len(kept) :] + continuation)
    cut = len(encode(kept)) if kept else 0
    return [END_OF_TEXT, *together[:cut]], together[cut:]
