"""What constructors take, read off their sources: a mistake in a config is told without importing torch for seconds.

Nothing is run. The sources of kovilt, MMEngine, mmcv's transforms and torch are found by their places, searched for
what registers itself, and the few files that a config names are parsed. Where sources do not tell - a base in C, a
class made by a decorator, a name that is bound twice, an annotation that is more than a plain type - nothing is
claimed: the classes themselves are asked afterwards (`LoadedParts`).
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.util
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Literal

from mmengine.registry import Registry

from kovilt import registry as _registries
from kovilt.engine.signatures import Argument, Level, Part, joined

Place = tuple[str, str]  # a module's name and a name in it
Definition = ast.ClassDef | ast.FunctionDef

# Whose classes a registry of kovilt knows, in the order of its search. mmcv registers more, but kovilt imports this.
PACKAGES = ('kovilt', 'mmengine', 'mmcv.transforms')
UNUSED = {'mmengine.testing', 'mmengine.utils'}  # register toys, and nothing imports what does
BARE_BASES = {('typing', 'Generic'), ('abc', 'ABC')}  # have no constructor
PLAIN = {'int': int, 'float': float, 'bool': bool, 'str': str}

_DECORATOR = re.compile(
    r"^@(?:[\w.]+\.)?([A-Z_]+)\.register_module\((?:name='([\w.]+)')?\)\n(?=(?:[@#][^\n]*\n)*(?:class|def) (\w+))", re.M
)
_DEFINITION = re.compile(r'(?:@[^\n]*\n(?:(?:[ \t#)\]}][^\n]*)?\n)*)*(?:async )?(?:class|def) (\w+)')
_GOES_ON = re.compile(r'(?:else|elif|except|finally)\b')
_CONSTRUCTOR = re.compile(r'^    (?:def )?__init__\b|^    (?:if|try|for|while|with)\b[\s\S]*__init__', re.M)
_ALL_OF_MODULE = re.compile(
    r'^for (\w+) in (\w+)\.__all__:\n    ([A-Z_]+)\.register_module\(module=getattr\(\2, \1\)\)$', re.M
)


class _OutOfReach(Exception):
    """The sources do not tell."""


class SourceParts:
    """The types of a config as their sources describe them; `Parts` says what it can be asked."""

    def __init__(self) -> None:
        self._modules: dict[str, _Module | None] = {}
        self._registered: dict[str, _Registered] = {}

    def find(self, kind: Any, registry: Registry) -> Part | None:
        variable = _variable(registry)
        if not isinstance(kind, str) or variable is None or _is_anothers(kind, registry):
            return None
        for package in PACKAGES:
            place = self._in(package).places.get(variable, {}).get(kind)
            if place is not None:
                return self.at(*place)
        if variable == 'OPTIMIZERS' and kind != 'Adafactor':  # MMEngine has registered torch's under another name
            return self.at('torch.optim', kind)
        return None

    def instead_of(self, kind: Any, registry: Registry) -> list[str] | None:
        variable = _variable(registry)
        if variable is None or not isinstance(kind, str) or not kind.isidentifier():
            return None
        found = [self._in(package) for package in PACKAGES]
        names = list(dict.fromkeys(name for each in found for name in each.places.get(variable, ())))
        here = {*registry.module_dict, *registry.root.module_dict}  # what this process has registered itself
        unclear = any(variable in each.unclear for each in found)
        # MMEngine takes a module's name, too
        return None if unclear or kind in names or kind in here or _spec(kind) is not None else names

    def at(self, module: str, name: str) -> Part | None:
        found = self._resolve(module, name)
        if found is None or not isinstance(found[1], Definition):
            return None
        owner, node = found
        levels, whole = [], True
        try:
            for level in self._levels(owner, node):
                levels.append(level)
        except _OutOfReach:
            whole = False
        if not whole and not levels:
            return None
        signature = joined(levels)
        return Part(node.name, signature if whole else replace(signature, closed=False, whole=False))

    def names(self, registry: Registry) -> frozenset[str]:
        """All names that the sources register."""
        return frozenset(name for package in PACKAGES for name in self._in(package).places.get(_variable(registry), ()))

    # What is registered

    def _in(self, package: str) -> _Registered:
        if package not in self._registered:
            self._registered[package] = self._scan(package)
        return self._registered[package]

    def _scan(self, package: str) -> _Registered:
        found = _Registered()
        file = _file(package)
        folder = file.parent if file is not None else None
        for path in sorted(folder.rglob('*.py')) if folder else ():
            module = '.'.join([package, *path.relative_to(folder).with_suffix('').parts]).removesuffix('.__init__')
            text = _text(path, having=b'register_module') or ''
            if not text or any(module.startswith(f'{unused}.') for unused in UNUSED):
                continue
            understood = [match[1] for match in _DECORATOR.finditer(text)]
            for variable, name, own in _DECORATOR.findall(text):
                found.places.setdefault(variable, {})[name or own] = (module, own)
            for _, alias, variable in _ALL_OF_MODULE.findall(text):
                listed = self._listed(module, alias)
                if listed:
                    found.places.setdefault(variable, {}).update(listed)
                    understood.append(variable)
            seen = _registering(text)
            found.unclear |= {variable for variable in seen if seen.count(variable) != understood.count(variable)}
        return found

    def _listed(self, module: str, alias: str) -> dict[str, Place]:
        """The `__all__` of a module that `module` has imported as `alias`."""
        owner = self._module(module)
        place = owner and self._as_module(owner, ast.Name(alias))
        target = place and self._module(place)
        node = target.definition('__all__') if target else None
        return {name: (place, name) for name in ast.literal_eval(node.value)} if isinstance(node, ast.Assign) else {}

    # What a name stands for

    def _module(self, name: str) -> _Module | None:
        if name not in self._modules:
            path = _file(name)
            text = None if path is None else _text(path)
            try:
                self._modules[name] = None if text is None else _Module(name, path, text)
            except (SyntaxError, ValueError):
                self._modules[name] = None
        return self._modules[name]

    def _resolve(self, module: str, name: str) -> tuple[_Module, ast.stmt] | None:
        """The statement that defines a name, and the module it stands in; imports are followed."""
        for _ in range(10):  # an import that goes round in a circle ends
            owner = self._module(module)
            if owner is None:
                return None
            node = owner.definition(name)
            if node is not None:
                return owner, node
            if name not in owner.imported:
                return None
            module, name = owner.imported[name]
            if not name:
                return None
        return None

    def _as_module(self, owner: _Module, node: ast.expr) -> str | None:
        """The module that a name or a dotted name stands for."""
        if isinstance(node, ast.Attribute):
            base = self._as_module(owner, node.value)
            name = base and f'{base}.{node.attr}'
        else:
            base, own = owner.imported.get(getattr(node, 'id', ''), (None, ''))
            name = f'{base}.{own}' if own else base
        return name if name and _file(name) is not None else None

    def _object(self, owner: _Module, node: ast.expr) -> tuple[_Module, ast.stmt] | None:
        if isinstance(node, ast.Name):
            return self._resolve(owner.name, node.id)
        if isinstance(node, ast.Attribute):
            base = self._as_module(owner, node.value)
            return base and self._resolve(base, node.attr)
        return None

    # What a constructor takes

    def _levels(self, owner: _Module, node: Definition) -> Iterator[Level]:
        if isinstance(node, ast.FunctionDef):
            _refuse_decorators(node)
            yield self._level(owner, node, skip=0)
            return
        for module, kind in self._order(owner, node):
            constructor = _constructor(kind)
            if constructor is not None:
                level = self._level(module, constructor, skip=1)
                yield level
                if not level.takes_more:
                    return

    def _order(self, owner: _Module, node: ast.ClassDef) -> Iterator[tuple[_Module, ast.ClassDef]]:
        """A class and its bases in the order in which Python asks them, no further than they are asked for."""
        _refuse_decorators(node)
        if any(word.arg != 'metaclass' or getattr(word.value, 'id', '') != 'ABCMeta' for word in node.keywords):
            raise _OutOfReach
        yield owner, node
        bases = []
        for base in node.bases:
            base = base.value if isinstance(base, ast.Subscript) else base
            if isinstance(base, ast.Name) and (base.id == 'object' or owner.imported.get(base.id) in BARE_BASES):
                continue
            found = self._object(owner, base)
            if found is None or not isinstance(found[1], ast.ClassDef):
                raise _OutOfReach
            bases.append(found)
        if len(bases) == 1:
            yield from self._order(*bases[0])
        elif bases:
            yield from _merged([*(list(self._order(*base)) for base in bases), bases])

    def _level(self, owner: _Module, function: ast.FunctionDef, skip: int) -> Level:
        given = function.args
        by_position = [*given.posonlyargs, *given.args]
        required = {argument.arg for argument in by_position[: len(by_position) - len(given.defaults)]}
        required |= {a.arg for a, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None}
        hints = _can_be_evaluated(owner, function)
        return Level(
            [
                Argument(a.arg, a.arg in required, self._hint(owner, a.annotation) if hints and a.annotation else None)
                for a in [*by_position, *given.kwonlyargs][skip:]
            ],
            given.kwarg is not None,
        )

    def _hint(self, owner: _Module, node: ast.expr) -> Any:
        """An annotation that is made of plain types and literals; None for any other."""
        match node:
            case ast.Constant(value=None):
                return type(None)
            case ast.Name(id=name) if name in PLAIN and name not in owner.bound:
                return PLAIN[name]
            case ast.BinOp(op=ast.BitOr()):
                return self._union(owner, [node.left, node.right])
            case ast.Subscript():
                return self._subscript(owner, node)
            case ast.Name() | ast.Attribute():
                found = self._object(owner, node)
                match found:
                    case (module, ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value)):
                        return self._hint(module, value)
        return None

    def _subscript(self, owner: _Module, node: ast.Subscript) -> Any:
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        match node.value:
            case ast.Name(id=name):
                place = owner.imported.get(name)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                place = (owner.imported.get(name, ('', ''))[0], attribute)
            case _:
                place = None
        if place == ('typing', 'Literal') and all(isinstance(part, ast.Constant) for part in parts):
            return Literal[tuple(part.value for part in parts)]
        if place == ('typing', 'Union'):
            return self._union(owner, parts)
        if place == ('typing', 'Optional'):
            return self._union(owner, [node.slice, ast.Constant(None)])
        return None

    def _union(self, owner: _Module, nodes: list[ast.expr]) -> Any:
        parts = [self._hint(owner, node) for node in nodes]
        return None if None in parts else functools.reduce(operator.or_, parts)


@dataclass
class _Registered:
    """What a package registers, by the name of the registry's variable."""

    places: dict[str, dict[str, Place]] = field(default_factory=dict)
    unclear: set[str] = field(default_factory=set)  # variables that also register what a search does not see


