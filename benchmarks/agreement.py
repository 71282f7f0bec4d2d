"""How far the two label passes over the written corpus agree: the table of data/README.md."""

from __future__ import annotations

import pandas as pd
from sklearn.metrics import cohen_kappa_score

from kaznews.root import ROOT

COLUMNS = ("topic", "stance_economic_cooperation", "stance_trade_balance")


def main() -> None:
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
