"""Deblurs videos: what is not picture, such as sound, subtitles and time stamps, is carried over as it is.

Reading and writing go through PyAV (extra ``video``), whose wheel carries FFmpeg. ``mmcv.VideoReader`` ends at a
damaged frame as it does at the last one, so that the rest would be lost without a word; it turns the pixels of what a
telephone filmed upright and drops the note of it, and gives no lengths of frames, no sound and no subtitles.
"""

from __future__ import annotations

import importlib.util
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from macr_plugin.errors import FREE_DISK_SPACE, InputError
from macr_plugin.filesystem.atomic import atomic_write, unfinished_file
from macr_plugin.inference.video_format import VideoFormat

if TYPE_CHECKING:
    import av

#: Suffix of a video to the container that FFmpeg knows it by.
CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".ts": "mpegts",
}
#: Frames and packets that are read ahead, and written behind, at once: what lies in memory is bounded by it.
MOST_AHEAD = 8
#: A file is cut off if it ends so many seconds before the length that it states.
TOLERATED_GAP = 1.0


@dataclass
class Frame:
    """A decoded frame.

    Attributes:
        number: Its place in the video, from 1.
        pixels: Shape (H, W, 3), RGB, uint8.
        pts: Time stamp, in units of the stream's time base.
        duration: How long it is shown, in the same units; 0 if the file does not say.
    """

    number: int
    pixels: np.ndarray
    pts: int
    duration: int


def deblur_video(
    source: Path,
    target: Path,
    restore: Callable[[np.ndarray], np.ndarray],
    progress: Callable[[int, int], object] | None = None,
) -> list[str]:
    """Deblur every frame of a video; decoding, network and encoding run at the same time.

    Size, time stamps, display matrix, colour tags, sound, subtitles, chapters and tags stay; frames are written in 8
    bit as H.264, in WebM as VP9. A run that was killed leaves nothing under the target's name: the next starts over.

    Args:
        source: The video.
        target: What to write, atomically; its suffix names the container. Missing folders are made.
        restore: Maps a frame (H, W, 3), RGB, uint8, to one of the same kind and size.
        progress: Called after each frame with the number of frames done and that of all, 0 where the file does not say.

    Returns:
        What could not be kept, and whether it was started over, for people.

    Raises:
        InputError: If the video cannot be read or written, or a frame fails; the message has its number.
    """
    _require_pyav()
    import av

    if target.suffix.lower() not in CONTAINERS:
        raise InputError(f"{target}: a video ends in {', '.join(CONTAINERS)}: choose another name")
    if target.exists() and target.samefile(source):
        raise InputError(f"{target} is the source itself: choose another name for the result")
    with _open(source) as reader:
        stream = _video_stream(reader, source)
        frames = Reading(reader, stream, source)
        restarted = unfinished_file(target).exists()
        with atomic_write(target, FREE_DISK_SPACE) as file:
            try:
                with av.open(file, "w", format=CONTAINERS[target.suffix.lower()]) as container:
                    writing = Writing(container, reader, stream, frames.format, target)
                    _run(frames, restore, writing, lambda done: progress and progress(done, stream.frames), source)
                    writing.finish()
            except av.FFmpegError as error:
                # A full disk is an OSError of Python's own already.
                raise OSError(str(error)) from error
    notes = ["a run that was killed had begun it: started over"] if restarted else []
    return [*notes, *frames.format.notes, *writing.notes]


def _require_pyav() -> None:
    if importlib.util.find_spec("av") is None:
        raise InputError("videos need the package av (PyAV): pip install av")


def _open(source: Path) -> av.container.InputContainer:
    import av

    if not source.is_file():
        raise InputError(f"{source} is no file: check the name")
    if source.stat().st_size == 0:
        raise InputError(f"{source} is empty: copy it once more")
    try:
        return av.open(os.fspath(source))
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{source} is no video that FFmpeg can read, or is cut off: {_reason(error)}") from error


