"""The process of a command: what it needs before anything else, and how it ends."""

from __future__ import annotations

import logging
import os
import sys


def prepare_process() -> None:
    """Make the process of a command independent of its locale and its user; it may be started again."""
    _restart_in_utf8()
    if os.path.expanduser('~') == '~':  # a container's user may be a number alone, and libraries then raise errors
        os.environ['HOME'] = os.devnull  # holds nothing: in a folder that all may write others could leave a cache
        os.environ.setdefault('USER', str(os.getuid()))


def end_hanging_process(code: int) -> None:
    """End the process at once, with an exit code, if a log back end waits for a server: it would not let it end."""
    backends = sys.modules.get('kovilt.engine.log_backends')
    if backends is not None and backends.is_hanging():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _restart_in_utf8() -> None:
    """Start the program of this process again in Python's UTF-8 mode where file names could not hold Hangul otherwise.

    Python enters that mode by itself in the C and POSIX locales, whose text is ASCII, unless PYTHONUTF8=0 forbids it;
    in other locales without Hangul, such as Latin-1, it does not. The output keeps its encoding: Hangul is escaped.
    """
    try:
        '한글'.encode(sys.getfilesystemencoding())
    except UnicodeEncodeError:
        if os.environ.get('PYTHONUTF8') != '1':  # else `python -X utf8=0` would start again for ever
            output = {'PYTHONIOENCODING': os.environ.get('PYTHONIOENCODING', f'{sys.stdout.encoding}:backslashreplace')}
            arguments = [sys.executable, *sys.orig_argv[1:]]
            os.execve(sys.executable, arguments, {**os.environ, **output, 'PYTHONUTF8': '1'})  # noqa: S606  # no shell
