"""What a cell shows, folded from the kernel's iopub messages into a notebook's outputs, within bounds. Pure.

Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html#messages-on-the-iopub-pub-sub-channel
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from colab_magics.jobs.record import Progress

Output = dict[str, Any]
Mask = Callable[[str], str]

STREAM_CHARS = 200_000
"""Of one stream; half of it its head, half its tail. More is for the log."""
OUTPUTS = 1000
"""Entries of one cell; a browser takes seconds for more."""
OUTPUT_BYTES = 5_000_000
"""Of one representation of one output."""

BAR_MODELS = ("FloatProgressModel", "IntProgressModel")
BAR_CELLS = 10
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_REPLACED = "left out here: larger than the limit for one output"


def strip_ansi(text: str) -> str:
    """Text without terminal colours."""
    return _ANSI.sub("", text)


def settle_text(text: str) -> str:
    """Text with the lines that a carriage return redrew as they ended up."""
    if "\r" not in text:
        return text
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return "\n".join(line[line.rfind("\r") + 1 :] for line in lines)


@dataclass(slots=True)
class _Stream:
    """Text of one stream: all of it, or head and tail."""

    name: str
    parts: list[str] = field(default_factory=list)
    size: int = 0
    head: str | None = None
    left_out: int = 0
    mask: Mask = str

    def append(self, text: str) -> None:
        self.parts.append(text)
        self.size += len(text)
        if self.size > 2 * STREAM_CHARS:
            self._shorten()

    def text(self) -> str:
        tail = settle_text("".join(self.parts))
        if self.head is None and len(tail) <= STREAM_CHARS:
            return tail
        self._shorten()
        return (
            f"{self.head}\n… {self.left_out:,} characters are left out here, log.txt has more of them …\n"
            f"{''.join(self.parts)}"
        )

    def _shorten(self) -> None:
        whole = "".join(self.parts)
        ends_in_return = whole.endswith("\r")
        whole = self.mask(settle_text(whole) + ("\r" if ends_in_return else ""))
        half = STREAM_CHARS // 2
        if self.head is None and len(whole) > STREAM_CHARS:
            self.head, whole = whole[:half], whole[half:]
        if self.head is not None and len(whole) > half:
            self.left_out += len(whole) - half
            whole = whole[-half:]
        self.parts, self.size = [whole], len(whole)


@dataclass(slots=True)
class _Area:
    """A list of outputs: the cell's, or an Output widget's."""

    entries: list[Output | _Stream] = field(default_factory=list)
    display_ids: list[str | None] = field(default_factory=list)
    clear_first: bool = False
    dropped: int = 0
    mask: Mask = str

    def clear(self) -> None:
        self.entries.clear()
        self.display_ids.clear()
        self.clear_first = False
        self.dropped = 0

    def add(self, entry: Output | _Stream, display_id: str | None = None) -> None:
        if self.clear_first:
            self.clear()
        if len(self.entries) >= OUTPUTS:
            middle = OUTPUTS // 2
            del self.entries[middle], self.display_ids[middle]
            self.dropped += 1
        self.entries.append(entry)
        self.display_ids.append(display_id)

    def stream(self, name: str, text: str) -> None:
        if self.clear_first:
            self.clear()
        last = self.entries[-1] if self.entries else None
        if not isinstance(last, _Stream) or last.name != name:
            last = _Stream(name, mask=self.mask)
            self.add(last)
        last.append(text)

    def update(self, display_id: str, data: Output, metadata: Output) -> None:
        for entry, known in zip(self.entries, self.display_ids, strict=True):
            if known == display_id and isinstance(entry, dict):
                entry["data"], entry["metadata"] = data, metadata

    def outputs(self) -> list[Output]:
        shown = [_shown(entry) for entry in self.entries]
        if self.dropped:
            text = f"… {self.dropped:,} outputs are left out here …\n"
            shown.insert(OUTPUTS // 2, {"output_type": "stream", "name": "stderr", "text": text})
        return shown


class CellOutputs:
    """The outputs of one cell as they stand after the messages folded so far."""

    def __init__(self, *, mask: Mask = str) -> None:
        """Nothing is shown yet.

        Args:
            mask: hides secrets in a text that is about to be cut: one across the cut would show its half.
        """
        self.execution_count: int | None = None
        self._mask, self._area = mask, _Area(mask=mask)
        self._captures: list[tuple[str, str, _Area]] = []  # comm_id, msg_id, where its outputs go
        self._areas: dict[str, _Area] = {}
        self._models: dict[str, Output] = {}
        self._buffers: dict[str, dict[tuple[Any, ...], Output]] = {}
        self._last_bar: str | None = None

    def fold(self, message: Mapping[str, Any]) -> None:
        """Take in one iopub message whose parent is the cell's request; unknown types change nothing."""
        content = message["content"]
        msg_type = message["header"]["msg_type"]
        if msg_type.startswith("comm_"):
            self._fold_comm(msg_type, content, message.get("buffers") or [])
            return
        if content.get("execution_count") is not None:
            self.execution_count = content["execution_count"]
        area = self._target(message)
        match msg_type:
            case "stream":
                area.stream(content["name"], content["text"])
            case "display_data" | "execute_result":
                display_id = (content.get("transient") or {}).get("display_id")
                data = _bounded(content["data"])
                if display_id:
                    self._update(display_id, data, content.get("metadata") or {})
                output: Output = {
                    "output_type": msg_type,
                    "data": data,
                    "metadata": content.get("metadata") or {},
                }
                if msg_type == "execute_result":
                    output["execution_count"] = content["execution_count"]
                area.add(output, display_id)
            case "update_display_data":
                display_id = (content.get("transient") or {}).get("display_id")
                if display_id:
                    self._update(display_id, _bounded(content["data"]), content.get("metadata") or {})
            case "error":
                keys = ("ename", "evalue", "traceback")
                area.add({"output_type": "error"} | {key: content[key] for key in keys})
            case "clear_output":
                if content.get("wait"):
                    area.clear_first = True
                else:
                    area.clear()

    def outputs(self) -> list[Output]:
        """All outputs, in nbformat 4's form. A bar that is a widget has as its text how it stands now."""
        return [self._with_bar(output) for output in self._area.outputs()]

    def last_outputs(self, *, limit_bytes: int) -> list[Output]:
        """As many of the last outputs as fit; of one that does not fit alone, its text."""
        kept: list[Output] = []
        left = limit_bytes
        for entry in reversed(self._area.entries):
            output = _shown(entry)
            if _size(output) > limit_bytes:
                output = _text_only(output, limit_chars=limit_bytes // 8, mask=self._mask)
            left -= _size(output) + 2  # and what separates it from the next
            if left < 0:
                break
            kept.append(output)
        return kept[::-1]

    def widget_state(self) -> Output | None:
        """The `widgets` entry of the notebook's metadata, None where the cell made no widget."""
        if not self._models:
            return None
        state: Output = {}
        for comm_id, model in self._models.items():
            state[comm_id] = {
                "model_name": model.get("_model_name"),
                "model_module": model.get("_model_module"),
                "model_module_version": model.get("_model_module_version"),
                "state": model | ({"outputs": self._captured(comm_id)} if comm_id in self._areas else {}),
            }
            if self._buffers.get(comm_id):
                state[comm_id]["buffers"] = list(self._buffers[comm_id].values())
        shape = "application/vnd.jupyter.widget-state+json"
        return {shape: {"state": state, "version_major": 2, "version_minor": 0}}

    def progress(self) -> Progress | None:
        """What the progress bar drawn last as a widget says (tqdm.notebook, ipywidgets)."""
        bar = self._models.get(self._last_bar or "")
        if bar is None:
            return None
        try:
            done, total = float(bar.get("value") or 0), float(bar.get("max") or 0)
        except (TypeError, ValueError):
            return None
        return Progress(done, total or None, self._bar_label(self._last_bar or ""))

    def _fold_comm(self, msg_type: str, content: Mapping[str, Any], buffers: Sequence[Any]) -> None:
        comm_id, data = content["comm_id"], content.get("data") or {}
        if msg_type == "comm_open" and content.get("target_name") == "jupyter.widget":
            self._models.setdefault(comm_id, {})
        if msg_type == "comm_close" or comm_id not in self._models or not isinstance(data.get("state"), dict):
            return
        state, model = data["state"], self._models[comm_id]
        model.update(state)
        kept = self._buffers.setdefault(comm_id, {})
        for path, buffer in zip(data.get("buffer_paths") or (), buffers, strict=False):
            told = base64.b64encode(buffer).decode()
            kept[tuple(path)] = {"encoding": "base64", "data": told, "path": path}
        kind = str(model.get("_model_name") or "")
        if kind in BAR_MODELS and not {"value", "max"}.isdisjoint(state):
            self._last_bar = comm_id
        if kind == "OutputModel" and "msg_id" in state:
            self._captures = [each for each in self._captures if each[0] != comm_id]
            if state["msg_id"]:
                area = self._areas.setdefault(comm_id, _Area(mask=self._mask))
                self._captures.append((comm_id, state["msg_id"], area))

    def _target(self, message: Mapping[str, Any]) -> _Area:
        parent = (message.get("parent_header") or {}).get("msg_id")
        return next((area for _, msg_id, area in reversed(self._captures) if msg_id == parent), self._area)

    def _update(self, display_id: str, data: Output, metadata: Output) -> None:
        for area in (self._area, *self._areas.values()):
            area.update(display_id, data, metadata)

    def _captured(self, comm_id: str) -> list[Output]:
        return self._areas[comm_id].outputs()

    def _with_bar(self, output: Output) -> Output:
        """The output, its text brought up to date where it is a bar (tqdm.notebook): where no widget can be
        shown, on the hosting site or in another notebook, the text is all that there is."""
        view = output.get("data", {}).get(WIDGET_VIEW)
        children = self._children(view.get("model_id")) if isinstance(view, dict) else []
        if not any(model.get("_model_name") in BAR_MODELS for model in children):
            return output
        parts = [_bar_part(model) for model in children]
        return output | {"data": output["data"] | {"text/plain": "".join(parts).strip()}}

    def _children(self, model_id: object) -> list[Output]:
        named = self._models.get(str(model_id), {}).get("children")
        ids = [str(each).removeprefix("IPY_MODEL_") for each in named] if isinstance(named, list) else []
        return [self._models[each] for each in ids if each in self._models]

    def _bar_label(self, bar_id: str) -> str:
        reference = f"IPY_MODEL_{bar_id}"
        for model in self._models.values():
            children = model.get("children")
            if isinstance(children, list) and reference in children:
                first = self._models.get(str(children[0]).removeprefix("IPY_MODEL_"), {})
                text = re.sub(r"<[^>]*>|\d{1,3}%", "", str(first.get("value") or "")).replace("\xa0", " ")
                return text.strip().rstrip(":").strip()[:100]
        return str(self._models[bar_id].get("description") or "").strip().rstrip(":")[:100]


def fit(outputs: Sequence[Output], *, limit_bytes: int) -> list[Output]:
    """The outputs in at most about `limit_bytes`: the largest ones are replaced by their text."""
    fitting = list(outputs)
    sizes = [_size(output) for output in fitting]
    for index in sorted(range(len(fitting)), key=lambda index: -sizes[index]):
        if sum(sizes) <= limit_bytes:
            break
        fitting[index] = _text_only(fitting[index], limit_chars=10_000)
        sizes[index] = _size(fitting[index])
    while fitting and sum(sizes) > limit_bytes:
        del fitting[0], sizes[0]
    return fitting


def result_text(message: Mapping[str, Any]) -> str:
    """What an iopub message says of a cell's end, its result or its error, as text; empty for others."""
    content = message["content"]
    match message["header"]["msg_type"]:
        case "execute_result" if WIDGET_VIEW not in content["data"]:
            text = content["data"].get("text/plain")
            return f"{text}\n" if text else ""
        case "error":
            return strip_ansi("\n".join(content["traceback"])) + "\n"
    return ""


def _bar_part(model: Output) -> str:
    """A part of a bar as text: the bar itself, or the words beside it."""
    if model.get("_model_name") not in BAR_MODELS:
        words = re.sub(r"<[^>]*>", "", str(model.get("value") or "")).replace("\xa0", " ")
        return html.unescape(words)
    try:
        fraction = float(model.get("value") or 0) / (float(model.get("max") or 0) or 1.0)
    except (TypeError, ValueError):
        return "||"
    full = round(min(max(fraction, 0.0), 1.0) * BAR_CELLS)
    return f"|{'█' * full}{' ' * (BAR_CELLS - full)}|"


def _shown(entry: Output | _Stream) -> Output:
    if isinstance(entry, _Stream):
        return {"output_type": "stream", "name": entry.name, "text": entry.text()}
    return entry


def _size(output: Output) -> int:
    return len(json.dumps(output, ensure_ascii=False, default=repr).encode("utf-8", "surrogatepass"))


def _bounded(data: Mapping[str, Any]) -> Output:
    kept: Output = {}
    for mime, value in data.items():
        large = isinstance(value, str) and len(value) > OUTPUT_BYTES
        kept["text/plain" if large else mime] = (
            f"[{mime} of {len(value) / 1e6:.1f} MB {_REPLACED}]" if large else value
        )
    return kept


def _text_only(output: Output, *, limit_chars: int, mask: Mask = str) -> Output:
    """The output with nothing but a bounded text, which says so."""
    match output["output_type"]:
        case "stream":
            text = mask(output["text"])
            return output | {
                "text": f"… {max(0, len(text) - limit_chars):,} characters …\n{text[-limit_chars:]}"
            }
        case "error":
            lines = [mask(line)[:limit_chars] for line in output["traceback"][-20:]]
            return output | {"evalue": mask(output["evalue"])[:limit_chars], "traceback": lines}
    left_out = ", ".join(sorted(set(output["data"]) - {"text/plain"})) or "more text"
    text = mask(str(output["data"].get("text/plain", "")))[:limit_chars]
    return output | {
        "data": {"text/plain": f"{text}\n[{left_out} left out here: too large]".strip()},
        "metadata": {},
    }
