"""Texts: a Korean WordPiece tokenizer, and the pieces it makes of a question or caption."""

from __future__ import annotations

import hashlib
import json
import os
import re
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers
from mmcv.transforms import BaseTransform

from kovilt.errors import KoviltError
from kovilt.registry import TRANSFORMS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SPECIAL = ('cls_token', 'sep_token', 'pad_token', 'mask_token', 'unk_token')
_COMMON = (  # every Korean vocabulary of general use knows nearly all of these
    '고양이가 의자 위에 앉아 있습니다',
    '이 사람은 무엇을 하고 있나요',
    '사진에 자동차가 몇 대 있어요',
    '하늘은 무슨 색입니까',
    '빨간 옷을 입은 아이가 공을 던진다',
    '오늘 날씨가 좋아서 우리는 밖에서 밥을 먹었다',
)
_MOST_UNKNOWN = 0.25  # of the pieces of _COMMON
_HANGUL_SHARE = 0.1  # of a vocabulary's pieces hold Hangul: it is Korean, though it may be of one small corpus
_HANGUL_WORD = re.compile('[가-힣]+')
_WORD = re.compile(r'\S+')
_LONGEST_PIECE = 32  # characters kept for each piece that will be kept; real pieces have fewer than ten
_HUB_SECONDS = 5


@TRANSFORMS.register_module()
class TokenizeKorean(BaseTransform):
    """Turn `text` (normalised) into `input_ids`, `word_ids`, both int64 (l,), and `pad_id`.

    [CLS] first, [SEP] last, l at most `max_text_len`. `word_ids` numbers the eojeol (what stands between blanks, with
    its particles and punctuation) that each piece is of; -1 on [CLS] and [SEP]. Special tokens written out in a text
    are text.

    A text is cut to 32 characters per piece before it is tokenised, so that one of 10,000 characters costs no more than
    another; only a text whose pieces are that long on average would notice.

    Args:
        tokenizer: what `load_tokenizer` takes.
        max_text_len: pieces, [CLS] and [SEP] included.
    """

    def __init__(self, *, tokenizer: str, max_text_len: int) -> None:
        if max_text_len < 3:
            raise ValueError(f'max_text_len={max_text_len} leaves no room between [CLS] and [SEP]')
        self.tokenizer, self.max_text_len = load_tokenizer(tokenizer, only_reads=True), max_text_len
        self._cls_id, self._sep_id = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        self._pad_id = self.tokenizer.pad_token_id

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        text, kept = results['text'][: self.max_text_len * _LONGEST_PIECE], self.max_text_len - 2
        backend = self.tokenizer.backend_tokenizer
        backend.encode_special_tokens = True  # not kept by pickling, so set where it is needed
        encoding = backend.encode(text, add_special_tokens=False)
        starts = [word.start() for word in _WORD.finditer(text)]
        words = [bisect_right(starts, start) - 1 for start, _ in encoding.offsets[:kept]]
        results['input_ids'] = np.array([self._cls_id, *encoding.ids[:kept], self._sep_id], dtype=np.int64)
        results['word_ids'] = np.array([-1, *words, -1], dtype=np.int64)
        results['pad_id'] = self._pad_id
        return results

    def identity(self) -> str:
        """Equal for two that make the same pieces of the same texts."""
        ids = (self._cls_id, self._sep_id, self._pad_id)
        settings = (self.tokenizer.backend_tokenizer.to_str(), ids, self.max_text_len, tokenizers.__version__)
        return hashlib.blake2b(repr(settings).encode(), digest_size=16).hexdigest()


def load_tokenizer(
    name_or_path: str | os.PathLike, *, korean: bool = True, only_reads: bool = False
) -> PreTrainedTokenizerFast:
    """A HuggingFace tokenizer from a folder, a `vocab.txt`, a `tokenizer.json` or the hub, checked for Hangul.

    Lower-casing and accents are handled as the tokenizer's own files say; a `vocab.txt` without a
    `tokenizer_config.json` beside it is taken as cased, with accents kept.

    Args:
        name_or_path: where it is.
        korean: check that it reads Korean; without, for a vocabulary that is only compared with another.
        only_reads: it will not be saved, so that its class does not matter: that of a model folder loads 0.3 s sooner.

    Raises:
        KoviltError: nothing there, the hub cannot be reached, special tokens are missing, or Hangul would be lost.
    """
    path = Path(os.path.expanduser(name_or_path))
    try:
        tokenizer = _from_files(path, only_reads) if path.exists() else _from_hub(str(name_or_path))
    except KoviltError:
        raise
    except Exception as error:  # tokenizers raises bare Exception for a damaged file
        raise KoviltError(
            f'tokenizer {name_or_path}: cannot be loaded ({_first_line(error)}); give a folder with '
            'tokenizer.json or vocab.txt'
        ) from error
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.name_or_path = str(name_or_path)
    if korean:
        _check_hangul(tokenizer)
    return tokenizer


