"""What commands print: a terminal obeys no text from outside, and no encoding fails.

A path, a question or an answer of a model from elsewhere may hold escape sequences, which change what stands on the
screen, marks that reverse the text after them, or line breaks that imitate a line of kovilt. They are shown escaped.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata
from typing import Any


def printable(text: object, keep: str = '') -> str:
    r"""The text with every character that draws nothing written as in Python: '\x1b', '\u202e', '\n'.

    Blanks of other scripts stay, and so does what is in `keep`.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return ''.join(
        character
        if character.isprintable() or character in keep or unicodedata.category(character) == 'Zs'
        else character.encode('unicode_escape').decode('ascii')
        for character in shown
    )


def show(line: object, *, flush: bool = False) -> None:
    """Print one line, `printable`."""
    print(printable(line), flush=flush)


def json_line(value: Any) -> str:
    """A value as one line of JSON, with Hangul as it is where stdout can show it, and the rest escaped as in JSON."""
    line = ''.join(
        character if character.isprintable() else json.dumps(character)[1:-1]
        for character in json.dumps(value, ensure_ascii=False)
    )
    try:
        line.encode(sys.stdout.encoding or 'ascii')
    except UnicodeEncodeError:
        return json.dumps(value)
    return line


class PrintableRecord(logging.LogRecord):
    """A record whose message is `printable`, but for the line breaks of tables."""

    def getMessage(self) -> str:  # noqa: N802  # logging's name
        return printable(super().getMessage(), keep='\n\t')


def set_up_output() -> None:
    """Let stdout and stderr escape what their encoding lacks, such as Hangul, instead of failing; logs are printable.

    Called where a command starts.
    """
    logging.setLogRecordFactory(PrintableRecord)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')