class _Module:
    """A module's top level. Only what is asked for is parsed, of a class no more than its constructor.

    Attributes:
        imported: name -> the module it comes from and its name there, '' for the module itself.
        bound: every name that is there when the module has been imported.
    """

    def __init__(self, name: str, path: Path, text: str) -> None:
        self.name = name
        self.imported: dict[str, Place] = {}
        self.bound: set[str] = set()
        self._defined: dict[str, str | ast.stmt] = {}
        self._package = name if path.name == '__init__.py' else name.rpartition('.')[0]
        try:
            for piece in _statements(text):
                definition = _DEFINITION.match(piece)
                if definition:
                    self._bind(definition[1], None, piece)
                elif piece[:1] not in ('"', "'"):
                    self._read(ast.parse(piece))
        except SyntaxError:  # a piece that is no statement
            for known in (self.imported, self.bound, self._defined):
                known.clear()
            self._read(ast.parse(text))

    def _read(self, tree: ast.Module) -> None:
        for node in tree.body:
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith('TYPE_CHECKING'):
                continue
            for name, place in _bindings(node, self._package):
                self._bind(name, place, node)

    def _bind(self, name: str, place: Place | None, node: str | ast.stmt) -> None:
        if name in self.bound:
            self._defined.pop(name, None)
            self.imported.pop(name, None)
        elif place is not None:
            self.imported[name] = place
        elif isinstance(node, str | ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign):
            self._defined[name] = node
        self.bound.add(name)

    def definition(self, name: str) -> ast.stmt | None:
        """The one statement that defines a name: a class, a function or an assignment."""
        node = self._defined.get(name)
        if isinstance(node, str):
            for text in (_without_methods(node), node):
                try:
                    (node,) = ast.parse(text).body
                    break
                except (SyntaxError, ValueError):
                    continue
            self._defined[name] = node = node if isinstance(node, ast.stmt) else ast.Pass()
        return node


