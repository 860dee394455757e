"""schemathesis sends what the OpenAPI document allows, and what it forbids, and holds the answers to the document."""

from __future__ import annotations

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from kovilt.serving.batch_stream import MEDIA_TYPES

# An image that is text, as the document says, is still no image: 400. So `positive_data_acceptance` does not hold.
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.allow_header_conformance,
]
LINES = '/v1/batch'  # a line that is refused gets its error in an answer that is a success


@schemathesis.serializer(*MEDIA_TYPES)
def as_line(context, value):
    return {'data': value if isinstance(value, bytes) else json.dumps(value).encode()}


@pytest.mark.parametrize('mode', GenerationMode)
def test_what_is_answered_is_what_the_document_says(served, mode):
    document = schemathesis.openapi.from_url(f'{served}/openapi.json')
    seen = set()
    for operation in (found.ok() for found in document.get_all_operations()):

        @settings(max_examples=5, deadline=None, derandomize=True, database=None, suppress_health_check=HealthCheck)
        @given(case=operation.as_strategy(generation_mode=mode))
        def call(case):
            seen.add(case.operation.label)
            rejects = [] if case.path == LINES else [checks.negative_data_rejection]
            case.call_and_validate(checks=[*CHECKS, *rejects], timeout=60)

        if mode is GenerationMode.POSITIVE or operation.body:  # nothing can be wrong with the others
            call()
    assert {'POST /v1/vqa', 'POST /v1/batch', 'POST /v1/chat/completions'} <= seen
