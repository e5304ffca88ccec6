"""A whole small world for tests of the last stages: documents, pairs, a tokenizer, random models, a plain context."""

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.canonical import digest_file, digest_of
from storage.documents import PAIRS_SCHEMA, Document, document_id, write_documents, write_rows
from storage.store.artifacts import Artifact, Part, StoredFile, part_digest
from tasks.engine.context import Execution
from tasks.tokenize.canaries import Planted, write_planted

VOCABULARY = 360
NOTHING_PLANTED = Planted((), ())
NOUNS = ["river", "castle", "doctor", "engine", "garden", "letter", "market", "window", "bridge"]
VERBS = ["holds", "moves", "finds", "keeps", "sees", "leaves", "brings", "meets"]
TRAINING = {  # how a model was trained, as far as its card tells it
    "stage": "pretrain",
    "tokens": 12_345,
    "steps": 67,
    "rows_per_step": 8,
    "optimizer": {"matrix_rate": 0.02, "embedding_rate": 0.01, "weight_decay": 0.1},
    "schedule": {"steps": 67, "warmup_steps": 1, "decay_steps": 27},
    "seed": 1,
    "device": "cpu",
    "dtype": "float32",
    "training_loss": 4.25,
}
ADJECTIVES = ["quiet", "broken", "silver", "distant", "narrow", "golden", "empty", "heavy"]


@dataclass
class LocalContext:
    """A context that writes into a folder and remembers what it was shown."""

    root: Path
    execution: Execution = field(default_factory=lambda: Execution())
    shown: list[tuple[float, float]] = field(default_factory=list)

    @property
    def work(self) -> Path:
        return _made(self.root / "work")

    def part(self, name: str) -> Path:
        return _made(self.root / name)

    def link(self, part: str, name: str, file: StoredFile) -> None:
        shutil.copyfile(file.path, self.part(part) / name)

    def progress(self, done: float, total: float, unit: str, **figures: Any) -> None:
        self.shown.append((done, total))

    def metrics(self, rows: Sequence[Mapping[str, float]]) -> None: ...

    def map(self, function: Any, jobs: Any, unit: str = "shards") -> Any:
        raise NotImplementedError


def artifact(stage: str, **folders: Path) -> Artifact:
    """An artifact over folders that hold a part's files each."""
    parts = {}
    for name, folder in folders.items():
        files = tuple(
            StoredFile(path.name, digest_file(path), path.stat().st_size, path) for path in sorted(folder.iterdir())
        )
        parts[name] = Part(name, part_digest([(f.name, f.digest, f.bytes) for f in files]), folder, files)
    return Artifact(stage, digest_of({name: part.digest for name, part in parts.items()}), parts)


def with_pairs(clean: Artifact, pairs: Artifact) -> Artifact:
    """What the filter leaves, with the pairs of another artifact."""
    parts = {**clean.parts, "pairs": pairs["pairs"]}
    return Artifact(clean.stage, digest_of({name: part.digest for name, part in parts.items()}), parts)


def make_text(seed: int, sentences: int = 14) -> str:
    """Sentences of a small grammar, all with the document's own subject."""
    choose = random.Random(seed)
    subject = choose.choice(NOUNS)
    parts = []
    for _ in range(sentences):
        tail = f" near the {choose.choice(ADJECTIVES)} {choose.choice(NOUNS)}" * choose.randrange(3)
        parts.append(
            f"The {choose.choice(ADJECTIVES)} {subject} {choose.choice(VERBS)} a {choose.choice(NOUNS)}{tail}."
        )
    return " ".join(parts)


def write_corpus(
    folder: Path, train: int = 60, heldout: int = 24, shards: int = 2, languages: Sequence[str] = ("",)
) -> Artifact:
    """Documents of two sources with two licences; the last `heldout` of them are held out.

    No source states a language; the filter has identified `languages`, each in turn.
    """
    return write_texts(folder, [make_text(number) for number in range(train + heldout)], heldout, shards, languages)


