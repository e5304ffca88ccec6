"""Length and quality of documents as histograms: one streamed pass over the signals that the filter has stored."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from storage.store.artifacts import Part
from tasks.engine.about import Figures
from tasks.engine.reported import Histogram
from tasks.filter.wording import signal_text

LENGTHS = ("bytes", "words")
ALWAYS = (*LENGTHS, "mean_word_length", "language_score", "alphabetic_words")
JUDGED = ("quality", "bits_per_byte")  # by texts of the user's: seen before there is a limit, which is chosen by them
MOST_SHOWN = 9  # beside those
BINS_PER_DECADE = 8
LINEAR_BINS = 40
LOGARITHMIC = ("bytes", "words", "sentences", "lorem_ipsum", "curly_brackets")
UPPER = {"mean_word_length": 20.0, "stop_words": 8.0, "bits_per_byte": 12.0}  # of a linear scale; shares end at 1


def signal_histograms(signals: Part, limits: Figures, summary: Figures) -> tuple[Histogram, ...]:
    """Of all documents that the filter read, those that say most: lengths, then the signals whose rules dropped most.

    `limits` are the filter's settings, `summary` its figures.
    """
    dropped = _dropped(summary)
    by_count = sorted(dropped, key=lambda signal: (-dropped[signal], signal))
    chosen = list(dict.fromkeys((*ALWAYS, *JUDGED, *by_count)))[: MOST_SHOWN + len(JUDGED)]
    counters = {signal: _Counter(signal) for signal in chosen}
    for stored in signals.files:
        with pq.ParquetFile(stored.path) as file:
            names = [signal for signal in chosen if signal in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=65_536, columns=names):
                for signal in names:
                    values = batch[signal].drop_null()  # null: no rule judges the document by it
                    counters[signal].add(values.to_numpy(zero_copy_only=False).astype(np.float64))
    made = (
        counter.histogram(limits.get(f"min_{name}"), limits.get(f"max_{name}"), dropped.get(name, 0))
        for name, counter in counters.items()
    )
    return tuple(one for one in made if one is not None)


def _dropped(summary: Figures) -> Counter[str]:
    """Documents dropped by each signal, whichever its side."""
    dropped: Counter[str] = Counter()
    for name, count in summary.items():
        if name.startswith(("dropped_min_", "dropped_max_")):
            dropped[name.removeprefix("dropped_").partition("_")[2]] += count
    return dropped


class _Counter:
    """Counts values into fixed bins, so that no value is held."""

    def __init__(self, signal: str) -> None:
        self.signal, self.logarithmic = signal, signal in LOGARITHMIC
        if self.logarithmic:
            self.edges = 10.0 ** (np.arange(12 * BINS_PER_DECADE + 1) / BINS_PER_DECADE)
        else:
            self.edges = np.linspace(0.0, UPPER.get(signal, 1.0), LINEAR_BINS + 1)
        self.counts = np.zeros(len(self.edges) - 1, np.int64)
        self.zeros = self.documents = 0

    def add(self, values: npt.NDArray[np.float64]) -> None:
        self.documents += len(values)
        self.zeros += int(np.count_nonzero(values == 0))
        inside = np.clip(values[values != 0], self.edges[0], self.edges[-1])
        self.counts += np.histogram(inside, self.edges)[0]

    def histogram(self, low: float | None, high: float | None, dropped: int) -> Histogram | None:
        """The bins from the first to the last that holds a document; zeros apart where they would dwarf the rest."""
        counts, zeros = self.counts.copy(), self.zeros
        if not self.logarithmic and zeros < counts.sum():
            counts[0] += zeros
            zeros = 0
        filled = np.flatnonzero(counts)
        if not len(filled):
            return None
        first, last = int(filled[0]), int(filled[-1]) + 1
        return Histogram(
            signal=self.signal,
            label=f"length in {self.signal}" if self.signal in LENGTHS else signal_text(self.signal),
            logarithmic=self.logarithmic,
            edges=tuple(round(edge, 4) for edge in self.edges[first : last + 1].tolist()),
            counts=tuple(counts[first:last].tolist()),
            zeros=zeros,
            documents=self.documents,
            median=self._median(),
            low=low,
            high=high,
            dropped=dropped,
        )

    def _median(self) -> float:
        """To the precision of a bin: the middle of the one that holds it."""
        middle = self.documents / 2 - self.zeros
        if middle < 0:
            return 0.0
        number = int(np.searchsorted(np.cumsum(self.counts), middle))
        left, right = float(self.edges[number]), float(self.edges[min(number + 1, len(self.edges) - 1)])
        return round((left * right) ** 0.5 if self.logarithmic else (left + right) / 2, 4)
