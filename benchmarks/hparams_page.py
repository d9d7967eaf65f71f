"""Pictures TensorBoard's HParams tab: ``python -m benchmarks.hparams_page STUDY OUT.png``.

Needs Debian's chromium and the test extra. The picture in README is made by this.
"""

import argparse
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"


@contextmanager
def tensorboard(logdir: Path, deadline_seconds: float = 60) -> Iterator[str]:
    """A TensorBoard on a free port of this machine; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", str(port),
         "--host", "127.0.0.1", "--load_fast", "false"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(address, server, deadline_seconds)
        yield address
    finally:
        server.terminate()
        server.wait()


def _wait_for(address: str, server: "subprocess.Popen[bytes]", deadline_seconds: float) -> None:
    end = monotonic() + deadline_seconds
    while server.poll() is None and monotonic() < end:
        try:
            with urlopen(f"{address}/data/runs", timeout=5) as answer:
                if answer.read().strip() not in (b"", b"[]"):
                    return
        except (URLError, OSError):
            pass
        sleep(0.2)
    raise RuntimeError(f"TensorBoard does not answer at {address}.")


@contextmanager
def browser_page(width: int = 2650, height: int = 1250) -> Iterator[Page]:
    """A page in headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[
            "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync"])
        page = browser.new_page(viewport={"width": width, "height": height})
        try:
            yield page
        finally:
            browser.close()


def open_hparams(page: Page, address: str) -> None:
    """Opens the HParams tab and waits for its table."""
    page.goto(f"{address}/#hparams")
    page.wait_for_selector("text=Trial ID", timeout=60_000)
    while page.locator("tf-hparams-query-pane paper-checkbox:not([checked])").count():
        page.locator("tf-hparams-query-pane paper-checkbox:not([checked])").first.click()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with tensorboard(options.study / "tensorboard") as address, browser_page() as page:
        open_hparams(page, address)
        page.screenshot(path=options.out)


if __name__ == "__main__":
    main()
