"""The page as people use it: in a real browser, with real keys, wheel and fingers."""

import re

import chromium
import cv2
import numpy as np
import pytest
from made_up_results import SCRIPT_LABEL, make_results

from macr_plugin.benchmark.report.writer import write_report

pytestmark = pytest.mark.skipif(chromium.PATH is None, reason="no Chromium is installed")

# A canvas that is read becomes another kind of canvas, so a copy is read.
COPY = """(canvas) => {
  const copy = document.createElement('canvas');
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext('2d', { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  return context;
}"""
READY = "document.querySelectorAll('#panels canvas').length === 6"
BACKGROUND = "getComputedStyle(document.documentElement).backgroundColor"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    results = make_results(folder)
    return results, folder, write_report(results, folder)


@pytest.fixture
def page(browser, report):
    """The page, freshly opened; whatever was done with it, it reported no error."""
    browser.errors.clear()
    browser.open(report[2])
    browser.wait(READY)
    browser.settle()
    yield browser
    assert browser.errors == []


def column(page, heading, table=0):
    """First cells of a table's rows and the cells below a heading."""
    return page.run(
        f"""[...document.querySelectorAll('table')[{table}].tBodies[0].rows].map((row) => [row.cells[0].textContent,
        row.cells[[...row.closest('table').tHead.rows[0].cells]
          .findIndex((cell) => cell.textContent === {heading!r})].textContent])"""
    )


def sort(page, heading, table=0):
    """Press Enter on the heading's button."""
    page.run(
        f"""[...document.querySelectorAll('table')[{table}].tHead.querySelectorAll('button')]
        .find((button) => button.textContent === {heading!r}).focus()"""
    )
    page.press("Enter")


def pixels(page, canvas):
    """What a canvas shows, as a number that changes with any pixel."""
    return page.run(
        f"""(() => {{
        const canvas = {canvas};
        const {{ data }} = ({COPY})(canvas).getImageData(0, 0, canvas.width, canvas.height);
        return data.reduce((sum, value, at) => (sum * 31 + value * (at % 977 + 1)) % 1000003, 7);
        }})()"""
    )


def panels(page):
    """What each small picture shows: blurred, four nets, sharp."""
    return [pixels(page, f"document.querySelectorAll('#panels canvas')[{index}]") for index in range(6)]


def stage(page):
    return pixels(page, "document.querySelector('#stage canvas')")


def colour(page, canvas, x, y):
    """Red, green and blue at a share of a canvas."""
    return page.run(
        f"""(() => {{
        const canvas = {canvas};
        const at = [{x} * canvas.width, {y} * canvas.height].map(Math.floor);
        return [...({COPY})(canvas).getImageData(...at, 1, 1).data].slice(0, 3);
        }})()"""
    )


def view(page):
    return page.run("document.getElementById('view').textContent")


def focus(page, name):
    page.run(f"document.getElementById('{name}').focus()")


def click(page, name):
    page.run(f"document.getElementById('{name}').click()")
    page.settle()


def choose(page, menu, text):
    page.run(
        f"""(() => {{ const menu = document.getElementById('{menu}');
        menu.value = [...menu.options].find((option) => option.text === '{text}').value;
        menu.dispatchEvent(new Event('change')); }})()"""
    )


def middle_of(page, selector):
    page.run(f"document.querySelector('{selector}').scrollIntoView({{ block: 'center' }})")
    return page.run(
        f"""(() => {{ const box = document.querySelector('{selector}').getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2]; }})()"""
    )


def test_tables_are_sorted_by_keyboard_in_both_directions_with_the_unknown_last(page):
    sort(page, "PSNR (dB)")
    values = [float(row[1]) for row in column(page, "PSNR (dB)")]
    assert values == sorted(values)
    assert page.run("[...document.querySelectorAll('[aria-sort]')].map((cell) => cell.getAttribute('aria-sort'))") == [
        "ascending"
    ]
    sort(page, "PSNR (dB)")
    assert [float(row[1]) for row in column(page, "PSNR (dB)")] == values[::-1]
    sort(page, "Minus MACR (dB)")
    differences = [row[1] for row in column(page, "Minus MACR (dB)")]
    assert differences[3:] == ["", ""]
    assert [float(value) for value in differences[:3]] == sorted(float(value) for value in differences[:3])
    sort(page, "Net")
    assert [row[0] for row in column(page, "Net")] == [SCRIPT_LABEL, "blurred input", "MACR", "NAFNet-32", "RIDNet"]


def test_blurred_and_recommended_are_shown_first_and_the_divider_moves_by_keyboard(page):
    assert page.run("document.querySelector('.caption.right').textContent").startswith("NAFNet-32 ")
    focus(page, "divider")
    page.press("ArrowRight", times=10)
    assert page.run("document.querySelector('.divider').style.left") == "60%"
    page.press("End")
    whole_left = stage(page)
    page.press("Home")
    assert page.run("document.querySelector('.divider').style.left") == "0%"
    assert stage(page) != whole_left


