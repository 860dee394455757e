"""The version of kovilt, read by setup.py and written into every checkpoint and work folder."""

__version__ = '0.1.0'
