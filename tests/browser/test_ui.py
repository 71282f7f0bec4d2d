"""What a person sees in MLflow after `make train` and `make ui`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import TASKS, TOPIC

from kaznews.notes import USE
from kaznews.views import CONTEST, MAIN, address, models_key, summary_metric

if TYPE_CHECKING:
    from tests.browser.conftest import Site

    Keep = Callable[[str], None]


def run_names(page: Any) -> list[str]:
    """Return the names in the run table from top to bottom."""
    links = page.locator(".ag-row a[href*='/runs/']")
    links.first.wait_for()
    return [text.strip() for text in links.all_inner_texts()]


def see(page: Any, text: str | re.Pattern[str]) -> Any:
    """Wait until a text can be seen; return where."""
    found = page.get_by_text(text).filter(visible=True).first
    found.wait_for()
    return found


def cell(page: Any, row: int, column: str) -> str:
    """Return the text of a cell of the run table."""
    found = page.locator(f'.ag-row[row-index="{row}"] [col-id="{column}"]').first
    found.wait_for()
    return str(found.inner_text()).strip()


def test_the_printed_address_shows_the_run_table_with_the_main_metrics(
    page: Any, site: Site, picture: Keep
) -> None:
    assert site.printed == site.base + address("1")
    page.goto(site.printed)
    # Children are folded: two runs, of three tasks each.
    assert len(run_names(page)) == 2
    see(page, "matching runs")
    newest = site.newest(kind="parent")
    for name in (*MAIN.values(), summary_metric(TOPIC, "test")):
        shown = cell(page, 0, f"metrics.`{name}`").rstrip("…")
        assert float(shown) == pytest.approx(newest.data.metrics[name], abs=1e-3), name
    assert cell(page, 0, "tags.`alias`") == "challenger, champion"
    assert cell(page, 1, "tags.`alias`") == "previous"
    picture("runs")
    page.locator('.ag-row[row-index="0"] button').first.click()
    see(page, re.compile(r"^topic · "))
    assert len(run_names(page)) == 5


def test_the_menu_of_views_leads_to_champion_and_challenger(page: Any, site: Site) -> None:
    page.goto(site.printed)
    run_names(page)
    page.get_by_test_id("saved-views-trigger").click()
    for task in TASKS:
        see(page, f"Models: {task.name}")
    see(page, "Champion against challenger").click()
    page.wait_for_url(f"**viewStateShareKey={CONTEST}**")
    assert page.locator("input[value*='alias LIKE']").count() == 1
    assert len(run_names(page)) == 2
    assert cell(page, 0, "tags.`alias`") == "challenger, champion"


def test_the_models_of_a_task_stand_side_by_side_best_on_dev_first(
    page: Any, site: Site, picture: Keep
) -> None:
    page.goto(site.base + address("1", models_key(TOPIC)))
    names = run_names(page)
    assert len(names) == 2
    assert all(name.startswith("topic · ") for name in names)
    best, other = (float(cell(page, i, "metrics.`dev_macro_f1`").rstrip("…")) for i in (0, 1))
    assert best > other
    page.locator("label:has(input[value=CHART])").click()
    sections = page.get_by_test_id("experiment-view-compare-runs-section-header")
    sections.first.filter(has_text="Models: topic").wait_for()
    # The first chart is that of the metric by which models are chosen.
    charts = page.locator("[data-testid='experiment-view-compare-runs-card']")
    charts.first.locator(".main-svg").first.wait_for()
    assert charts.first.inner_text().startswith("dev_macro_f1")
    picture("models")


def test_a_run_says_what_it_is_and_leads_to_the_registered_version(
    page: Any, site: Site, picture: Keep
) -> None:
    run = site.newest(task="topic")
    page.goto(site.page_of(run))
    # Before a person unfolds the rest.
    headline = f"{run.data.metrics['test_macro_f1']:.3f}"
    see(page, re.compile(re.escape(headline)))
    see(page, "main_test")
    see(page, re.compile(rf"^{run.data.tags['data']}-train"))
    for tag in ("data_digest", "git_commit", "features", "classifier"):
        if tag in run.data.tags:
            see(page, re.compile(rf"^{tag}"))
    page.get_by_role("button", name="Expand description").click()
    page.get_by_role("columnheader", name="cross-validation").wait_for()
    picture("run")
    # MLflow opens links of a description in a window of their own.
    with page.expect_popup() as opened:
        page.get_by_role("link", name="kaznews-topic version 2").click()
    assert opened.value.url.endswith("/#/models/kaznews-topic/versions/2")
    see(opened.value, "Version 2")


def test_pictures_and_tables_of_a_task_are_shown(page: Any, site: Site) -> None:
    page.goto(site.page_of(site.newest(task="topic"), "/artifacts"))
    see(page, "confusion_test.png").click()
    picture = page.locator("img[src*='confusion_test.png'], img[src^='blob:']").first
    picture.wait_for()
    page.wait_for_function("[...document.images].some(i => i.complete && i.naturalWidth > 500)")
    for table, columns in {
        "test_sentences.json": ("text", "gold", "predicted", "confidence", "n_grams"),
        "label_audit.json": ("text", "given", "suggested", "score"),
    }.items():
        see(page, table).click()
        see(page, re.compile("View as table"))
        heads = page.get_by_role("columnheader")
        for column in columns:
            heads.filter(has_text=re.compile(rf"^{column}$")).first.wait_for()


def test_the_report_renders_in_the_run(page: Any, site: Site) -> None:
    run = site.newest(kind="parent")
    page.goto(site.page_of(run, "/artifacts"))
    see(page, "report.html").click()
    frame = page.frame_locator("iframe").first
    frame.locator("h1", has_text=run.info.run_name).wait_for()
    pictures = frame.locator("img")
    assert pictures.count() > 20
    assert pictures.evaluate_all("all => all.every(i => i.complete && i.naturalWidth > 100)")
    assert frame.locator("table").first.bounding_box()["width"] < 1200


def test_two_runs_are_compared(page: Any, site: Site) -> None:
    page.goto(site.base + address("1", models_key(TOPIC)))
    run_names(page)
    for row in (0, 1):
        page.locator(f'.ag-row[row-index="{row}"] .ag-checkbox input').first.check()
    page.get_by_role("button", name="Compare").click()
    see(page, "Comparing 2 Runs from 1 Experiment")
    see(page, "features.analyzer")
    see(page, "cv_accuracy")
    for run in site.client().search_runs(["1"], "tags.task = 'topic'"):
        see(page, re.compile(f"^{re.escape(str(round(run.data.metrics['cv_accuracy'], 3)))}$"))


def test_models_of_the_experiment_name_their_run_version_and_dataset(page: Any, site: Site) -> None:
    page.goto(f"{site.base}/#/experiments/1/models?workflowType=machine_learning")
    page.get_by_role("link", name="stance_trade_balance").first.wait_for()
    page.get_by_role("link", name="kaznews-topic v2").or_(
        page.get_by_role("link", name="kaznews-topic")
    ).first.wait_for()
    page.locator(".ag-row a", has_text=re.compile(r"^kaznews$")).first.click()
    # The page of the bundle has the metrics, each with the dataset that it was measured on.
    see(page, "main_dev")
    see(page, re.compile(r"-dev \("))


def test_the_registered_model_has_a_champion_with_a_model_card(
    page: Any, site: Site, picture: Keep
) -> None:
    page.goto(f"{site.base}/#/models/kaznews")
    see(page, "All tasks in one model")
    see(page, "@ champion")
    page.get_by_role("link", name="Version 2").click()
    see(page, "@ champion")
    see(page, USE)
    for title in ("Scores", "Gate", "Limits", "Licence of the training text"):
        page.get_by_text(title, exact=True).first.wait_for()
    page.get_by_role("columnheader", name="stance trade balance").first.wait_for()
    picture("version")
