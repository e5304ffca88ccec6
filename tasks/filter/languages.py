"""What rules need to know of a language: its stop words, the length of its words, and the codes that mean it too.

A rule made for English text says little of another language: Gopher's eight stop words drop every German book, and a
mean word length of 10 characters is long in English and usual in Malayalam. So these rules go by the language of each
document. A language without a list of stop words is not judged by them, nor is a text in a script that the list is
not in (Malay in Arabic letters), nor one of fewer than 50 words, which Gopher's rule never sees: `I sing. You wave.`

Stop words are as written, in small letters, as Gopher's do for English. Those of smaller languages were chosen from
the frequent words that FineWeb-2 publishes (published.py), without its numerals, names and signs. Where no space parts
words they are looked for anywhere in the text. Languages that glue them to other words (Zulu, Xhosa) have no list. Word
lengths are measured on the Universal Declaration of Human Rights in each language, as ratios to the English text (5.1
characters a word; in scripts without spaces a word as a reader counts it, `letters_a_word`).
"""

import functools
import itertools
import unicodedata
from collections import Counter
from collections.abc import Sequence

_LISTS = {
    "af": "die en van het te is nie in dat vir",
    "am": "ነው ላይ እና ግን ወደ ነበር ይህ ውስጥ እንደ ነገር አንድ ጊዜ",
    "an": "de en a y o que ye la con un se os",
    "ar": "من في على إلى أن هذا التي عن لا ما و أو مع كان",
    "ary": "ف د و ديال من على ب لي اللي",
    "arz": "فى و من على اللى اللي ده كان مع",
    "as": "আৰু এই কৰা কৰে পৰা বাবে এক এটা বা আছে হয়",
    "az": "və bir bu ki ilə da də üçün вә бир бу ки илә да дә үчүн",
    "ba": "һәм менән өсөн был ул бер булып тип",
    "bcl": "sa na an kan mga nin asin si",
    "be": "і у на што не з да як ў або",
    "bg": "и на да в се за от е не с",
    "bn": "এবং ও না এই করে থেকে জন্য এক যে হয়",
    "bo": "དང་ ནས་ ཀྱི་ གི་ ནི་ གྱི་ འདི་ ཡིན་",
    "br": "e ar a an ha gant da en ur",
    "bs": "i u na je da se za su od ne и у на је да се за су од не",
    "ca": "de la i el que a en les un per és no",
    "crh": "ве бир ичюн мен бу ve bir içün ile",
    "cs": "a se v na že je to s z i o",
    "cy": "y a yn i ar o yr ei mae",
    "da": "og i at det er en til på af ikke der",
    "de": "der die das und in den von zu mit sich ist nicht ein eine es",
    "dz": "དང་ ལུ་ གི་ ལས་ འདི་ ཀྱི་ ཚུ་ ནང་",
    "el": "και να το του η της με που την για ο",
    "en": "the be to of and that have with",  # Gopher's, arXiv 2112.11446, A.1
    "eo": "la de kaj en al estas ne por ke",
    "es": "de la que el en y a los se no un por con",
    "et": "ja on ei et ta see ka oli kui ning",
    "eu": "eta da ez du bat ere dute zen izan",
    "fa": "و در به از که این را با است آن",
    "fi": "ja on ei se että oli hän mutta kun niin",
    "fo": "í og er at á sum við av til hann",
    "fr": "de la le et les des que à en un une il est ne",
    "fy": "de fan yn it en in is dat mei op",
    "ga": "an a na agus ar i ag is go bhí",
    "gd": "an a agus air am na ann tha bha e",
    "gl": "de a o que e do da en un non se",
    "gn": "ha pe umi ary pegua de upe oĩ",
    "gu": "અને છે એક આ તે માટે કે પણ હતો નથી",
    "guw": "to tọn po mẹ lẹ bo na wẹ",
    "ha": "da a na ta ya kuma cikin ba",
    "he": "את של על לא הוא כי זה עם אל גם או",
    "hi": "और के का की है में से को पर यह कि ने हैं",
    "hr": "i u na je da se za su od ne",
    "ht": "nan se li yo sa yon ak pou ki te",
    "hu": "a az és hogy nem is egy ez volt de",
    "hy": "և ու է որ մի են իր այս չէ եմ",
    "id": "yang dan di dengan untuk itu dari ini tidak pada ke",
    "ig": "na nke ọ ya ihe dị a bụ ka ndị",
    "is": "og að í á er var sem það ekki við",
    "it": "di e la il che in un non per è una si",
    "ja": "の は に を が た で て と も",
    "jv": "ing lan kang iku sing saka karo ora",
    "ka": "და არ რომ ეს იყო ის თუ კი მე რა",
    "kk": "және бір да де бұл мен үшін емес бар",
    "km": "ជា នៅ និង បាន ក្នុង នេះ មាន ដែល",
    "kn": "ಮತ್ತು ಈ ಒಂದು ಎಂದು ಆ ಅವರು ಇದು ಅಥವಾ",
    "ko": "이 그 수 있는 것 및 등 한 있다 또는 더 할",
    "ku": "û li bi ji de di ye ku لە و بە کە بۆ",
    "ky": "жана менен бир үчүн бул эле болгон да",
    "la": "et in est non ad ut cum qui quod sed",
    "lb": "de an der vun a vum den déi huet ass",
    "lg": "mu nga ku ne wa ye nti era na ya",
    "ln": "ya na oyo ezali te yango ba o mpe",
    "lo": "ທີ່ ແລະ ໃນ ເປັນ ຂອງ ມີ ການ ໄດ້",
    "lt": "ir į kad yra su iš tai ne jis buvo",
    "lv": "un ir ka no par ar uz bija tas ne",
    "mg": "ny dia ao ary sy i tamin'ny amin'ny",
    "mk": "и на да во се од за е не со",
    "ml": "ഒരു ഈ എന്ന ആ ഇത് എന്നാൽ അത്",
    "mn": "нь болон байсан энэ бөгөөд юм ба гэж олон",
    "mr": "आणि आहे व या हे ते की तो नाही होते",
    "ms": "yang dan di itu dengan untuk ini dari tidak ada",
    "mt": "u li ta' minn jew ma kull dan",
    "my": "သည် ကို မှ တွင် များ နှင့် ဖြစ်",
    "nb": "og i det er en til på av ikke som",
    "ne": "र छ यो को मा पनि थियो लागि",
    "nl": "de van en het een in is dat niet op te zijn",
    "nn": "og i det er ein til på av ikkje som",
    "no": "og i det er en til på av ikke som",
    "nso": "wa ka go le ke e ya a tša ga",
    "oc": "de la lo e en a es per que un los las",
    "om": "kan fi akka keessatti yoo kana isa isaa ture hin ni dha",
    "or": "ଓ ଏହି ସେ ଏକ ଏବଂ ଏହା ପାଇଁ ମଧ୍ୟ",
    "pa": "ਦੇ ਦੀ ਹੈ ਨੂੰ ਵਿੱਚ ਅਤੇ ਦਾ ਤੋਂ ਇਹ ਨੇ",
    "pcm": "for di wey dey na dem to e",
    "pl": "i w z na się nie do to że jest",
    "ps": "د او په کې چې له ته سره دی",
    "pt": "de a o que e do da em um não para com os",
    "ro": "de și în a la cu nu o pe să că",
    "ru": "и в не на что с он как я это по",
    "rw": "mu ya ku na ni wa kandi muri ko",
    "sa": "च न अपि इति अस्ति एव",
    "se": "lea ja leat dan mii dat go ahte",
    "si": "සහ හා මෙම ඇති විසින් සඳහා ද එය හෝ ඔහු",
    "sk": "a v na sa je že to s z nie",
    "sl": "in je v na se da za so ne pa",
    "so": "oo iyo ka waa ku in u",
    "sq": "e të në dhe i që një për me nuk",
    "sr": "и у на је да се за су од не i u na je da se za su od ne",
    "st": "le ho e ka a ba ke sa tsa o",
    "sv": "och i att det som en på är av inte",
    "sw": "na ya wa kwa ni la katika za kuwa hii",
    "ta": "ஒரு என்று இந்த மற்றும் என அந்த அவர் இது",
    "te": "ఒక ఈ అని మరియు ఆ కూడా అది",
    "tg": "дар ва аз ба ки аст бо",
    "th": "ที่ และ ใน การ เป็น ของ ไม่ มี ให้ ได้",
    "tk": "we bilen bu üçin bir hem bolan",
    "tl": "ang ng sa na at mga ay si hindi",
    "tr": "ve bir bu da de için ile ne çok olarak",
    "tt": "һәм белән өчен бу ул бер да",
    "ug": "ۋە بىر بىلەن بۇ ئۈچۈن بولۇپ",
    "uk": "і в не на що з у та до як це",
    "ur": "کے کی میں اور ہے سے کا کو پر یہ",
    "uz": "va bu bir bilan uchun ham esa deb ва бу бир билан учун ҳам эса деб",
    "vec": "de el del in e a la i che",
    "vi": "và của là có không được cho một các trong",
    "wa": "a di li les on do et",
    "yo": "ní ni ti tí ó àti o sí fún ń",
    "yue": "嘅 係 喺 有 佢 個 咗 同 呢 唔",
    "zh": "的 一 是 不 了 在 有 和 人 这 這",
}
STOP_WORDS = {language: frozenset(words.split()) for language, words in _LISTS.items()}
UNSPACED = frozenset({"bo", "dz", "ja", "km", "lo", "my", "th", "wuu", "yue", "zh"})  # languages written without spaces

