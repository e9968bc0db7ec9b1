"""Transfers in feature space: they give content features the statistics of a style.

All take the content's features and the style's :class:`~impasto.statistics.Moments`. AdaIN matches
mean and deviation by channel, WCT also the covariance; RBMAD and SAN learn which statistics to
match.
"""
