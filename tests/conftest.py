"""Tests reach no network and compute with one thread each: their models are so small that threads only wait."""

import os

os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')
