"""kill -9 amid a source of each kind, at a random moment: the next run does what is missing, and makes the same."""

import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hub_files import Hub, commit_id, serve_hub
from sites import Site, page, serving
from support import digests, drawn_moments, llmill, llmill_command, processes_of, report_of, wait_until
from web_archives import answer, record, web_page, write_archive

PAGE = "<html><title>{0}</title><body><article>{1}</article></body></html>"
ARTICLE = "<page><title>{0}</title><ns>0</ns><id>1</id><revision><text>{1}</text></revision></page>"
SITE_PAGES, HUB_FILES = 30, 12


@dataclass
class Source:
    """A source that takes seconds: its section of the recipe, and what a server was asked for, where there is one."""

    section: str
    asked: Callable[[], list[str]] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    a_job_each: bool = False  # what is asked for


def paragraphs(number: int, count: int) -> str:
    return "".join(f"<p>Paragraph {n} of page {number}, which tells of a town.</p>" for n in range(count))


def files(folder: Path) -> Source:
    for number in range(60):
        (folder / f"{number:02}.txt").write_text(f"Text {number} of a cafÃ© in a town. " * 9000, encoding="utf-8")
    return Source(f"files: [{{path: '{folder}', repair_unicode: true}}]")


def pages(folder: Path) -> Source:
    for number in range(60):
        (folder / f"{number:02}.html").write_text(PAGE.format(number, paragraphs(number, 1500)))
    return Source(f"files: [{{path: '{folder}'}}]")


def archives(folder: Path) -> Source:
    for number in range(8):
        member = folder / "page.html"
        member.write_text(PAGE.format(number, paragraphs(number, 2000)))
        with tarfile.open(folder / f"{number}.tar", "w") as archive:
            for copy in range(45):
                archive.add(member, f"{copy}.html")
        member.unlink()
    return Source(f"files: [{{path: '{folder}'}}]")


def warc(folder: Path) -> Source:
    for number in range(8):
        made = (web_page(f"P {n}", f"Page {n} of archive {number}, a text. " * 8) for n in range(40))
        records = [record(answer(body), f"https://a{n}.example/") for n, body in enumerate(made)]
        write_archive(folder / f"{number}.warc.gz", *records)
    return Source(f"warc: [{{path: '{folder}'}}]")


def wikipedia(folder: Path) -> Source:
    for number in range(8):
        articles = (ARTICLE.format(f"T {number} {n}", f"[[Link]] {n}. " * 3000) for n in range(20))
        (folder / f"{number}.xml").write_text(f"<mediawiki>{''.join(articles)}</mediawiki>")
    return Source(f"wikipedia: [{{path: '{folder}'}}]")


@contextmanager
def huggingface(folder: Path) -> Iterator[Source]:
    held = {f"data/train-{n}.jsonl": f'{{"text": "{f"Text {n}. " * 4000}"}}\n'.encode() * 20 for n in range(HUB_FILES)}
    with serve_hub(Hub("org/set", {commit_id(1): held}, {"main": commit_id(1)})) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
        yield Source("huggingface: [{dataset: org/set}]", lambda: contents_of(hub), environment, a_job_each=True)


@contextmanager
def web(folder: Path) -> Iterator[Source]:
    made = {f"/{n}": page(f"number {n}", f"/{n + 1}").body for n in range(SITE_PAGES)}
    made["/"] = page("home", "/0").body
    made[f"/{SITE_PAGES}"] = page("the end").body

    def slowly(request: BaseHTTPRequestHandler) -> None:
        time.sleep(0.05)
        request.send_response(200)
        request.send_header("Content-Type", "text/html")
        request.send_header("Content-Length", str(len(made[request.path])))
        request.end_headers()
        request.wfile.write(made[request.path])

    with serving(dict.fromkeys(made, slowly)) as site:
        settings = "allow_private: true, delay_seconds: 0, max_depth: 100"
        yield Source(f"web: [{{urls: ['{site.url()}'], {settings}}}]", lambda: paths_of(site))


def contents_of(hub: Hub) -> list[str]:
    return [one.partition(" ")[0] for one in hub.asked if one.startswith("/lfs/")]


def paths_of(site: Site) -> list[str]:
    return [path for path in site.paths() if path != "/robots.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [files, pages, archives, warc, wikipedia, huggingface, web])
def test_a_killed_run_does_only_what_is_missing(kind: Callable[[Path], Any], home: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    made = kind(tmp_path / "in")
    with nullcontext(made) if isinstance(made, Source) else made as source:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(f"collect: {{{source.section}, documents_per_shard: 5, heldout_fraction: 0}}\n")
        command = ["run", str(recipe), "--plain", "--to", "collect"]
        environment = dict(source.environment)
        whole = report_of(llmill(*command, "--json", home=tmp_path / "whole", environment=environment))
        steps = len(source.asked()) if source.asked else len(jobs(tmp_path / "whole"))
        assert steps >= 6

        before, asked = kill_amid(command, home, source, drawn_moments().uniform(0.1, 0.8) * steps)
        again = report_of(llmill(*command, "--json", home=home, environment=environment))
        assert digests(again) == digests(whole)
        assert before.items() <= jobs(home).items(), "what was finished stays"
        anew = source.asked()[steps + len(asked) :] if source.asked else []
        if source.a_job_each:
            assert len(set(anew)) == steps - len(before), "only what had not come whole"
        else:
            twice = set(asked) & set(anew)
            assert len(twice) <= 2, "at most what was under way is asked for again"


def kill_amid(command: list[str], home: Path, source: Source, steps: float) -> tuple[dict[str, int], list[str]]:
    """Kill a run when it has done so many jobs or requests; returns the finished jobs and the requests."""
    past = len(source.asked()) if source.asked else 0
    process = subprocess.Popen(
        [*llmill_command(), *command],
        env={**os.environ, "LLMILL_HOME": str(home), **source.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def done() -> int:
        return len(source.asked()) - past if source.asked else len(jobs(home))

    wait_until(lambda: done() >= steps, f"{steps:.0f} steps are done", process, every=0.002)
    assert process.poll() is None, "it was killed amid its work"
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not [*processes_of(home)], "no process of the killed run is left")
    return jobs(home), source.asked()[past:] if source.asked else []


def jobs(home: Path) -> dict[str, int]:
    """The records of finished jobs, with the moment of each."""
    return {path.name: path.stat().st_mtime_ns for path in (home / "store" / "jobs").rglob("*.json")}
