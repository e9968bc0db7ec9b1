"""Sample pictures, to try style transfer with where none is at hand.

Paintings are drawn by code, from random fields and brush marks alone (numpy, and Pillow to resize),
so they are original work of this project; photographs are scikit-image's.
"""

from .paintings import STYLES, draw, write_samples
from .photographs import PHOTOGRAPHS, photograph, write_photographs

__all__ = ["PHOTOGRAPHS", "STYLES", "draw", "photograph", "write_photographs", "write_samples"]