def test_divider_is_dragged_with_the_mouse(page):
    x, y = middle_of(page, ".divider")
    before = view(page)
    page.mouse("mousePressed", x, y, button="left", clickCount=1)
    page.mouse("mouseMoved", x + 200, y, button="left", buttons=1)
    page.mouse("mouseReleased", x + 200, y, button="left")
    page.settle()
    width = page.run("document.getElementById('stage').clientWidth")
    share = float(page.run("document.querySelector('.divider').style.left").rstrip("%"))
    assert share == pytest.approx(50 + 100 * 200 / width, abs=0.2)
    assert view(page) == before


def test_left_of_the_divider_is_one_picture_and_right_of_it_the_other(page, report):
    results, folder, _ = report
    compared = results.pictures[0]
    canvas = "document.querySelector('#stage canvas')"
    focus(page, "stage")
    # At 16 times, a pixel of the picture is a square on the screen.
    page.press("+", times=8)
    assert view(page) == "Zoom 16.0, centre 300, 200 of 600 x 400 pixels"
    for path, share in ((compared.blurred, 0.3), (compared.restored["NAFNet-32"], 0.7)):
        place = 300 + (share - 0.5) * 600 / 16
        blue, green, red = cv2.imread(str(folder / path))[200 + int(0.1 * 400 / 16), int(place)]
        assert colour(page, canvas, share, 0.6) == [red, green, blue]


def test_all_pictures_zoom_and_move_together(page):
    """The first two nets restored alike: their pictures are equal exactly as long as they show the same place."""
    whole = panels(page)
    assert whole[1] == whole[2]
    assert len(set(whole)) == 5
    focus(page, "stage")
    page.press("+", times=3)
    zoomed = panels(page)
    page.press("ArrowLeft", times=2)
    page.press("ArrowDown")
    moved = panels(page)
    assert view(page) == "Zoom 3.4, centre 264, 212 of 600 x 400 pixels"
    for shown in (zoomed, moved):
        assert shown[1] == shown[2]
        assert len(set(shown)) == 5
    assert all(len({*states}) == 3 for states in zip(whole, zoomed, moved, strict=True))
    page.press("0")
    assert panels(page) == whole
    click(page, "zoom-detail")
    assert view(page).startswith("Zoom 3.8")
    click(page, "zoom-out")
    assert view(page).startswith("Zoom 2.5")


def test_view_stays_within_the_picture(page):
    focus(page, "stage")
    page.press("+", times=2)
    page.press("ArrowLeft", times=30)
    page.press("ArrowUp", times=30)
    assert view(page) == "Zoom 2.3, centre 133, 89 of 600 x 400 pixels"
    page.press("-", times=9)
    assert view(page) == "Zoom 1.0, centre 300, 200 of 600 x 400 pixels"


def test_wheel_zooms_about_the_pointer_and_dragging_moves(page):
    x, y = middle_of(page, "#panels canvas")
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-600)
    page.wait("document.getElementById('view').textContent.startsWith('Zoom 4.0')")
    centre = int(re.search(r"centre (\d+)", view(page))[1])
    assert centre == pytest.approx(300, abs=2)
    page.mouse("mousePressed", x, y, button="left", clickCount=1)
    page.mouse("mouseMoved", x - 40, y, button="left", buttons=1)
    page.mouse("mouseReleased", x - 40, y, button="left")
    page.mouse("mouseMoved", x + 40, y)
    page.settle()
    width = page.run("document.querySelector('#panels canvas').clientWidth")
    moved = int(re.search(r"centre (\d+)", view(page))[1])
    assert moved - centre == pytest.approx(40 / width * 600 / 4, abs=1)


def test_two_fingers_zoom(page):
    x, y = middle_of(page, "#stage")
    x -= 150
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80), ("touchEnd", None)):
        page.touch(kind, [] if apart is None else [(x - apart, y), (x + apart, y)])
    page.settle()
    assert view(page).startswith("Zoom 2.0")


def test_either_side_shows_any_picture(page):
    choose(page, "left", "sharp")
    assert page.run("document.querySelector('.caption.left').textContent") == "sharp"
    page.run(f"document.querySelector('#panels [aria-label={chr(34)}RIDNet on the right{chr(34)}]').click()")
    assert page.run("document.querySelector('.caption.right').textContent").startswith("RIDNet ")
    names = page.run("[...document.getElementById('right').options].map((option) => option.text)")
    assert names == ["blurred input", "MACR", "NAFNet-32", SCRIPT_LABEL, "RIDNet", "sharp"]
    pressed = "[...document.querySelectorAll('#panels [aria-pressed=true]')].map((one) => one.ariaLabel)"
    assert page.run(pressed) == ["RIDNet on the right", "sharp on the left"]


