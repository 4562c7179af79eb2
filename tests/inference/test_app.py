"""The page of ``macr app`` as people use it: a real server, a real browser, real clicks."""

import io
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import chromium
import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageCms

from macr_plugin import Deblurrer

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

#: Three times the margins and more, so that a photo takes a few dozen tiles and not hundreds.
TILE = 96
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
in_browser = pytest.mark.skipif(chromium.PATH is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def server(weights, tmp_path_factory):
    """Address of a running ``macr app``; ended as a service is, it leaves nothing."""
    temporary = tmp_path_factory.mktemp("temporary")
    arguments = ["app", "--weights", str(weights), "--device", "cpu", "--precision", "fp32", "--tile", str(TILE)]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "macr_plugin.cli", *arguments, "--port", "0"],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    address = re.match(r"http://127\.0\.0\.1:\d+", line)
    assert address, line + process.stderr.read()
    assert list(temporary.glob("macr_app_*"))
    yield address[0]
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert not list(temporary.glob("macr_app_*"))


@pytest.fixture
def page(browser, server):
    """The page, freshly opened; it asked for nothing from elsewhere and reported no error."""
    browser.errors.clear()
    browser.requests.clear()
    browser.open(f"{server}/")
    yield browser
    assert browser.errors == []
    assert browser.requests
    assert {urllib.parse.urlsplit(one)[1] for one in browser.requests if not one.startswith("data:")} == {server[7:]}


@pytest.fixture
def photo_file(tmp_path):
    """A JPEG file of a phone held upright, (200, 300) once it is turned, with maker and profile."""
    pixels = np.rot90(skimage.data.astronaut()[:200, :300])
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    path = tmp_path / "Ferien ü 1.jpg"
    Image.fromarray(pixels).save(path, quality=95, exif=exif, icc_profile=PROFILE)
    return path


