"""Verify: whether shards are whole, agree with themselves, and fit their photos."""

from .check import Finding, VerifyReport, verify

__all__ = ["Finding", "VerifyReport", "verify"]
