"""What the sources say of a class is what the class itself says, or they say that they do not know."""

from __future__ import annotations

import pytest
from mmengine.registry import Registry

from kovilt import registry as registries
from kovilt.engine.config_check import _plain
from kovilt.engine.signatures import LoadedParts, Signature
from kovilt.engine.source_signatures import PACKAGES, SourceParts

REGISTRIES = {name: value for name, value in vars(registries).items() if isinstance(value, Registry)}
SOURCES = SourceParts()


@pytest.fixture(scope='module')
def loaded() -> LoadedParts:
    return LoadedParts()


def registered(loaded: LoadedParts, registry: Registry) -> dict[str, object]:
    """What kovilt and MMEngine have registered; not what other tests, or mmpretrain for them, may have."""
    loaded.find('nothing', registry)  # kovilt's parts register themselves
    known = {**registry.root.module_dict, **registry.module_dict}
    return {
        name: kind
        for name, kind in known.items()
        if kind.__module__.startswith(PACKAGES) and not kind.__module__.startswith('mmengine.utils')
    }


def assert_claims_hold(claimed: Signature, true: Signature) -> None:
    count = len(claimed.names)
    assert claimed.names == true.names[:count]
    assert set(claimed.required) == set(true.required) & set(claimed.names)
    assert (claimed.names, claimed.closed) == (true.names, true.closed) or not claimed.whole and not claimed.closed
    for name, hint in claimed.types.items():
        assert _plain(hint) is not None and _plain(hint) == _plain(true.types.get(name)), name


@pytest.mark.parametrize('registry', REGISTRIES.values(), ids=REGISTRIES)
def test_registered_parts_are_found_with_their_signatures(loaded, registry):
    for name, kind in registered(loaded, registry).items():
        claimed, true = SOURCES.find(name, registry), loaded.find(name, registry)
        if claimed is None:
            assert not kind.__module__.startswith('kovilt'), name
            continue
        assert claimed.name == true.name
        assert_claims_hold(claimed.signature, true.signature)
        if kind.__module__.startswith('kovilt'):
            assert claimed.signature.whole
            plain = {key for key, hint in true.signature.types.items() if _plain(hint) is not None}
            assert set(claimed.signature.types) == plain, name


@pytest.mark.parametrize('registry', REGISTRIES.values(), ids=REGISTRIES)
def test_a_name_is_called_unknown_only_where_all_names_are_known(loaded, registry):
    names = SOURCES.instead_of('Nobody', registry)
    if registry in (registries.OPTIMIZERS, registries.MODEL_WRAPPERS):  # MMEngine fills them in loops
        assert names is None
    else:
        assert set(names) == set(registered(loaded, registry)) == SOURCES.names(registry)
    for unsure in ('json', 'mmpretrain.ViT', 'torch.nn.Linear', dict, *registered(loaded, registry)):
        assert SOURCES.instead_of(unsure, registry) is None


@pytest.mark.parametrize('name', ['RegisteredByATest', 'LoggerHook'])
def test_what_this_process_has_registered_is_not_judged(name):
    registries.HOOKS.register_module(module=type(name, (), {}))
    try:
        assert SOURCES.find(name, registries.HOOKS) is None and SOURCES.instead_of(name, registries.HOOKS) is None
    finally:
        del registries.HOOKS.module_dict[name]


def test_torchs_loader_and_mmengines_runner_are_read_whole(loaded):
    for place in (('torch.utils.data', 'DataLoader'), ('mmengine.runner', 'Runner'), ('torch.optim', 'AdamW')):
        claimed, true = SOURCES.at(*place), loaded.at(*place)
        assert claimed.signature.whole and claimed.signature.closed
        assert_claims_hold(claimed.signature, true.signature)


