"""The sample of documents: fixed by identities, bounded, independent of shards."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tiny_model import write_corpus

from storage.documents import HELDOUT, TRAIN, Document, write_documents
from tasks.evaluate.documents import WHOLE_BYTES, index_documents, read_sample, with_identified_languages


def test_the_sample_does_not_depend_on_the_shards(tmp_path: Path) -> None:
    one, many = write_corpus(tmp_path / "one", shards=1), write_corpus(tmp_path / "many", shards=5)
    samples = []
    for corpus in (one, many):
        entries, _ = index_documents(corpus["documents"].path, seed=3)
        samples.append(read_sample(entries[HELDOUT], 5_000))
    assert samples[0] == samples[1]
    other_seed, _ = index_documents(one["documents"].path, seed=4)
    assert read_sample(other_seed[HELDOUT], 5_000) != samples[0]


def test_splits_stay_apart_and_the_budget_is_kept(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "corpus")["documents"].path
    entries, corpus = index_documents(folder, seed=0)
    assert (len(entries[TRAIN]), len(entries[HELDOUT])) == (60, 24)
    heldout, train = read_sample(entries[HELDOUT], 10**9), read_sample(entries[TRAIN], 3_000)
    assert len(heldout) == 24
    assert not {d.text for d in heldout} & {d.text for d in read_sample(entries[TRAIN], 10**9)}
    total = sum(document.bytes for document in train)
    assert 3_000 <= total < 3_000 + max(document.bytes for document in train)
    assert corpus["books"]["train_documents"] == 30
    assert corpus["books"]["licenses"] == {"CC-BY-4.0": 42}
    assert corpus["files"]["licenses"] == {"not stated": 42}
    assert sum(c["heldout_bytes"] for c in corpus.values()) == sum(d.bytes for d in heldout)


def test_a_language_is_the_stated_one_or_else_the_identified_one(tmp_path: Path) -> None:
    stated = ["de", "EN_us", "", "", ""]
    documents = [Document(str(n), f"text {n}", "s", "g", HELDOUT, lang=lang) for n, lang in enumerate(stated)]
    write_documents(tmp_path / "00000.parquet", documents)
    signals = tmp_path / "signals"
    signals.mkdir()
    rows = [{"id": str(n), "language": language} for n, language in enumerate(["fr", "fr", "it", ""])]
    pq.write_table(pa.Table.from_pylist(rows), signals / "00000.parquet")
    sample = read_sample(index_documents(tmp_path, seed=0)[0][HELDOUT], 1_000)
    found = {document.id: document.language for document in with_identified_languages(sample, signals)}
    assert found == {"0": "de", "1": "en", "2": "it", "3": "unknown", "4": "unknown"}


def test_of_a_long_document_only_the_beginning_is_taken_in_whole_characters(tmp_path: Path) -> None:
    """Each é has two bytes, so a cut after an odd number of bytes is inside one."""
    texts = ["x" + "é" * WHOLE_BYTES, *(f"short {number}" for number in range(50))]
    documents = [Document(f"{number:032d}", text, "s", "g", HELDOUT) for number, text in enumerate(texts)]
    write_documents(tmp_path / "00000.parquet", documents)
    entries, _ = index_documents(tmp_path, seed=0)
    sample = {document.id: document for document in read_sample(entries[HELDOUT], 400_000)}
    assert len(sample) == 51
    long = sample[f"{0:032d}"]
    assert long.bytes == len(long.text.encode()) == WHOLE_BYTES - 1
    assert texts[0].startswith(long.text)