def _video_stream(reader: av.container.InputContainer, source: Path) -> av.VideoStream:
    import av

    # A cover picture counts as a video stream too.
    streams = [one for one in reader.streams.video if not one.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise InputError(f"{source} has no video stream: give a video")
    if streams[0].codec_context is None:
        raise InputError(f"{source}: FFmpeg has no decoder for its video stream: convert it to H.264 first")
    streams[0].thread_type = "AUTO"
    return streams[0]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())


class Reading:
    """Frames of the video stream, and the packets of all others, in the order of the file.

    Args:
        reader: The open video.
        stream: The stream that is decoded.
        source: Its name, for messages.

    Raises:
        InputError: If there is no first frame.
    """

    def __init__(self, reader: av.container.InputContainer, stream: av.VideoStream, source: Path) -> None:
        self._reader, self._stream, self._source = reader, stream, source
        self._number, self._packets, self._end = 0, 0, 0.0
        self._next_pts = 0
        self._format: VideoFormat | None = None
        self._items = self._read()
        self._held: list[Frame | av.Packet] = []
        while self._format is None:
            item = next(self._items, None)
            if item is None:
                raise InputError(f"{source} has no frames: give a video")
            self._held.append(item)

    @property
    def format(self) -> VideoFormat:
        """How the frames are stored."""
        assert self._format is not None  # noqa: S101  for the type checker
        return self._format

    def __iter__(self) -> Iterator[Frame | av.Packet]:
        """All items, those that were read to find the format first."""
        yield from self._held
        self._held.clear()
        yield from self._items

    def _read(self) -> Iterator[Frame | av.Packet]:
        import av

        try:
            for packet in self._reader.demux():
                if packet.stream is not self._stream:
                    if packet.dts is not None:
                        self._note_end(packet)
                        yield packet
                    continue
                self._packets += packet.size > 0
                self._note_end(packet)
                for frame in packet.decode():
                    yield self._taken(frame)
        except av.FFmpegError as error:
            raise InputError(self._failure(f"cannot be decoded ({_reason(error)})")) from error
        self._check_whole()

    def _taken(self, frame: av.VideoFrame) -> Frame:
        self._number += 1
        if self._format is None:
            self._format = VideoFormat.of(frame)
        if frame.is_corrupt:
            raise InputError(self._failure("is damaged", self._number))
        if (frame.height, frame.width) != self.format.size:
            raise InputError(self._failure("has another size than the first", self._number))
        # AVI files and raw streams have no time stamps: frames then follow each other at the stated rate.
        pts = self._next_pts if frame.pts is None else frame.pts
        duration = frame.duration or 0
        self._next_pts = pts + (duration or self._step())
        return Frame(self._number, self.format.to_rgb(frame), pts, duration)

    def _step(self) -> int:
        rate = self._stream.guessed_rate or self._stream.average_rate or Fraction(25)
        return max(1, round(1 / (rate * self._stream.time_base)))

    def _failure(self, what: str, number: int | None = None) -> str:
        return f"{self._source}: frame {number or self._number + 1} {what}: repair or convert the file first"

    def _note_end(self, packet: av.Packet) -> None:
        if packet.pts is not None:
            self._end = max(self._end, float((packet.pts + (packet.duration or 0)) * packet.time_base))

    def _check_whole(self) -> None:
        stated = (self._reader.duration or 0) / 1e6 + (self._reader.start_time or 0) / 1e6
        if self._packets < self._stream.frames or self._end < stated - TOLERATED_GAP:
            raise InputError(
                f"{self._source} is cut off after frame {self._number}, {self._end:.2f} of {stated:.2f} s: copy it "
                "once more, or convert what is there"
            )