def test_another_frame_keeps_the_chosen_nets(page):
    page.run("document.querySelector('#panels [data-side=right][aria-label^=RIDNet]').click()")
    before = panels(page)
    choose(page, "frame", "scene1/000003")
    page.wait("document.getElementById('view').textContent.endsWith('of 512 x 480 pixels')")
    assert page.run("document.querySelector('.caption.right').textContent").startswith("RIDNet ")
    assert not set(before) & set(panels(page))


def test_error_map_shows_the_difference_to_the_sharp_picture(page, report):
    results, folder, _ = report
    before = panels(page)
    focus(page, "errors")
    page.press(" ")
    assert page.run("document.getElementById('errors').ariaPressed") == "true"
    assert page.run("document.getElementById('error-legend').hidden") is False
    assert not set(before) & set(panels(page))
    black = [0, 0, 4]
    assert colour(page, "document.querySelectorAll('#panels canvas')[5]", 0.3, 0.7) == black, (
        "the sharp one has no error"
    )
    focus(page, "stage")
    page.press("+", times=8)
    sharp, blurred = (
        cv2.imread(str(folder / path)).astype(int) for path in (results.pictures[0].sharp, results.pictures[0].blurred)
    )
    share = min(np.abs(sharp - blurred).mean(axis=2)[202, 292] / 51, 1)
    stops = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]])
    expected = [np.interp(share * 4, range(5), stops[:, channel]) for channel in range(3)]
    assert colour(page, "document.querySelector('#stage canvas')", 0.3, 0.6) == pytest.approx(expected, abs=1)
    click(page, "errors")
    page.press("0")
    assert panels(page) == before


def test_frames_are_stepped_through_by_keyboard(page, report):
    entry, first = report[0].entries[1], report[0].entries[0]
    pairs = zip(entry.quality.frames, first.quality.frames, strict=True)
    differences = sorted((own.psnr - other.psnr, own.key) for own, other in pairs)
    page.run("document.querySelector('figure.strip svg').focus()")
    page.press("ArrowRight", times=2)
    readout = page.run("document.querySelector('.readout').textContent")
    assert readout.startswith(f"{differences[1][1]}: NAFNet-32 {differences[1][0]:+.2f}, ")
    assert page.run("document.activeElement.ariaValueNow") == "2"
    page.press("End")
    assert page.run("document.activeElement.ariaValueText") == f"{differences[-1][1]}: {differences[-1][0]:+.2f} dB"
    assert page.run("document.querySelectorAll('figure.strip:not([hidden]) .cursor[d^=M]').length") == 3


def middles(page, selector):
    """Where the middles of elements are, in pixels."""
    return page.run(
        f"""[...document.querySelectorAll('{selector}')].map((one) => {{
        const box = one.getBoundingClientRect();
        return [one.textContent.trim(), box.left + box.width / 2, box.top + box.height / 2]; }})"""
    )


@pytest.mark.parametrize("width", [360, 1280])
def test_points_of_a_chart_lie_between_the_numbers_of_its_axes_as_their_figures_do(page, report, width):
    page.resize(width, 800)
    page.settle()
    chart = ".chart:not([hidden])"
    across = middles(page, f"{chart} .tick[text-anchor=middle]")
    upwards = middles(page, f"{chart} .tick[text-anchor=end]")
    circles = page.run(
        f"""[...document.querySelectorAll('{chart} .point')].map((point) => {{
        const box = point.querySelector('circle').getBoundingClientRect();
        return [point.querySelector('text').textContent, box.left + box.width / 2, box.top + box.height / 2]; }})"""
    )
    assert len(circles) == 4
    (first, left, _), (last, right, _) = across[0], across[-1]
    (lowest, _, bottom), (highest, _, top) = upwards[0], upwards[-1]
    for label, x, y in circles:
        entry = next(entry for entry in report[0].entries if entry.label == label)
        along = np.log(entry.latencies[0].median_ms / float(first)) / np.log(float(last) / float(first))
        up = (entry.quality.psnr.mean - float(lowest)) / (float(highest) - float(lowest))
        assert x == pytest.approx(left + along * (right - left), abs=1)
        assert y == pytest.approx(bottom + up * (top - bottom), abs=1)


