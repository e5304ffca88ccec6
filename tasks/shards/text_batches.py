"""Cut streams of texts into batches of bounded size."""

from collections.abc import Iterable, Iterator


def batches(texts: Iterable[str], characters: int) -> Iterator[list[str]]:
    """Lists of texts of so many characters together at most; a longer text is a batch of its own."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > characters:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch
