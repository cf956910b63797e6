"""Benchmarks are scripts that import each other from their folder."""

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

# At the end: their names are short, and none of them may take the place of another module.
sys.path.append(str(BENCHMARKS))
