"""Sizes as people write them: 700KB is 700,000 bytes, 7.5MB is 7,500,000."""

import re

from nestling.errors import InputError

UNITS = {"": 1, "B": 1, "KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


def parse_size(text: str) -> int:
    """ "700KB" -> 700000. Raises InputError for anything but a number with B, KB, MB or GB."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?B?)\s*", str(text).upper())
    if not found or found.group(2) not in UNITS:
        raise InputError(
            f"{text!r} is no size.", "A number with B, KB, MB or GB was expected.", "Write, for example, 700KB."
        )
    return round(float(found.group(1)) * UNITS[found.group(2)])
