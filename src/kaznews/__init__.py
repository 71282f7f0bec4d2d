"""kaznews: topic and stance classifiers for Kazakh news sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaznews.predict import Bundle

__version__ = "0.1.0"
__all__ = ["Bundle", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import kaznews` costs nothing until a model is asked for.
    if name in ("load", "Bundle"):
        from kaznews import predict

        return getattr(predict, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
