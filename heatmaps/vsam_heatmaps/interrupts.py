"""Interrupts that were lost.

What a signal's handler raises ends the work, unless it lands where exceptions are dropped: in a
finalizer, or in C code that asks an object something and takes any error for a no. Work that goes
on all the same finds here that it should not.
"""

from __future__ import annotations

_noted: BaseException | None = None


def noted(interrupt: BaseException) -> BaseException:
    """Remember what a signal's handler is about to raise, and give it back."""
    global _noted
    _noted = interrupt
    return interrupt


def raise_lost() -> None:
    """Raise the interrupt that was noted, if any. Work calls it between its steps.

    Whoever gets here after an interrupt was not ended by it.
    """
    if _noted is not None:
        raise _noted
