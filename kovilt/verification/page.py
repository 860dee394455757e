"""Writes a verification report as an HTML page: findings with small images, figures of the splits, histograms."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from kovilt.datasets.transforms.load_image import LoadImage
from kovilt.errors import KoviltError
from kovilt.verification.findings import FINDING_KINDS, Finding, ImageLocation
from kovilt.verification.report import VerificationReport
from kovilt.visualization.report import write_page

MAX_PLACES = 50  # shown of each code; the JSON file has more
MAX_ILLUSTRATED = 3  # findings of each code that are shown with their images
MAX_BARS = 20  # answers in the histogram of a split
THUMBNAIL = 160  # pixels, the longer side


def write_verification_page(out: str | Path, report: VerificationReport, *, title: str) -> Path:
    """Write the page from the template verification.html.j2, which escapes every text, and return its path."""
    splits = [
        split
        | {
            'answers': dict(list(split['answers'].items())[:MAX_BARS]),
            'answer_types': {name: rows for name, rows in split['answer_types'].items() if name},
        }
        for split in report.splits
    ]
    return write_page(
        out,
        'verification.html.j2',
        title=title,
        totals=report.totals(),
        how=report.how_checked(),
        splits=splits,
        images=report.images,
        groups=[_group(code, report) for code in dict.fromkeys(finding.code for finding in report.findings)],
    )


def _group(code: str, report: VerificationReport) -> dict[str, Any]:
    findings = report.findings.of(code)[:MAX_PLACES]
    return {
        'code': code,
        **FINDING_KINDS[code]._asdict(),
        'count': report.findings.counts[code],
        'times': report.findings.times[code],
        'findings': [
            (finding.place, finding.description, finding.times, _thumbnails(finding) if at < MAX_ILLUSTRATED else [])
            for at, finding in enumerate(findings)
        ],
    }


def _thumbnails(finding: Finding) -> list[str]:
    return [thumbnail for place in finding.images if (thumbnail := _thumbnail(place))]


def _thumbnail(place: ImageLocation) -> str:
    """A small JPEG file in base64; '' for an image that cannot be read."""
    try:
        image = Image.fromarray(LoadImage().transform({'img_path': place})['img'])
    except KoviltError:
        return ''
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
