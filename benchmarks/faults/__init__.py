"""A suite of fault injection: each row hurts runs in one way and counts those that survive. docs/en/reliability.md."""
