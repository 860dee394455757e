"""The fixtures of tests that write and read data sets of their own."""

from data_fixtures import data, tokenizer  # noqa: F401
