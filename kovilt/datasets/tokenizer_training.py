"""Training a WordPiece tokenizer on a corpus of one's own, and extending one by what a corpus has besides."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kovilt.datasets.tokenizer_check import check_fits, check_korean
from kovilt.errors import KoviltError
from kovilt.files import atomic_folder, atomic_path
from kovilt.ranges import Count, VocabSize, check_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
_CHECKED_TEXTS = 500


@check_arguments
def train_tokenizer(texts: Iterable[str], out: str | Path, *, vocab_size: VocabSize, min_frequency: Count = 2) -> int:
    """Train a cased WordPiece vocabulary and write a folder that `AutoTokenizer` and `load_tokenizer` read.

    The same texts give identical files. Hangul stays composed and accents are kept.

    Args:
        texts: normalized texts (`normalize_korean`).
        out: folder for tokenizer.json, tokenizer_config.json and vocab.txt; created if needed.
        vocab_size: maximum number of tokens, including special tokens. Every character of the corpus becomes a token,
            even if the vocabulary then exceeds this.
        min_frequency: two tokens are merged only if they occur next to each other at least this often.

    Returns:
        The size of the vocabulary.

    Raises:
        KoviltError: no text, a tokenizer that nothing would load, such as one of English texts, or `out` cannot be
            written.
    """
    from tokenizers import normalizers, pre_tokenizers
    from transformers import BertTokenizerFast  # type: ignore[attr-defined]

    normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    splitter = pre_tokenizers.BertPreTokenizer()
    texts = list(texts)
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    if not words:
        raise KoviltError(f'{out}: no text to train a tokenizer on')

    tokens = _train(texts, words, normalizer, splitter, vocab_size=vocab_size, min_frequency=min_frequency)
    out = Path(out)
    trained = BertTokenizerFast(
        vocab={token: number for number, token in enumerate(tokens)}, do_lower_case=False, strip_accents=False
    )
    trained.name_or_path = str(out)
    try:
        check_korean(trained)
        check_fits(trained, texts[:: -(-len(texts) // _CHECKED_TEXTS)], 'this corpus')
    except KoviltError as error:
        reason = str(error).partition(';')[0]
        raise KoviltError(f'{reason}, so nothing would load it; it is not written; train on Korean text') from error
    with tempfile.TemporaryDirectory() as made:
        trained.save_pretrained(made)
        files = {file.name: file.read_bytes() for file in sorted(Path(made).iterdir())}
    files['vocab.txt'] = ('\n'.join(tokens) + '\n').encode()
    if out.is_dir() and {file.name for file in out.iterdir()} - files.keys():
        _replace_files(out, files)
    else:
        with atomic_folder(out) as draft:
            for name, content in files.items():
                Path(draft, name).write_bytes(content)
    return len(tokens)


def _replace_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files beside others of a folder, each completely or not at all."""
    try:
        for name, content in files.items():
            with atomic_path(folder / name) as draft:
                draft.write_bytes(content)
    except OSError as error:
        raise KoviltError(f'{folder}: cannot be written ({error.strerror}); choose another place') from error


def extend_tokenizer(
    tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], *, max_new: int = 2000
) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer that also reads the words of some texts which it did not know.

    Tokens keep their ids, and words that the tokenizer knew in full keep their tokens, but for those that begin or go
    on with a new token. New are all characters of the unknown words, and what occurs in two of these words or more: the
    forms of a word, such as 커피가 and 커피는, then share a token.

    Args:
        tokenizer: a WordPiece tokenizer.
        texts: normalized texts.
        max_new: tokens to add at most; characters of unknown words come on top if there are more.

    Raises:
        KoviltError: a tokenizer of another kind.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = tokenizer.backend_tokenizer
    state: dict[str, Any] = json.loads(backend.to_str())
    if state['model']['type'] != 'WordPiece':
        kind = state['model']['type']
        raise KoviltError(f'tokenizer {tokenizer.name_or_path}: a {kind}; only a WordPiece tokenizer can be extended')
    normalizer, splitter, model = backend.normalizer, backend.pre_tokenizer, backend.model
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    unknown = {word for word in words if tokenizer.unk_token in (token.value for token in model.tokenize(word))}
    vocabulary: dict[str, int] = state['model']['vocab']
    trained = _train(
        sorted(unknown),
        unknown,
        normalizer,
        splitter,
        vocab_size=len(SPECIAL_TOKENS) + max_new,
        min_frequency=2,
    )
    for token in trained:
        if token not in SPECIAL_TOKENS:
            vocabulary.setdefault(token, len(vocabulary))
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), **tokenizer.special_tokens_map
    )


def _train(
    texts: Iterable[str], words: set[str], normalizer: Any, splitter: Any, *, vocab_size: int, min_frequency: int
) -> list[str]:
    """The tokens of a WordPiece vocabulary in the order of their ids, special tokens first."""
    from tokenizers import Tokenizer, models, trainers

    # The trainer numbers '##x' tokens in the order of a hash table, which differs from run to run and decides between
    # equally frequent pairs. Declaring them as special tokens, sorted, fixes their order; in the files they are
    # ordinary tokens.
    continuations = sorted({f'##{character}' for word in words for character in word[1:]})
    characters = {character for word in words for character in word}
    tokenizer = Tokenizer(models.WordPiece(unk_token='[UNK]'))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            limit_alphabet=len(characters),
            show_progress=False,
            special_tokens=SPECIAL_TOKENS + continuations,
        ),
    )
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=lambda token: vocabulary[token])
