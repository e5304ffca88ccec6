"""Made-up documents: the same for a seed, varied, with everything in them that later stages look for."""

from collections import Counter
from pathlib import Path

from collecting import documents_of, rows_of, run_collect


def test_the_smoke_documents_have_duplicates_junk_and_both_splits(home: Path) -> None:
    artifact, summary = run_collect(home, synthetic={"documents": 400}, documents_per_shard=100)
    documents = documents_of(artifact)
    texts = Counter(document.text for document in documents)
    assert len(documents) == summary["kept"] == 400
    assert len(artifact["documents"].files) == 4
    assert sum(count - 1 for count in texts.values()) >= 15, "exact duplicates"
    assert sum(text.count("|") > 20 or "$$$" in text or len(text) < 20 for text in texts) >= 5, "junk"
    assert summary["documents_train"] > 300
    assert summary["documents_heldout"] > 10
    assert len({word for text in texts for word in text.split()}) > 400, "words enough for a tokenizer"
    answers = {row["prompt"]: row["answer"] for row in rows_of(artifact, "pairs")}
    for prompt, answer in answers.items():
        [name] = [answer[: answer.index(verb)] for verb in (" lives in ", " is a ", " keeps a ") if verb in answer]
        assert name in prompt, "an answer speaks of whom the question asks for"
    assert summary["pairs_heldout"] > 10


def test_a_seed_decides_everything(home: Path, tmp_path: Path) -> None:
    first, _ = run_collect(home, synthetic={"documents": 60})
    again, _ = run_collect(tmp_path / "again", synthetic={"documents": 60})
    other, _ = run_collect(home, synthetic={"documents": 60, "seed": 1})
    assert first.digest == again.digest
    assert first.digest != other.digest
