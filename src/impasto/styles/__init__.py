"""What is kept of a painting: its moments at several sizes, measured when asked for or stored.

Paper 4 names it the major drawback of Gatys' method that it "cannot store picture styles". It can:
the style loss needs the moments of the painting's features and nothing else. So do AdaIN, WCT and
the flows, each of the features of its own network.
"""

from .paintings import read_painting, reduce
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
    "named_styles",
    "prepared",
    "read_painting",
    "reduce",
    "style_shares",
]