def _statements(text: str, indent: str = '') -> Iterator[str]:
    """The statements of a block as they stand in the text.

    They begin where a line is indented no further, if it is neither the rest of a string in triple quotes nor of a
    statement that has begun: behind a decorator, or with `else` and the like. Quotes within quotes deceive it: the
    pieces are then no Python.
    """
    piece, last = '', ''
    for part in re.split(rf'^(?={indent}[^\s#)\]}}])', text, flags=re.M):
        within = piece.count('"""') % 2 or piece.count("'''") % 2
        if piece and not within and not last.startswith('@') and not _GOES_ON.match(part.strip()):
            yield piece
            piece = ''
        piece += part
        last = part.strip()
    yield piece


def _without_methods(text: str) -> str:
    """A class with its constructor alone; any other text as it is."""
    if not re.search(r'^class ', text, re.M):
        return text
    head, *members = _statements(text, indent='    ')
    kept = [member for member in members if _CONSTRUCTOR.search(member)]
    return ''.join([head, *kept, '\n    pass\n'])


def _bindings(node: ast.stmt, package: str) -> Iterator[tuple[str, Place | None]]:
    """The names that a statement binds, and where from if it is an import."""
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            yield node.name, None
        case ast.Import():
            for alias in node.names:
                yield (
                    alias.asname or alias.name.partition('.')[0],
                    (alias.name if alias.asname else alias.name.partition('.')[0], ''),
                )
        case ast.ImportFrom():
            base = package.split('.')[: len(package.split('.')) + 1 - node.level] if node.level else []
            module = '.'.join([*base, *filter(None, [node.module])])
            for alias in node.names:
                yield alias.asname or alias.name, (module, alias.name)
        case _:
            for inner in ast.walk(node):
                match inner:
                    case ast.Name(ctx=ast.Store()):
                        yield inner.id, None
                    case ast.ClassDef() | ast.FunctionDef():
                        yield inner.name, None
                    case ast.Import() | ast.ImportFrom():
                        for alias in inner.names:
                            yield (alias.asname or alias.name).partition('.')[0], None


