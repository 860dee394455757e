"""Tokenizing Korean texts with a WordPiece tokenizer, and loading such a tokenizer."""

from __future__ import annotations

import hashlib
import json
import os
import re
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
from mmcv.transforms import BaseTransform

from kovilt.datasets.tokenizer_check import SPECIAL_TOKENS, check_class, check_korean, text_backend
from kovilt.datasets.tokenizer_files import check_tokenizer_files
from kovilt.errors import KoviltError, first_line
from kovilt.files import read_json
from kovilt.hub import download
from kovilt.model_names import packaged_models
from kovilt.ranges import Range, check_arguments
from kovilt.registry import TRANSFORMS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_WORD = re.compile(r'\S+')
_CHARACTERS_PER_TOKEN = 32  # a text is cut to this many per token of max_text_len; real tokens have fewer than ten
_HUB_FILES = ['*.json', '*.txt', '*.model']  # of a tokenizer, without code and weights


@TRANSFORMS.register_module()
class TokenizeKorean(BaseTransform):
    """Turn `text` (normalized) into `input_ids`, `word_ids`, both int64 (l,), and `pad_id`.

    [CLS] comes first and [SEP] last; l is at most `max_text_len`. `word_ids` is the number of the word to which each
    token belongs: of the eojeol, the characters between two blanks with particles and punctuation; -1 for [CLS] and
    [SEP]. If a text spells a special token out, it is tokenized as ordinary text.

    With an `option` beside the text, one of the options of a question, they are [CLS] text [SEP] option [SEP]. If both
    are too long together, the text is cut first, but to no less than half of the tokens.

    A text is cut to 32 characters per token before it is tokenized, so that a text of 10,000 characters costs no more
    than others. Only a text whose tokens are longer than that on average would change.

    Args:
        tokenizer: as for `load_tokenizer`.
        max_text_len: tokens, including [CLS] and [SEP].
        korean: as for `load_tokenizer`; False for the model of another language.
    """

    @check_arguments
    def __init__(
        self,
        *,
        tokenizer: str,
        max_text_len: Annotated[int, Range(ge=3, le=100_000)],  # [CLS], a token, [SEP]
        korean: bool = True,
    ) -> None:
        self.tokenizer = load_tokenizer(tokenizer, korean=korean, for_saving=False)
        text_backend(self.tokenizer)  # before threads share it
        self.max_text_len, self.korean = max_text_len, korean
        self._cls_id, self._sep_id = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        self._pad_id = self.tokenizer.pad_token_id

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        room = self.max_text_len - 2
        ids, words = self._encode(results['text'], room)
        if (option := results.get('option')) is not None:
            room -= 1  # for the [SEP] between them
            option_ids, option_words = self._encode(option, room)
            kept = min(len(ids), max(room - len(option_ids), room // 2))
            first = max(words, default=-1) + 1  # the number of the option's first word
            ids = [*ids[:kept], self._sep_id, *option_ids[: room - kept]]
            words = [*words[:kept], -1, *(first + word for word in option_words[: room - kept])]
        results['input_ids'] = np.array([self._cls_id, *ids, self._sep_id], dtype=np.int64)
        results['word_ids'] = np.array([-1, *words, -1], dtype=np.int64)
        results['pad_id'] = self._pad_id
        return results

    def _encode(self, text: str, length: int) -> tuple[list[int], list[int]]:
        """The ids of the first tokens of a text, up to `length`, and the numbers of their words."""
        text = text[: self.max_text_len * _CHARACTERS_PER_TOKEN]
        encoding = text_backend(self.tokenizer).encode(text, add_special_tokens=False)
        starts = [word.start() for word in _WORD.finditer(text)]
        return encoding.ids[:length], [bisect_right(starts, start) - 1 for start, _ in encoding.offsets[:length]]


def load_tokenizer(
    name_or_path: str | os.PathLike[str], *, korean: bool = True, for_saving: bool = True
) -> PreTrainedTokenizerFast:
    """Load a HuggingFace tokenizer from a folder, a `vocab.txt`, a `tokenizer.json`, a packaged model or the hub.

    The tokenizer's own files decide whether it lower-cases and strips accents. A `vocab.txt` without a
    `tokenizer_config.json` beside it is taken as cased, and accents stay.

    Args:
        name_or_path: a path, the name of a model that kovilt carries, or a name on the hub.
        korean: check that it can read Korean; False for a vocabulary that is only compared with another, and for a
            model of another language.
        for_saving: give the class that its files name. False = any fast tokenizer class will do; from a model folder
            that takes 0.3 s less.

    Raises:
        KoviltError: nothing is there, the hub cannot be reached, special tokens are missing, or Hangul would be lost.
    """
    path = Path(os.path.expanduser(name_or_path))
    if not path.exists():
        path = packaged_models().get(str(name_or_path), path)
    try:
        tokenizer = _from_files(path, for_saving) if path.exists() else _from_hub(str(name_or_path))
    except KoviltError:
        raise
    except BaseException as error:  # tokenizers raises bare Exception for a damaged file
        if not isinstance(error, Exception) and type(error).__name__ != 'PanicException':  # of its Rust code
            raise
        raise KoviltError(
            f'tokenizer {name_or_path}: cannot be loaded ({first_line(error)}); give a folder with '
            'tokenizer.json or vocab.txt'
        ) from error
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.name_or_path = str(name_or_path)
    if korean:
        check_korean(tokenizer)
    return tokenizer


def _from_files(path: Path, for_saving: bool) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    check_tokenizer_files(path)
    if path.is_dir():
        if (path / 'tokenizer.json').exists():
            # In a model folder tokenizer.json is complete; elsewhere tokenizer_config.json may override it.
            is_complete = (path / 'kovilt.json').exists() and not for_saving
            return PreTrainedTokenizerFast.from_pretrained(str(path)) if is_complete else _from_folder(path)
        if not (path / 'vocab.txt').exists():
            raise KoviltError(f'tokenizer {path}: the folder holds neither tokenizer.json nor vocab.txt')
        path = path / 'vocab.txt'
    if path.suffix == '.json':
        special = {name: f'[{name[:3].upper()}]' for name in SPECIAL_TOKENS} | {'mask_token': '[MASK]'}
        return PreTrainedTokenizerFast(tokenizer_file=str(path), **special)
    from transformers import BertTokenizerFast  # type: ignore[attr-defined]  # imported here: it takes 0.3 s

    if path.name == 'vocab.txt':
        check_class(path.parent, {'type': 'WordPiece'})
        if (path.parent / 'tokenizer_config.json').exists():
            return BertTokenizerFast.from_pretrained(str(path.parent))
    # `vocab`, not `vocab_file`: transformers 5 silently ignores the latter and has a vocabulary of five tokens.
    return BertTokenizerFast(vocab=str(path), do_lower_case=False, strip_accents=False)


def _from_folder(path: Path) -> PreTrainedTokenizerFast:
    """Load as AutoTokenizer does, but a BERT tokenizer without the half second that AutoTokenizer takes to find it."""
    from transformers import BertTokenizerFast, PreTrainedConfig  # type: ignore[attr-defined]

    check_class(path, _json_value(path / 'tokenizer.json', 'model'))
    if _json_value(path / 'tokenizer_config.json', 'tokenizer_class') in ('BertTokenizer', 'BertTokenizerFast'):
        return BertTokenizerFast.from_pretrained(str(path))
    from transformers import AutoTokenizer

    # For a model type that only kovilt has, transformers would warn; the tokenizer does not depend on it.
    is_kovilt = str(_json_value(path / 'config.json', 'model_type')).startswith('kovilt')
    config = PreTrainedConfig() if is_kovilt else None
    return _fast(AutoTokenizer.from_pretrained(str(path), config=config, trust_remote_code=False))


def _fast(tokenizer: Any) -> PreTrainedTokenizerFast:
    """What AutoTokenizer gives is declared as one of several classes; TokenizeKorean needs a fast one."""
    if not hasattr(tokenizer, 'backend_tokenizer'):
        kind = type(tokenizer).__name__
        raise KoviltError(f'tokenizer {tokenizer.name_or_path}: a {kind}, which is not a fast one; take another')
    return cast('PreTrainedTokenizerFast', tokenizer)


def _json_value(file: Path, key: str) -> Any:
    """A value of a JSON file; None when the file or the key does not exist."""
    try:
        return read_json(file).get(key)
    except KoviltError:
        return None


def _from_hub(name: str) -> PreTrainedTokenizerFast:
    """Load from the hub's cache, else from the hub, with one request first: transformers would retry for minutes."""
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    if name.startswith(('.', '/', '~')) or name.count('/') > 1 or name.endswith(('.txt', '.json')):
        raise KoviltError(f'tokenizer {name}: no such file or folder')
    try:
        return _from_hub_cache(name)
    except (LocalEntryNotFoundError, HFValidationError):  # not in the cache, or no name: `download` tells that
        download(name, _HUB_FILES, what='tokenizer', remedy='give a local folder')
    return _from_hub_cache(name)


def _from_hub_cache(name: str) -> PreTrainedTokenizerFast:
    from huggingface_hub import hf_hub_download
    from transformers import AutoTokenizer

    check_tokenizer_files(Path(hf_hub_download(name, 'tokenizer_config.json', local_files_only=True)).parent)
    return _fast(AutoTokenizer.from_pretrained(name, local_files_only=True, trust_remote_code=False))


def tokenizer_sizes(tokenizer: Any) -> dict[str, Any]:
    """The values that a tokenizer determines in a model, by the model's argument names, and a vocabulary digest."""
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return {
        'vocab_size': len(tokenizer),
        'mask_token_id': tokenizer.mask_token_id,
        'special_token_ids': sorted(tokenizer.all_special_ids),
        'vocabulary_digest': hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:16],
    }
