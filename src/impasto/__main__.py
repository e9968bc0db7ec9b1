"""``python -m impasto``."""

from .cli import main

main()
