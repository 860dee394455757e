"""Check a `tokenizer.json` before the tokenizers library opens it: only components whose cost a text cannot blow up.

A tokenizer.json is a small program. A regular expression such as `(a+)+$` takes hours, thirty replacements of one
letter by two fill the memory, and some values end the library in a panic. Files of Korean WordPiece, BPE and Unigram
tokenizers need none of that.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kovilt.errors import KoviltError
from kovilt.files import check_file, read_json

_MAX_COMPONENTS = 64  # of one tokenizer; XLM-RoBERTa, among the longest, has eight
_MAX_DEPTH = 4  # of Sequences within Sequences
_MAX_AFFIX = 16  # characters that a component adds to a text or a token, such as '##' and '▁'
_MAX_WORD = 1000  # characters of a word that WordPiece splits, in quadratic time; BERT's are 100
_MAX_EXPANSION = (
    64  # bytes that SentencePiece's table of characters gives for one character; Unicode's longest, ﷺ, has 33
)

_MAX_EXPRESSION = 100  # characters
_MAX_EXPANDING = 2  # normalizers; alternating with replacements, more of them multiply a text
_EXPANDING = ('NFD', 'NFKC', 'NFKD', 'BertNormalizer', 'ByteLevel', 'Precompiled')  # give several characters for one

_KINDS = {
    'normalizer': (
        *('BertNormalizer', 'Strip', 'StripAccents', 'NFC', 'NFD', 'NFKC', 'NFKD', 'Lowercase', 'Nmt', 'ByteLevel'),
        *('Precompiled', 'Replace', 'Prepend'),
    ),
    'pre_tokenizer': (
        *('BertPreTokenizer', 'ByteLevel', 'Whitespace', 'WhitespaceSplit', 'Metaspace', 'Punctuation', 'Digits'),
        *('UnicodeScripts', 'CharDelimiterSplit', 'Split'),
    ),
    'post_processor': ('BertProcessing', 'RobertaProcessing', 'ByteLevel', 'TemplateProcessing'),
    'decoder': (
        *('WordPiece', 'ByteLevel', 'Metaspace', 'BPEDecoder', 'ByteFallback', 'Fuse', 'Strip', 'Replace', 'CTC'),
    ),
    'model': ('WordPiece', 'BPE', 'Unigram'),
}
_OTHER_FILES = (  # that transformers reads beside it
    *('tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json', 'config.json', 'vocab.json'),
    *('vocab.txt', 'merges.txt'),
)
_LISTS = ('normalizers', 'pretokenizers', 'processors', 'decoders')  # of a Sequence
_AFFIXES = (
    *('continuing_subword_prefix', 'end_of_word_suffix', 'prepend', 'replacement', 'prefix', 'suffix', 'content'),
    'delimiter',
)
# Regular expressions without a group or a choice and with one repetition take quadratic time at worst. These have more.
_KNOWN_EXPRESSIONS = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2's
    *(  # GPT-4's and Qwen's
        rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
        r'|\s*[\r\n]+|\s+(?!\S)|\s+'
        for digits in (r'\p{N}{1,3}', r'\p{N}')
    ),
)
_CHARACTER = r'(?:\\p\{\^?\w+\}|\\[^bBAzZGKkgX0-9]|\[\^?(?:\\.|[^\[\]\\])+\]|[^\\\[\](){}|*+?^$])'
_QUICK_EXPRESSION = re.compile(
    f'{_CHARACTER}*(?:{_CHARACTER}(?:\\+|\\{{[1-9]\\d{{0,2}},?\\d{{0,3}}\\}}))?{_CHARACTER}*'
)


def check_tokenizer_files(path: Path) -> None:
    """Check the files that a tokenizer is opened from: a folder, a tokenizer.json or a vocab.txt.

    Raises:
        KoviltError: as `check_tokenizer_json`, or a file is no regular file or too large.
    """
    files = sorted(path.glob('*.json')) + sorted(path.glob('*.txt')) if path.is_dir() else [path]
    for file in files:
        if file.name == 'tokenizer.json' or file == path and file.suffix == '.json':
            check_tokenizer_json(file)
        elif file == path or file.name in _OTHER_FILES:
            check_file(file, 'tokenizer')


def check_tokenizer_json(file: Path) -> None:
    """Check a tokenizer.json.

    Raises:
        KoviltError: not readable as JSON, a component that is not among `_KINDS`, a regular expression that may take
            long, a replacement that lengthens texts, or a value that the tokenizers library cannot take.
    """
    content = read_json(file)
    number = 0
    added = content.get('added_tokens') or []
    added = added if isinstance(added, list) else [None]
    names = [token.get('content') if isinstance(token, dict) else None for token in added]
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise KoviltError(f'{file}: added_tokens has a token twice, or one that is no text; take the original file')
    for part in _KINDS:
        expanding = 0
        for place, component in _components(content.get(part), part):
            number += 1
            if number > _MAX_COMPONENTS:
                raise KoviltError(f'{file}: more than {_MAX_COMPONENTS} components; no known tokenizer needs so many')
            reason = _refusal(component, part)
            expanding += part == 'normalizer' and reason is None and component['type'] in _EXPANDING
            if expanding > _MAX_EXPANDING:
                reason = f'({component["type"]}) follows {_MAX_EXPANDING} normalizers that lengthen a text as well'
            if reason is not None:
                raise KoviltError(f'{file}: {place} {reason}; take a WordPiece, BPE or Unigram tokenizer without it')


def _components(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The components of a part with their keys, those of a Sequence one by one; nothing for null."""
    if isinstance(node, Mapping) and node.get('type') == 'Sequence':
        name = next((name for name in _LISTS if isinstance(node.get(name), list)), None)
        if name is None or place.count('.') > 2 * _MAX_DEPTH:
            yield place, None
            return
        for i, item in enumerate(node[name]):
            yield from _components(item, f'{place}.{name}.{i}')
    elif node is not None or place == 'model':
        yield place, node


