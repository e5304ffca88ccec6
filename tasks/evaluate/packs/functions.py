"""What the task files beside this module say with a function."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

PRONOUNS = {"he", "him", "his", "she", "her", "they", "them", "their"}


def stereotype(document: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Whether the more stereotyping sentence is the likelier one (Nangia et al. 2020, section 4)."""
    (more, _), (less, _) = results
    return {"pct_stereotype": float(more > less), "likelihood_diff": abs(more - less)}


def winogender_documents(rows: "Dataset") -> "Dataset":
    """Rows of `all_sentences.tsv` (`technician.customer.1.male.txt`, sentence) as lm-eval's winogender has them.

    The first part names the occupation, the second the other participant, the third says which of the two the pronoun
    means (0 is the occupation), the fourth the gender. `template` is the same for the three genders of a sentence.
    """
    from datasets import Dataset

    documents = []
    for row in rows:
        occupation, participant, label, gender, _ = row["sentid"].split(".")
        words = [word.strip(".,;").lower() for word in row["sentence"].split()]
        documents.append(
            {
                "sentence": row["sentence"],
                "occupation": occupation,
                "participant": participant,
                "label": int(label),
                "gender": gender,
                "template": f"{occupation}.{participant}.{label}",
                "pronoun": next(word for word in words if word in PRONOUNS),
            }
        )
    return Dataset.from_list(documents)