# fmt: off
WORD_LENGTHS = {
    "ace": 1.11, "af": 1.01, "am": 0.83, "ar": 0.92, "az": 1.22, "bcl": 1.05, "be": 1.2, "bg": 1.07, "bn": 1.15,
    "bo": 0.57, "br": 0.92, "bs": 1.05, "ca": 0.99, "cs": 1.09, "cy": 0.97, "da": 1.12, "de": 1.23, "dz": 0.55,
    "el": 1.08, "en": 1.0, "eo": 1.02, "es": 1.02, "et": 1.33, "eu": 1.37, "fa": 0.77, "fi": 1.52, "fo": 1.01,
    "fr": 1.0, "ga": 0.97, "gd": 0.98, "gl": 1.04, "gn": 1.31, "gu": 1.08, "ha": 0.86, "he": 0.92, "hi": 0.86,
    "hr": 1.09, "ht": 0.82, "hu": 1.34, "hy": 1.38, "id": 1.3, "ig": 0.81, "is": 1.05, "it": 1.1, "ja": 0.32,
    "jv": 1.22, "ka": 1.46, "kk": 1.29, "km": 1.29, "kn": 1.52, "ko": 0.59, "ku": 0.89, "ky": 1.3, "la": 1.25,
    "lb": 1.07, "lg": 1.38, "ln": 0.98, "lo": 1.05, "lt": 1.26, "lv": 1.28, "mg": 1.24, "mk": 1.01, "ml": 2.36,
    "mn": 1.1, "mr": 1.2, "ms": 1.22, "mt": 1.28, "my": 1.77, "nb": 1.07, "ne": 1.09, "nl": 1.08, "nn": 0.96,
    "no": 1.02, "nso": 0.83, "om": 1.26, "pa": 0.75, "pcm": 0.72, "pl": 1.24, "ps": 0.62, "pt": 1.03, "qu": 1.6,
    "ro": 1.09, "ru": 1.25, "rw": 1.25, "sa": 1.85, "se": 1.52, "sk": 1.12, "sl": 1.13, "sn": 1.5, "so": 1.01,
    "sq": 0.97, "sr": 1.04, "st": 0.84, "sv": 1.16, "sw": 0.96, "ta": 1.92, "tg": 1.03, "th": 0.98, "tk": 1.32,
    "tl": 0.97, "tr": 1.28, "tt": 1.22, "ug": 1.39, "uk": 1.15, "ur": 0.7, "uz": 1.31, "vec": 0.98, "vi": 0.83,
    "wa": 1.01, "wuu": 0.32, "xh": 1.67, "yo": 0.82, "yue": 0.32, "zh": 0.32, "zu": 1.68,
}
# fmt: on
PROSE_WORDS = 50  # Gopher's least length: a text with fewer words may do without a stop word
SCRIPT_LETTERS = 200  # that show the script of a text
_SHORTEST, _LONGEST = min(WORD_LENGTHS.values()), max(WORD_LENGTHS.values())

