"""Addresses: what is shown of them holds no secret."""

import pytest

from storage.addresses import redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ada:secret@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        ("postgresql+asyncpg://ada:s3/cr@et@db/prefect", "postgresql+asyncpg://db/prefect"),
        ("https://token@host/x", "https://host/x"),
        ("postgresql://db/x?user=ada&password=secret&sslmode=require", None),
        ("'s3://b/k?X-Amz-Signature=secret': gone, see https://h/y?Token=secret)", None),
        ("hf://datasets/org/name@main/data", "hf://datasets/org/name@main/data"),
        ("ada@example.org, http://h:1/a b@c", "ada@example.org, http://h:1/a b@c"),
    ],
)
def test_no_secret_is_shown_and_all_else_is(text: str, shown: str | None) -> None:
    if shown is not None:
        assert redacted(text) == shown
    assert "secret" not in redacted(text)
    for word in ("sslmode=require", "gone", "https://h/y"):
        assert (word in redacted(text)) == (word in text)
