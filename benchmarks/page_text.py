"""How exact the main text of web pages is, and what it costs, by extractor.

    python -m benchmarks.page_text [--data ../shared/data]

Gold is the article text of 135 pages (scrapinghub/article-extraction-benchmark, html_articles.tar.zst), and the measure
is that benchmark's own: precision and recall over multisets of 4 words, of each page, averaged; F1 of these two.
"""

import argparse
import io
import json
import re
import tarfile
import time
from collections import Counter
from pathlib import Path
from statistics import mean

import zstandard

from tasks.collect.pages.config import PageConfig
from tasks.collect.pages.main_text import read_page

_WORD = re.compile(r"\w+")


def shingles(text: str, size: int = 4) -> Counter[tuple[str, ...]]:
    """The runs of `size` words with their counts; of a shorter text, all of it."""
    words = _WORD.findall(text)
    size = min(size, len(words)) or 1
    return Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    path = parser.parse_args().data / "corpus" / "html_articles.tar.zst"
    raw = zstandard.ZstdDecompressor().stream_reader(path.open("rb")).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        opened = {Path(entry.name).name: archive.extractfile(entry) for entry in archive}
        files = {name: file.read() for name, file in opened.items() if file is not None}
    gold = json.loads(files["ground-truth.json"])
    for extractor in ("trafilatura", "resiliparse"):
        for keep in ((), PageConfig.model_fields["keep"].default):
            precisions, recalls = [], []
            request = {"url": "", "charset": "utf-8", "extractor": extractor, "keep": list(keep)}
            started = time.process_time()
            found = {name: read_page(request, files[f"{name}.html"]) for name in gold}
            seconds = time.process_time() - started
            for name, page in found.items():
                wanted = shingles(gold[name]["articleBody"])
                got = shingles("" if isinstance(page, str) else page["text"])
                same = (wanted & got).total()
                if got:
                    precisions.append(same / got.total())
                recalls.append(same / wanted.total())
            precision, recall = mean(precisions), mean(recalls)
            print(
                f"{extractor:12} keep {','.join(keep) or 'nothing':32} "
                f"F1 {2 * precision * recall / (precision + recall):.4f}  precision {precision:.4f}  "
                f"recall {recall:.4f}  {len(found) / seconds:.0f} pages a CPU-second"
            )


if __name__ == "__main__":
    main()
