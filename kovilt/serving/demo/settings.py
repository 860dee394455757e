"""What `kovilt demo` is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kovilt.ranges import Range
from kovilt.serving.settings import ModelSettings


@dataclass(frozen=True, kw_only=True)
class DemoSettings(ModelSettings):
    """The models of the demo and where it listens; named as the options of `kovilt demo`.

    Attributes:
        compare: a second model that answers; None = none.
        pretrained: that fills in masked words.
        predictions: of `kovilt test`; None = those in the work folder `model`, if there are some.

    Raises:
        BadValueError: a value out of range.
    """

    model: str = 'rooms'
    compare: str | None = None
    pretrained: str = 'rooms_encoder'
    predictions: str | None = None
    port: Annotated[int, Range(ge=0, le=65_535)] = 7860
