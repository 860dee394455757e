"""Curves, contact sheets, sample cards, alignment heat maps and the HTML report of a run."""

from kovilt.visualization.cards import CardImage, CardLine, CardToken, SampleCard, draw_cards
from kovilt.visualization.contact_sheet import AnsweredQuestion, draw_contact_sheet
from kovilt.visualization.curves import Curve, Panel, draw_curves, read_metrics, run_panels, write_curves_csv
from kovilt.visualization.fonts import MISSING_FONT_HINT, korean_font
from kovilt.visualization.heatmap import draw_alignment
from kovilt.visualization.report import ReportTable, write_report

__all__ = [
    'MISSING_FONT_HINT',
    'AnsweredQuestion',
    'CardImage',
    'CardLine',
    'CardToken',
    'Curve',
    'Panel',
    'ReportTable',
    'SampleCard',
    'draw_alignment',
    'draw_cards',
    'draw_contact_sheet',
    'draw_curves',
    'korean_font',
    'read_metrics',
    'run_panels',
    'write_curves_csv',
    'write_report',
]
