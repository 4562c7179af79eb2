"""Writes a benchmark as a page to look at, as Markdown and as files for programs."""

from __future__ import annotations

import base64
import dataclasses
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import jinja2

from macr_plugin.benchmark.report.charts import Scatter, scatters, strips
from macr_plugin.benchmark.report.comparability import protocols
from macr_plugin.benchmark.report.plots import draw_scatter
from macr_plugin.benchmark.report.recommendation import advise, answer
from macr_plugin.benchmark.report.tables import (
    BLURRED,
    Table,
    all_tables,
    escape_markdown,
    file_stem,
    write_csv,
    write_markdown,
)
from macr_plugin.benchmark.results import ComparedFrame, Results, to_json
from macr_plugin.data.picture_files import encode_png, read_picture
from macr_plugin.filesystem.staging import staged
from macr_plugin.visualization import Box, Picture, detail_box, side_by_side, stack, with_inset

SHARP = "sharp"
# Height and width of the enlarged detail and of what is shown around it, in a figure and on the page.
DETAIL, FIGURE, VIEW = (80, 160), (360, 480), (480, 640)
FIGURE_COLUMNS = 4
# Mean absolute difference at which the error map's colours end.
ERROR_LIMIT = 51
# Bytes that pictures may add to the page, so that a browser opens it at once.
MAX_PAGE_PICTURES = 24 * 2**20


@dataclasses.dataclass
class Side:
    """One picture of a frame.

    Attributes:
        label: ``blurred input``, ``sharp`` or an entry's label.
        picture: The whole picture (H, W, 3), uint8 BGR.
        psnr: Of the whole picture in dB; None for the sharp one and for entries measured by another protocol.
    """

    label: str
    picture: Picture
    psnr: float | None

    @property
    def finite_psnr(self) -> float | None:
        """PSNR where it is a number that JSON has."""
        return self.psnr if self.psnr is not None and math.isfinite(self.psnr) else None

    @property
    def caption(self) -> str:
        """Label and PSNR."""
        return self.label if self.psnr is None else f"{self.label} {self.psnr:.2f} dB"


@dataclasses.dataclass
class ShownFrame:
    """All pictures of one frame.

    Attributes:
        key: ``scene/frame``.
        sides: Blurred, restored by each entry, sharp.
        detail: Where the blur took most detail away.
        extra: What networks show beside the restored picture: a caption and the path from the report's folder.
    """

    key: str
    sides: list[Side]
    detail: Box
    extra: dict[str, str] = dataclasses.field(default_factory=dict)

    def window(self, size: tuple[int, int]) -> Box:
        """What is shown around the detail, at most ``size``."""
        height, width = self.sides[0].picture.shape[:2]
        return self.detail.around((height, width), size)


def write_report(results: Results, out: Path) -> Path:
    """Write a benchmark's report.

    The folder receives, written atomically:

    * ``report.html``: one page that needs no network, with the answer, charts, before/after comparison and tables,
    * ``report.md``: the same as Markdown, without what needs a mouse,
    * ``tables/``: each table as CSV with exact values,
    * ``figures/``: the chosen frames side by side, with the detail in which blurred and sharp differ most
      (:func:`macr_plugin.visualization.detail_box`) enlarged, and where matplotlib is installed the scatter plots,
    * ``results.json``: all records.

    What a former report left under these names is replaced.

    Args:
        results: What was measured. The paths of its pictures are relative to ``out``.
        out: The folder.

    Returns:
        Path of ``report.html``.

    Raises:
        InputError: A picture is missing or damaged, or the folder cannot be written to.
    """
    frames = [_read_frame(results, compared, out) for compared in results.pictures]
    tables = all_tables(results)
    names = ("figures", "tables", "results.json", "report.md", "report.html")
    with staged(*(out / name for name in names)) as (figures, table_folder, json_file, markdown, page):
        figures.mkdir()
        for frame in frames:
            figure = figures / f"{frame.key}.png"
            figure.parent.mkdir(parents=True, exist_ok=True)
            figure.write_bytes(encode_png(draw_figure(frame)))
        plots = scatters(results) if importlib.util.find_spec("matplotlib") else []
        for scatter in plots:
            draw_scatter(scatter, figures / f"{file_stem(scatter.heading)}.png")
        table_folder.mkdir()
        for table in tables:
            (table_folder / f"{table.name}.csv").write_text(write_csv(table), encoding="utf-8")
        json_file.write_text(to_json(results), encoding="utf-8")
        markdown.write_text(_render_markdown(results, tables, frames, plots), encoding="utf-8")
        page.write_text(_render_page(results, tables, frames, out), encoding="utf-8")
    return out / "report.html"


def draw_figure(frame: ShownFrame) -> Picture:
    """Put a frame's pictures side by side as figures 4, 5 and 7 of the paper do, the detail marked and enlarged.

    Args:
        frame: Its pictures, and the detail to enlarge.

    Returns:
        One picture (H, W, 3), uint8 BGR; captions give the PSNR of the whole frame.
    """
    window = frame.window(FIGURE)
    detail = frame.detail.within(window)
    shown = {side.caption: with_inset(window.cut(side.picture), detail) for side in frame.sides}
    captions = list(shown)
    rows = [captions[start : start + FIGURE_COLUMNS] for start in range(0, len(captions), FIGURE_COLUMNS)]
    max_side = max(next(iter(shown.values())).shape)
    return stack([side_by_side({caption: shown[caption] for caption in row}, max_side) for row in rows])


