"""Takes a picture of a page for the README, at desktop width and in the light colour scheme.

uv run tools/screenshot.py docs/report.png artifacts/demo-static-mlprogram/*/report.html
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    parser.add_argument("page", type=Path, help="the HTML file")
    parser.add_argument("selector", nargs="?", help="a part of the page, as a CSS selector")
    chosen = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1120, "height": 1000}, color_scheme="light")
        page.goto(chosen.page.absolute().as_uri())
        shown = page.locator(chosen.selector).first if chosen.selector else page
        picture = Image.open(io.BytesIO(shown.screenshot())).convert("RGB")
        browser.close()
    # 128 colours: a third of the bytes, without a visible difference.
    picture.quantize(128).save(chosen.picture, optimize=True)


if __name__ == "__main__":
    main()
