"""Token shards come back as they were written, in order, across shard borders."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import DataError
from storage.tokens import TokenSet, read_token_meta, token_dtype, write_token_meta, write_token_shard

SHARDS = st.lists(st.lists(st.lists(st.integers(0, 69_999), max_size=5), max_size=4), max_size=4)


@given(SHARDS)
def test_what_is_written_is_read(shards: list[list[list[int]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_token_meta(folder, 70_000)
        for index, shard in enumerate(shards):
            counts = write_token_shard(folder, "train", index, [(ids, 3 * len(ids)) for ids in shard], 70_000)
            assert counts["documents"] == len(shard)
        tokens = TokenSet(folder, "train")
        documents = [[0, *ids] for shard in shards for ids in shard]
        whole = [token for document in documents for token in document]
        assert [ids.tolist() for ids, _ in tokens.iterate_documents()] == documents
        assert [text_bytes for _, text_bytes in tokens.iterate_documents()] == [3 * (len(d) - 1) for d in documents]
        assert (tokens.tokens, tokens.documents) == (len(whole), len(documents))
        assert tokens.bytes == 3 * (len(whole) - len(documents))
        for start in range(len(whole) + 1):
            for stop in range(start, len(whole) + 1):
                assert tokens.read(start, stop).tolist() == whole[start:stop]
        with pytest.raises(IndexError):
            tokens.read(0, len(whole) + 1)


def test_the_type_fits_the_vocabulary(tmp_path: Path) -> None:
    assert (token_dtype(65_536), token_dtype(65_537)) == ("uint16", "uint32")
    write_token_meta(tmp_path, 4096)
    write_token_shard(tmp_path, "heldout", 0, [([4095], 2)], 4096)
    assert np.load(tmp_path / "heldout-00000.tokens.npy").dtype == np.uint16
    with pytest.raises(ValueError, match="vocabulary"):
        write_token_shard(tmp_path, "heldout", 1, [([4096], 2)], 4096)


def test_equal_documents_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_token_meta(tmp_path / name, 4096)
        write_token_shard(tmp_path / name, "train", 0, [([1, 2], 2), ([3], 1)], 4096)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_damage_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    write_token_meta(tmp_path, 4096)
    write_token_shard(tmp_path, "train", 0, [([1, 2, 3], 3)], 4096)
    path = tmp_path / "train-00000.tokens.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    with pytest.raises(DataError, match=r"train-00000\.tokens\.npy"):
        TokenSet(tmp_path, "train")
    np.save(path, np.array([0, 1, 2], np.uint16))
    with pytest.raises(DataError, match="does not agree"):
        TokenSet(tmp_path, "train")
    np.save(path, np.array([object()]), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        TokenSet(tmp_path, "train")
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(DataError, match=r"meta\.json"):
        read_token_meta(tmp_path)
