"""Instruments to compare methods with."""