def test_marks_of_a_strip_lie_between_the_numbers_below_as_their_figures_do(page, report):
    """The cursor stands on the mark of the chosen frame, the dashed line at 0."""
    page.run("document.querySelector('figure.strip svg').focus()")
    page.press("Home")
    strip = "figure.strip:not([hidden])"
    value = float(re.search(r"(-[.\d]+) dB$", page.run("document.activeElement.ariaValueText"))[1])
    ticks = middles(page, f"{strip} .scale span")
    (first, left, _), (last, right, _) = ticks[0], ticks[-1]
    for selector, expected in ((".cursor", value), (".zero", 0)):
        x = middles(page, f"{strip} {selector}")[0][1]
        assert x == pytest.approx(
            left + (expected - float(first)) / (float(last) - float(first)) * (right - left), abs=1.5
        )
    choose(page, "strip", page.run("document.querySelector('#strip option:last-child').text"))
    assert middles(page, f"{strip} .zero") == [], "PSNR itself is seen against no line"


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.95])
def test_the_mouse_finds_the_nearest_frame_of_a_strip(page, report, share):
    pairs = zip(report[0].entries[1].quality.frames, report[0].entries[0].quality.frames, strict=True)
    differences = {own.key: own.psnr - first.psnr for own, first in pairs}
    page.run("document.querySelector('figure.strip svg').scrollIntoView({ block: 'center' })")
    left, width, y = page.run(
        """(() => { const box = document.querySelector('figure.strip svg').getBoundingClientRect();
        return [box.left, box.width, box.top + box.height / 2]; })()"""
    )
    x = left + share * width
    page.mouse("mouseMoved", x, y)
    page.settle()
    (first, start, _), *_, (last, end, _) = middles(page, "figure.strip:not([hidden]) .scale span")
    pointed = float(first) + (x - start) / (end - start) * (float(last) - float(first))
    nearest = min(differences, key=lambda key: abs(differences[key] - pointed))
    assert page.run("document.querySelector('.readout').textContent").startswith(f"{nearest}: NAFNet-32 ")


@pytest.mark.parametrize("width", [360, 1280])
def test_labels_of_a_chart_meet_neither_each_other_nor_a_point(page, width):
    page.resize(width, 800)
    page.settle()
    boxes = page.run(
        """[...document.querySelectorAll('.chart:not([hidden]) :is(.point text, circle)')].map((one) => {
        const { left, right, top, bottom } = one.getBoundingClientRect();
        return [left, right, top, bottom]; })"""
    )
    assert len(boxes) == 8
    for index, (left, right, top, bottom) in enumerate(boxes):
        assert 0 <= left < right <= width
        for other in boxes[:index]:
            assert right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top


def test_charts_and_strips_are_chosen_by_menu(page):
    for menu, figures in (("chart", ".chart"), ("strip", "figure.strip")):
        shown = f"[...document.querySelectorAll('{figures}')].map((figure) => !figure.hidden)"
        assert page.run(shown) == [True, False]
        focus(page, menu)
        page.press("ArrowDown")
        page.press("Enter")
        assert page.run(shown) == [False, True]


@pytest.mark.parametrize("width", [320, 360, 768])
def test_no_page_scrolls_sideways(page, width):
    page.resize(width, 700)
    page.settle()
    assert page.run("innerWidth") == width
    assert page.run("document.documentElement.scrollWidth") <= width


def test_everything_that_acts_is_reached_by_tab_and_seen(page):
    number = page.run(
        """(window.acting = [...document.querySelectorAll('a, button, select, input, [tabindex="0"]')]
        .filter((one) => one.checkVisibility())).length"""
    )
    reached = set()
    for _ in range(number):
        page.press("Tab")
        reached.add(page.run("acting.indexOf(document.activeElement)"))
        assert page.run(
            """[document.activeElement, ...document.activeElement.querySelectorAll('circle')].map(getComputedStyle)
            .some((style) => style.outlineStyle !== 'none' || style.strokeWidth === '5px')"""
        )
    assert reached == set(range(number))


def test_dark_mode_follows_the_system_and_the_button(browser, report):
    brightness = {}
    for scheme in ("light", "dark"):
        browser.open(report[2], scheme=scheme)
        browser.wait(READY)
        shown = [browser.run(BACKGROUND)]
        for _ in range(3):
            click(browser, "theme")
            shown.append(browser.run(BACKGROUND))
        brightness[scheme] = shown
    light, dark = brightness["light"][0], brightness["dark"][0]
    assert light != dark
    assert brightness == {"light": [light, light, dark, light], "dark": [dark, light, dark, dark]}


def test_reduced_motion_is_respected(browser, report):
    durations = []
    for motion in ("no-preference", "reduce"):
        browser.open(report[2], motion=motion)
        durations.append(browser.run("getComputedStyle(document.getElementById('theme')).transitionDuration"))
    assert durations == ["0.15s", "0s"]


def test_page_without_pictures_and_figures_works(browser, report, tmp_path):
    results = make_results(tmp_path)
    results.entries, results.pictures, results.blurred_quality = results.entries[5:], [], []
    browser.errors.clear()
    browser.open(write_report(results, tmp_path))
    sort(browser, "Net")
    assert [row[0] for row in column(browser, "Net")] == ["Restormer"]
    assert browser.errors == []
