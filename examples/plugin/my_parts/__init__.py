"""Components of your own for kovilt. Importing this package, as `custom_imports` of a config does, registers them."""

from .dataset import CSVQuestions
from .head import CosineVQAHead
from .transform import Grey

__all__ = ['CSVQuestions', 'CosineVQAHead', 'Grey']
