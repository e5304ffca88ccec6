"""Pairs for fine-tuning: which are learned from, their form as token ids, and those made from documents."""

from collections import Counter
from pathlib import Path

import pytest
from tiny_model import write_corpus, write_pairs, write_tokenizer

from storage.documents import Pair, count_rows
from tasks.answer.chat_form import ChatForm, prompt_ids
from tasks.answer.template_form import needed_chat_form
from tasks.tokenize.tokenizer import SPECIAL_TOKENS, text_ids
from tasks.train.finetune import FinetuneConfig
from tasks.train.pairs import (
    choose_pairs,
    continuation,
    encode_chat,
    encode_training,
    heldout_sets,
    pairs_of,
    shared_words,
)

CONTEXT = 64


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> ChatForm:
    return needed_chat_form(write_tokenizer(tmp_path_factory.mktemp("tokenizer"))["tokenizer"].path)


def pair(
    number: int, split: str = "train", prompt: str | None = None, answer: str | None = None, source: str = "pairs"
) -> Pair:
    return Pair(f"{number:04d}", "g", split, prompt or f"prompt {number}", answer or f"Answer {number}.", source)


def test_training_pairs_with_the_prompt_of_a_held_out_one_are_dropped_whatever_they_answer() -> None:
    pairs = [
        pair(1),
        pair(2, prompt="PROMPT  90"),
        pair(3, answer="Answer 91."),  # a label, yes or no: the same answer to another prompt
        pair(90, "heldout"),
        pair(91, "heldout"),
        pair(4, prompt="Answer 90."),
    ]
    chosen = choose_pairs(pairs, sample=10)
    assert [member.id for member in chosen.training] == ["0001", "0003", "0004"]
    assert (chosen.read, chosen.heldout_total, chosen.total("leaking")) == (6, 2, 1)


def test_what_is_dropped_is_counted_by_source_and_rule() -> None:
    pairs = [pair(1, source="a"), pair(2, source="a", prompt="prompt 9"), pair(3, source="b", prompt="prompt 9")]
    chosen = choose_pairs([*pairs, pair(9, "heldout", source="c")], sample=1)
    tallies = chosen.tallies(Counter(a=1))
    assert {source: (one.read, one.kept, dict(one.dropped)) for source, one in tallies.items()} == {
        "a": (2, 0, {"leaking": 1, "too_long": 1}),
        "b": (1, 0, {"leaking": 1}),
    }


def test_pairs_whose_answer_has_nothing_of_the_prompt_can_be_left_out_of_training_alone() -> None:
    texts = [
        ("def add edge ( node )", "Adds an edge to a node."),  # by the beginnings of words: add, edge, node
        ("def add edge ( node )", "An edge."),
        ("def is open ( )", "This is not it."),  # stop-words do not count
        ("class graph", "Nothing in common."),
    ]
    pairs = [pair(number, prompt=prompt, answer=answer) for number, (prompt, answer) in enumerate(texts)]
    assert [shared_words(one) for one in pairs] == [3, 1, 0, 0]
    heldout = pair(9, "heldout", prompt="class tree", answer="Something else.")
    chosen = choose_pairs([*pairs, heldout], sample=10, least_shared=2)
    assert (chosen.training, chosen.heldout) == (pairs[:1], [heldout])
    assert (chosen.total("unrelated"), chosen.total("leaking")) == (3, 0)
    assert choose_pairs(pairs, sample=10).training == pairs


def test_the_held_out_sample_does_not_move_when_training_pairs_come_and_go() -> None:
    heldout = [pair(number, "heldout") for number in (50, 30, 40, 20)]
    alone = choose_pairs(heldout, sample=2)
    among = choose_pairs([pair(1), *heldout[::-1], pair(2)], sample=2)
    assert alone.heldout == among.heldout
    assert [member.id for member in alone.heldout] == ["0020", "0030"]


def test_the_three_scored_sets_hold_the_same_answers_and_another_s_prompt(form: ChatForm) -> None:
    pairs = [pair(1, "heldout"), pair(2, "heldout", prompt="prompt 1"), pair(3, "heldout")]
    sets = heldout_sets(form, pairs, CONTEXT)
    for name in ("heldout", "other_prompt", "plain"):
        assert [example.answer for example in sets[name]] == text_ids(form.tokenizer, [p.answer for p in pairs])
        assert [example.answer_bytes for example in sets[name]] == [9, 9, 9]
    for own, other in zip(sets["heldout"], sets["other_prompt"], strict=True):
        assert own.prompt != other.prompt
    assert not {1, 2, 3} & {token for example in sets["plain"] for token in [*example.prompt, *example.answer]}


def test_a_sample_is_the_same_in_all_sets_when_one_form_does_not_fit(form: ChatForm) -> None:
    pairs = [pair(1, "heldout"), pair(2, "heldout", prompt="long " * 80), pair(3, "heldout")]
    sets = heldout_sets(form, pairs, CONTEXT)
    assert [len(members) for members in sets.values()] == [2, 2, 2]  # the long prompt's pair goes, nobody borrows it