PACKAGE = {
    '__init__': 'from .parts import Kind as Renamed\n',
    'parts': '''
from __future__ import annotations
import typing
from abc import ABC, ABCMeta
from dataclasses import dataclass
from json import JSONDecoder
from threading import Thread
from typing import TYPE_CHECKING, Generic, Literal, Optional, TypeVar, Union
if TYPE_CHECKING:
    from somewhere import Unknown
try:
    from somewhere import Perhaps
except ImportError:
    class Perhaps:
        def __init__(self, perhaps=1): ...
T = TypeVar('T')
Shade = Literal['light', 'dark']
Mixed = Union[Shade, int, None]
TEXT = """
class Kind:
    def __init__(self, no_class): ...
"""

class Kind:
    """A docstring with a line that looks like code:

def __init__(self, nothing): ...
    def __init__(self, nothing): ...
    """
    def method(self, x): return super().__init__()
    def __init__(self, a: int, *args, b: float = 1.0, c: 'str', **kwargs) -> None:
        """In it
a line at the margin."""
        self.a = a

class Left(Kind):
    def __init__(self, left: Shade = 'light', **kwargs): super().__init__(**kwargs)
class Right(Kind):
    def __init__(self, right: Optional[bool] = None, a: str = '', **kwargs): super().__init__(**kwargs)
class Diamond(Left, Right, Generic[T]): pass
class Posed(ABC, metaclass=ABCMeta):
    def __init__(self, first, /, second: typing.Literal[1, 2] = 1, third: Mixed = None, *, fourth: int | None = None):
        pass
class Bare: x = 1
class OnlyMore:
    def __init__(self, **kwargs): ...
class Checked:
    def __init__(self, x: int, y: Unknown = None): ...
class FromJSON(JSONDecoder):
    def __init__(self, own: bool = False, **kwargs): ...
class FromNoPackage(Thread):
    def __init__(self, own: bool = False, **kwargs): ...
class Uncertain(Perhaps): pass
class Later(Kind): __init__ = Posed.__init__
class Split(Kind):
    if T:
        def __init__(self, one): ...
    else:
        def __init__(self, other): ...
@dataclass
class Data:
    x: int
class Below(Data):
    def __init__(self, own: int, **kwargs): ...
class Twice:
    def __init__(self, first): ...
class Twice:
    def __init__(self, second): ...
def function(a: int, *, b: str = '', **more): ...
def other(a, b=2): ...
''',
}


def test_sources_of_any_kind_are_read_right_or_not_at_all(tmp_path, monkeypatch, loaded):
    (tmp_path / 'kinds_of_classes').mkdir()
    for name, text in PACKAGE.items():
        (tmp_path / 'kinds_of_classes' / f'{name}.py').write_text(text, encoding='utf-8')
    monkeypatch.syspath_prepend(tmp_path)
    known = {}
    whole = {'Kind', 'Left', 'Right', 'Diamond', 'Posed', 'Bare', 'OnlyMore', 'Checked', 'FromJSON'}
    whole |= {'function', 'other'}
    in_part, unknown = {'FromNoPackage', 'Below'}, {'Uncertain', 'Later', 'Split', 'Data', 'Twice'}
    for name in whole | in_part | unknown:
        claimed, true = SOURCES.at('kinds_of_classes.parts', name), loaded.at('kinds_of_classes.parts', name)
        if claimed is not None:
            assert claimed.name == true.name
            assert_claims_hold(claimed.signature, true.signature)
            known[name] = claimed.signature.whole
    assert known == dict.fromkeys(whole, True) | dict.fromkeys(in_part, False)
    assert SOURCES.at('kinds_of_classes.parts', 'Diamond').signature.names == ('left', 'right', 'a', 'b', 'c')
    assert set(SOURCES.at('kinds_of_classes.parts', 'Posed').signature.types) == {'second', 'third', 'fourth'}
    assert not SOURCES.at('kinds_of_classes.parts', 'Checked').signature.types  # Python gives none, either
    assert SOURCES.at('kinds_of_classes', 'Renamed').name == 'Kind'
    for place in (('kinds_of_classes', 'Kind'), ('kinds_of_classes.none', 'X'), ('threading', 'Thread')):
        assert SOURCES.at(*place) is None
