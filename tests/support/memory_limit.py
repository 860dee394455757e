"""A limit on the memory that this process may take on top of what it has."""

import contextlib
import os
import resource
from pathlib import Path


@contextlib.contextmanager
def memory_limit(megabytes):
    """Within the block, memory beyond this is a MemoryError (or whatever a C library makes of it)."""
    used = int(Path('/proc/self/statm').read_text().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 1_000_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
