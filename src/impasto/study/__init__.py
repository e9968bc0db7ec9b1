"""Experiments that compare methods."""
