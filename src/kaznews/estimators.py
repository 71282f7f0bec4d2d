"""What a configuration names by ``_target_`` in, a check that it is an estimator out.

A `Learner` holds the estimators that one task learns with.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kaznews.errors import KaznewsError

TARGET_PACKAGES = ("sklearn", "kaznews")


@dataclass(frozen=True)
class Learner:
    """What one task learns with.

    Attributes
    ----------
    vectorizer, classifier : estimators
        Unfitted.
    weights : mapping of str to float
        Of training sentences, by their source (see `lessons.source_weights`).
    names : mapping of str to str
        The chosen ``features`` and ``classifier``, for run names and tags.
    values : mapping
        The config values of both and of the weights, under dotted names.
    """

    vectorizer: Any
    classifier: Any
    weights: Mapping[str, float] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


def title_of(data: str, learners: Iterable[Learner], names: Mapping[str, str]) -> str:
    """Return the name of a run: its data and what learns from them, each combination once."""
    pairs = dict.fromkeys(" + ".join(learner.names.values()) for learner in learners)
    title = f"{data}: {', '.join(pairs)}"
    if "distil" in names:
        title += f" + distil {names['distil']}"
    if "overrides" in names:
        title += f" [{names['overrides']}]"
    return title


def names_of(learners: Iterable[Learner]) -> dict[str, str]:
    """Return ``features`` and ``classifier`` of several learners, distinct ones side by side."""
    found: dict[str, dict[str, None]] = {}
    for learner in learners:
        for group, name in learner.names.items():
            found.setdefault(group, {})[name] = None
    return {group: ", ".join(names) for group, names in found.items()}


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested mappings and lists of mappings as one mapping with dotted names."""
    if isinstance(value, Mapping):
        items = [(str(key), v) for key, v in value.items()]
    elif isinstance(value, list) and any(isinstance(v, Mapping | list) for v in value):
        items = [(str(i), v) for i, v in enumerate(value)]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, v in items:
        flat |= flatten(v, f"{prefix}.{key}" if prefix else key)
    return flat


def shared_values(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config values that are the same for all tasks."""
    own = ("features.", "classifier.", "weights.", "weights", "per_task")
    return {key: value for key, value in flat.items() if not key.startswith(own)}


def check_targets(spec: Any, where: str) -> None:
    """Refuse a configuration that would instantiate anything but an estimator.

    Parameters
    ----------
    spec : mapping, sequence or scalar
        Plain values; every ``_target_`` in it, at any depth, is checked.
    where : str
        Name of the config entry, for the message.

    Raises
    ------
    KaznewsError
        A ``_target_`` that is not an estimator class of scikit-learn or kaznews.
    """
    if isinstance(spec, Mapping):
        if "_target_" in spec:
            _check_target(spec["_target_"], where)
        for key, value in spec.items():
            check_targets(value, f"{where}.{key}")
    elif isinstance(spec, list | tuple):
        for index, value in enumerate(spec):
            check_targets(value, f"{where}[{index}]")


def _check_target(target: Any, where: str) -> None:
    module_name, _, class_name = str(target).rpartition(".")
    refusal = KaznewsError(
        f"{where}._target_={target}: expected an estimator class under "
        f"{' or '.join(f'{name}.' for name in TARGET_PACKAGES)}"
    )
    if module_name.split(".")[0] not in TARGET_PACKAGES:
        raise refusal
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError):
        raise KaznewsError(f"{where}._target_={target}: no such class") from None
    from sklearn.base import BaseEstimator

    # The module that defines it counts, not the one it can be reached through.
    if not (isinstance(found, type) and issubclass(found, BaseEstimator)):
        raise refusal
    if found.__module__.split(".")[0] not in TARGET_PACKAGES:
        raise refusal


def tuples_for_ranges(estimator: Any) -> Any:
    """Turn lists of numbers among an estimator's parameters into tuples, and return it.

    YAML has no tuples, and scikit-learn refuses a list for ``ngram_range``.
    """
    for name, value in estimator.get_params(deep=True).items():
        if isinstance(value, list) and value and all(isinstance(v, int | float) for v in value):
            estimator.set_params(**{name: tuple(value)})
    return estimator
