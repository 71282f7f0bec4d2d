"""The one family of errors that are the user's to mend: a message in, one clear line out."""

from __future__ import annotations

from collections.abc import Sequence


class KaznewsError(ValueError):
    """Something the user gave cannot be used; the message says what, where and why.

    The command line prints it as one line (or one line a problem) and exits with code 2.
    """


class AbsentError(KaznewsError):
    """What was asked for is not at hand here: a package of an extra, or text to learn from."""


class ProblemsError(KaznewsError):
    """Several problems found in one pass, listed together.

    Parameters
    ----------
    title : str
        What was being checked.
    problems : sequence of str
        One line each, naming file, row and value.
    shown : int
        How many are spelled out; the rest is counted.
    """

    def __init__(self, title: str, problems: Sequence[str], shown: int = 50) -> None:
        self.problems = list(problems)
        lines = [f"{title}: {len(self.problems)} problem(s)", *self.problems[:shown]]
        if len(self.problems) > shown:
            lines.append(f"… and {len(self.problems) - shown} more")
        super().__init__("\n  ".join(lines))
