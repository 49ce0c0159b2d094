"""Store what the fits of ``tests/test_same_fits.py`` predict today, as ``fits.json`` beside this file.

Run where a change is meant to change fits, and in a clean checkout of the commit before one that is not:

    python tests/data/store_fits.py

Numbers are hexadecimal: every bit is kept.
"""

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    # The checkout itself, whatever is installed, and its tests.
    sys.path[:0] = [str(Path(__file__).parents[level]) for level in (2, 1)]
    from test_same_fits import CASES, STORED, environment, run

    fits = {}
    for name in CASES:
        predicted, members = run(name)
        fits[name] = {"predicted": [float(value).hex() for value in predicted], "members": members}
    STORED.write_text(json.dumps({"environment": environment(), "fits": fits}, indent=1) + "\n")
    print(f"{STORED.name}: {len(fits)} fits, {STORED.stat().st_size / 1e3:.0f} kB")
