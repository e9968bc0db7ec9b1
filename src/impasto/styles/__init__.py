"""Styles: the moments of a painting's features at several sizes, measured or read from a file.

Report 4 calls it the major drawback of Gatys' method that it "cannot store picture styles". It can:
the style loss needs only the moments of the painting's features, not the painting. AdaIN, WCT and
the flows need the same, each for the features of its own network.
"""

from .paintings import list_paintings, read_painting, reduce
from .prepared import Style, check_list, check_prepared, prepared, style_shares
from .stored import (
    SUFFIX,
    LayerMoments,
    LearntStyle,
    Part,
    StoredStyle,
    find_named,
    is_name,
    named_styles,
)

__all__ = [
    "SUFFIX",
    "LayerMoments",
    "LearntStyle",
    "Part",
    "StoredStyle",
    "Style",
    "check_list",
    "check_prepared",
    "find_named",
    "is_name",
    "list_paintings",
    "named_styles",
    "prepared",
    "read_painting",
    "reduce",
    "style_shares",
]
