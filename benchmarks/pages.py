"""Pictures what people look at: ``python -m benchmarks.pages STUDY FOLDER``.

TensorBoard's HParams and Images tabs and the page of ``study.compare``, light and dark, as the
files in ``docs``. Needs Debian's chromium and the test extra.
"""

import argparse
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Literal
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Page, sync_playwright

from study.compare import main as compare

CHROMIUM = "/usr/bin/chromium"


@contextmanager
def tensorboard(logdir: Path) -> Iterator[str]:
    """Start TensorBoard; yield its address once it has read its folder."""
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(logdir),
        "--host",
        "127.0.0.1",
        "--load_fast",
        "false",
    ]
    with server(command, "/data/runs") as address:
        yield address


@contextmanager
def server(command: Sequence[str], path: str, deadline_seconds: float = 60) -> Iterator[str]:
    """Start a server on a free port of this machine; yield its address.

    Args:
        command: The server's command; ``--port`` is added.
        path: A path that it answers once it is ready.
        deadline_seconds: Seconds that this may take.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(f"{address}{path}", process, deadline_seconds)
        yield address
    finally:
        process.terminate()
        process.wait()


def _wait_for(place: str, process: "subprocess.Popen[bytes]", deadline_seconds: float) -> None:
    end = monotonic() + deadline_seconds
    while process.poll() is None and monotonic() < end:
        try:
            with urlopen(place, timeout=5) as answer:
                if answer.read().strip() not in (b"", b"[]"):
                    return
        except (URLError, OSError):
            pass
        sleep(0.2)
    raise RuntimeError(f"nothing answers at {place}.")


@contextmanager
def browser_page(width: int = 2650, height: int = 1250) -> Iterator[Page]:
    """Open a page in headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        page = browser.new_page(viewport={"width": width, "height": height})
        try:
            yield page
        finally:
            browser.close()


def open_hparams(page: Page, address: str) -> None:
    """Open the HParams tab and wait for its table."""
    page.goto(f"{address}/#hparams")
    page.wait_for_selector("text=Trial ID", timeout=60_000)
    while page.locator("tf-hparams-query-pane paper-checkbox:not([checked])").count():
        page.locator("tf-hparams-query-pane paper-checkbox:not([checked])").first.click()


def open_images(page: Page, address: str) -> None:
    """Open the Images tab and wait for its pictures."""
    page.goto(f"{address}/#images")
    page.wait_for_selector("tf-image-loader img", timeout=60_000)
    page.wait_for_load_state("networkidle")


def open_report(page: Page, path: Path, scheme: Literal["light", "dark"]) -> None:
    """Open a comparison and have all of its figures drawn."""
    page.emulate_media(color_scheme=scheme)
    page.goto(path.absolute().as_uri())
    figures = page.locator("figure")
    for index in range(figures.count()):
        figures.nth(index).scroll_into_view_if_needed()
        figures.nth(index).locator(".main-svg").first.wait_for()
    page.evaluate("scrollTo(0, 0)")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with tensorboard(options.study / "tensorboard") as address:
        with browser_page() as page:
            open_hparams(page, address)
            page.screenshot(path=options.out / "hparams.png")
        with browser_page(1366, 1000) as page:
            open_images(page, address)
            page.screenshot(
                path=options.out / "images.png",
                clip={  # without the folder's path
                    "x": 0,
                    "y": 0,
                    "width": 1366,
                    "height": 940,
                },
            )
    with TemporaryDirectory() as folder, browser_page(1366, 1150) as page:
        path = Path(folder) / "comparison.html"
        compare([str(options.study), "--format", "html", "--out", str(path)])
        open_report(page, path, "light")
        page.screenshot(path=options.out / "comparison-light.png")
        open_report(page, path, "dark")
        page.locator("h3").first.evaluate("(heading) => heading.scrollIntoView()")
        page.wait_for_timeout(1000)  # scrolling is smooth
        page.screenshot(path=options.out / "comparison-dark.png")


if __name__ == "__main__":
    main()
