"""What the written corpus holds, how far its label passes agree: tables of data/README.md."""

from __future__ import annotations

import json
from collections import Counter

import pandas as pd
from sklearn.metrics import cohen_kappa_score

from kaznews.root import ROOT

COLUMNS = ("topic", "stance_economic_cooperation", "stance_trade_balance")


def contents() -> None:
    """Print the counts of the corpus."""
    files = sorted((ROOT / "data" / "corpus").glob("*.jsonl"))
    rows = [json.loads(line) for path in files for line in path.read_text("utf-8").splitlines()]
    words = sum(len(row["text"].split()) for row in rows) / len(rows)
    articles, groups = ({row.get(k) for row in rows} - {None} for k in ("article", "contrast"))
    print(
        f"| sentences, articles | {len(rows):,} in {len(articles)}; {words:.0f} words on average |"
    )
    for column in ("genre", *COLUMNS):
        counts = Counter(row[column] for row in rows).most_common()
        print(f"| {column} | {', '.join(f'{name} {n:,}' for name, n in counts)} |")
    both = [r for r in rows if "none" not in (r[COLUMNS[1]], r[COLUMNS[2]])]
    opposite = sum(row[COLUMNS[1]] != row[COLUMNS[2]] for row in both)
    print(f"| both stances at once | {len(both)}, of which {opposite} with opposite values |")
    contrast = sum("contrast" in row for row in rows)
    print(f"| contrast | {contrast:,} sentences in {len(groups):,} groups |")
    lower = sum(row["text"] == row["text"].lower() for row in rows)
    print(f"| lower-cased throughout | {lower:,} |")
    print(f"| 2021 Latin alphabet | {sum(row['script'] == 'latn' for row in rows)} |\n")


def main() -> None:
    contents()
    passes = pd.read_csv(ROOT / "data" / "annotation" / "corpus_passes.tsv", sep="\t", dtype=str)
    differs = pd.Series(False, index=passes.index)
    print(f"{len(passes)} sentences\n\n| label | agreement | Cohen's kappa |\n| --- | --- | --- |")
    for column in COLUMNS:
        # "none" is a label here, not a missing value.
        first, second = (passes[f"{column}_{i}"].fillna("none") for i in (1, 2))
        kappa = cohen_kappa_score(first, second)
        print(f"| {column} | {(first == second).mean():.1%} | {kappa:.3f} |")
        differs |= first != second
    rewritten = (passes["rewritten"] == "yes").sum()
    print(f"\n{differs.sum()} sentences with any difference, {rewritten} of them rewritten")


if __name__ == "__main__":
    main()
