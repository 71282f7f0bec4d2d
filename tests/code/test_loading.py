"""A model that has been tampered with: it is refused with a reason, and nothing of it ever runs."""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from kaznews import load
from kaznews.errors import KaznewsError


class RunsOnLoading:
    """A pickle of this creates a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


@pytest.fixture
def model(tracking_store: Path, tmp_path: Path) -> Path:
    """Return a copy of the champion as MLflow saved it; it loads as long as nobody touches it."""
    import mlflow

    source = mlflow.artifacts.download_artifacts("models:/kaznews@champion")
    folder = tmp_path / "model"
    shutil.copytree(source, folder)
    assert len(load(str(folder)).predict(["Экспорт өсті."])) == 1
    return folder


def edit_mlmodel(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
    change(content)
    (folder / "MLmodel").write_text(yaml.safe_dump(content), "utf-8")


PATHS = ["../outside/bundle", "/etc", "data/../../outside/bundle", "~/bundle", "file:///etc",
         "..\\outside", "C:\\models", "\\\\server\\share", "s3://bucket/bundle"]  # fmt: skip
FIELDS = [
    "python_function.data",
    "python_function.env",
    "python_function.env.conda",
    "python_function.env.virtualenv",
    "python_function.model_config",
    "python_function.python_model",
    "python_function.artifacts.weights.path",
    "sklearn.pickled_model",
    "sklearn.code",
]


@pytest.mark.parametrize(
    ("field", "path"),
    [("python_function.data", path) for path in PATHS] + [(field, PATHS[0]) for field in FIELDS],
)
def test_a_path_of_mlmodel_that_leaves_the_folder_is_refused(
    model: Path, field: str, path: str
) -> None:
    # What the path would lead to is a good bundle: only where it lies speaks against it.
    shutil.copytree(model / "data" / "bundle", model.parent / "outside" / "bundle")
    *above, last = field.split(".")

    def change(content: dict[str, Any]) -> None:
        place = content["flavors"]
        for name in above:
            place = place.setdefault(name, {})
        place[last] = path

    edit_mlmodel(model, change)
    with pytest.raises(KaznewsError, match=rf"refused.*flavors\.{field} in MLmodel leaves"):
        load(str(model))


@pytest.mark.parametrize("field", ["artifact_path", "serving_input_path"])
def test_a_path_of_the_input_example_that_leaves_the_folder_is_refused(
    model: Path, field: str
) -> None:
    edit_mlmodel(model, lambda m: m["saved_input_example_info"].update({field: "../../secret"}))
    with pytest.raises(KaznewsError, match=rf"saved_input_example_info\.{field} in MLmodel leaves"):
        load(str(model))


def test_code_and_loaders_that_mlmodel_names_are_never_imported(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / "code").mkdir()
    (model / "code" / "named_by_the_file.py").write_text("raise SystemExit('it ran')", "utf-8")
    monkeypatch.syspath_prepend(str(model / "code"))
    before = list(sys.path)
    pyfunc = "python_function"
    edit_mlmodel(model, lambda m: m["flavors"][pyfunc].update(loader_module="named_by_the_file"))
    with pytest.raises(KaznewsError, match="its loader is named_by_the_file"):
        load(str(model))
    edit_mlmodel(
        model,
        lambda m: m["flavors"][pyfunc].update(loader_module="kaznews.predict", code="code"),
    )
    with pytest.raises(KaznewsError, match="carries code"):
        load(str(model))
    assert "named_by_the_file" not in sys.modules
    assert sys.path == before


@pytest.mark.parametrize(
    "content",
    ["", "[", "- a list", "flavors: {}", "!!python/object/apply:os.system ['true']", "\x00",
     "a: *b", "flavors: " + "[" * 5000, "x: " + "y" * 300_000],
)  # fmt: skip
def test_a_damaged_mlmodel_is_refused(model: Path, content: str) -> None:
    (model / "MLmodel").write_text(content, "utf-8")
    with pytest.raises(KaznewsError, match=r"not a kaznews bundle|too large"):
        load(str(model))


def test_aliases_of_yaml_cannot_keep_the_reader_busy(model: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 64)]
    text = (model / "MLmodel").read_text("utf-8")
    flavors = text.replace("flavors:\n", "flavors:\n  bomb: *a63\n")
    (model / "MLmodel").write_text("\n".join([*lines, flavors]), "utf-8")
    assert len(load(str(model)).predict(["Экспорт өсті."])) == 1


@pytest.mark.parametrize(
    "name",
    ["MLmodel", "requirements.txt", "data", "data/bundle", "data/bundle/bundle.json",
     "data/bundle/topic.skops", "data/bundle/seen.npy"],
)  # fmt: skip
def test_a_symbolic_link_in_the_folder_is_refused(model: Path, name: str) -> None:
    moved = model.parent / "moved"
    (model / name).rename(moved)
    (model / name).symlink_to(moved)
    with pytest.raises(KaznewsError, match=f"{name} is a symbolic link"):
        load(str(model))


def test_links_that_lead_nowhere_or_stay_inside_are_refused_too(model: Path) -> None:
    (model / "data" / "loop").symlink_to(model)
    with pytest.raises(KaznewsError, match="data/loop is a symbolic link"):
        load(str(model))
    (model / "data" / "loop").unlink()
    (model / "broken").symlink_to("nowhere")
    with pytest.raises(KaznewsError, match="broken is a symbolic link"):
        load(str(model))


def test_a_folder_that_is_itself_a_link_is_refused(model: Path) -> None:
    (model.parent / "latest").symlink_to(model)
    with pytest.raises(KaznewsError, match="latest: it is a symbolic link; name the folder"):
        load(str(model.parent / "latest"))


def test_a_link_in_a_bare_bundle_is_refused(model: Path) -> None:
    bundle = model / "data" / "bundle"
    (bundle / "topic.skops").rename(model / "elsewhere")
    (bundle / "topic.skops").symlink_to(model / "elsewhere")
    with pytest.raises(KaznewsError, match=r"topic\.skops is a symbolic link"):
        load(str(bundle))


def test_a_pipe_in_the_folder_does_not_block_the_reader(model: Path) -> None:
    (model / "data" / "bundle" / "seen.npy").unlink()
    os.mkfifo(model / "data" / "bundle" / "seen.npy")
    with pytest.raises(KaznewsError, match=r"seen\.npy is not a regular file"):
        load(str(model))


def test_a_registered_model_is_not_written_through_its_link(model: Path) -> None:
    """MLflow's own download writes a note into the folder before anybody can look at it."""
    import mlflow

    victim = model.parent / "victim"
    victim.write_text("precious", "utf-8")
    (model / "registered_model_meta").unlink(missing_ok=True)
    (model / "registered_model_meta").symlink_to(victim)
    client = mlflow.MlflowClient()
    client.create_registered_model("tampered")
    try:
        version = client.create_model_version("tampered", model.as_uri()).version
        with pytest.raises(KaznewsError, match="registered_model_meta is a symbolic link"):
            load(f"models:/tampered/{version}")
    finally:
        client.delete_registered_model("tampered")
    assert victim.read_text("utf-8") == "precious"