# Labels of the identifier that a wanted language covers: varieties, and written standards that it does not distinguish.
_COVERED = {
    "ar": ("ary", "arz"),
    "gn": ("gug",),
    "ki": ("kik",),
    "ku": ("sdh",),
    "nb": ("no",),
    "no": ("nb", "nn"),
    "uz": ("uzs",),
    "zh": ("wuu", "yue"),
}


@functools.cache
def language_code(stated: str) -> str:
    """The code of a language as stated, by ISO 639-1 where it has one (`de` for `deu`, `de-AT`, `German`); else empty.

    What is not a language is not believed: code collections call `Python` the language of a text.
    """
    tag = stated.strip()
    primary = tag.replace("_", "-").partition("-")[0].lower()
    if primary in WORD_LENGTHS:
        return primary
    from iso639 import Language, LanguageNotFoundError  # .3 s, and seldom needed

    for candidate in (primary, tag, tag.title()):
        try:
            found = Language.match(candidate)
        except LanguageNotFoundError:
            continue
        if found.scope not in ("I", "M"):  # und, mul, zxx: no language is stated
            return ""
        if found.part1 is None and found.macrolanguage:  # Mandarin, Iranian Persian
            return Language.from_part3(found.macrolanguage).part1 or found.part3
        return found.part1 or found.part3
    return ""


@functools.cache
def covered(wanted: tuple[str, ...]) -> frozenset[str]:
    """The languages wanted and all labels that count as one of them."""
    return frozenset(wanted).union(*(_COVERED.get(language, ()) for language in wanted))


def widening(language: str) -> tuple[float, float]:
    """Factors for the least and the most mean word length: bounds for English are widened as far as a language asks."""
    low, high = (WORD_LENGTHS.get(language, extreme) for extreme in (_SHORTEST, _LONGEST))
    return min(low, 1.0), max(high, 1.0)


def stop_words_in(text: str, words: Sequence[str], language: str) -> int | None:
    """How many of the language's stop words are in the text.

    None where the language has no list, or none in the text's script, or where the text is short.
    """
    known = STOP_WORDS.get(language)
    if known is None or len(words) < PROSE_WORDS:
        return None
    if language in UNSPACED:
        return sum(word in text for word in known)
    count = len(known.intersection(words))
    return count if count or _script(text) in _scripts_of(language) else None


@functools.cache
def _scripts_of(language: str) -> frozenset[str]:
    return frozenset(map(_script, STOP_WORDS[language]))


def _script(text: str) -> str:
    """The script of most letters at the beginning of a text, by the names of Unicode: LATIN, CYRILLIC."""
    letters = itertools.islice(filter(str.isalpha, text), SCRIPT_LETTERS)
    scripts = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in letters)
    return scripts.most_common(1)[0][0] if scripts else ""
