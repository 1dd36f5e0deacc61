# SPDX-License-Identifier: Apache-2.0
"""A report in a headless Chromium: where its marks are, and what is seen of it."""

import json

import numpy as np
from PIL import Image

# Elements anywhere, those that Bokeh keeps in shadow roots too; the view of a panel.
HELP = """
const deep = (selector, root = document) => [
  ...root.querySelectorAll(selector),
  ...[...root.querySelectorAll("*")]
    .flatMap((element) => element.shadowRoot ? deep(selector, element.shadowRoot) : []),
]
const middle = (element) => {
  const box = element.getBoundingClientRect()
  return [box.x + box.width / 2, box.y + box.height / 2]
}
const panel = (id) => Bokeh.index.roots.find((view) => view.el.parentElement.id === id)
"""
# Of the envelope, for on planted losses the lines of the others lie on one another; of minima.
APPROACH, MINIMUM = np.array([0x00, 0x72, 0xB2]), np.array([0xD5, 0x5E, 0x00])


def see(browser, code: str):
    """What a body of JavaScript returns."""
    return browser.see(f"(() => {{ {HELP} {code} }})()")


def place(browser, panel: str, x: float, y: float) -> list[float]:
    """Where in the window a point of a panel is, which is brought there."""
    return see(browser, f"""
        const view = panel("{panel}")
        view.el.scrollIntoView({{ block: "center" }})
        const box = view.canvas_view.el.getBoundingClientRect()
        return [box.x + view.frame.x_scale.compute({x}), box.y + view.frame.y_scale.compute({y})]
    """)  # fmt: skip


def of_runs(browser, column: str) -> list:
    return browser.see(
        f"[...Bokeh.documents[0].get_model_by_name('runs').data[{json.dumps(column)}]]"
    )


def place_of_run(browser, i: int = 0) -> list[float]:
    """Where a run is in the isoFLOP panel."""
    x, y = (of_runs(browser, name)[i] for name in ("n_params", "loss_nats"))
    return place(browser, "isoflop-1", x, y)


def tooltip(browser, awaited: str) -> str:
    """What the only one that is seen says, once that is in it; it lies within the window."""
    seen = "deep('.bk-Tooltip').filter((tip) => tip.checkVisibility({ visibilityProperty: true }))"
    browser.wait(f"""(() => {{ {HELP}
        return {seen}.some((tip) => tip.shadowRoot.textContent.includes("{awaited}"))
    }})()""")
    browser.settle()
    (found,) = see(browser, f"""
        const told = (tip) => [tip.shadowRoot.textContent, tip.getBoundingClientRect().toJSON()]
        return {seen}.map(told)
    """)  # fmt: skip
    text, box = found
    assert 0 <= box["left"] < box["right"] <= browser.see("innerWidth")
    assert 0 <= box["top"] < box["bottom"] <= browser.see("innerHeight")
    return text


def listed(browser, column: int = 0) -> list[str]:
    """A column of the table, of the rows that are not hidden."""
    return see(browser, f"""
        const rows = [...document.querySelectorAll("#runs tbody tr:not([hidden])")]
        return rows.map((row) => row.cells[{column}].textContent)
    """)  # fmt: skip


def coloured(browser, figure: str, tmp_path, colour=APPROACH) -> int:
    """Pixels of one colour in a figure."""
    browser.see(f"document.getElementById('{figure}').scrollIntoView()")
    browser.settle()
    browser.picture(tmp_path / "shown.png")
    x, y, width, height = see(browser, f"""
        const box = document.getElementById("{figure}").getBoundingClientRect()
        return [box.x, Math.max(box.y, 0), box.width, box.height]
    """)  # fmt: skip
    with Image.open(tmp_path / "shown.png") as image:
        pixels = np.asarray(image.convert("RGB").crop((x, y, x + width, y + height)), int)
    return int((np.abs(pixels - colour).max(axis=-1) < 16).sum())
