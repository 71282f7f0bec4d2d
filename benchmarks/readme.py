"""Recorded results in, the tables of README and the data card out: python -m benchmarks.readme

A table stands there between `<!-- table NAME -->` and `<!-- end -->`; what stands between them
is made from experiments/results, and a test compares the two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import peers, sib200, transfer

from kaznews.root import ROOT

RESULTS = ROOT / "experiments" / "results"
PAGES = (ROOT / "README.md", ROOT / "data" / "README.md")
Lines = list[str]
# Name on a page: the record, and what makes a table of it.
TABLES: dict[str, tuple[str, Callable[[Mapping[str, Any]], Lines]]] = {
    "transfer": ("transfer.json", transfer.main_table),
    "peers": ("peers.json", peers.real_table),
    "sib200": ("sib200.json", sib200.main_table),
}
_BLOCK = re.compile(r"(<!-- table (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def with_tables(text: str, results: Path = RESULTS) -> str:
    """Return a text with all its tables made anew; one without a record stays as it is.

    Raises
    ------
    KeyError
        The text names a table that is not in TABLES.
    """

    def block(match: re.Match[str]) -> str:
        file, lines_of = TABLES[match[2]]
        path = results / file
        if not path.exists():
            return match[0]
        lines = lines_of(json.loads(path.read_text("utf-8")))
        return f"{match[1]}{chr(10).join(lines)}\n{match[4]}"

    return _BLOCK.sub(block, text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(with_tables(page.read_text("utf-8")), "utf-8")
