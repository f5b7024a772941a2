"""Takes the picture of a page for the README, at the width of a desk and on a light ground.

`uv run tools/screenshot.py docs/report.png artifacts/demo-static-mlprogram/*/report.html`
A third argument is the part to take, as a CSS selector; without it, all that fits a window.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WINDOW = {"width": 1120, "height": 1000}


def main() -> None:
    target, page_path, *selector = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport=WINDOW, color_scheme="light")
        page.goto(Path(page_path).absolute().as_uri())
        shown = page.locator(selector[0]).first if selector else page
        picture = Image.open(io.BytesIO(shown.screenshot())).convert("RGB")
        browser.close()
    # 128 colours: a third of the bytes, and no difference to the eye.
    picture.quantize(128).save(target, optimize=True)


if __name__ == "__main__":
    main()
