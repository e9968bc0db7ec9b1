"""Sample pictures to try style transfer with.

Paintings are drawn by code from random fields and brush marks (numpy, and Pillow to resize), so
they are original work of this project. Photographs are those of scikit-image.
"""

from .paintings import STYLES, draw, write_samples
from .photographs import PHOTOGRAPHS, photograph, write_photographs

__all__ = ["PHOTOGRAPHS", "STYLES", "draw", "photograph", "write_photographs", "write_samples"]
