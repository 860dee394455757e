"""Finds the file in which a value of a config was set."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import RemoveAssignFromAST

from kovilt.config_names import find_config
from kovilt.engine.config_files import base_files, parse_config_files
from kovilt.engine.config_options import Keys, flatten_config, parse_option
from kovilt.files import read_text

COMMAND_LINE = 'command line'
LOAD_CONFIG = 'load_config'  # no file sets the value, and load_config adds it: patch_size of a transform, for instance


class ConfigOrigins:
    """The origins of the values of one config: a value comes from the file nearest to the entry that writes it.

    Args:
        path: the config file, or the name of one of kovilt's.
        options: `a.b=value` texts, as `--cfg-options` takes them.
    """

    def __init__(self, path: str | Path, options: Iterable[str] = ()) -> None:
        path = find_config(path)
        self.entry = path.resolve()
        trees = parse_config_files(path)
        self.bases = {file: base_files(file, tree) for file, tree in trees.items()}
        self.settings = {file: _run_alone(file, self.bases[file]) for file in trees}
        self.options = [
            keys
            for key, value in map(parse_option, options)
            for keys, _ in flatten_config(value, tuple(key.split('.')))
        ]

    def find(self, keys: Keys) -> str:
        """The file that sets the value at `keys`, seen from the current folder; or `COMMAND_LINE` or `LOAD_CONFIG`."""
        if any(keys[: len(option)] == option for option in self.options):
            return COMMAND_LINE
        file = self._find_file(keys, self.entry)
        if file is None:
            return LOAD_CONFIG
        return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)

    def _find_file(self, keys: Keys, file: Path) -> Path | None:
        value: Any = self.settings[file]
        for key in keys:
            if not isinstance(value, Mapping):  # a list replaces that of a base as a whole
                return file
            if key not in value:
                found = (self._find_file(keys, base) for base in self.bases[file])
                return file if value.get('_delete_') else next(filter(None, found), None)
            value = value[key]
        return file


def _run_alone(file: Path, bases: Iterable[Path]) -> dict[str, Any]:
    """The variables that a config file sets itself. It sees those of its bases as `_base_`, but they are not merged."""
    inherited = Config()
    for base in bases:
        inherited.merge_from_dict(Config.fromfile(base).to_dict())
    text = re.sub(r'\{\{ *(_base_[\w.]+) *\}\}', r'\1', read_text(file, 'config'))  # MMEngine's {{_base_.key}}
    tree = RemoveAssignFromAST('_base_').visit(ast.parse(text))
    variables = {'_base_': inherited}
    exec(compile(tree, str(file), 'exec'), variables)  # noqa: S102  # a config is code, as MMEngine runs it
    return variables
