"""Files of other projects, and checkpoint files, read as tensors without running code. No MMEngine, no models."""
