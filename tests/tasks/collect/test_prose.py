"""Docstrings become prose: what lists, shows or lays out is left out, markup becomes words, sentences stay whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.collect.prose import first_sentence, plain_paragraphs, prose, reads_like_prose


def kept(docstring: str) -> list[str]:
    return prose(plain_paragraphs(docstring))


def summary(docstring: str) -> str:
    return first_sentence(plain_paragraphs(docstring))


NUMPY = """
    poly(x, deg=2)

    Fit a polynomial to the points.

    The fit is the one that is best in the sense of least squares.

    Parameters
    ----------
    x : array_like
        The points that the polynomial should go through.

    Notes
    -----
    The result depends on the order of the points only by rounding.

    Examples
    --------
    This is how the function is called in most of the cases.

    >>> poly([1, 2])
    3
    """

GOOGLE = """Reads the table of a book.

    The table is read when it is needed for the first time.

    Args:
        path: Where the book is to be found on the disk.
            It can be a link to a book as well.

    Note:
        The book must not be changed while it is being read.

    Returns:
        The table of the book, or nothing if it has none.

    After the table has been read the book is closed again.
    """

SPHINX = """Send the message to a list of people.

    :param people: the people who are to get the message
        in the order in which they get it
    :returns: the number of people that could be reached
    :rtype: int

    .. versionadded:: 2.0
       The message can be a picture as well as a text.

    .. warning::
       A message that was sent cannot be taken back any more.

    - it is fast and it is easy to use
    - it is free for all of the people
    """


def test_numpy_sections_that_list_are_left_out_and_notes_stay() -> None:
    assert kept(NUMPY) == [
        "Fit a polynomial to the points.",
        "The fit is the one that is best in the sense of least squares.",
        "The result depends on the order of the points only by rounding.",
    ]
    assert summary(NUMPY) == "Fit a polynomial to the points."


def test_google_sections_end_with_their_indentation() -> None:
    assert kept(GOOGLE) == [
        "Reads the table of a book.",
        "The table is read when it is needed for the first time.",
        "The book must not be changed while it is being read.",
        "After the table has been read the book is closed again.",
    ]


def test_sphinx_fields_directives_and_lists_are_left_out_and_warnings_stay() -> None:
    assert kept(SPHINX) == [
        "Send the message to a list of people.",
        "A message that was sent cannot be taken back any more.",
    ]


@pytest.mark.parametrize(
    ("marked", "plain"),
    (
        ("Use ``code`` or `code` in the text.", "Use code or code in the text."),
        ("See :class:`~package.module.Name` and :func:`do it <target>` for this.", "See Name and do it for this."),
        ("Read `the manual <https://x.y/z>`_ for the rest.", "Read the manual for the rest."),
        ("It is **bold** and *loud* in the text.", "It is bold and loud in the text."),
        ("As was shown by [1]_ and by [Knuth98]_ in the book.", "As was shown by and by in the book."),
        ("The C{name} of the L{thing} is in the text.", "The name of the thing is in the text."),
        ("Call close() when it is over.", "Call close when it is over."),
        ("A range such as [0, 1] is in the text.", "A range such as [0, 1] is in the text."),
        ("Powers a**2 and b**2 are in the text.", ""),  # formulas are not prose
    ),
)
def test_markup_becomes_words(marked: str, plain: str) -> None:
    assert kept(marked) == ([plain] if plain else [])


def test_the_introduction_of_what_was_left_out_goes_with_it() -> None:
    assert kept("Open the file and read it. For example::\n\n    open(1)\n\nTo close it::\n\n    close(1)") == [
        "Open the file and read it."
    ]


def test_sentences_begin_with_a_capital_and_end_with_a_stop() -> None:
    assert kept("return the number of words") == ["Return the number of words."]
    assert kept("word_count is the number of words") == ["word_count is the number of words."]


@pytest.mark.parametrize(
    "text",
    (
        "1, 2, 3, 4, 5, 6, 7, 8, 9, 10 are the numbers",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa",
        "See https://example.org for all of the rest of it.",
        "Two words",
        "The value is {x: 1} and it is in the text",
    ),
)
def test_what_does_not_read_like_prose_is_left_out(text: str) -> None:
    assert not reads_like_prose(text)


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    (
        ("Return the sum. It is a number.", "Return the sum."),
        (
            "Compare two things, e.g. Words or numbers, by size. More text.",
            "Compare two things, e.g. Words or numbers, by size.",
        ),
        ("\n    Return the sum\n    of two numbers\n\n    More text is here.\n", "Return the sum of two numbers."),
        ("- a list\n- and no sentence\n\nA sentence that is no summary.", ""),
        (">>> f()\n1\n\nA sentence that is no summary.", ""),
        ("Parameters\n----------\nx : int\n    A number.\n", ""),
        ("Notes\n-----\nA remark that is no summary of anything.\n", ""),
        ("", ""),
    ),
)
def test_the_summary_is_the_first_sentence_of_the_opening_paragraph(docstring: str, sentence: str) -> None:
    assert summary(docstring) == sentence


@given(st.text(st.sampled_from("ab. \n`*:{}[]<>_~|\\-=@1'\"()"), max_size=60))
def test_no_docstring_is_too_odd(docstring: str) -> None:
    for text in kept(docstring):
        assert reads_like_prose(text, 3)
        assert "\n" not in text
    assert "\n" not in summary(docstring)
