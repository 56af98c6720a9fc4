"""The report in headless Chromium: no errors, plots with hover, sorting, searching, opening, nothing wider than the
screen.
"""

from __future__ import annotations

import copy
import dataclasses
import html
import json
import pathlib
import shutil

import pytest
from report_runs import NASTY, page_of, write_data, write_json, write_run

from galm_tf.report import rivals
from galm_tf.report.compare import compare_page
from galm_tf.report.page import write_page
from galm_tf.report.run_reading import FinishedRun, read_run

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (requirements-dev.txt)")
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui", reason="needs selenium").WebDriverWait
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
WIDTHS = (390, 1400)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program, driver = next(filter(None, map(shutil.which, _BROWSERS)), None), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("needs Chromium and its driver on the PATH (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (*_OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, pathlib.Path]:
    root = tmp_path_factory.mktemp("browser")
    data = write_data(root / "data")
    for name in ("galm", "random", "reading"):
        write_run(root / name, data, root / "cache", name)
    write_joint(root / "galm", root / "joint")
    runs = [read_run(str(root / name)) for name in ("galm", "random", "joint", "reading")]
    made = {
        "galm": page_of(runs[0], others=rivals.neighbours(runs[0])),
        "random": page_of(runs[1], False),
        "joint": page_of(runs[2], False),
        "compared": compare_page(list(map(of_many, runs[:2]))),
        "reading": page_of(runs[3]),
    }
    for name, page in made.items():
        write_page(page, str(root / f"{name}.html"))
    return {name: root / f"{name}.html" for name in made}


def of_many(run: FinishedRun) -> FinishedRun:
    """The same run as if many images had tested it, so that no AUC is luck; by method another rate, a long name."""
    run = copy.deepcopy(run)
    rate = 0.001 if run.config.method == "random" else run.config.controller_learning_rate
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, controller_learning_rate=rate))
    for row in run.rows.values():
        row.update(test_positives=50, test_negatives=50)
    return run


def write_joint(run: pathlib.Path, joint: pathlib.Path) -> None:
    """The same run as if its attributes were of three domains, and transferred."""
    shutil.copytree(run, joint)
    result = json.loads((joint / "result.json").read_text(encoding="utf-8"))
    names = [
        f"{d}/{n.split('/', 1)[1]}" for d, n in zip(("animals", "objects", "scenes", "scenes"), result["per_attribute"])
    ]
    match = {"source": "A", "attribute": "animals/tough-skinned", "sign": -1, "auc": 0.125, "strength": 0.2}
    transfer = {"sources": ["runs/A"], "parts": ["trunk"], "match": "predictor", "matches": dict.fromkeys(names, match)}
    rows = dict(zip(names, result["per_attribute"].values()))
    write_json(
        joint / "result.json",
        {**result, "domains": ["animals", "objects", "scenes"], "per_attribute": rows, "transfer": transfer},
    )


