"""Messages that no client sends: requests and photos with bytes changed, cut, doubled or made up.

`python tests/message_fuzzer.py ADDRESS --count 10000 --seed 1` sends them to a server, counts the
answers, and fails if one is anything but tags or INVALID_ARGUMENT.
"""

import argparse
import collections
import random
import time
from collections.abc import Iterator

import grpc
from image_files import samples

ALLOWED = {"OK", "INVALID_ARGUMENT"}
METHODS = ("/TagMyOutfitService/predict", "/TagMyOutfitService/stream_predict")


def varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def request(photo: bytes, *flags: bytes) -> bytes:
    """Write a PredictRequest by hand, field by field (protobuf's encoding)."""
    return b"\x0a" + varint(len(photo)) + photo + b"".join(flags)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Change a few things."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        where = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0:
                out[where : where + 1] = bytes([rng.randrange(256)])
            case 1:
                del out[where : where + rng.choice((1, 4, 100, len(out)))]
            case 2:
                out[where:where] = rng.randbytes(rng.choice((1, 4, 100)))
            case 3:
                out[where:where] = out[where : where + rng.choice((4, 100, 1000))]
            case 4:
                out[where : where + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"))
            case 5 if out:
                out[where % len(out)] ^= 1 << rng.randrange(8)
    return bytes(out)


def messages(seed: int, count: int) -> Iterator[bytes]:
    """Give messages; the same seed gives the same ones."""
    rng, photos = random.Random(seed), list(samples().values())
    for _ in range(count):
        photo = rng.choice(photos)
        match rng.randrange(5):
            case 0:  # the photo is wrong, its message is right
                yield request(mutated(rng, photo), b"\x10\x01\x18\x01")
            case 1:
                yield mutated(rng, request(photo))
            case 2:
                yield rng.randbytes(rng.choice((0, 1, 2, 10, 1000)))
            case 3:  # fields that are not known, doubled, or of another type
                odd = (
                    b"\x78\x01",
                    b"\x0a\x00",
                    b"\x08\x01",
                    b"\x12\x01a",
                    b"\x1b\x1c",
                    b"\x18\xff",
                )
                yield request(photo, *rng.choices(odd, k=3))
            case 4:  # a length that promises more, or all there is
                yield b"\x0a" + varint(rng.choice((0, len(photo) + 1, 1 << 31, 1 << 63))) + photo


def send(address: str, seed: int, count: int, *, seconds: float) -> collections.Counter[str]:
    """Send each message to one of both methods, one after the other; count the answers' codes."""
    codes: collections.Counter[str] = collections.Counter()
    with grpc.insecure_channel(address) as channel:
        predict, stream = channel.unary_unary(METHODS[0]), channel.stream_unary(METHODS[1])
        for number, message in enumerate(messages(seed, count)):
            try:
                if number % 4:
                    predict(message, timeout=seconds)
                else:
                    stream(iter([message]), timeout=seconds)
                codes["OK"] += 1
            except grpc.RpcError as error:
                codes[error.code().name] += 1
                if error.code().name not in ALLOWED or "\n" in error.details():
                    raise AssertionError(f"message {number} of seed {seed}") from error
    return codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.perf_counter()
    codes = send(arguments.address, arguments.seed, arguments.count, seconds=60)
    print(f"{dict(codes)} in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
