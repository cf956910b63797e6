"""What a fresh interpreter loads: commands start quickly, and stages need only their packages."""

import subprocess
import sys

_SCRIPT = """
import sys
sys.argv = {argv}
try:
    exec({code!r})
except SystemExit as ended:
    assert not ended.code, ended.code
print(*sys.modules, sep="\\n", file=sys.stderr)
"""


def loaded(code: str, *argv: str) -> tuple[str, set[str]]:
    """Run code in a fresh interpreter, to its end or `sys.exit(0)`.

    Returns:
        Its stdout, and the names of all modules that it loaded.
    """
    ended = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(argv=list(argv), code=code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    modules = set(ended.stderr.splitlines())
    assert "sys" in modules
    return ended.stdout, modules
