"""How the frames of a video are stored: from there to RGB, and back into the same."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from macr_plugin.errors import InputError

if TYPE_CHECKING:
    import av

#: FFmpeg's numbers of colour matrices and ranges.
RGB_MATRIX, BT709, UNSPECIFIED, BT601 = 0, 1, 2, 5
LIMITED, FULL = 1, 2
#: Videos that name no colour matrix are read as most players do: BT.709 from so many rows on, below it BT.601.
HD_HEIGHT = 720
#: FFmpeg's SWS_BICUBIC, SWS_ACCURATE_RND and SWS_FULL_CHR_H_INT, of which PyAV before 18 takes the numbers alone.
INTERPOLATION = 0x4 | 0x40000 | 0x2000

#: Of FFmpeg's encoders: at these qualities a second coding is not seen.
H264_OPTIONS = {"crf": "16", "preset": "medium"}
VP9_OPTIONS = {"crf": "18", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}


@dataclass(frozen=True)
class VideoFormat:
    """How frames are stored, read off the first.

    Attributes:
        size: Height and width in pixels.
        subsampling: Columns and rows of the picture for each of its colour, 2 and 2 for most videos.
        matrix: FFmpeg's number of the colour matrix, as stated.
        color_range: FFmpeg's number of the range of values, as stated.
        primaries: FFmpeg's number of the primaries.
        transfer: FFmpeg's number of the transfer curve.
        display_matrix: How players turn and mirror the frames; None for not at all.
        notes: What cannot be kept, for people.
    """

    size: tuple[int, int]
    subsampling: tuple[int, int]
    matrix: int
    color_range: int
    primaries: int
    transfer: int
    display_matrix: tuple[int, ...] | None
    notes: tuple[str, ...]

    @classmethod
    def of(cls, frame: av.VideoFrame) -> VideoFormat:
        """Read the format off a decoded frame."""
        import av

        pixel_format = frame.format
        notes = []
        bits = max(component.bits for component in pixel_format.components)
        if bits > 8:
            notes.append(f"{bits} bits a colour are written as 8")
        if len(pixel_format.components) in (2, 4) and not pixel_format.has_palette:
            notes.append("the video's transparency is not kept")
        display_matrix = frame.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
        is_full = frame.color_range == FULL or pixel_format.name.startswith("yuvj")
        is_rgb = pixel_format.is_rgb or pixel_format.has_palette
        subsampling = (1, 1) if is_rgb else (-(-8 // pixel_format.chroma_width(8)), 8 // pixel_format.chroma_height(8))
        return cls(
            size=(frame.height, frame.width),
            # Grey videos become 4:2:0, which every player shows.
            subsampling=(2, 2) if len(pixel_format.components) <= 2 and not is_rgb else subsampling,
            matrix=BT709 if is_rgb or frame.colorspace == RGB_MATRIX else frame.colorspace,
            color_range=FULL if is_full and not is_rgb else frame.color_range if not is_rgb else LIMITED,
            primaries=frame.color_primaries,
            transfer=frame.color_trc,
            display_matrix=struct.unpack("=9i", bytes(display_matrix)) if display_matrix else None,
            notes=tuple(notes),
        )

    def to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """Turn a decoded frame into an array (H, W, 3), RGB, uint8."""
        matrix = frame.colorspace if frame.format.is_rgb else self._used_matrix
        return frame.to_ndarray(format="rgb24", src_colorspace=matrix, interpolation=INTERPOLATION)

    def from_rgb(self, pixels: np.ndarray) -> av.VideoFrame:
        """Turn an array (H, W, 3), RGB, uint8, into a frame for the encoder."""
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
            format=self._stored_as,
            dst_colorspace=self._used_matrix,
            dst_color_range=self.color_range or LIMITED,
            interpolation=INTERPOLATION,
        )
        frame.colorspace, frame.color_range = self.matrix, self.color_range
        frame.color_primaries, frame.color_trc = self.primaries, self.transfer
        return frame

    def add_encoder(self, container: av.container.OutputContainer, source: av.VideoStream) -> av.VideoStream:
        """Add the stream that frames are encoded into.

        Raises:
            InputError: If this FFmpeg has no such encoder.
        """
        import av

        name, options = ("libvpx-vp9", VP9_OPTIONS) if container.format.name == "webm" else ("libx264", H264_OPTIONS)
        if container.format.name == "avi":
            # AVI has no time stamps: the order of the file is that of showing.
            options = {**options, "bf": "0"}
        try:
            stream = container.add_stream(name, rate=source.average_rate or source.guessed_rate, options=options)
        except (av.codec.codec.UnknownCodecError, ValueError) as error:
            raise InputError(f"PyAV's FFmpeg has no {name}: install the wheel of PyAV from PyPI") from error
        context = stream.codec_context
        context.height, context.width = self.size
        context.pix_fmt = self._stored_as
        context.time_base = stream.time_base = source.time_base
        context.colorspace, context.color_range = self.matrix, self.color_range
        context.color_primaries, context.color_trc = self.primaries, self.transfer
        if source.sample_aspect_ratio:
            context.sample_aspect_ratio = source.sample_aspect_ratio
        return stream

    @property
    def _used_matrix(self) -> int:
        from av.video.reformatter import Colorspace

        if self.matrix != UNSPECIFIED:
            # PyAV turns RGB into no matrix that it does not list, BT.2020 before 18: with another one both ways the
            # colours stay.
            return self.matrix if self.matrix in {int(known) for known in Colorspace} else BT601
        return BT709 if self.size[0] >= HD_HEIGHT else BT601

    @property
    def _stored_as(self) -> str:
        """4:2:0, 4:2:2 or 4:4:4; H.264 has odd sizes in 4:4:4 alone, where colour is as fine as the picture."""
        across, down = self.subsampling
        height, width = self.size
        if (width % 2 and across > 1) or (height % 2 and down > 1) or across == 1:
            return "yuv444p"
        return "yuv420p" if down > 1 else "yuv422p"
