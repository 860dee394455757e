"""What a run looks like: curves, contact sheets, alignment heat maps and the HTML report that holds them."""

from kovilt.visualization.cards import Card, Line, Piece, View, draw_cards
from kovilt.visualization.contact_sheet import AnsweredQuestion, draw_contact_sheet
from kovilt.visualization.curves import Curve, Panel, draw_curves, read_metrics
from kovilt.visualization.fonts import HOW_TO_GET_ONE, korean_font
from kovilt.visualization.heatmap import draw_alignment
from kovilt.visualization.report import write_report

__all__ = [
    'HOW_TO_GET_ONE',
    'AnsweredQuestion',
    'Card',
    'Curve',
    'Line',
    'Panel',
    'Piece',
    'View',
    'draw_alignment',
    'draw_cards',
    'draw_contact_sheet',
    'draw_curves',
    'korean_font',
    'read_metrics',
    'write_report',
]
