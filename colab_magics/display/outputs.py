"""The outputs of an executed notebook, to be shown again in another notebook or as text in a terminal.

Outputs come as the parsed JSON of nbformat 4: dicts with an `output_type`.
Source: https://nbformat.readthedocs.io/en/latest/format_description.html#code-cell-outputs
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from colab_magics.display import ansi, formats
from colab_magics.errors import CorruptError

MAX_TEXT_CHARS = 200_000
"""More text than this from one output makes a notebook slow to open; its end is what people look at."""

SAFE_TYPES = ("text/plain", "image/png", "image/jpeg")
"""What can be shown without trusting who made it: no markup, no scripts, no links."""

_WIDGET = "application/vnd.jupyter.widget-view+json"
_BASE64_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Stream:
    """Text that goes to the notebook's `stdout` or `stderr`, with its colours and its `\\r`."""

    name: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A mimebundle, as `IPython.display.display(data, metadata=metadata, raw=True)` takes it."""

    data: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)


def to_publish(
    outputs: Iterable[Mapping[str, Any]], *, trusted: bool = True, where: str = ""
) -> list[Stream | Bundle]:
    """What to show so that it looks as if the cell had run here.

    Mimebundles stay as they are, except that a widget, whose other half is gone, is shown as its text. An
    error is its traceback in colours. Text of over 200,000 characters is cut in the middle, which says so.

    Args:
        outputs: dicts of nbformat 4, in their order.
        trusted: whether HTML, JavaScript, SVG, Markdown and the like may run in the person's browser. Where
            it is false, plain text, PNG and JPEG are what is left, and a last line says what was left out.
        where: the file that has everything, named where something is cut or left out.

    Raises:
        CorruptError: something in it is not an output.
    """
    items: list[Stream | Bundle] = []
    left_out: set[str] = set()
    for output in outputs:
        match _type_of(output):
            case "stream":
                text = _cut(_joined(output.get("text", "")), where)
                name: Literal["stdout", "stderr"] = "stderr" if output.get("name") == "stderr" else "stdout"
                if text:
                    items.append(Stream(name=name, text=text if trusted else ansi.keep_colours(text)))
            case "display_data" | "execute_result":
                bundle = _bundle(output, where)
                if not trusted:
                    safe = {mime: bundle.data[mime] for mime in SAFE_TYPES if mime in bundle.data}
                    left_out |= set(bundle.data) - set(safe)
                    bundle = Bundle(data=safe, metadata=_sizes_only(bundle.metadata))
                if bundle.data:
                    items.append(bundle)
            case "error":
                items.append(Bundle(data={"text/plain": _cut(traceback_text(output), where)}))
    if left_out:
        kinds = ", ".join(sorted(map(formats.one_line, left_out)))
        place = f"; it is in {where}" if where else ""
        items.append(
            Bundle(data={"text/plain": f"[not shown, from a machine you do not trust: {kinds}{place}]"})
        )
    return items


def publish(items: Iterable[Stream | Bundle]) -> None:
    """Shows them in the notebook, or terminal, that this process runs in."""
    from IPython.display import display

    for item in items:
        if isinstance(item, Stream):
            stream = sys.stderr if item.name == "stderr" else sys.stdout
            stream.write(item.text)
            stream.flush()
        else:
            display(item.data, metadata=item.metadata, raw=True)  # type: ignore[no-untyped-call]


def to_text(outputs: Iterable[Mapping[str, Any]], *, where: str = "", colours: bool = False) -> str:
    """The outputs as text for a terminal.

    An image, or a page of HTML without a text of its own, becomes one line with its size and `where` it is.
    Escape sequences are taken out, except those for colours where `colours` is true.

    Raises:
        CorruptError: something in it is not an output.
    """
    clean = ansi.keep_colours if colours else ansi.strip_ansi
    parts = []
    for output in outputs:
        match _type_of(output):
            case "stream":
                parts.append(clean(_cut(_joined(output.get("text", "")), where)))
            case "display_data" | "execute_result":
                parts.append(clean(_bundle_text(_bundle(output, where), where)))
            case "error":
                parts.append(clean(_cut(traceback_text(output), where)))
    return "".join(part if part.endswith("\n") else f"{part}\n" for part in parts if part)


def traceback_text(output: Mapping[str, Any]) -> str:
    """The traceback of an output of type `error`, with its colours."""
    lines = output.get("traceback") or []
    if not isinstance(lines, Sequence):
        raise CorruptError("an output of the executed notebook has a traceback that is not a list")
    text = _joined(lines) if isinstance(lines, str) else "\n".join(map(str, lines))
    return text or f"{output.get('ename', 'Error')}: {output.get('evalue', '')}"


def _type_of(output: object) -> str:
    """The output's type; of a newer version of the format it may be one that nobody here knows."""
    kind = output.get("output_type") if isinstance(output, Mapping) else None
    if not isinstance(kind, str):
        raise CorruptError(f"an output of the executed notebook has no output_type: {str(output)[:60]}")
    return kind