class Writing:
    """The new file: frames are encoded, packets copied.

    Args:
        container: The file.
        reader: The source.
        stream: The stream of it that is encoded again.
        video_format: How frames are stored.
        target: Name of the file, for messages.

    Attributes:
        notes: What could not be kept, for people.

    Raises:
        InputError: If the container cannot hold a stream of the source.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        reader: av.container.InputContainer,
        stream: av.VideoStream,
        video_format: VideoFormat,
        target: Path,
    ) -> None:
        self.notes: list[str] = []
        self._container, self._format = container, video_format
        self._time_base = stream.time_base
        self._copies: dict[int, av.stream.Stream] = {}
        self._durations: dict[int, int] = {}
        container.metadata.update(reader.metadata)
        for one in reader.streams:
            if one is stream:
                self._encoded = video_format.add_encoder(container, stream)
                _carry_over(one, self._encoded)
            else:
                self._add_copy(one, target)
        container.set_chapters(reader.chapters())
        if video_format.display_matrix is not None:
            self._set_display_matrix(video_format.display_matrix)

    def _add_copy(self, stream: Any, target: Path) -> None:
        if stream.type not in ("audio", "subtitle", "video", "attachment"):
            self.notes.append(f"stream {stream.index} ({stream.type}) is not picture, sound or subtitles: left out")
            return
        try:
            copy = self._container.add_stream_from_template(stream, opaque=True)
        except ValueError as error:
            raise InputError(
                f"{target}: {target.suffix} cannot hold the {stream.type} of the source ({_reason(error)}): choose "
                "a name that ends in .mkv"
            ) from error
        _carry_over(stream, copy)
        self._copies[stream.index] = copy

    def _set_display_matrix(self, matrix: tuple[int, ...]) -> None:
        if self._container.format.name not in ("mp4", "mov", "matroska"):
            self.notes.append(f"{self._container.format.name} has no place for the rotation: choose .mp4, .mov or .mkv")
        elif not hasattr(self._encoded, "set_display_matrix"):
            self.notes.append("the rotation needs PyAV 18 or later, and so Python 3.11: it is not kept")
        else:
            self._encoded.set_display_matrix(matrix)

    def write(self, item: Frame | av.Packet) -> None:
        """Encode a frame, or copy a packet."""
        if isinstance(item, Frame):
            self._durations[item.pts] = item.duration
            frame = self._format.from_rgb(item.pixels)
            frame.pts, frame.time_base, frame.duration = item.pts, self._time_base, item.duration
            self._mux(self._encoded.encode(frame))
        elif item.stream.index in self._copies:
            item.stream = self._copies[item.stream.index]
            self._container.mux(item)

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._mux(self._encoded.encode())

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            # Encoders with frames that refer to later ones drop the length, and with it that of the last frame.
            if not packet.duration and packet.time_base == self._time_base:
                packet.duration = self._durations.get(packet.pts, 0)
            self._durations.pop(packet.pts, None)
            self._container.mux(packet)


def _carry_over(source: Any, target: Any) -> None:
    """Language, title, which of several is the default, and the like."""
    target.metadata.update(source.metadata)
    target.disposition = source.disposition


def _run(
    reading: Reading,
    restore: Callable[[np.ndarray], np.ndarray],
    writing: Writing,
    progress: Callable[[int], object],
    source: Path,
) -> None:
    """Read in one thread, restore in this one, write in another."""
    items = iter(reading)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = deque(reader.submit(next, items, None) for _ in range(MOST_AHEAD))
        written: deque[Future[None]] = deque()
        while (item := ahead.popleft().result()) is not None:
            ahead.append(reader.submit(next, items, None))
            if isinstance(item, Frame):
                item.pixels = _restored(item, restore, source)
                progress(item.number)
            written.append(writer.submit(writing.write, item))
            if len(written) > MOST_AHEAD:
                written.popleft().result()
        for one in written:
            one.result()


def _restored(frame: Frame, restore: Callable[[np.ndarray], np.ndarray], source: Path) -> np.ndarray:
    try:
        restored = restore(frame.pixels)
    # Whatever it is, the number of the frame is what helps, and no frame may be left out.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{source}: frame {frame.number} could not be restored: {reason}") from error
    if restored.shape != frame.pixels.shape or restored.dtype != np.uint8:
        raise InputError(
            f"{source}: frame {frame.number} came back as {restored.dtype} {restored.shape}, not as "
            f"{frame.pixels.dtype} {frame.pixels.shape}: choose another network"
        )
    return restored
