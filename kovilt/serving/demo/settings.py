"""What `kovilt demo` is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, get_type_hints

from kovilt.apis.precision import Precision
from kovilt.ranges import Range, check_value


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """The models of the demo and where it listens; named as the options of `kovilt demo`.

    Attributes:
        model: that answers; `config`, `tokenizer`, `precision` and `trust` are about it alone.
        compare: a second model that answers; None = none.
        pretrained: that fills in masked words.
        predictions: of `kovilt test`; None = those in the work folder `model`, if there are some.
        max_image_mb: megabytes of an uploaded file.

    Raises:
        BadValueError: a value out of range.
    """

    model: str = 'rooms'
    compare: str | None = None
    pretrained: str = 'rooms_encoder'
    predictions: str | None = None
    config: str | None = None
    tokenizer: str | None = None
    device: str | None = None
    precision: Precision = 'float32'
    trust: bool = False
    host: str = '127.0.0.1'
    port: Annotated[int, Range(ge=0, le=65_535)] = 7860
    max_image_mb: Annotated[float, Range(gt=0, le=200)] = 10

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            check_value(name, getattr(self, name), hint)

    @property
    def max_image_bytes(self) -> int:
        return int(self.max_image_mb * 1e6)