def _bundle(output: Mapping[str, Any], where: str) -> Bundle:
    data, metadata = output.get("data", {}), output.get("metadata", {})
    if not isinstance(data, dict) or not isinstance(metadata, dict):
        raise CorruptError("an output of the executed notebook has no mimebundle")
    joined = {mime: content if _is_json(mime) else _joined(content) for mime, content in data.items()}
    if len(joined) > 1:
        joined.pop(_WIDGET, None)
    if "text/plain" in joined:
        joined["text/plain"] = _cut(joined["text/plain"], where)
    return Bundle(data=joined, metadata=metadata)


def _is_json(mime: str) -> bool:
    return mime == "application/json" or mime.endswith("+json")


def _joined(text: object) -> str:
    """nbformat stores text as one string or as a list of lines."""
    if isinstance(text, str):
        return text
    if isinstance(text, list) and all(isinstance(line, str) for line in text):
        return "".join(text)
    raise CorruptError(f"an output of the executed notebook has {type(text).__name__} where text belongs")


def _cut(text: str, where: str) -> str:
    if len(text) <= MAX_TEXT_CHARS:
        return text
    head, tail = text[: MAX_TEXT_CHARS // 4], text[-MAX_TEXT_CHARS * 3 // 4 :]
    missing = len(text) - len(head) - len(tail)
    place = f", all of it is in {where}" if where else ""
    return f"{head}\n[… {missing:,} characters not shown{place} …]\n{tail}"


def _sizes_only(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Width and height of images: the only metadata that cannot do anything."""
    sizes = {}
    for mime in SAFE_TYPES:
        entry = metadata.get(mime)
        if isinstance(entry, Mapping):
            sizes[mime] = {
                key: entry[key] for key in ("width", "height") if isinstance(entry.get(key), (int, float))
            }
    return sizes


def _bundle_text(bundle: Bundle, where: str) -> str:
    image = next(
        (mime for mime in bundle.data if mime.startswith("image/") or mime == "application/pdf"), None
    )
    if image is not None:
        return _stand_in(image, bundle, where)
    for mime in ("text/plain", "text/markdown", "text/latex"):
        if mime in bundle.data:
            return str(bundle.data[mime])
    if "text/html" in bundle.data:
        words = " ".join(_TAG.sub(" ", bundle.data["text/html"]).split())
        return f"{_stand_in('text/html', bundle, where)} {formats.ellipsis(words, width=200)}".rstrip()
    return "\n".join(_stand_in(mime, bundle, where) for mime in bundle.data)


def _stand_in(mime: str, bundle: Bundle, where: str) -> str:
    """`[image/png 640×480, 12 kB → colab_results/x/run.ipynb]`."""
    content = bundle.data[mime]
    raw = str(content).encode()
    if mime in _BASE64_IMAGES:
        try:
            raw = base64.b64decode(content)
        except (binascii.Error, ValueError):
            pass
    size = _png_size(raw)
    pixels = f" {size[0]}×{size[1]}" if size else ""
    place = f" → {where}" if where else ""
    return f"[{formats.one_line(mime)}{pixels}, {formats.format_bytes(len(raw))}{place}]"


def _png_size(raw: bytes) -> tuple[int, int] | None:
    """Width and height in pixels from a PNG's first chunk.

    Source: https://www.w3.org/TR/png-3/#11IHDR
    """
    if len(raw) < 24 or not raw.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    width, height = struct.unpack(">II", raw[16:24])
    return width, height
