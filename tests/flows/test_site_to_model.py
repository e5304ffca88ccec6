"""A site of two hundred pages, by the recipe `site`, to a released model that answers; the way of one page is told."""

import html
import json
from pathlib import Path
from typing import Any

import pytest
from sites import Answer, Site, serving
from support import digests, llmill, outcomes, report_of

from storage.documents import read_documents
from tasks.collect.output import Splits
from tasks.collect.synthetic import SyntheticJob, make_synthetic

ARTICLES, TOPICS = 189, 10  # with the home page and a page for each topic 200 pages
SMALL = {  # a model that takes seconds
    "tokenizer.vocabulary_size": 512,
    "pretrain.context_length": 64,
    "pretrain.batch_tokens": 1024,
    "pretrain.steps": 40,
    "pretrain.validation_tokens": 4096,
    "finetune.steps": 20,
    "evaluate.items": 40,
    "evaluate.heldout_bytes": 10_000,
}
KEPT = ("collect     collected", "deduplicate kept", "filter      kept", "tokenize    tokenized")
WAY = {"train": (*KEPT, "pretrain    trained on"), "heldout": (*KEPT, "pretrain    held out", "evaluate    measured")}
FORBIDDEN = "These words stand where robots.txt forbids to read."


def articles(scratch: Path) -> list[str]:
    """Texts of 70 to 180 words, in paragraphs; what the source makes up of junk has none."""
    splits = Splits(heldout_fraction=0, heldout_groups=())
    make_synthetic(SyntheticJob(documents=300, seed=5, splits=splits, documents_per_shard=1000), {}, scratch)
    (shard,) = scratch.glob("documents-*.parquet")
    texts = [document.text for document in read_documents(shard)]
    return [text for text in dict.fromkeys(texts) if "\n\n" in text][:ARTICLES]


def made_page(title: str, text: str, links: dict[str, str]) -> Answer:
    paragraphs = "".join(f"<p>{html.escape(part)}</p>" for part in text.split("\n\n"))
    menu = "".join(f'<li><a href="{path}">{name}</a></li>' for path, name in links.items())
    return Answer(
        f'<!doctype html><html lang="en"><head><title>{title}</title></head><body><nav><ul>{menu}</ul></nav>'
        f"<main><article><h1>{title}</h1>{paragraphs}</article></main>"
        "<footer>All rights of these made-up pages are nobody's.</footer></body></html>".encode()
    )


def pages(texts: list[str]) -> dict[str, Any]:
    """Home, topics and articles; a page that is gone, one that moved and one that nobody may read."""
    topics = {f"/topic/{number}/": f"Topic {number}" for number in range(TOPICS)}
    odd = {"/gone": "Gone", "/old": "Old", "/private/x": "Private"}
    about = "Here are stories of the people of many towns, sorted by topics, for everybody who likes to read them."
    found = {"/": made_page("Home", about, topics | odd)}
    for number, (path, name) in enumerate(topics.items()):
        links = {f"{path}{article}.html": f"Story {article}" for article in range(number, len(texts), TOPICS)}
        found[path] = made_page(name, f"{name} of ten, with {len(links)} stories of people and animals.", links)
        for article in range(number, len(texts), TOPICS):
            found[f"{path}{article}.html"] = made_page(f"Story {article}", texts[article], {"/": "Home", **topics})
    robots = Answer(b"User-agent: *\nDisallow: /private/\n", 200, {"Content-Type": "text/plain"})
    moved = Answer(b"", 301, {"Location": "/topic/0/"})
    return found | {"/robots.txt": robots, "/old": moved, "/private/x": made_page("Private", FORBIDDEN, {})}


@pytest.mark.slow
def test_two_hundred_pages_become_a_model_that_answers(home: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    texts = articles(tmp_path / "texts")
    assert len(texts) == ARTICLES
    with serving(pages(texts)) as site:
        settings = {f"collect.web.0.{name}": value for name, value in source(site).items()} | SMALL
        chosen = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        report = report_of(llmill("run", "site", "--plain", "--json", *chosen, home=home))
        again = report_of(llmill("run", "site", "--plain", "--json", *chosen, home=home))
    assert report["status"] == "completed" and set(outcomes(report).values()) == {"built"}
    assert again["status"] == "reused" and digests(again) == digests(report)

    summaries = {stage["stage"]: stage["artifact"]["summary"] for stage in report["stages"]}
    crawl = summaries["fetch"]
    assert (crawl["pages"], crawl["site.gone"], crawl["site.refused"]) == (200, 1, 1)
    assert summaries["collect"]["read"] == 200 and summaries["collect"]["kept"] >= ARTICLES
    documents = cat(home, "latest/collect/documents")
    assert all(text.split("\n\n")[0] in "\n".join(row["text"] for row in documents) for text in texts)
    assert not any(FORBIDDEN in row["text"] or "All rights" in row["text"] for row in documents)

    stories = {row["split"]: row for row in documents if row["title"].startswith("Story ")}
    assert set(stories) == {"train", "heldout"}  # which pages are held out follows from the address, thus from the port
    for split, row in stories.items():
        told = llmill("explain", "latest", row["url"], home=home).stdout
        assert row["title"] in told and all(f"\n{way}" in told for way in WAY[split]), told
    answer = llmill("generate", "--raw", "Every summer the families meet at the", "--max-new-tokens", "12", home=home)
    assert answer.returncode == 0 and answer.stdout.strip(), answer.stderr


def source(site: Site) -> dict[str, Any]:
    return {"urls": f"[{site.url()}]", "allow_private": "true", "delay_seconds": 0}


def cat(home: Path, part: str) -> list[dict[str, Any]]:
    shown = llmill("cat", part, "--limit", "1000", home=home)
    return [json.loads(line) for line in shown.stdout.splitlines()]
