"""Photos as bytes become upright RGB; what could end or stall a decoder is refused before."""

from .decoding import (
    MAX_BYTES,
    MAX_PIXELS,
    Decoded,
    check_size,
    decode,
    decode_photo,
    from_pillow,
    max_bytes,
    read_bytes,
    read_photo,
)

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "Decoded",
    "check_size",
    "decode",
    "decode_photo",
    "from_pillow",
    "max_bytes",
    "read_bytes",
    "read_photo",
]