def ask(address, data=None):
    """Status and body of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data), timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def deblurred(server, name, content):
    """What the page is told of a photo once it is through, and its key."""
    status, answer = ask(f"{server}/photos?name={urllib.parse.quote(name)}", content)
    assert status == 201, answer
    key, end = json.loads(answer)["key"], monotonic() + 60
    while True:
        photo = json.loads(ask(f"{server}/photos/{key}")[1])
        if photo["state"] in ("done", "failed"):
            return photo, key
        assert monotonic() < end
        sleep(0.02)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def text(page, name):
    return page.run(f"document.getElementById('{name}').textContent")


def wait_for_result(page):
    page.wait("!document.getElementById('comparison').hidden", 60)
    page.settle()


@in_browser
def test_choose_compare_and_download(page, photo_file, tmp_path, weights):
    page.choose_file("#drop", photo_file)
    wait_for_result(page)
    assert re.fullmatch(r"\d+ of \d+ tiles|Reading .*|Waiting .*", text(page, "status"))
    size = "[...document.querySelectorAll('#stage img')].map((one) => [one.naturalWidth, one.naturalHeight])"
    assert page.run(size) == [[300, 200], [300, 200]]
    page.download_into(tmp_path)
    page.click("#download")
    target = tmp_path / "Ferien ü 1_deblurred.jpg"
    end = monotonic() + 20
    while not target.exists():
        assert monotonic() < end, list(tmp_path.iterdir())
        sleep(0.05)
    Deblurrer(weights, "cpu", "fp32", TILE).restore_file(photo_file, tmp_path / "expected.jpg")
    assert target.read_bytes() == (tmp_path / "expected.jpg").read_bytes()
    with Image.open(target) as image:
        assert image.size == (300, 200)
        assert image.getexif()[0x010F] == "Maker"
        assert image.getexif().get(0x0112, 1) == 1
        assert image.info["icc_profile"] == PROFILE


@in_browser
def test_a_dropped_photo_with_divider_and_zoom(page, photo_file):
    page.drop_file("#drop", photo_file)
    wait_for_result(page)
    clip = "document.getElementById('left').style.clipPath"
    assert page.run(clip) == "inset(0px 50% 0px 0px)"
    page.run("document.getElementById('divider').focus()")
    page.press("ArrowRight", times=10)
    assert page.run(clip) == "inset(0px 45% 0px 0px)"
    left, top, width = page.run(
        """(() => { document.getElementById('stage').scrollIntoView({ block: 'center' });
        const box = document.getElementById('stage').getBoundingClientRect();
        return [box.left, box.top + box.height / 2, document.getElementById('stage').clientWidth]; })()"""
    )
    page.mouse("mousePressed", left + 0.55 * width + 1, top, button="left", clickCount=1)
    page.mouse("mouseMoved", left + 0.2 * width + 1, top, button="left", buttons=1)
    page.mouse("mouseReleased", left + 0.2 * width + 1, top, button="left", clickCount=1)
    page.settle()
    assert float(re.search(r"([\d.]+)% ", page.run(clip))[1]) == pytest.approx(80, abs=0.5)
    whole = text(page, "zoom")
    transforms = "[...new Set([...document.querySelectorAll('#stage img')].map((one) => one.style.transform))]"
    page.click("#in")
    assert text(page, "zoom") != whole
    page.click("#pixels")
    assert text(page, "zoom") == "100 %"
    page.mouse("mouseWheel", left + width / 2, top, deltaX=0, deltaY=-960)
    page.wait("document.getElementById('stage').classList.contains('squares')")
    before = page.run(transforms)
    assert len(before) == 1, "both pictures move together"
    page.run("document.getElementById('stage').focus()")
    page.press("ArrowLeft")
    assert page.run(transforms) != before
    page.press("0")
    assert text(page, "zoom") == whole
    assert page.run(transforms) == ["translate(0px, 0px) scale(1)"]


@in_browser
def test_on_a_phone(page, server, photo_file, tmp_path):
    page.open(f"{server}/", width=360, height=740)
    for step in ("empty", "result"):
        if step == "result":
            page.choose_file("#drop", photo_file)
            wait_for_result(page)
        assert page.run("innerWidth") == 360
        assert page.run("document.documentElement.scrollWidth") <= 360
    small = """[...document.querySelectorAll('button, a')].map((one) => one.getBoundingClientRect())
        .filter((box) => box.width < 44 || box.height < 44).length"""
    assert page.run(small) == 0
    x, y = page.run(
        """(() => { document.getElementById('stage').scrollIntoView({ block: 'center' });
        const box = document.getElementById('stage').getBoundingClientRect();
        return [box.left + box.width / 4, box.top + box.height / 2]; })()"""
    )
    before = int(text(page, "zoom").split()[0])
    for kind, apart in (("touchStart", 15), ("touchMove", 20), ("touchMove", 30), ("touchEnd", None)):
        page.touch(kind, [] if apart is None else [(x - apart, y), (x + apart, y)])
    page.settle()
    assert int(text(page, "zoom").split()[0]) == pytest.approx(2 * before, rel=0.05)


@in_browser
def test_bad_files_are_one_line_and_the_next_photo_works(page, photo_file, tmp_path):
    bad = {
        "notes.txt": (b"hello", r"notes\.txt is not a picture that can be read: expected PNG, .*"),
        "fake.png": (b"hello", r"fake\.png is not a picture that can be read: expected PNG, .*"),
        "empty.jpg": (b"", r"empty\.jpg is empty: .*"),
        "cut.jpg": (photo_file.read_bytes()[:9000], r"cut\.jpg is damaged or incomplete .*"),
    }
    for name, (content, expected) in bad.items():
        (tmp_path / name).write_bytes(content)
        page.choose_file("#drop", tmp_path / name)
        page.wait(f"document.getElementById('error').textContent.startsWith('{name}')")
        assert page.run("document.getElementById('error').checkVisibility()")
        assert page.run("document.getElementById('comparison').hidden && document.getElementById('working').hidden")
        assert re.fullmatch(expected, text(page, "error"))
    page.errors[:] = [one for one in page.errors if "400" not in str(one)]
    page.choose_file("#drop", photo_file)
    wait_for_result(page)
    assert page.run("document.getElementById('error').hidden")


def test_photos_given_at_once_do_not_mix(server, weights):
    """Of one name, so that a shared place would show."""
    deblurrer = Deblurrer(weights, "cpu", "fp32", TILE)
    photos = [np.ascontiguousarray(skimage.data.astronaut()[30 * i : 30 * i + 90, 100:200]) for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda pixels: deblurred(server, "photo.png", png(pixels)), photos))
    assert len({key for _, key in answers}) == 6
    for pixels, (photo, key) in zip(photos, answers, strict=True):
        assert (photo["name"], photo["state"], photo["size"]) == ("photo.png", "done", [100, 90])
        assert photo["tiles_done"] == photo["tiles"] > 1
        with Image.open(io.BytesIO(ask(f"{server}/photos/{key}/download")[1])) as image:
            np.testing.assert_array_equal(np.asarray(image), deblurrer.restore(pixels))


def test_alpha_16_bit_and_grey_are_shown_and_kept(server):
    grey = np.linspace(0, 65535, 40 * 50).astype(np.uint16).reshape(40, 50)
    opacity = (np.arange(2000) % 256).astype(np.uint8).reshape(40, 50)
    alpha = np.dstack([skimage.data.astronaut()[:40, :50], opacity])
    for pixels, mode, shown in ((grey, "I;16", "JPEG"), (alpha, "RGBA", "PNG")):
        photo, key = deblurred(server, "a.png", png(pixels))
        assert photo["state"] == "done"
        with Image.open(io.BytesIO(ask(f"{server}/photos/{key}/download")[1])) as image:
            assert image.mode == mode
        for which in ("blurred", "restored"):
            with Image.open(io.BytesIO(ask(f"{server}/photos/{key}/{which}")[1])) as image:
                assert (image.format, image.size) == (shown, (50, 40))


@pytest.mark.parametrize("name", ["../../evil.png", "..\\evil.png", "/etc/evil.png", f"{'x' * 300}.png", "a\n\0b.png"])
def test_names_do_not_lead_out_of_the_folder(server, name):
    photo, key = deblurred(server, name, png(np.zeros((16, 16, 3), np.uint8)))
    assert photo["state"] == "done"
    assert re.fullmatch(r"evil\.png|x{100}\.png|ab\.png", photo["name"])
    assert ask(f"{server}/photos/{key}/download")[0] == 200


def test_what_nobody_was_given_is_not_found(server):
    for place in ("photos/unknown", "photos/unknown/download", "photos/unknown/blurred", "photos/../app.py", "app.py"):
        assert ask(f"{server}/{place}")[0] == 404


@pytest.mark.parametrize(("header", "value"), [("Host", "evil.example"), ("Origin", "http://evil.example")])
def test_other_sites_get_nothing(server, header, value):
    address = f"{server}/photos?name=a.png"
    request = urllib.request.Request(address, png(np.zeros((16, 16, 3), np.uint8)), {header: value})
    with pytest.raises(urllib.error.HTTPError, match=r"40[03]"):
        urllib.request.urlopen(request, timeout=60)
