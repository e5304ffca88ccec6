"""A vocabulary as the trainer of `tokenizers` learns it, for comparing with ours: `from benchmarks.library_bpe import
by_library`."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tasks.tokenize.splits import SPLITS
from tasks.tokenize.tokenizer import SPECIAL_TOKENS, TokenizerConfig


def by_library(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """Trained by `tokenizers`, to the file that ours has."""
    tokenizer = Tokenizer(models.BPE())
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in SPLITS[config.split]]
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    cut = pre_tokenizers.FixedLength(config.longest_word_bytes)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, as_bytes, cut])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary_size,
        min_frequency=config.min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, as_bytes])
    return tokenizer
