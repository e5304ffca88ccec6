"""Near duplicates where no space parts words: found by their letters, as those of other scripts are by their words."""

from pathlib import Path

import pytest
from document_sets import rows_of, run, texts_of, training

from tasks.deduplicate import DeduplicateConfig, deduplicate

TEXTS = {
    "Chinese": (
        "春天来了，山上的花都开了，孩子们到河边去看鱼。老师说，读书要慢，想问题要深，写字要清楚。这座小城有一条老街，"
        "街上卖茶、卖布，也卖新鲜的水果。昨天下了一场大雨，今天早上空气很好，天也很蓝。"
    ),
    "Japanese": (
        "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所で"
        "ニャーニャー泣いていた事だけは記憶している。吾輩はここで始めて人間というものを見た。"
    ),
    "Thai": (
        "ฤดูฝนมาแล้วแม่น้ำเต็มไปด้วยน้ำและเด็กๆชอบเล่นอยู่ริมฝั่งครูบอกว่าการอ่านหนังสือทุกวันจะทำให้เราเขียนได้ดีขึ้น"
        "ตลาดเช้าในเมืองนี้ขายผักผลไม้และปลาสดจากทะเล"
    ),
    "Lao": (
        "ມະນຸດເກີດມາມີສິດເສລີພາບແລະສະເໝີໜ້າກັນໃນທາງກຽດຕິສັກແລະທາງສິດດ້ວຍມະນຸດມີສະຕິສັມປະຊັນຍະ"
        "ຕ້ອງປະພຶດຕໍ່ກັນໃນທາງພີ່ນ້ອງຄົນທຸກຄົນມີສິດທີ່ຈະມີຊີວິດອິດສະລະພາບແລະຄວາມໝັ້ນຄົງ"
    ),
    "Khmer": (
        "មនុស្សទាំងអស់កើតមកមានសេរីភាពនិងភាពស្មើៗគ្នាក្នុងសេចក្ដីថ្លៃថ្នូរនិងសិទ្ធិមនុស្សមានវិចារណញ្ញាណនិង"
        "សតិសម្បជញ្ញៈជាប់ពីកំណើតហើយគប្បីប្រព្រឹត្តចំពោះគ្នាទៅវិញទៅមកក្នុងស្មារតីរាប់អានគ្នាជាបងប្អូន"
    ),
    "Burmese": (
        "လူတိုင်းသည်တူညီလွတ်လပ်သောဂုဏ်သိက္ခာဖြင့်လည်းကောင်းတူညီလွတ်လပ်သောအခွင့်အရေးများဖြင့်လည်းကောင်း"
        "မွေးဖွားလာသူများဖြစ်သည်ထိုသူတို့၌ပိုင်းခြားဝေဖန်တတ်သောဉာဏ်နှင့်ကျင့်ဝတ်သိတတ်သောစိတ်တို့ရှိကြသည်"
    ),
}


@pytest.mark.parametrize("script", TEXTS)
def test_a_near_duplicate_is_found(home: Path, script: str) -> None:
    """The copy is longer by a few letters at its end; with words between spaces the two would share none."""
    text, others = TEXTS[script], [other for name, other in TEXTS.items() if name != script]
    copy = text + text[3:9]
    artifact, _ = run(home, deduplicate, DeduplicateConfig(), training(text, *others, copy))
    assert sorted(texts_of(artifact)) == sorted([*others, copy])
    (row,) = rows_of(artifact, "ledger")
    assert row["reason"] == "near" and row["jaccard"] > 0.8


@pytest.mark.parametrize("script", TEXTS)
def test_texts_of_one_script_that_share_words_stay(home: Path, script: str) -> None:
    text = TEXTS[script]
    half = len(text) // 2
    texts = [text[:half] + text[: half // 3], text[half:] + text[: half // 3]]
    artifact, _ = run(home, deduplicate, DeduplicateConfig(), training(*texts))
    assert texts_of(artifact) == texts
