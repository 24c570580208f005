LATEST_NS: int
"""No trade is later, nor earlier than its opposite, ns since the epoch: the years 1824 to 2115."""

LONGEST_NS: int
"""The longest interval of a time bar, of those that are cut by nanoseconds."""

LONGEST_MONTHS: int
"""Likewise, of those that are cut by calendar months."""

MAX_SCALE: int
"""Decimals that a price or a size can have."""

REPORTED_STATUS: int
"""The number of the only status whose rows may lack a count, which is negative then, or a sum."""

NO_SUM: int
"""The upper half of a sum that such a row lacks; the lower one is 0."""

MOST_LEVELS: int
"""Price levels of a footprint; a bar with trades at more has none."""
