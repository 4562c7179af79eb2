"""One page on this machine: drop a photograph, compare, download the deblurred one.

The page is served on 127.0.0.1 alone, and asks for nothing from anywhere else. Each photograph has a folder of its own
under a name that cannot be guessed, so that several people at one machine do not see each other's.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import secrets
import shutil
import signal
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from macr_plugin.errors import InputError
from macr_plugin.inference.deblurrer import Deblurrer
from macr_plugin.inference.metadata import Metadata
from macr_plugin.inference.pictures import FORMATS, KNOWN, Picture, encode_picture, read_picture, write_picture

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
#: Largest file that is taken, in bytes.
LARGEST_FILE = 2**30
#: So many photographs are kept; the oldest are forgotten first.
MOST_KEPT = 32
LONGEST_STEM = 100
#: The browser is told to load nothing from elsewhere, and not to guess what a file is.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
#: File and type of each address, relative to this module.
PAGE = {
    "/": ("app.html", "text/html"),
    "/palette.css": ("../palette.css", "text/css"),
    "/app.css": ("app.css", "text/css"),
    "/app.js": ("app.js", "text/javascript"),
}

logger = logging.getLogger(__name__)


@dataclass
class Photo:
    """A photograph that somebody gave to the page.

    Attributes:
        folder: Where its files lie.
        name: What it was called, without folders.
        state: ``waiting``, ``working``, ``done`` or ``failed``.
        tiles_done: Tiles that are deblurred.
        tiles: Tiles that it is cut into; 0 while that is not known.
        error: Why it failed, in one line.
        notes: What could not be kept.
        size: Width and height in pixels, once it is done.
        shown: Files that a browser can show: ``blurred`` and ``restored``.
        result: The file to download.
    """

    folder: Path
    name: str
    state: str = "waiting"
    tiles_done: int = 0
    tiles: int = 0
    error: str | None = None
    notes: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None
    shown: dict[str, Path] = field(default_factory=dict)
    result: Path | None = None

    @property
    def source(self) -> Path:
        """The file as it was given."""
        return self.folder / self.name

    def status(self) -> dict[str, Any]:
        """What the page is told."""
        names = ("name", "state", "tiles_done", "tiles", "error", "notes", "size")
        return {name: getattr(self, name) for name in names}


class Photos:
    """The photographs of everybody, deblurred one after the other.

    Args:
        deblurrer: Deblurs them.
        folder: Where their files are kept.
    """

    def __init__(self, deblurrer: Deblurrer, folder: Path) -> None:
        self._deblurrer = deblurrer
        self._folder = folder
        self._photos: dict[str, Photo] = {}
        # The network has the whole machine: a second photograph at once would only make both late.
        self._pool = ThreadPoolExecutor(1)
        self._is_closed = False

    def __getitem__(self, key: str) -> Photo:
        return self._photos[key]

    def create(self, name: str) -> Photo:
        """Make a place for a photograph.

        Args:
            name: What it is called; folders in it do not count.

        Raises:
            InputError: If no picture is called so.
        """
        plain = Path("".join(one for one in name.replace("\\", "/") if one.isprintable())).name
        stem, suffix = Path(plain).stem[:LONGEST_STEM], Path(plain).suffix
        if suffix.lower() not in FORMATS:
            raise InputError(f"{plain or 'this file'} is not a picture that can be read: expected {KNOWN}")
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        return Photo(folder, f"{stem}{suffix}")

    def start(self, photo: Photo) -> str:
        """Deblur a photograph whose file is there.

        Returns:
            The key under which it is found, known to nobody else.
        """
        key = secrets.token_urlsafe(16)
        self._photos[key] = photo
        finished = [name for name, one in self._photos.items() if one.state in ("done", "failed")]
        for old in finished[: max(0, len(self._photos) - MOST_KEPT)]:
            shutil.rmtree(self._photos.pop(old).folder, ignore_errors=True)
        self._pool.submit(self._deblur, photo)
        return key

    def close(self) -> None:
        """Deblur nothing more, not even the tiles that are left of a photograph."""
        self._is_closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _deblur(self, photo: Photo) -> None:
        photo.state = "working"
        try:
            self._write(photo)
            photo.state = "done"
        # Whatever one file does to a library, the page goes on for the others.
        except Exception as error:
            if not isinstance(error, InputError):
                logger.exception("%s", photo.name)
            message = str(error) if isinstance(error, InputError) else f"{photo.name}: {type(error).__name__}: {error}"
            photo.error = " ".join(message.replace(f"{photo.folder}/", "").split())
            photo.state = "failed"

    def _write(self, photo: Photo) -> None:
        def show(done: int, tiles: int) -> None:
            if self._is_closed:
                raise InputError(f"{photo.name}: the page was closed")
            photo.tiles_done, photo.tiles = done, tiles

        blurred = read_picture(photo.source)
        restored = self._deblurrer.restore_picture(blurred, show)
        result = photo.folder / f"{photo.source.stem}_deblurred{photo.source.suffix}"
        write_picture(restored, result)
        for name, picture in (("blurred", blurred), ("restored", restored)):
            photo.shown[name] = _write_shown(picture, photo.folder / name)
        photo.size = (blurred.pixels.shape[1], blurred.pixels.shape[0])
        photo.notes, photo.result = restored.notes, result


def _write_shown(picture: Picture, stem: Path) -> Path:
    """Write what every browser shows in its right colours: 8 bit, JPEG, or PNG for what is transparent."""
    file = stem.with_suffix(".jpg" if picture.alpha is None else ".png")
    plain = dataclasses.replace(picture, metadata=Metadata(icc=picture.metadata.icc), jpeg=None, notes=[])
    file.write_bytes(encode_picture(plain, file))
    return file


def create_app(photos: Photos) -> Starlette:
    """Build the page and what it asks for.

    Args:
        photos: Where photographs go.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import FileResponse, JSONResponse
    from starlette.routing import Route

    async def page(request: Request) -> Response:
        file, media_type = PAGE[request.url.path]
        return FileResponse(Path(__file__).parent / file, media_type=media_type, headers=HEADERS)

    async def add(request: Request) -> Response:
        # Other sites in the same browser can reach this machine too.
        if request.headers.get("origin", str(request.base_url).rstrip("/")) != str(request.base_url).rstrip("/"):
            raise HTTPException(403)
        try:
            photo = photos.create(request.query_params.get("name", ""))
            await _receive(request, photo)
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400, HEADERS)
        return JSONResponse({"key": photos.start(photo)}, 201, HEADERS)

    def find(request: Request) -> Photo:
        try:
            return photos[request.path_params["key"]]
        except KeyError as error:
            raise HTTPException(404) from error

    async def status(request: Request) -> Response:
        return JSONResponse(find(request).status(), headers=HEADERS)

    async def shown(request: Request) -> Response:
        file = find(request).shown.get(request.path_params["which"])
        if file is None:
            raise HTTPException(404)
        return FileResponse(file, headers=HEADERS)

    async def download(request: Request) -> Response:
        result = find(request).result
        if result is None:
            raise HTTPException(404)
        return FileResponse(result, filename=result.name, headers=HEADERS)

    return Starlette(
        routes=[
            *(Route(path, page) for path in PAGE),
            Route("/photos", add, methods=["POST"]),
            Route("/photos/{key}", status),
            Route("/photos/{key}/download", download),
            Route("/photos/{key}/{which}", shown),
        ],
        # A site whose name leads to this machine is not this page.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )


async def _receive(request: Request, photo: Photo) -> None:
    """Write the body of a request to the file of a photograph; nothing of it stays if that fails.

    Raises:
        InputError: If it is too large, or cannot be written.
    """
    size = 0
    try:
        with photo.source.open("wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > LARGEST_FILE:
                    raise InputError(
                        f"{photo.name} is larger than {LARGEST_FILE >> 20} MiB: give it to macr deblur instead"
                    )
                file.write(chunk)
    except BaseException as error:
        shutil.rmtree(photo.folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise InputError(f"{photo.name} could not be stored ({error.strerror}): free some disk space") from error
        raise


def serve(deblurrer: Deblurrer, port: int) -> None:
    """Serve the page until Ctrl+C.

    Args:
        deblurrer: Deblurs the photographs.
        port: Where, on 127.0.0.1; 0 for any that is free.

    Raises:
        InputError: If the port is taken.
    """
    import uvicorn

    with tempfile.TemporaryDirectory(prefix="macr_app_") as folder, closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise InputError(f"--port {port} cannot be used ({error}): choose another one, or 0 for any") from error
        # A service that is stopped ends as with Ctrl+C, so that no photographs are left behind.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        photos = Photos(deblurrer, Path(folder))
        config = uvicorn.Config(create_app(photos), log_level="warning", timeout_graceful_shutdown=1)
        print(f"http://{HOST}:{listener.getsockname()[1]}  (Ctrl+C ends it)", flush=True)
        try:
            # Uvicorn raises the signal that ended it once more.
            with suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listener])
        finally:
            photos.close()


def require_server() -> None:
    """Refuse to start without the packages that serve the page.

    Raises:
        InputError: If one is missing.
    """
    for package in ("starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"macr app needs the package {package}: pip install starlette uvicorn")
