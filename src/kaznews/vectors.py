"""Keys and vectors in, the vectors that are known out: a bounded store of embeddings on disk."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]

# SQLite takes at least 999 variables a statement in every build.
_ASKED = 900
_SECONDS_TO_WAIT = 60
# A vector's time of use is written at most once in so long: most reads write nothing.
_STALE_SECONDS = 86_400
# What a row takes beside its vector: key, time and the index over it.
_OVERHEAD = 80


@dataclass(frozen=True)
class VectorStore:
    """Vectors of one length in one SQLite file, shared by processes.

    A damaged file is dropped: everything in it can be computed again.

    Attributes
    ----------
    path : Path
    dimension : int
        Length of every vector, stored as little-endian float32.
    megabytes : int
        What `put` leaves at most; the vectors that were written or asked for longest ago go first.
    """

    path: Path
    dimension: int
    megabytes: int

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """Return the vectors of those keys that are known, and note that they are in use."""
        if not self.path.exists():
            return {}
        found: dict[bytes, Vector] = {}
        stale = []
        now = time.time()
        with contextlib.suppress(sqlite3.DatabaseError, OSError), self._open() as database:
            for start in range(0, len(keys), _ASKED):
                asked = list(keys[start : start + _ASKED])
                marks = ",".join("?" * len(asked))
                rows = database.execute(
                    f"SELECT key, vector, used FROM vectors WHERE key IN ({marks})", asked
                )
                for key, raw, used in rows:
                    if len(raw) == 4 * self.dimension:
                        found[key] = np.frombuffer(raw, dtype="<f4").astype(np.float32)
                        if used < now - _STALE_SECONDS:
                            stale.append((now, key))
            if stale:
                with database:
                    database.executemany("UPDATE vectors SET used = ? WHERE key = ?", stale)
        return found

    def put(self, vectors: Mapping[bytes, Vector]) -> None:
        """Store vectors, all or none, and drop the oldest beyond the bound."""
        now = time.time()
        rows = [(key, v.astype("<f4").tobytes(), now) for key, v in vectors.items()]
        for attempt in (1, 2):
            try:
                with self._open() as database, database:
                    database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
                    self._shrink(database)
                return
            except (sqlite3.OperationalError, OSError):
                # Locked for long, no space, read-only: without a cache it is slower, not wrong.
                return
            except sqlite3.DatabaseError:
                if attempt == 1:
                    self.path.unlink(missing_ok=True)

    def _shrink(self, database: sqlite3.Connection) -> None:
        most = self.megabytes * 10**6 // (4 * self.dimension + _OVERHEAD)
        (count,) = database.execute("SELECT count(*) FROM vectors").fetchone()
        if count > most:
            database.execute(
                "DELETE FROM vectors WHERE key IN (SELECT key FROM vectors ORDER BY used LIMIT ?)",
                (count - most,),
            )

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=_SECONDS_TO_WAIT)
        try:
            database.execute(
                "CREATE TABLE IF NOT EXISTS vectors "
                "(key BLOB PRIMARY KEY, vector BLOB NOT NULL, used REAL NOT NULL) WITHOUT ROWID"
            )
            database.execute("CREATE INDEX IF NOT EXISTS by_use ON vectors (used)")
            yield database
        finally:
            database.close()