def test_training_examples_end_with_the_mark_that_stops_generation(form: ChatForm) -> None:
    (example,) = encode_chat(form, [pair(7)])
    assert example.prompt == prompt_ids(form, "prompt 7")
    assert example.answer[-1] == SPECIAL_TOKENS.index("<|end|>")
    assert form.tokenizer.decode(list(example.answer)) == "Answer 7."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two. " * 10 + "Three.", (" ".join(["One two."] * 6), "One two.")),
        ("A first sentence of more than twelve words stands here so that it is enough. And?  Then.", "And?"),
        ("Too short. To tell.", None),
        ("only one sentence of many words that goes on and on and on without any end", None),
        ("", None),
    ],
)
def test_a_continuation_is_the_sentence_after_the_first_twelve_words(
    text: str, expected: tuple[str, str] | str | None
) -> None:
    made = continuation(text)
    assert made == expected or (made is not None and made[1] == expected)


@pytest.mark.parametrize(
    ("text", "prompt", "answer"),
    [
        ("春天来了，山上的花都开了。孩子们到河边去看鱼。老师说：“读书要慢！”然后他走了。",
         "春天来了，山上的花都开了。孩子们到河边去看鱼。", "老师说：“读书要慢！”"),
        ("ตลาดเช้าในเมืองนี้ขายผักผลไม้และปลาสด จากทะเล เมื่อวานเรานั่งรถไฟไปภาคเหนือ และเห็นภูเขา",
         "ตลาดเช้าในเมืองนี้ขายผักผลไม้และปลาสด จากทะเล เมื่อวานเรานั่งรถไฟไปภาคเหนือ", "และเห็นภูเขา"),
        ("वसंत आ गया है। पहाड़ों पर बहुत से फूल खिल गए हैं अब। बच्चे नदी पर हैं।",
         "वसंत आ गया है। पहाड़ों पर बहुत से फूल खिल गए हैं अब।", "बच्चे नदी पर हैं।"),
        ("Der Frühling ist da. Auf den Bergen\nblühen die ersten Blumen des Jahres. Wer sieht sie?",
         "Der Frühling ist da. Auf den Bergen\nblühen die ersten Blumen des Jahres.", "Wer sieht sie?"),
        ("ACGT" * 400, None, None),
    ],
)  # fmt: skip
def test_every_script_has_continuations(text: str, prompt: str | None, answer: str | None) -> None:
    assert continuation(text) == (None if prompt is None else (prompt, answer))


def test_a_continuation_that_does_not_fit_loses_the_beginning_of_its_prompt(form: ChatForm) -> None:
    """It is text like any other; a prompt that a user has given is never cut."""
    long = pair(1, prompt=f"{'Before it comes this. ' * 40}The end of it.", answer="The next sentence.")
    ((kept, example),) = encode_training(form, [long], CONTEXT, shorten=True)
    assert example is not None and long.prompt.endswith(kept.prompt) and kept.prompt.endswith("The end of it.")
    assert example.prompt == prompt_ids(form, kept.prompt) and kept.answer == long.answer
    assert CONTEXT - 8 <= len(example.prompt) + len(example.answer) <= CONTEXT + 1
    assert list(encode_training(form, [long], CONTEXT)) == [(long, None)]
    endless = pair(2, prompt=long.prompt, answer="word " * 60)
    assert list(encode_training(form, [endless], CONTEXT, shorten=True)) == [(endless, None)]


def test_continuations_come_from_documents_with_their_split_and_source(tmp_path: Path) -> None:
    pairs, clean = write_pairs(tmp_path / "pairs")["pairs"], write_corpus(tmp_path / "documents")["documents"]
    made = list(pairs_of("continuations", pairs, clean))
    assert {one.split for one in made} == {"train", "heldout"}
    assert {one.source for one in made} == {"books", "files"}
    assert all(one.prompt and one.answer for one in made)


def test_a_bound_takes_a_fixed_sample_of_the_documents_for_continuations(tmp_path: Path) -> None:
    """A larger one holds a smaller one, and one of all documents or more takes all."""
    pairs, clean = write_pairs(tmp_path / "pairs")["pairs"], write_corpus(tmp_path / "documents")["documents"]

    def made(most: int | None) -> set[str]:
        return {one.id for one in pairs_of("continuations", pairs, clean, most)}

    documents = sum(count_rows(file.path) for file in clean.files)
    some, more = made(documents // 4), made(documents // 2)
    assert 0 < len(some) < len(more) < documents and some < more
    deviation = (documents * 3 / 16) ** 0.5
    assert len(some) == pytest.approx(documents / 4, abs=4 * deviation), "once in 16,000 not"
    assert made(documents) == made(10 * documents) == made(None)
    assert "made_pairs" not in FinetuneConfig().identity(), "a recipe without the bound is what it was"
    assert FinetuneConfig(made_pairs=9).identity()["made_pairs"] == 9
