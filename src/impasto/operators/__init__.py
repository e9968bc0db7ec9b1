"""Transfers in feature space: functions of features and :class:`~impasto.statistics.Moments`."""
