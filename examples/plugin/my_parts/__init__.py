"""Components of your own for kovilt. Importing this package, as `custom_imports` of a config does, registers them."""

from .head import CosineVQAHead
from .reader import CSVReader
from .transform import Grey

__all__ = ['CSVReader', 'CosineVQAHead', 'Grey']
