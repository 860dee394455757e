"""Parts of our own for kovilt. Importing this package registers them; a config names it in `custom_imports`."""

from .dataset import CSVQuestions
from .head import CosineVQAHead
from .transform import Grey

__all__ = ['CSVQuestions', 'CosineVQAHead', 'Grey']
