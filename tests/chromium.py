"""Drives headless Chromium through its debugging pipe, with the keys and sizes of a real user."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time

PATH = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")
KEY_CODES = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36}
KEY_CODES |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


class Page:
    """One page in a browser of its own; every error that the page reports is kept in ``errors``, every address that it
    asks for in ``requests``."""

    def __init__(self, profile):
        # The browser reads commands from descriptor 3 and answers on 4.
        (their_input, self._output), (self._input, their_output) = os.pipe(), os.pipe()
        redirect = f'exec "$@" 3<&{their_input} 4>&{their_output}'
        self._process = subprocess.Popen(
            ["bash", "-c", redirect, "bash", PATH, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(their_input, their_output),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_input)
        os.close(their_output)
        self._numbers, self._buffer, self._session = itertools.count(1), b"", None
        self.errors, self.requests, self._chooser, self._loaded = [], [], None, False
        target = next(one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            self._call(f"{domain}.enable")

    def close(self):
        os.close(self._output)
        self._process.terminate()
        self._process.wait(timeout=30)
        os.close(self._input)

    def open(self, place, width=1280, height=900, scheme="light", motion="no-preference"):
        media = [("prefers-color-scheme", scheme), ("prefers-reduced-motion", motion)]
        self._call("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in media])
        self.resize(width, height)
        url = place if isinstance(place, str) else place.as_uri()
        # The page before answers until the new one is there, in a new process an empty page first.
        self.run("window.former = true")
        self._loaded = False
        self._call("Page.navigate", url=url)
        self.wait(f"!window.former && document.readyState === 'complete' && location.href === new URL('{url}').href")
        end = time.monotonic() + 20
        while not self._loaded:
            assert time.monotonic() < end, f"never loaded: {url}"
            self.settle()

    def resize(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def run(self, script):
        """Value of an expression; promises are awaited."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.05)

    def press(self, key, times=1):
        """Press and release a key, as the keyboard does: to whatever has the focus."""
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        code = KEY_CODES.get(key, ord(key[0]))
        for _ in range(times):
            self._call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
            self._call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)
        self.settle()

    def mouse(self, kind, x, y, **more):
        self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector):
        """Press and release the mouse in the middle of an element, which scrolls into view first."""
        self.run(f"document.querySelector('{selector}').scrollIntoView({{ block: 'center' }})")
        x, y = self.run(
            f"""(() => {{ const box = document.querySelector('{selector}').getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 2]; }})()"""
        )
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        self.mouse("mouseReleased", x, y, button="left", clickCount=1)
        self.settle()

    def choose_file(self, selector, file):
        """Click on what opens the file chooser, and choose a file there."""
        self._call("Page.setInterceptFileChooserDialog", enabled=True)
        self._chooser = None
        self.click(selector)
        end = time.monotonic() + 20
        while self._chooser is None:
            assert time.monotonic() < end, f"{selector} opens no file chooser"
            self.settle()
        self._call("DOM.setFileInputFiles", files=[str(file)], backendNodeId=self._chooser)

    def drop_file(self, selector, file):
        """Drag a file from outside onto an element."""
        x, y = self.run(
            f"""(() => {{ const box = document.querySelector('{selector}').getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 2]; }})()"""
        )
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self._call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def download_into(self, folder):
        self._call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def touch(self, kind, places):
        points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)]
        self._call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def settle(self):
        """Wait until everything is drawn."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def screenshot(self, file):
        picture = self._call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        file.write_bytes(base64.b64decode(picture))

    def _call(self, method, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._output, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _read(self):
        while b"\0" not in self._buffer:
            received = os.read(self._input, 1 << 20)
            assert received, "Chromium ended"
            self._buffer += received
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        parameters = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        if event.get("method") == "Page.loadEventFired":
            self._loaded = True
        if event.get("method") == "Page.fileChooserOpened":
            self._chooser = parameters["backendNodeId"]
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(parameters["exceptionDetails"])
        if event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.errors.append(parameters["args"])
        if event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(parameters["entry"])
