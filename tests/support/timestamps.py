"""The times before the lines of `-v`."""

import re


def untimed(err):
    """What was written to stderr, without the time that each line has with `-v`."""
    return re.sub(r"^(crypto-trigger: )\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", r"\1", err, flags=re.MULTILINE)
