"""Safeguards of kovilt that can be removed, to show that the suite finds what they prevent."""

PLANTS = {}
