"""Checks that a tokenizer reads Korean, wherever one is opened or made: training, inference, import, verification.

A character counts as unknown where the tokenizer gives `[UNK]` and also where it gives no token at all: a model without
an unknown token silently leaves out what it does not know, and its users would train on empty questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kovilt.errors import KoviltError, first_line
from kovilt.files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ('cls_token', 'sep_token', 'pad_token', 'mask_token', 'unk_token')
REFUSED_UNKNOWN_SHARE = 0.5  # of the tokens of the texts at hand; above it the tokenizer is not made for them
_BERT_CLASSES = ('BertTokenizer', 'BertTokenizerFast')
_CLASS_KEYS = ('tokenizer_class', 'model_type')  # of config.json
_COMMON = (  # every general Korean vocabulary covers nearly all of these
    '고양이가 의자 위에 앉아 있습니다',
    '이 사람은 무엇을 하고 있나요',
    '사진에 자동차가 몇 대 있어요',
    '하늘은 무슨 색입니까',
    '빨간 옷을 입은 아이가 공을 던진다',
    '오늘 날씨가 좋아서 우리는 밖에서 밥을 먹었다',
)
_RARE = '뷁쀍꿻휅'  # syllables that many vocabularies lack: they must become [UNK], not vanish
_FOREIGN = '𒀀𒁀'  # cuneiform: two characters that no Korean vocabulary has
_MAX_UNKNOWN_COMMON = 0.25  # of the tokens of _COMMON
_MIN_HANGUL_SHARE = 0.1  # of the vocabulary: it is Korean, though perhaps trained on one small corpus
_MAX_PROBED = 1000  # words
_HANGUL = re.compile('[가-힣]')
_HANGUL_WORD = re.compile('[가-힣]+')
_WORD_MARKS = re.compile('^▁|</w>$')  # of SentencePiece and BPE, at the edges of words


class TokenCounts(NamedTuple):
    """The tokens of a text.

    given: what the tokenizer gives.
    unknown: the `[UNK]` among them.
    lost: visible characters without any token. Each counts as an unknown token.
    """

    given: int
    unknown: int
    lost: int

    @property
    def unknown_share(self) -> float:
        """The share (0 to 1) of unknown tokens."""
        return (self.unknown + self.lost) / max(self.given + self.lost, 1)


def text_backend(tokenizer: PreTrainedTokenizerFast) -> Any:
    """The backend of a tokenizer, set to take special tokens that a text spells out as text. Threads may share it."""
    backend = tokenizer.backend_tokenizer
    if not backend.encode_special_tokens:  # pickling loses the setting; it cannot be made while another thread encodes
        backend.encode_special_tokens = True
    return backend


def count_tokens(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> TokenCounts:
    """Count the tokens of some texts, without special tokens. Special tokens that a text spells out are text."""
    backend, given, unknown, lost = text_backend(tokenizer), 0, 0, 0
    for text in texts:
        encoding = backend.encode(text, add_special_tokens=False)
        covered = {place for start, end in encoding.offsets for place in range(start, end)}
        lost += sum(place not in covered and not character.isspace() for place, character in enumerate(text))
        given, unknown = given + len(encoding.ids), unknown + encoding.ids.count(tokenizer.unk_token_id)
    return TokenCounts(given, unknown, lost)


def check_class(folder: Path, model: Any) -> None:
    """Check that the class which the folder of a tokenizer states reads the files that are in it.

    Args:
        model: the entry `model` of its tokenizer.json, or what stands for it; its `type` is WordPiece, BPE or Unigram.

    Raises:
        KoviltError: the class is for another kind of model, or transformers has it without the fast implementation.
    """
    # tokenizer_class is stated in either file; else transformers goes by model_type
    stated = [
        (file, key, read_json(folder / file).get(key))
        for file, key in (('tokenizer_config.json', 'tokenizer_class'), *(('config.json', key) for key in _CLASS_KEYS))
        if (folder / file).is_file()
    ]
    file, key, value = next((entry for entry in stated if entry[2]), ('', '', None))
    found = model.get('type') if isinstance(model, dict) else None
    if not isinstance(value, str) or value in _BERT_CLASSES and found == 'WordPiece':
        return  # before the imports, which take half a second
    from transformers import PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    name = TOKENIZER_MAPPING_NAMES.get(value) if key == 'model_type' else value
    tokenizer_class = tokenizer_class_from_name(name) if name else None
    if tokenizer_class is None:
        return  # a class of somebody's own: transformers takes the files as they are
    needed = getattr(getattr(tokenizer_class, 'model', None), '__name__', None)
    remedy = 'correct "tokenizer_class" in its tokenizer_config.json, or take the files of that class'
    if not issubclass(tokenizer_class, PreTrainedTokenizerFast):
        raise KoviltError(
            f'tokenizer {folder}: its {file} states the {key} {value}, for which transformers has no fast tokenizer; '
            f'{remedy}'
        )
    if found and needed and found != needed:
        raise KoviltError(
            f'tokenizer {folder}: its {file} states the {key} {value}, a {needed}, but its vocabulary is for {found}; '
            f'{remedy}'
        )


def check_korean(tokenizer: PreTrainedTokenizerFast) -> None:
    """Check that a tokenizer has the special tokens of a BERT and that Korean texts keep their content.

    Raises:
        KoviltError: special tokens or ids are missing, Hangul is split into letters, becomes `[UNK]` or vanishes.
    """
    name, vocabulary = tokenizer.name_or_path, tokenizer.get_vocab()
    missing = [
        token
        for token in SPECIAL_TOKENS
        if getattr(tokenizer, token) is None or getattr(tokenizer, token) not in vocabulary
    ]
    if missing:
        raise KoviltError(f'tokenizer {name}: has no {", ".join(missing)}; kovilt needs the special tokens of a BERT')
    if len(vocabulary) <= len(tokenizer.all_special_tokens):
        raise KoviltError(
            f'tokenizer {name}: holds only its {len(vocabulary)} special tokens; its vocabulary file was not found'
        )
    if max(vocabulary.values()) >= len(vocabulary):
        raise KoviltError(
            f'tokenizer {name}: ids up to {max(vocabulary.values())} for {len(vocabulary)} tokens: its vocabulary '
            'repeats tokens or skips ids; take the original file'
        )
    try:
        _check_hangul(tokenizer, vocabulary)
    except KoviltError:
        raise
    except Exception as error:  # tokenizers raises bare Exception, for instance where [UNK] has no id
        raise KoviltError(
            f'tokenizer {name}: fails on Korean text ({first_line(error)}); take a tokenizer with a Korean vocabulary'
        ) from error


def check_fits(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], place: object) -> None:
    """KoviltError when most tokens of the `texts`, which lie at `place`, are unknown to the tokenizer.

    A tokenizer may know Korean and still not these texts, such as one trained on another small corpus.
    """
    unknown = count_tokens(tokenizer, texts).unknown_share
    if unknown > REFUSED_UNKNOWN_SHARE:
        raise KoviltError(
            f'tokenizer {tokenizer.name_or_path}: {unknown:.0%} of the tokens of the texts in {place} are unknown to '
            'it; take the tokenizer of this corpus (kovilt tokenizer trains one)'
        )


def _check_hangul(tokenizer: PreTrainedTokenizerFast, vocabulary: dict[str, int]) -> None:
    name, backend, remedy = (
        tokenizer.name_or_path,
        tokenizer.backend_tokenizer,
        'take a tokenizer with a Korean vocabulary',
    )
    normalize = backend.normalizer.normalize_str if backend.normalizer is not None else str
    syllables = set(''.join(_COMMON)) - {' '}
    if len({normalize(syllable) for syllable in syllables}) < len(syllables):
        raise KoviltError(f'tokenizer {name}: its normalizer removes or replaces Hangul; {remedy}')
    first, second = (backend.encode(character, add_special_tokens=False).ids for character in _FOREIGN)
    if first and first == second and tokenizer.unk_token_id not in first:
        token = tokenizer.convert_ids_to_tokens(first[-1])
        raise KoviltError(
            f'tokenizer {name}: it gives {token!r} for what it does not know, but states the unk_token '
            f'{tokenizer.unk_token!r}; correct "unk_token" in its tokenizer_config.json'
        )
    common = count_tokens(tokenizer, _COMMON).unknown_share
    if common > _MAX_UNKNOWN_COMMON:
        hangul = sum(bool(_HANGUL.search(token)) for token in vocabulary)
        words = _compose_words(vocabulary) if hangul >= _MIN_HANGUL_SHARE * len(vocabulary) else []
        if not words or count_tokens(tokenizer, words).unknown_share > _MAX_UNKNOWN_COMMON:
            if hangul and normalize('고양이') != '고양이':
                raise KoviltError(
                    f'tokenizer {name}: it decomposes Hangul (lower-casing strips accents, which splits 고양이 into '
                    f'letters) and {common:.0%} of common Korean becomes [UNK]; set "strip_accents": false in its '
                    'tokenizer_config.json'
                )
            raise KoviltError(f'tokenizer {name}: {common:.0%} of common Korean becomes [UNK] or vanishes; {remedy}')
    for syllable in _RARE:
        if not backend.encode(syllable, add_special_tokens=False).ids:
            raise KoviltError(
                f'tokenizer {name}: Hangul that its vocabulary lacks, such as {syllable}, vanishes instead of becoming '
                '[UNK]; set "unk_token" of the model in its tokenizer.json'
            )


def _compose_words(vocabulary: dict[str, int]) -> list[str]:
    """Words of several syllables that a vocabulary of a small corpus should know: a Hangul token and one to follow it.

    Korean words have particles. A vocabulary of syllables without '##' knows each of its tokens, but no word.
    """
    tokens = sorted({_WORD_MARKS.sub('', token) for token in vocabulary})
    first = [token for token in tokens if _HANGUL_WORD.fullmatch(token)]
    later = [token[2:] for token in tokens if token.startswith('##') and _HANGUL_WORD.fullmatch(token[2:])] or first
    step = -(-len(first) // _MAX_PROBED) or 1
    return [token + later[number % len(later)] for number, token in enumerate(first[::step])]