def _from_files(path: Path, only_reads: bool) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    if path.is_dir():
        if (path / 'tokenizer.json').exists():
            # a model folder's was written whole; elsewhere tokenizer_config.json may say otherwise, and counts
            whole = only_reads and (path / 'kovilt.json').exists()
            return PreTrainedTokenizerFast.from_pretrained(str(path)) if whole else _from_folder(path)
        if not (path / 'vocab.txt').exists():
            raise KoviltError(f'tokenizer {path}: the folder holds neither tokenizer.json nor vocab.txt')
        path = path / 'vocab.txt'
    if path.suffix == '.json':
        special = {name: f'[{name[:3].upper()}]' for name in _SPECIAL} | {'mask_token': '[MASK]'}
        return PreTrainedTokenizerFast(tokenizer_file=str(path), **special)
    from transformers import BertTokenizerFast  # for which transformers looks through all its models

    if path.name == 'vocab.txt' and (path.parent / 'tokenizer_config.json').exists():
        return BertTokenizerFast.from_pretrained(str(path.parent))
    # `vocab`, not `vocab_file`: transformers 5 ignores the latter without a word and knows five pieces.
    return BertTokenizerFast(vocab=str(path), do_lower_case=False, strip_accents=False)


def _from_folder(path: Path) -> PreTrainedTokenizerFast:
    """As AutoTokenizer reads it; but of a BERT's without the half second that finding out takes."""
    from transformers import BertTokenizerFast, PreTrainedConfig

    if _said(path / 'tokenizer_config.json', 'tokenizer_class') in ('BertTokenizer', 'BertTokenizerFast'):
        return BertTokenizerFast.from_pretrained(str(path))
    from transformers import AutoTokenizer

    # transformers would warn of a model type that only kovilt has, and reads words without knowing it
    ours = str(_said(path / 'config.json', 'model_type')).startswith('kovilt')
    return AutoTokenizer.from_pretrained(str(path), config=PreTrainedConfig() if ours else None)


def _said(file: Path, key: str) -> Any:
    """A value of a JSON file; None where there is no such file, or nothing of the kind in it."""
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return content.get(key) if isinstance(content, dict) else None


def _from_hub(name: str) -> PreTrainedTokenizerFast:
    """From the hub's cache, else from the hub, which is asked once: transformers itself would retry for minutes."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
    from transformers import AutoTokenizer

    if name.startswith(('.', '/', '~')) or name.count('/') > 1 or name.endswith(('.txt', '.json')):
        raise KoviltError(f'tokenizer {name}: no such file or folder')
    try:
        huggingface_hub.hf_hub_download(name, 'tokenizer_config.json', local_files_only=True)
        return AutoTokenizer.from_pretrained(name, local_files_only=True)
    except LocalEntryNotFoundError:
        pass  # not in the cache
    except HFValidationError:
        raise KoviltError(f'tokenizer {name}: neither a local file or folder nor a name on the hub') from None
    try:
        huggingface_hub.HfApi().model_info(name, timeout=_HUB_SECONDS)
    except RepositoryNotFoundError:
        raise KoviltError(f'tokenizer {name}: neither a local file or folder nor a name on the hub') from None
    except Exception as error:  # whatever the hub's HTTP library raises
        raise KoviltError(
            f'tokenizer {name}: not found locally, and the hub cannot be reached ({_first_line(error)}); '
            'give a local folder'
        ) from error
    return AutoTokenizer.from_pretrained(name)


def _check_hangul(tokenizer: PreTrainedTokenizerFast) -> None:
    name, vocabulary, encode = tokenizer.name_or_path, tokenizer.get_vocab(), tokenizer.backend_tokenizer.encode
    missing = [
        token for token in _SPECIAL if getattr(tokenizer, token) is None or getattr(tokenizer, token) not in vocabulary
    ]
    if missing:
        raise KoviltError(
            f'tokenizer {name}: has no {", ".join(missing)}; kovilt needs a BERT-like WordPiece tokenizer'
        )
    if len(vocabulary) <= len(tokenizer.all_special_tokens):
        raise KoviltError(
            f'tokenizer {name}: holds only its {len(vocabulary)} special tokens; its vocabulary file was not found'
        )

    def unknown_share(texts: list[str]) -> float:
        ids = [piece for text in texts for piece in encode(text, add_special_tokens=False).ids]
        return ids.count(tokenizer.unk_token_id) / max(len(ids), 1)

    unknown = unknown_share(list(_COMMON))
    words = [piece for piece in vocabulary if _HANGUL_WORD.fullmatch(piece)]
    korean = sum(bool(_HANGUL_WORD.search(piece)) for piece in vocabulary) >= _HANGUL_SHARE * len(vocabulary)
    if unknown <= _MOST_UNKNOWN or korean and unknown_share(words[:1000]) <= _MOST_UNKNOWN:
        return
    normalizer = tokenizer.backend_tokenizer.normalizer
    if words and normalizer is not None and normalizer.normalize_str('고양이') != '고양이':
        raise KoviltError(
            f'tokenizer {name}: it takes Hangul apart (lower-casing strips accents, which decomposes 고양이 into '
            f'letters) and {unknown:.0%} '
            'of common Korean becomes [UNK]; set "strip_accents": false in its tokenizer_config.json'
        )
    raise KoviltError(
        f'tokenizer {name}: {unknown:.0%} of common Korean becomes [UNK]; take a tokenizer with a Korean vocabulary'
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def tokenizer_sizes(tokenizer) -> dict[str, Any]:
    """What a tokenizer decides about a model, by the model's own argument names, and a digest of its pieces."""
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return {
        'vocab_size': len(tokenizer),
        'mask_token_id': tokenizer.mask_token_id,
        'special_token_ids': sorted(tokenizer.all_special_ids),
        'vocabulary_digest': hashlib.sha256(json.dumps(pieces).encode()).hexdigest()[:16],
    }
