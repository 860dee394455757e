"""Tables that map answers to others, such as the English yes and no of a Korean data set to 예 and 아니요.

An entry matches an answer whatever its capitals. Answers without an entry stay as they are.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from kovilt.datasets.korean import normalize_korean
from kovilt.errors import KoviltError
from kovilt.files import read_json
from kovilt.unanswerable import ENGLISH_ANSWERS, NO_ANSWER

_YES_NO = {'yes': '예', 'no': '아니요', 'maybe': '아마도'}
_COLOURS = {
    'black': '검은색', 'white': '흰색', 'red': '빨간색', 'blue': '파란색', 'yellow': '노란색', 'green': '초록색',
    'gray': '회색', 'grey': '회색', 'brown': '갈색', 'pink': '분홍색', 'purple': '보라색', 'orange': '주황색',
}  # fmt: skip
PACKAGED: dict[str, dict[str, str]] = {
    # KVQA: its answers are Korean but for these.
    'kvqa': {**_YES_NO, **dict.fromkeys(ENGLISH_ANSWERS, NO_ANSWER)},
    # AI-Hub 71357 (BOK-VQA): its Korean file has English answers, mostly names, which stay; these do not.
    '71357': {**_YES_NO, **_COLOURS},
}


@functools.lru_cache(maxsize=16)
def load_answer_map(name: str) -> Mapping[str, str]:
    """A table, by the name of a packaged one ('kvqa', '71357') or the path of a JSON file {"Yes": "예", ...}.

    Its keys are folded by `fold`.

    Raises:
        KoviltError: no such table or file, or one that is no table of texts.
    """
    content = PACKAGED.get(name)
    if content is None:
        path = Path(os.path.expanduser(name))
        if not path.is_file():
            known = ', '.join(map(repr, PACKAGED))
            raise KoviltError(f'answer_map {name!r}: neither a table of kovilt ({known}) nor a JSON file')
        content = read_json(path)
        wrong = next((key for key, value in content.items() if not isinstance(value, str) or not value.strip()), None)
        if wrong is not None:
            raise KoviltError(f'{path}: {wrong!r} is mapped to {str(content[wrong])[:40]!r}; give a text')
    return {fold(key): normalize_korean(value) for key, value in content.items()}


def fold(answer: str) -> str:
    """The form in which answers are compared with the entries of a table."""
    return normalize_korean(answer).casefold()
