"""The page of a comparison in a real browser, without a network, light and dark."""

from pathlib import Path

import pytest

from study.analysis.stored_study import read_all
from study.reporting.html.page import as_html
from tests.support.generated_study import generate

pages = pytest.importorskip("benchmarks.pages", reason="playwright is missing")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(pages.CHROMIUM).exists(), reason="chromium is missing"),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    path = root / "page.html"
    path.write_text(as_html(read_all([generate(root / "generated", 40, 3)]), None))
    return path


def test_figures_have_the_page_s_colours_and_follow_when_it_turns_dark(path: Path) -> None:
    with pages.browser_page(1366, 768) as page:
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda request: (
                problems.append(request.url)
                if not request.url.startswith(("file:", "data:", "blob:"))
                else None
            ),
        )
        pages.open_report(page, path, "light")
        for scheme, background, text in (
            ("light", "rgb(246, 247, 249)", "rgb(42, 63, 95)"),
            ("dark", "rgb(16, 19, 23)", "rgb(242, 245, 250)"),
        ):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(
                """([page, text]) => getComputedStyle(document.body).backgroundColor === page
                && [...document.querySelectorAll("figure .xtitle")].every(
                    (title) => getComputedStyle(title).fill === text)""",
                arg=[background, text],
            )
        assert page.evaluate("document.documentElement.scrollWidth") <= 1366
        assert problems == []


def test_a_person_sees_the_records_numbers(path: Path) -> None:
    with pages.browser_page(1366, 768) as page:
        page.goto(path.as_uri())
        # accuracies are 66 % plus a point a seed, on seeds 1 to 3
        assert page.locator("#table td.best").all_inner_texts() == ["68.0 ± 1.0", "66.0 ± 1.0"]
        matrix = page.locator("figure", has_text="Confusion on target_test")
        matrix.scroll_into_view_if_needed()
        matrix.locator(".heatmap-label").first.wait_for()
        assert "57" in matrix.locator(".heatmap-label").all_text_contents()  # 56, 57 and 58
        matrix.locator(".updatemenu-header").click()
        matrix.locator(".updatemenu-dropdown-button", has_text="mcd").click()
        page.wait_for_function(
            """() => [...document.querySelectorAll(".heatmap-label")].some(
                 (label) => label.textContent === "68")"""
        )
