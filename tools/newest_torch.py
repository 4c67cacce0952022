"""The newest torch that pip finds for this Python: prints its version.

    python tools/newest_torch.py

pip looks where its own settings say (PIP_INDEX_URL and its configuration).
"""

from __future__ import annotations

import re
import subprocess
import sys


def newest(said: str) -> str:
    """The version in what ``pip index versions torch`` prints, without a part after a plus sign.

    Raises:
        ValueError: if none is there.
    """
    match = re.match(r"torch \(([0-9][0-9a-z.]*)(\+[0-9a-z.]+)?\)", said)
    if match is None:
        raise ValueError(f"pip names no version of torch: {said[:200]!r}")
    return match[1]


def main() -> int:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "index", "versions", "torch"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        print(newest(done.stdout))
    except ValueError as error:
        print(f"{error}; {done.stderr.strip()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
