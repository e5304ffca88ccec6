"""Wikitext as text: what is kept of an article, what is left out, and what that leaves behind."""

import pytest

from tasks.collect.wikitext import text_of


@pytest.mark.parametrize(
    ("wikitext", "text"),
    (
        ("'''Bold''' and ''italic'' and '''''both'''''.", "Bold and italic and both."),
        ("An ''unclosed quote <ref>a ''b</ref> goes on.", "An unclosed quote goes on."),
        ("[[Cat]]s, [[Dog|dogs]], [[:Category:Birds]], [[Mus_musculus]].", "Cats, dogs, Category:Birds, Mus musculus."),
        ("A[[File:a.jpg|thumb|A [[cat]] sits.]] B[[Category:Cats]] C[[Image:b.png]][[de:Katze]]", "A B C"),
        ("[http://a.example The site], [http://b.example] and http://c.example.", "The site, and http://c.example."),
        ("== One ==\nText.\n=== Two ===\nMore.", "## One\n\nText.\n\n### Two\n\nMore."),
        ("Text.\n== Notes ==\n{{reflist}}\n== Links ==\n=== None ===\n<references/>", "Text."),
        ("== A ==\n=== B ===\nText.", "## A\n\n### B\n\nText."),
        ("* one\n** two\n* {{dead}}\n# three\n:indented\n;term", "* one\n  * two\n\n1. three\nindented\nterm"),
        ("A<ref name=x>note</ref> B<ref name=x /> C<!-- gone --> D<!-- open", "A B C D"),
        ("A{{Infobox|a={{b|c}}\n|d=e}} B", "A B"),
        ("A\n{| class=x\n| 1 || 2\n{|\n| inner\n|}\n|}\nB", "A\n\nB"),
        ("A\n{|\n| never closed\n== H ==\nB", "A\n\n## H\n\nB"),
        ("Water is <math>H_2O</math>; <gallery>\na.jpg|x\n</gallery>5<sup>2</sup> &amp; &Sigma;", "Water is; 52 & Σ"),
        ("<pre>\na = [[b]] ''c''\n</pre>", "```\na = [[b]] ''c''\n```"),
        ('<syntaxhighlight lang="python">\nif a:\n    b\n</syntaxhighlight>', "```\nif a:\n    b\n```"),
        ("<nowiki>[[not a link]]</nowiki> <code>x < y</code>", "[[not a link]] x < y"),
        ("Plato (; {{lang-grc|Πλάτων}}; born {{convert|5|km|mi}} off)", "Plato (Πλάτων; born 5 km off)"),
        (
            "{{lang|fr|oui}}, {{nowrap|1 2}}, {{convert|5|to|7|e6acre}}, 1{{ndash}}2",
            "oui, 1 2, 5 to 7 million acre, 1–2",
        ),
        ("So:\n{{quote|Be {{em|kind}}.|Somebody}}\nEnd.", "So:\n\nBe kind.\n\nEnd."),
        ("Alaska ({{IPAc-en|x}}) is (, , a) state ( ) .", "Alaska is (a) state."),
        ("__NOTOC__{{{1|default}}} text<br>line", "default text\nline"),
        ("A [[Файл:a.jpg|thumb|x]] B", "A B"),
        ("<div><blockquote>Said.</blockquote></div>", "Said."),
    ),
)
def test_wikitext_becomes_text(wikitext: str, text: str) -> None:
    assert text_of(wikitext, ("файл",)) == text
