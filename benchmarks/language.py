"""What `kaznews.language` says of sentences in Kazakh and in other languages: `make language`.

Writes experiments/results/language.md. Other languages and mixed sentences were written for this
purpose (data/language); Kazakh ones are those of the corpus, in both alphabets, and the real ones
where `make data` has put them.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable

from kaznews import gold
from kaznews.language import KAZAKH, RUSSIAN, language_of
from kaznews.root import ROOT
from kaznews.script import LATIN_2021
from kaznews.text import read

TABLE = ROOT / "experiments" / "results" / "language.md"


def written() -> dict[str, list[str]]:
    """Return the sentences of data/language by language."""
    by_language: dict[str, list[str]] = {}
    with (ROOT / "data" / "language" / "sentences.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            by_language.setdefault(row["language"], []).append(row["text"])
    return by_language


def kazakh() -> dict[str, list[str]]:
    """Return Kazakh sentences by where they come from."""
    paths = sorted((ROOT / "data" / "corpus").glob("*.jsonl"))
    rows = [json.loads(line) for path in paths for line in path.open(encoding="utf-8")]
    found = {
        "kk, corpus": [row["text"] for row in rows if row["script"] == "cyrl"],
        "kk, corpus, 2021 Latin": [row["text"] for row in rows if row["script"] == LATIN_2021],
    }
    real = gold.texts_path(ROOT / "data" / "gold")
    if real.exists():
        lines = real.open(encoding="utf-8")
        found["kk, real"] = [json.loads(line)["text"] for line in lines]
    return found


def row_of(name: str, right: tuple[str, ...], texts: Iterable[str]) -> str:
    """Return a line of the table: how many sentences, and what is said of them."""
    said = Counter(language_of(read(text)[0]) for text in texts)
    n = sum(said.values())
    good = sum(said[language] for language in right)
    others = ", ".join(f"{language} {k:,}" for language, k in said.most_common())
    return f"| {name} | {n:,} | {100 * good / n:.1f} % | {others} |"


def main() -> None:
    lines = ["| language | sentences | right | said |", "| --- | --- | --- | --- |"]
    lines += [row_of(name, (KAZAKH,), texts) for name, texts in kazakh().items()]
    for name, texts in written().items():
        if name == KAZAKH:
            lines.append(row_of("kk, short or mixed", (KAZAKH,), texts))
        elif name == RUSSIAN:
            lines.append(row_of("ru", (RUSSIAN,), texts))
        else:
            lines.append(row_of(name, (RUSSIAN, "other"), texts))
    TABLE.write_text(
        "Right: `kk` for Kazakh, `ru` for Russian, anything but `kk` or `und` for others.\n\n"
        + "\n".join(lines)
        + "\n",
        "utf-8",
    )
    print(TABLE.read_text("utf-8"))


if __name__ == "__main__":
    main()