def test_a_pickle_in_the_place_of_skops_is_refused_and_does_not_run(model: Path) -> None:
    mark = model.parent / "it-ran"
    content = pickle.dumps(RunsOnLoading(mark))
    (model / "data" / "bundle" / "topic.skops").write_bytes(content)
    with pytest.raises(KaznewsError, match=r"refused to load topic\.skops"):
        load(str(model))
    assert not mark.exists()
    pickle.loads(content)
    assert mark.exists()


def test_a_pickle_in_the_place_of_the_keys_is_refused_and_does_not_run(model: Path) -> None:
    mark = model.parent / "it-ran"
    seen = np.array([RunsOnLoading(mark)], dtype=object)
    np.save(model / "data" / "bundle" / "seen.npy", seen, allow_pickle=True)
    with pytest.raises(KaznewsError, match="not a kaznews bundle"):
        load(str(model))
    assert not mark.exists()


def test_a_skops_file_that_would_call_a_function_is_refused_by_its_name(model: Path) -> None:
    import skops.io

    mark = model.parent / "it-ran"
    poison = functools.partial(os.system, f"touch '{mark}'")
    skops.io.dump(poison, model / "data" / "bundle" / "topic.skops")
    # A list that the file brings along is nothing to us.
    flavor = {"skops_trusted_types": ["posix.system", "functools.partial"]}
    edit_mlmodel(model, lambda m: m["flavors"]["python_function"].update(flavor))
    with pytest.raises(KaznewsError, match=r"refused to load topic\.skops.*system"):
        load(str(model))
    assert not mark.exists()


@pytest.mark.parametrize("damage", ["empty", "truncated", "other object", "other labels"])
def test_a_skops_file_that_holds_no_pipeline_of_the_task_is_refused(
    model: Path, damage: str
) -> None:
    import skops.io

    path = model / "data" / "bundle" / "topic.skops"
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "other object":
        skops.io.dump({"a": 1}, path)
    else:
        shutil.copy(path.with_name("stance_trade_balance.skops"), path)
    with pytest.raises(KaznewsError, match=r"refused to load topic\.skops"):
        load(str(model))


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/passwd", "a/b", "", "..", "a\\b"])
def test_a_task_whose_name_leads_elsewhere_is_refused(model: Path, name: str) -> None:
    path = model / "data" / "bundle" / "bundle.json"
    manifest = json.loads(path.read_text("utf-8"))
    shutil.copy(path.with_name("topic.skops"), path.parent.with_name("elsewhere.skops"))
    manifest["tasks"][0]["name"] = name
    path.write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(KaznewsError, match="refused to load bundle: task"):
        load(str(model))


@pytest.mark.parametrize("seen", [np.zeros(3), np.zeros((2, 2), dtype=np.uint64)])
def test_keys_of_another_kind_are_refused(model: Path, seen: Any) -> None:
    np.save(model / "data" / "bundle" / "seen.npy", seen)
    with pytest.raises(KaznewsError, match=r"seen\.npy is"):
        load(str(model))
