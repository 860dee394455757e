"""kovilt: Ko-ViLT, Korean visual question answering on MMEngine.

Importing this package is instant: it loads neither torch nor MMEngine's runner.
"""

from .version import __version__

__all__ = ['__version__']