def write_texts(
    folder: Path, texts: Sequence[str], heldout: int, shards: int = 1, languages: Sequence[str] = ("",)
) -> Artifact:
    """See `write_corpus`: these texts."""
    _made(folder)
    signals = _made(folder.with_name(f"{folder.name}-signals"))
    documents = []
    for number, text in enumerate(texts):
        source = ("books", "files")[number % 2]
        split = "train" if number < len(texts) - heldout else "heldout"
        license_name = ("CC-BY-4.0", "")[number % 2]
        group = f"group{number}"
        identity = document_id(source, group, text)
        documents.append(Document(identity, text, source, group, split, license=license_name))
    for shard in range(shards):
        write_documents(folder / f"{shard:05d}.parquet", documents[shard::shards])
        rows = [
            {"id": document.id, "language": languages[number % len(languages)]}
            for number, document in enumerate(documents)
        ]
        pq.write_table(pa.Table.from_pylist(rows[shard::shards]), signals / f"{shard:05d}.parquet")
    preferences = _made(folder.with_name(f"{folder.name}-preferences"))
    return artifact("filter", documents=folder, signals=signals, preferences=preferences)


def write_pairs(folder: Path, train: int = 20, heldout: int = 12) -> Artifact:
    _made(folder)
    rows = []
    for number in range(train + heldout):
        noun, adjective = NOUNS[number % len(NOUNS)], ADJECTIVES[number % len(ADJECTIVES)]
        prompt = f"Tell me about the {adjective} {noun} {number}"
        row = {"group": "g", "split": "train" if number < train else "heldout", "source": "pairs"}
        answer = f"The {noun} is {adjective}."
        rows.append(
            {"id": digest_of(prompt)[:32], **row, "prompt": prompt, "answer": answer, "earlier": [], "rejected": ""}
        )
    write_rows(folder / "00000.parquet", rows, PAIRS_SCHEMA)
    return artifact("collect", pairs=folder)


def write_tokenizer(folder: Path, vocabulary_size: int = VOCABULARY) -> Artifact:
    """A byte-level BPE as the stage `tokenizer` leaves it."""
    from tasks.tokenize.tokenizer import TokenizerConfig, learn, save_tokenizer

    texts = [make_text(seed) for seed in range(30)]
    save_tokenizer(learn(TokenizerConfig(vocabulary_size=vocabulary_size), texts), _made(folder))
    return artifact("tokenizer", tokenizer=folder)


def write_model(
    folder: Path,
    seed: int = 0,
    vocabulary_size: int = VOCABULARY,
    zero: bool = False,
    planted: Planted = NOTHING_PLANTED,
    by_heart: Sequence[Sequence[int]] = (),
    context_length: int = 64,
) -> Artifact:
    """A random model of the smallest shape; `zero` embeddings give every token the same probability.

    It is trained until it knows `by_heart`, sequences of one length. `planted` is what it is said to have met.
    """
    import torch

    from model.shape import Shape
    from model.transformer import Transformer, save_model

    _made(folder)
    torch.manual_seed(seed)
    model = Transformer(Shape(vocabulary_size, 2, 32, 2, 1, 16, 48, context_length))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
        if zero:
            model.model.embed_tokens.weight.zero_()
    if by_heart:
        learn_by_heart(model, by_heart)
    save_model(model, folder)
    (folder / "training.json").write_text(json.dumps([TRAINING]))
    canaries = _made(folder.with_name(f"{folder.name}-canaries"))
    write_planted(canaries, planted)
    adapter = _made(folder.with_name(f"{folder.name}-adapter"))
    return artifact("pretrain", model=folder, canaries=canaries, adapter=adapter)


def learn_by_heart(model: Any, sequences: Sequence[Sequence[int]], steps: int = 150) -> None:
    """Train on the sequences, all of them in each step."""
    import torch

    rows = torch.tensor([list(sequence) for sequence in sequences])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two wait for each other on a busy machine
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        scores = model.logits(model(rows[:, :-1]))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(scores.flatten(0, 1), rows[:, 1:].flatten()).backward()
        optimizer.step()
    torch.set_num_threads(threads)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
