"""Numbers of things, in words that agree with them."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """Say how many there are: `1 shard`, `2 shards`.

    Args:
        number: How many.
        one: What follows a 1: a noun, or more of the sentence.
        many: What follows other numbers. Default: `one` with an s.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"