def show(browser, page: pathlib.Path, width: int = 1400, mode: str = "light") -> None:
    """Opens a page, its folds and draws all of its figures."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": mode}]}
    )
    browser.get(page.as_uri())
    WebDriverWait(browser, 20).until(lambda b: b.execute_script("return Boolean(window.Plotly)"))
    browser.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for event in ("beforeprint", "afterprint"):
        browser.execute_script(f"window.dispatchEvent(new Event('{event}'))")


def shown_rows(browser) -> list[str]:
    return browser.execute_script(
        "return Array.from(document.querySelectorAll('#attribute-table tbody tr:not(.detail)'))"
        ".filter(r => r.offsetParent).map(r => r.cells[0].textContent.trim())"
    )


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["galm", "random", "joint", "compared", "reading"])
def test_opens_without_errors_and_fits_the_screen(browser, pages, name, width, mode):
    show(browser, pages[name], width, mode)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(
        "return [...document.querySelectorAll('.side td:first-child')].every(c => c.scrollWidth <= c.clientWidth)"
    )
    assert browser.execute_script("return [...document.querySelectorAll('.plot')].every(p => p.querySelector('svg'))")
    assert browser.get_log("browser") == []
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, background[4:-1].split(","))) < 60) == (mode == "dark")


def test_paper_is_light_whole_and_unfolded_and_the_screen_as_before(browser, pages):
    show(browser, pages["galm"], 390, "dark")
    state = (
        "const titles = [...document.querySelectorAll('.gtitle')].map((t) => getComputedStyle(t).fill);"
        "return [[...document.querySelectorAll('.plot svg.main-svg:first-child')].map((s) => s.width.baseVal.value), new Set(titles).size === 1 && titles[0],"
        "document.querySelectorAll('details:not([open])').length, getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()]"
    )
    browser.execute_script("document.querySelector('details').open = false")
    before = browser.execute_script(state)
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    widths, title, closed, ink = browser.execute_script(state)
    assert set(widths) == {680} and title == "rgb(29, 33, 38)" and closed == 0 and ink == "#1d2126"
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(state) == before and before[2] == 1 and max(before[0]) < 390
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    shown = browser.execute_script(
        "const style = (s) => getComputedStyle(document.querySelector(s));"
        "return [style('nav').display, style('.timebar i').printColorAdjust, style('.plot').overflow, style('#attribute-table .wide').display]"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert shown == ["none", "exact", "visible", "table-cell"]


def test_a_figure_of_the_same_width_is_left_alone_and_keeps_its_zoom(browser, pages):
    show(browser, pages["galm"])
    plot = browser.find_element("css selector", "#scatter .nsewdrag")
    webdriver.ActionChains(browser).scroll_to_element(plot).move_to_element(plot).click_and_hold().move_by_offset(
        100, 60
    ).release().perform()
    ranges = "return document.getElementById('scatter')._fullLayout.xaxis.range"
    zoomed = browser.execute_script(ranges)
    assert zoomed[1] - zoomed[0] < 0.4
    browser.execute_script("window.old = document.getElementById('scatter').layout")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1400, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert browser.execute_script("return window.old === document.getElementById('scatter').layout")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 900, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    )
    WebDriverWait(browser, 5).until(
        lambda b: b.execute_script("return document.getElementById('scatter').layout.width") < 900
    )
    assert browser.execute_script(ranges) == pytest.approx(zoomed)


def test_showing_all_moves_the_focus_to_the_first_new_row(browser, pages):
    many = pages["galm"].with_name("many.html")
    text = pages["galm"].read_text(encoding="utf-8")
    row = text[text.index("<tr data-network") : text.index("</tr>", text.index("<tr data-network")) + 5]
    many.write_text(text.replace(row, row * 40), encoding="utf-8")
    show(browser, many)
    browser.find_element("id", "show-all").send_keys("\n")
    place = "return [...document.querySelectorAll('#attribute-table tbody tr')].indexOf(document.activeElement.closest('tr'))"
    assert browser.execute_script(place) == 25 and len(shown_rows(browser)) == 43


def test_heat_map_tells_names_and_correlation(browser, pages):
    show(browser, pages["galm"])
    plot = browser.find_element("css selector", "#correlation .nsewdrag")
    webdriver.ActionChains(browser).scroll_to_element(plot).move_to_element_with_offset(plot, 5, -5).perform()
    WebDriverWait(browser, 5).until(lambda b: b.find_elements("css selector", "#correlation .hovertext"))
    shown = browser.find_element("css selector", "#correlation .hovertext").get_attribute("textContent")
    names, values = browser.execute_script(
        "const {layout, data} = JSON.parse(document.getElementById('figures').textContent).correlation;"
        "return [layout.names, data[0].hundredths]"
    )
    # Right of the middle of 4 by 4 and above it, in the half that the script completes.
    assert (
        html.unescape(names[1]) in shown
        and html.unescape(names[2]) in shown
        and f"correlation {values[2][1] / 100:.2f}" in shown
    )


def test_fig_5_and_table_5_of_a_joint_run(browser, pages):
    show(browser, pages["joint"], 390)
    tables = browser.find_elements("css selector", "table.domains")
    assert [len(t.find_elements("css selector", "tbody td b")) for t in tables] == [6, 9]
    assert len(browser.find_elements("css selector", "#correlated-table tbody tr")) == 4


def test_long_names_fit_the_screen(browser, pages):
    show(browser, pages["galm"], 390)
    browser.execute_script("document.querySelector('button.open').textContent = 'long'.repeat(60)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("width", WIDTHS)
def test_a_long_name_leaves_the_figure_on_its_card_whole(browser, pages, width):
    show(browser, pages["galm"], width)
    lines, inside = browser.execute_script(
        "const name = document.querySelector('.card h4.name'), card = name.closest('.card'), figure = name.querySelector('b');"
        "name.firstChild.textContent = 'long'.repeat(75);"
        "const range = document.createRange(); range.selectNodeContents(figure);"
        "return [range.getClientRects().length, figure.getBoundingClientRect().right <= card.getBoundingClientRect().right && card.scrollWidth <= card.clientWidth]"
    )
    assert lines == 1 and inside


@pytest.mark.parametrize("width, scrolls", [(1400, False), (800, True), (390, False)])
def test_a_table_that_scrolls_says_so(browser, pages, width, scrolls):
    show(browser, pages["galm"], width)
    place = browser.find_element("css selector", ".scroll:has(#attribute-table)")
    browser.execute_script("document.querySelectorAll('button.open')[0].textContent = 'direct_sun_sunny'")
    assert ("scrolls" in place.get_attribute("class").split()) == scrolls
    hint = browser.execute_script("return getComputedStyle(arguments[0], '::before').content", place)
    assert ("scroll sideways" in hint) == scrolls
    line = browser.execute_script(
        "const r = document.createRange(); r.selectNodeContents(document.querySelector('button.open')); return r.getClientRects().length"
    )
    assert line == 1  # the name stands on one line


@pytest.mark.parametrize("width", WIDTHS)
def test_the_map_names_its_points_apart(browser, pages, width):
    show(browser, pages["galm"], width)
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('#map .textpoint text')].map((t) => { const b = t.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; })"
    )
    assert len(boxes) == 4
    places = browser.execute_script("return document.getElementById('map')._fullData.flatMap((t) => t.textposition)")
    assert all(" " in place for place in places)
    overlaps = [
        (a, b)
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 3
    ]
    assert not overlaps


def test_a_narrow_legend_is_whole_and_leaves_the_leaves_room(browser, pages):
    show(browser, pages["galm"], 390)
    legend, entries, height = browser.execute_script(
        "const tree = document.getElementById('tree'), all = tree.querySelectorAll('.legend .traces');"
        "return [tree.querySelector('.legend .bg').getBoundingClientRect().height, all.length, tree._fullLayout.height]"
    )
    assert legend >= 19 * entries and entries > 2 and height >= 150 + 19 * entries


def test_runs_stand_in_the_order_of_the_legend(browser, pages):
    show(browser, pages["compared"])
    assert browser.execute_script(
        "const [low, high] = document.getElementById('differences')._fullLayout.yaxis.range; return low > high"
    )


def test_small_figures_beside_an_axis_are_plain(browser, pages):
    show(browser, pages["galm"])
    ticks = browser.execute_script(
        "const plot = document.getElementById('curve-loss');"
        "return Plotly.relayout(plot, {'yaxis.range': [0, 2.5e-4]}).then(() =>"
        " Array.from(plot.querySelectorAll('.ytick text'), (each) => each.textContent))"
    )
    assert "0.0002" in ticks


def test_one_row_is_one_attribute(browser, pages):
    show(browser, pages["galm"])
    assert browser.find_element("id", "row-count").text == "4 attributes"
    alone = pages["galm"].with_name("alone.html")
    row = "(() => { const rows = document.querySelectorAll('#attribute-table tbody tr'); [...rows].slice(1).forEach((r) => r.remove()); })();"
    text = pages["galm"].read_text(encoding="utf-8")
    alone.write_text(text.replace('"use strict";\n', f'"use strict";\n{row}\n', 1), encoding="utf-8")
    show(browser, alone)
    assert browser.find_element("id", "row-count").text == "1 attribute"
    browser.find_element("id", "search-box").send_keys("nothing")
    assert browser.find_element("id", "row-count").text == "0 of 1 attribute"


def test_sorts_with_unknown_figures_last(browser, pages):
    show(browser, pages["galm"])
    headings = browser.find_elements("css selector", "#attribute-table th button")
    falling = shown_rows(browser)
    assert falling[-1] == "unseen" and len(falling) == 4
    headings[1].click()
    assert shown_rows(browser) == falling[-2::-1] + ["unseen"]
    headings[0].click()
    assert shown_rows(browser) == sorted(falling, key=str.lower)
    headings[0].click()
    assert shown_rows(browser) == sorted(falling, key=str.lower, reverse=True)
    assert browser.execute_script("return document.querySelector('th[aria-sort]').ariaSort") == "descending"


def test_searches_names_and_networks(browser, pages):
    show(browser, pages["galm"])
    box = browser.find_element("id", "search-box")
    box.send_keys("ONERROR")
    assert shown_rows(browser) == [NASTY]
    assert browser.find_element("id", "row-count").text == "1 of 4 attributes"
    box.clear()
    box.send_keys("c4:3x3 fc:64")  # both words: the network of two attributes
    assert sorted(shown_rows(browser)) == sorted([NASTY, "unseen"])
    box.clear()
    box.send_keys("no such")
    assert shown_rows(browser) == []
    for word in ("few", "0.", "all"):  # of other columns
        box.clear()
        box.send_keys(word)
        assert shown_rows(browser) == []


@pytest.mark.parametrize("name", ["galm", "compared"])
def test_searches_names_whatever_their_case_marks_and_ligatures(browser, pages, name):
    names = ["İstanbul", "Größe", "ﬁsh cafe\u0301", "x"]
    page = pages[name].with_name(f"{name}_marks.html")
    cell = "row.querySelector('button.open, bdi').textContent"
    row = f"document.querySelectorAll('#attribute-table tbody tr').forEach((row, i) => {{ {cell} = {names}[i]; }});"
    text = pages[name].read_text(encoding="utf-8")
    page.write_text(text.replace('"use strict";\n', f'"use strict";\n{row}\n', 1), encoding="utf-8")
    show(browser, page)
    for words, found in (("istanbul", 0), ("GRÖSSE", 1), ("große", 1), ("CAFÉ", 2), ("cafe fish", 2)):
        browser.find_element("id", "search-box").clear()
        browser.find_element("id", "search-box").send_keys(words)
        assert shown_rows(browser) == [names[found]]


def test_without_scripts_the_page_says_what_is_missing(browser, pages):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(pages["galm"].as_uri())
    told = [notice.text for notice in browser.find_elements("css selector", "noscript .notice")]
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert told == ["JavaScript is off: plots, search, sorting and what rows open are missing."]


def test_figures_of_the_table_stand_in_one_line_on_paper(browser, pages):
    show(browser, pages["galm"])
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    heights = browser.execute_script(
        "const table = document.getElementById('attribute-table');  table.style.width = '200px';"
        "return [...table.querySelectorAll('td .auc, td:last-child')].map((e) => {"
        "const range = document.createRange(); range.selectNodeContents(e); return range.getBoundingClientRect().height; })"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(heights) == 8 and max(heights) < 20


def test_a_row_opens_with_its_network_and_figures(browser, pages):
    show(browser, pages["galm"], 390)
    button = next(b for b in browser.find_elements("css selector", "button.open") if b.text == "unseen")
    button.click()
    detail = browser.find_element("css selector", "tr.detail")
    assert "not tested no test image has it" in detail.text and detail.find_elements("css selector", "svg.net rect")
    button.click()
    assert not browser.find_elements("css selector", "tr.detail")


def test_a_row_without_a_drawing_opens_with_its_figures(browser, pages):
    show(browser, pages["reading"], 390)
    next(b for b in browser.find_elements("css selector", "button.open") if b.text == "red").click()
    detail = browser.find_element("css selector", "tr.detail")
    assert (
        "network linear reading of the trunk" in detail.text
        and "multiply-adds" in detail.text
        and not detail.find_elements("css selector", "svg")
    )
    assert browser.get_log("browser") == []


def test_names_run_no_script(browser, pages):
    for name in ("galm", "compared"):
        show(browser, pages[name])
        assert not browser.find_elements("css selector", "img[onerror], img[src=x]")
    assert f"{NASTY[:23]}…" in browser.execute_script("return document.getElementById('differences').textContent")
