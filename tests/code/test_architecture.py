"""The house rules: who may import whom, and what importing may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from kaznews.root import ROOT

PACKAGE = ROOT / "src" / "kaznews"
# Data flows one way. A module may import those before it in this list, never one after it.
ORDER = (
    "root errors artifact payload script text language npz terms runtime gold reading similar "
    "data split unlabelled estimators _tokens _matrix _ngrams _lookup _vocabulary features vectors "
    "encoder folds lessons calibrate stock classify model distil scores evaluate gate "
    "slices yardsticks explain fit plots findings review report notes views provenance tracking ui "
    "sweep promotion predict export serve batches parts bulk cluster judge suggest settings "
    "audit search choose recommend reader stream conclude train cli"
).split()
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Return dotted names that a module imports, anywhere or at import time only."""
    tree = ast.parse(path.read_text("utf-8"))
    found = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_every_module_has_its_place_in_the_order() -> None:
    assert set(MODULES) <= set(ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_never_imports_a_later_one(module: str) -> None:
    own = {n.split(".")[1] for n in imports(PACKAGE / f"{module}.py") if n.startswith("kaznews.")}
    later = {name for name in own & set(ORDER) if ORDER.index(name) >= ORDER.index(module)}
    assert not later


@pytest.mark.parametrize("module", MODULES)
def test_only_tracking_and_the_loader_know_mlflow(module: str) -> None:
    known = any(n.split(".")[0] == "mlflow" for n in imports(PACKAGE / f"{module}.py"))
    assert known <= (module in ("tracking", "predict"))


@pytest.mark.parametrize("module", MODULES)
def test_only_train_knows_hydra(module: str) -> None:
    roots = {n.split(".")[0] for n in imports(PACKAGE / f"{module}.py")}
    assert bool(roots & {"hydra", "omegaconf"}) <= (module == "train")


@pytest.mark.parametrize("module", MODULES)
def test_only_cluster_knows_ray(module: str) -> None:
    roots = {n.split(".")[0] for n in imports(PACKAGE / f"{module}.py")}
    assert ("ray" in roots) <= (module == "cluster")


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_are_imported_where_they_are_used(module: str) -> None:
    heavy = {"mlflow", "sklearn", "datasets", "pandas", "scipy", "matplotlib", "pyarrow", "skops"}
    heavy |= {"ray", "joblib"}
    estimators = {"_tokens", "_matrix", "_ngrams", "_lookup", "_vocabulary", "features"}
    if module in estimators | {"encoder", "classify"}:
        pytest.skip("defines scikit-learn estimators: it is imported only where they are wanted")
    at_import = {n.split(".")[0] for n in imports(PACKAGE / f"{module}.py", top_level=True)}
    assert not at_import & heavy


def test_there_is_no_utils_and_no_package_called_src() -> None:
    assert "utils" not in MODULES
    assert not (ROOT / "src" / "__init__.py").exists()


def test_importing_the_package_pulls_in_nothing_heavy() -> None:
    code = "import sys, kaznews; print(sorted({'numpy','sklearn','mlflow'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize("module", MODULES)
def test_files_stay_readable_in_one_sitting(module: str) -> None:
    assert len((PACKAGE / f"{module}.py").read_text("utf-8").splitlines()) <= 480
