"""What `kovilt serve` is told, in a form that goes to worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from kovilt.apis import VQAInferencer
from kovilt.apis.precision import Precision
from kovilt.errors import KoviltError
from kovilt.ranges import Range, Share, check_value

MAX_CHOICES = 100  # of one request
MAX_QUESTIONS = 64  # of one request about one image
MAX_EXPLAINED = 8  # questions of one request whose answers are explained, each at the cost of several
MAX_LINES = 10_000  # of one request to /v1/batch


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """A model and where it is asked; named as the options of `kovilt serve` and `kovilt demo`.

    Attributes:
        model: that answers; `config`, `tokenizer`, `precision`, `trust`, `threshold` and `abstention` are about it
            alone.
        max_image_mb: megabytes of an image file.

    Raises:
        BadValueError: a value out of range.
    """

    model: str
    config: str | None = None
    tokenizer: str | None = None
    device: str | None = None
    precision: Precision = 'float32'
    trust: bool = False
    threshold: Share | None = None
    abstention: str | None = None
    host: str = '127.0.0.1'
    port: Annotated[int, Range(ge=0, le=65_535)]
    max_image_mb: Annotated[float, Range(gt=0, le=200)] = 10

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            check_value(name, getattr(self, name), hint)

    @property
    def max_image_bytes(self) -> int:
        return int(self.max_image_mb * 1e6)

    def open_model(self, **options: Any) -> VQAInferencer:
        """Load the model; `options` are further ones of VQAInferencer, which raises KoviltError."""
        return VQAInferencer(
            self.model,
            config=self.config,
            tokenizer=self.tokenizer,
            device=self.device,
            precision=self.precision,
            trust=self.trust,
            threshold=self.threshold,
            abstention=self.abstention,
            **options,
        )


@dataclass(frozen=True, kw_only=True)
class ServerSettings(ModelSettings):
    """The model that is served, and the limits of the service; named as the options of `kovilt serve`.

    Attributes:
        name: of the model in answers and in OpenAI's format; '' = the last part of its path.
        token: that requests to /v1 must bear; '' = none.
        workers: processes, each with the model.
        max_batch: pairs of a question and an image that the model answers together.
        max_wait_ms: milliseconds that the model waits for more pairs of a batch.
        max_queue: requests that are read or answered at a time; further ones are refused.
        timeout: seconds in which a request has to arrive, and in which it is answered.
        cache_images: images that stay prepared, and of a `PrefixViLT` encoded; at base size 0.7 and 17 MB each.

    Raises:
        BadValueError: a value out of range.
    """

    name: str = ''
    port: Annotated[int, Range(ge=0, le=65_535)] = 8000
    token: str = ''
    workers: Annotated[int, Range(ge=1, le=1_000)] = 1
    max_batch: Annotated[int, Range(ge=1, le=10_000)] = 32
    max_wait_ms: Annotated[float, Range(ge=0, le=60_000)] = 5
    max_queue: Annotated[int, Range(ge=1, le=100_000)] = 128
    timeout: Annotated[float, Range(gt=0, le=86_400)] = 30
    cache_images: Annotated[int, Range(ge=0, le=1_000_000)] = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.token.isprintable() or not self.token.isascii():
            raise KoviltError('token: give letters, digits and signs of ASCII, which a header can hold')

    @property
    def model_name(self) -> str:
        return self.name or Path(self.model).resolve().name

    @property
    def max_body_bytes(self) -> int:
        """Of a request about one image: base64 takes four thirds, questions and the rest of the JSON the rest."""
        return self.max_image_bytes * 4 // 3 + 1_000_000