def _variable(registry: Registry) -> str | None:
    """What the module of registries calls this one of kovilt."""
    return next((name for name, value in vars(_registries).items() if value is registry), None)


def _is_anothers(kind: str, registry: Registry) -> bool:
    """Whether something imported already, such as a plugin without torch, has registered a part under this name."""
    here = {**registry.root.module_dict, **registry.module_dict}
    return kind in here and not getattr(here[kind], '__module__', '').startswith((*PACKAGES, 'torch'))


def _file(module: str) -> Path | None:
    """The source of a module, which is not imported for it; None of one in C, and of one that stands in no package."""
    top, *rest = module.split('.')
    spec = _spec(top)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        place = Path(folder, *rest)
        for path in (place / '__init__.py', place.parent / f'{place.name}.py'):
            if path.is_file():
                return path
    return None


def _spec(name: str) -> ModuleSpec | None:
    """Where a module without parents lies."""
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # a module that somebody has made up
        return None


def _text(path: Path, having: bytes = b'') -> str | None:
    """What a file says; None when it cannot be read or does not say `having`."""
    try:
        content = path.read_bytes()
        return content.decode().replace('\r\n', '\n') if having in content else None
    except (OSError, UnicodeDecodeError):
        return None


def _registering(text: str) -> list[str]:
    """The registries that a text puts something into, each time that it does; examples in docstrings do not count."""
    found = []
    for match in re.finditer(r'\.register_module\(', text):
        before = text[text.rfind('\n', 0, match.start()) + 1 : match.start()].strip()
        name = re.search(r'[A-Z_]+$', before)
        if name and not before.startswith(('>>>', '#', '`')):
            found.append(name[0])
    return found


def _refuse_decorators(node: Definition) -> None:
    """A decorator can make any other object of a class or a function; registries do not."""
    for decorator in node.decorator_list:
        if not isinstance(decorator, ast.Call) or getattr(decorator.func, 'attr', '') != 'register_module':
            raise _OutOfReach


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    """The `__init__` that stands in the class itself."""
    found = [statement for statement in node.body if any(name == '__init__' for name, _ in _bindings(statement, ''))]
    if not found:
        return None
    if len(found) > 1 or not isinstance(found[0], ast.FunctionDef) or found[0].decorator_list:
        raise _OutOfReach
    return found[0]


def _merged(orders: list[list[Any]]) -> Iterator[Any]:
    """Python's C3: each first that stands behind no other."""
    orders = [order for order in orders if order]
    while orders:
        behind = [entry for order in orders for entry in order[1:]]
        first = next((order[0] for order in orders if order[0] not in behind), None)
        if first is None:
            raise _OutOfReach
        yield first
        orders = [rest for rest in ([e for e in order if e != first] for order in orders) if rest]


def _can_be_evaluated(owner: _Module, function: ast.FunctionDef) -> bool:
    """Whether Python, too, can say what the annotations mean: it gives none where one is for type checkers only."""
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    annotations = [argument.annotation for argument in arguments if argument is not None] + [function.returns]
    for annotation in filter(None, annotations):
        literals = {
            id(inner)
            for node in ast.walk(annotation)
            if isinstance(node, ast.Subscript) and 'Literal' in ast.unparse(node.value)
            for inner in ast.walk(node.slice)
        }
        for node in ast.walk(annotation):
            if isinstance(node, ast.Name) and node.id not in owner.bound and not hasattr(builtins, node.id):
                return False
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in literals:
                return False
    return True
