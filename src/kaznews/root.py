"""Where the project stands: conf/, data/ and experiments/ are found from here."""

from __future__ import annotations

from pathlib import Path

# src/kaznews/root.py: two folders up. An editable install points into the checkout; training needs
# one, inference does not.
ROOT = Path(__file__).resolve().parents[2]