def _read_frame(results: Results, compared: ComparedFrame, out: Path) -> ShownFrame:
    psnr = _psnr_by_label(results, compared.key)
    paths = [(BLURRED, compared.blurred), *compared.restored.items(), (SHARP, compared.sharp)]
    sides = [Side(label, read_picture(out / path), psnr.get(label)) for label, path in paths]
    return ShownFrame(compared.key, sides, detail_box(sides[0].picture, sides[-1].picture, DETAIL), compared.extra)


def _psnr_by_label(results: Results, key: str) -> Mapping[str, float]:
    """PSNR of a frame by the protocol of most entries; others could not be compared in one caption."""
    main = next(iter(protocols(results)), None)
    qualities = [(BLURRED, quality) for quality in results.blurred_quality]
    qualities += [(entry.label, entry.quality) for entry in results.entries if entry.quality]
    return {
        label: frame.psnr
        for label, quality in qualities
        if quality.protocol_id == main
        for frame in quality.frames
        if frame.key == key
    }


def _render_markdown(results: Results, tables: list[Table], frames: list[ShownFrame], plots: list[Scatter]) -> str:
    said = answer(results)
    lines = [f"# {escape_markdown(results.title)}", f"{escape_markdown(results.dataset)}, {results.created}"]
    lines += ["## Which net should I use?", f"**{escape_markdown(said.headline)}**"]
    lines += [escape_markdown(" ".join(said.reasons))] if said.reasons else []
    lines += ["\n".join(f"* {escape_markdown(caveat)}" for caveat in said.caveats)] if said.caveats else []
    for scatter in plots:
        lines += [f"![{escape_markdown(scatter.heading)}](figures/{file_stem(scatter.heading)}.png)"]
    for table in tables:
        lines += [f"## {escape_markdown(table.heading)}", write_markdown(table), escape_markdown(table.note)]
    for frame in frames:
        name = escape_markdown(frame.key)
        lines += [f"## {name}", f"![{name}: {escape_markdown(_listed(frame))}](figures/{quote(frame.key)}.png)"]
        for caption, path in frame.extra.items():
            lines += [escape_markdown(caption), f"![{name}, {escape_markdown(caption)}]({quote(path)})"]
    lines += ["## Measured with"]
    lines += ["\n".join(f"* {escape_markdown(f'{name}: {value}')}" for name, value in results.environment.items())]
    return "\n\n".join(lines) + "\n"


def _render_page(results: Results, tables: list[Table], frames: list[ShownFrame], out: Path) -> str:
    # Beside the code rather than through the package's resources: one folder holds the template and its parts.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([Path(__file__).parent, Path(__file__).parents[2]]),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    advice = advise(results)
    shown = _page_frames(frames)
    drawn_strips = strips(results)
    data = {
        "strips": [dataclasses.asdict(strip) for strip in drawn_strips],
        "frames": shown,
        "error_limit": ERROR_LIMIT,
        "pick": advice.pick.label if advice else None,
    }
    return environment.get_template("report.html").render(
        results=results,
        answer=answer(results),
        tables=tables,
        scatters=scatters(results),
        strips=drawn_strips,
        frames=shown,
        extra=[
            {"caption": f"{frame.key}, {caption}", "source": _data_uri(read_picture(out / path))}
            for frame in frames[: len(shown)]
            for caption, path in frame.extra.items()
        ],
        hidden_frames=[frame.key for frame in frames[len(shown) :]],
        protocol_id=next(iter(protocols(results)), None),
        view_size=f"{VIEW[1]}x{VIEW[0]}",
        error_limit=ERROR_LIMIT,
        data=data,
    )


def _page_frames(frames: list[ShownFrame]) -> list[dict[str, Any]]:
    """The frames as the page's script takes them, as many as :data:`MAX_PAGE_PICTURES` allows."""
    shown: list[dict[str, Any]] = []
    size = 0
    for frame in frames:
        window = frame.window(VIEW)
        sources = [_data_uri(window.cut(side.picture)) for side in frame.sides]
        size += sum(map(len, sources))
        if size > MAX_PAGE_PICTURES:
            break
        shown.append(
            {
                "key": frame.key,
                "sides": [
                    {"label": side.label, "psnr": side.finite_psnr, "source": source}
                    for side, source in zip(frame.sides, sources, strict=True)
                ],
                "height": window.height,
                "width": window.width,
                "detail": frame.detail.within(window)._asdict(),
            }
        )
    return shown


def _data_uri(picture: Picture) -> str:
    """Encode a picture without loss; WebP takes a third less than PNG."""
    # A quality above 100 asks for lossless coding.
    encoded = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 101])[1]
    return f"data:image/webp;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _listed(frame: ShownFrame) -> str:
    return ", ".join(side.caption for side in frame.sides)