def _refusal(component: Any, part: str) -> str | None:
    """Why a component is refused; None if it is not."""
    if not isinstance(component, Mapping):
        return 'is no component with a type'
    kind = component.get('type')
    if kind not in _KINDS[part]:
        return f'is of the type {kind!r}, which is not among {", ".join(_KINDS[part])}'
    for key in _AFFIXES:
        if isinstance(value := component.get(key), str) and len(value) > _MAX_AFFIX:
            return f'({kind}) has a {key} of {len(value):,} characters; at most {_MAX_AFFIX} are read'
    if part == 'model':
        return _model_refusal(component)
    if kind == 'Precompiled':
        return _charsmap_refusal(component.get('precompiled_charsmap'))
    if kind in ('Replace', 'Split'):
        return _pattern_refusal(component)
    return None


def _model_refusal(model: Mapping[str, Any]) -> str | None:
    kind, vocabulary = model['type'], model.get('vocab')
    if not vocabulary or not isinstance(vocabulary, list if kind == 'Unigram' else dict):
        return f'({kind}) has no vocabulary'
    tokens = [item[0] if isinstance(item, list) and item else item for item in vocabulary]
    if not all(isinstance(token, str) for token in tokens) or len(set(tokens)) < len(tokens):
        return f'({kind}) has a token twice, or one that is no text'
    if kind == 'Unigram':
        unknown = model.get('unk_id')
        if unknown is not None and not (type(unknown) is int and 0 <= unknown < len(vocabulary)):
            return f'(Unigram) has the unk_id {unknown!r} for {len(vocabulary)} tokens'
    elif isinstance(vocabulary, dict) and not _are_ids(list(vocabulary.values())):
        return f'({kind}) has ids that are no whole numbers from 0 on, or one for two tokens'
    longest = model.get('max_input_chars_per_word', 0)
    if type(longest) is not int or longest > _MAX_WORD:
        return f'({kind}) has the max_input_chars_per_word {longest!r}; at most {_MAX_WORD} are read'
    if model.get('dropout'):
        return f'({kind}) has a dropout, so that a text gets other tokens each time'
    return None


def _are_ids(values: list[Any]) -> bool:
    return all(type(value) is int and value >= 0 for value in values) and len(set(values)) == len(values)


def _charsmap_refusal(encoded: Any) -> str | None:
    """Check SentencePiece's table of characters, whose places the library follows unseen.

    It holds the length of a trie, the trie as a double array (Darts), and the texts that replace characters, each ended
    by a NUL. A unit of the trie at i leads to i ^ offset ^ (any byte); if it ends a match, the unit at i ^ offset holds
    the place of a text.
    """
    try:
        table = base64.b64decode(encoded, validate=True)
        trie = np.frombuffer(table, '<u4', count=int.from_bytes(table[:4], 'little') // 4, offset=4).astype(np.int64)
        texts = np.frombuffer(table, 'u1', offset=4 + trie.nbytes // 2)
        texts.tobytes().decode('utf-8')
    except (binascii.Error, TypeError, ValueError):
        return '(Precompiled) has no table of characters'
    inner = (trie >> 31 == 0) | (np.arange(len(trie)) == 0)
    offset = (trie >> 10) << ((trie & 512) >> 6)
    reached = np.arange(len(trie)) ^ offset
    starts = np.flatnonzero(np.concatenate([[0], texts]) == 0)  # of the texts; that after the last NUL has no end
    if (
        not len(trie)
        or not len(texts)
        or ((reached | 255)[inner] >= len(trie)).any()
        or not np.isin(trie[reached[inner & (trie >> 8 & 1 == 1)]] & 0x7FFFFFFF, starts[:-1]).all()
    ):
        return '(Precompiled) has a damaged table of characters'
    if len(starts) > 1 and int(np.diff(starts).max()) > _MAX_EXPANSION:
        return f'(Precompiled) replaces a character by more than {_MAX_EXPANSION} bytes'
    return None


def _pattern_refusal(component: Mapping[str, Any]) -> str | None:
    kind, pattern = component['type'], component.get('pattern')
    (form, text), *more = pattern.items() if isinstance(pattern, Mapping) and pattern else [(None, None)]
    if more or form not in ('String', 'Regex') or not isinstance(text, str) or not text:
        return f'({kind}) has no pattern but {pattern!r}'
    if (
        form == 'Regex'
        and text not in _KNOWN_EXPRESSIONS
        and not (len(text) <= _MAX_EXPRESSION and _QUICK_EXPRESSION.fullmatch(text))
    ):
        return f'({kind}) has the regular expression {text[:40]!r}, which may take very long'
    shortest = len(text) if form == 'String' else 1
    content = component.get('content', '') if kind == 'Replace' else ''
    if not isinstance(content, str) or len(content) > shortest:
        return f'({kind}) replaces {text[:40]!r} by a longer text'
    return None
