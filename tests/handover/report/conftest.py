"""Pages in a browser, and two published artifacts whose reports are compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from asrbuild.architectures.deepspeech.network import random_weights
from tests.proof import building

DESKTOP, PHONE = 1280, 390


@pytest.fixture(scope="session")
def pair(published, tmp_path_factory) -> list[Path]:
    """The same weights as a program and as a neural network of enumerated shapes."""
    root = tmp_path_factory.mktemp("pair")
    other = building.publish(
        root / "artifacts",
        root / "work",
        random_weights(32, seed=3),
        "model=enumerated",
        "coreml=neuralnetwork",
    )
    return [published, other]


@dataclass
class Window:
    """A page in a browser, with its console messages and requests."""

    page: object
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def show(self, width: int, scheme: str) -> None:
        """Gives the window a width, and the system a colour scheme."""
        self.page.set_viewport_size({"width": width, "height": 900})  # type: ignore[attr-defined]
        self.page.emulate_media(color_scheme=scheme)  # type: ignore[attr-defined]

    def overflow(self) -> list[str]:
        """Elements beyond the right edge, which would require scrolling."""
        return self.page.evaluate(  # type: ignore[attr-defined]
            """() => document.documentElement.scrollWidth <= innerWidth ? [] :
                [...document.body.querySelectorAll("*")]
                    .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
                    .map(e => e.outerHTML.slice(0, 120))"""
        )


@pytest.fixture(scope="session")
def context(chromium) -> Iterator[object]:
    """One window of the browser, without a network, for every page."""
    context = chromium.new_context(offline=True)
    yield context
    context.close()


@pytest.fixture
def look(context) -> Iterator[object]:
    """Opens a file at the width of a desk; at the end there must be no message and no request."""
    opened: list[Window] = []

    def open_page(path: Path) -> Window:
        window = Window(context.new_page())
        window.page.on("console", lambda message: window.complaints.append(message.text))
        window.page.on("pageerror", lambda error: window.complaints.append(str(error)))
        window.page.on("request", lambda asked: window.requests.append(asked.url))
        window.show(DESKTOP, "light")
        window.page.goto(path.absolute().as_uri())
        opened.append(window)
        return window

    yield open_page
    for window in opened:
        assert window.complaints == []
        asked = [url for url in window.requests if not url.startswith(("data:", "blob:"))]
        assert asked == [window.requests[0]]
        assert window.overflow() == []
        window.page.close()
