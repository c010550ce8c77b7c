"""What is done on every way, and timed. Every turn visits every way, so that noise falls on all alike."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from benchmarks.kernel.clients import Conversation
from benchmarks.kernel.paths import Way

T = TypeVar("T")

CELL = """\
def total_of(count):
    total = 0
    for number in range(count):
        total += number
    return total

print(total_of(3))
"""
STOP_LINE = 2

FLUSHED = "for number in range({count}):\n    print(number, flush=True)"
FLOOD = """\
kernel = get_ipython().kernel
for number in range({count}):
    kernel.send_response(kernel.iopub_socket, "stream", {{"name": "stdout", "text": "x\\n"}})
"""
COMMS = """\
def opened(comm, message):
    def heard(message):
        down = message["content"]["data"].get("down")
        if down:
            comm.send({}, buffers=[bytes(down)])
        else:
            comm.send({"size": sum(len(buffer) for buffer in message["buffers"])})
    comm.on_msg(heard)
get_ipython().kernel.comm_manager.register_target("bench", opened)
"""


@dataclass(slots=True)
class Turns:
    """What one kind of action took.

    Attributes:
        taken: for each way what its turns gave, the same turns for all.
        failed: why a way was left out from some turn on.
    """

    taken: dict[str, list[float]]
    failed: dict[str, str]

    def ratio(self, name: str, peer: str) -> float | None:
        """The median over the turns of one way's value by another's in the same turn."""
        pairs = list(zip(self.taken.get(name, []), self.taken.get(peer, []), strict=False))
        return median(mine / other for mine, other in pairs) if pairs else None

    def median(self, name: str) -> float:
        return median(self.taken[name])


def take_turns(ways: Sequence[Way], action: Callable[[Way], float], *, turns: int, warm_up: int = 1) -> Turns:
    """Do the action on every way once a turn; a way where it fails is left out from then on."""
    found = Turns({way.name: [] for way in ways}, {})
    for turn in range(-warm_up, turns):
        first = turn % max(len(ways), 1)
        for way in [*ways[first:], *ways[:first]]:
            if way.name in found.failed:
                continue
            try:
                took = action(way)
            except Exception as error:  # whatever it is: the others are measured
                way.talk.take_outputs()
                found.failed[way.name] = f"{type(error).__name__}: {error}".splitlines()[0][:120]
                found.taken.pop(way.name, None)
            else:
                if turn >= 0:
                    found.taken[way.name].append(took)
    return found


# --- round trips ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class RoundTrips:
    """By way, in seconds: the turns' medians, and every single sample."""

    turns: Turns
    samples: dict[str, list[float]]

    def p99(self, name: str) -> float:
        ordered = sorted(self.samples[name])
        return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


def round_trips(
    ways: Sequence[Way], ask: Callable[[Conversation], object], *, turns: int, each: int
) -> RoundTrips:
    """Ask `each` times a turn: from the request until the reply and the idle are there."""
    samples: defaultdict[str, list[float]] = defaultdict(list)

    def action(way: Way) -> float:
        took = []
        for _ in range(each):
            begun = time.perf_counter()
            ask(way.talk)
            took.append(time.perf_counter() - begun)
        samples[way.name] += took
        way.talk.take_outputs()
        return median(took)

    return RoundTrips(take_turns(ways, action, turns=turns), samples)


def execute_nothing(talk: Conversation) -> None:
    talk.ask("shell", "execute_request", {"code": "", "silent": False, "store_history": False})


def ask_control(talk: Conversation) -> None:
    talk.ask("control", "kernel_info_request")


# --- the debugger -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Debugging:
    """`cycle`: from dumpCell to the cell's idle; `step`: one step in it, with a look at the variables."""

    cycle: Turns
    step: Turns


def debugging(ways: Sequence[Way], *, turns: int, warm_up: int = 1) -> Debugging:
    steps = Turns({way.name: [] for way in ways}, {})

    def action(way: Way) -> float:
        talk = way.talk
        talk.debug("initialize", clientID="bench", adapterID="bench", linesStartAt1=True, pathFormat="path")
        talk.debug("attach", justMyCode=True)
        cycle_s, step_s = _cycle(talk)
        talk.debug("disconnect", restart=False)
        steps.taken[way.name].append(step_s)
        return cycle_s

    cycle = take_turns(ways, action, turns=turns, warm_up=warm_up)
    # Without those that warmed up, and the ways that failed.
    steps.taken = {name: steps.taken[name][-turns:] for name in cycle.taken}
    return Debugging(cycle, steps)


def _cycle(talk: Conversation) -> tuple[float, float]:
    begun = time.perf_counter()
    path = talk.debug("dumpCell", code=CELL)["sourcePath"]
    talk.debug("setBreakpoints", source={"path": path}, breakpoints=[{"line": STOP_LINE}])
    talk.debug("configurationDone")
    cell = talk.start(CELL)
    thread = talk.event("stopped")["threadId"]
    _look(talk, thread)
    step_begun = time.perf_counter()
    talk.debug("next", threadId=thread)
    talk.event("stopped")
    _look(talk, thread)
    step_s = time.perf_counter() - step_begun
    talk.debug("continue", threadId=thread)
    talk.reply("shell", cell)
    talk.until_idle(cell)
    return time.perf_counter() - begun, step_s


def _look(talk: Conversation, thread: int) -> None:
    frame = talk.debug("stackTrace", threadId=thread, startFrame=0, levels=20)["stackFrames"][0]["id"]
    scope = talk.debug("scopes", frameId=frame)["scopes"][0]["variablesReference"]
    talk.debug("variables", variablesReference=scope)


# --- much output ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Lines:
    """Attributes:
    turns: seconds from the request to the idle.
    lost: how many lines, by way, in all turns together.
    cpu_us: the relay's time on a processor for each message, by turn; empty without a relay.
    """

    turns: Turns
    lost: dict[str, int]
    cpu_us: list[float]


def flushed_lines(ways: Sequence[Way], *, count: int, turns: int) -> Lines:
    lost: defaultdict[str, int] = defaultdict(int)
    cpu_us: list[float] = []

    def action(way: Way) -> float:
        before_s = cpu_s(way)
        begun = time.perf_counter()
        msg_id = way.talk.start(FLUSHED.format(count=count))
        way.talk.until_idle(msg_id)
        took_s = time.perf_counter() - begun
        way.talk.reply("shell", msg_id)
        outputs = [heard for heard in way.talk.take_outputs() if heard.msg_type == "stream"]
        outputs = [heard for heard in outputs if heard.parent_msg_id == msg_id]
        lost[way.name] += count - sum(heard.parsed_content["text"].count("\n") for heard in outputs)
        if way.relay is not None:
            cpu_us.append(1e6 * (cpu_s(way) - before_s) / len(outputs))
        return took_s

    return Lines(take_turns(ways, action, turns=turns, warm_up=0), lost, cpu_us)


@dataclass(slots=True)
class Flood:
    """Messages a second; how many were lost, by way, in all turns together."""

    turns: Turns
    lost: dict[str, int]


def flood(ways: Sequence[Way], *, count: int, turns: int) -> Flood:
    """As fast as the kernel can send. What does not come for two seconds is lost."""
    lost: defaultdict[str, int] = defaultdict(int)

    def action(way: Way) -> float:
        talk = way.talk
        begun = last = time.perf_counter()
        msg_id = talk.start(FLOOD.format(count=count))
        heard = 0
        with suppress(TimeoutError):
            while True:
                message = talk.hear(patience_s=2 if heard else 30)
                if message.msg_type == "stream":
                    heard, last = heard + 1, time.perf_counter()
                elif message.msg_type == "status" and message.parsed_content["execution_state"] == "idle":
                    break
        talk.reply("shell", msg_id)
        talk.take_outputs()
        lost[way.name] += count - heard
        return heard / (last - begun)

    return Flood(take_turns(ways, action, turns=turns, warm_up=0), lost)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of the relay, in bytes, before and after so many messages."""

    before_bytes: int
    after_bytes: int
    messages: int


def memory(way: Way, *, messages: int, requests: int) -> Memory:
    """After a tenth of it to warm up. Requests are empty ones, each its reply and two statuses or three."""
    assert way.relay is not None
    _burden(way, messages=messages // 10, requests=requests // 10)
    before_bytes = way.relay.memory_info().rss
    _burden(way, messages=messages, requests=requests)
    return Memory(before_bytes, way.relay.memory_info().rss, messages)


def _burden(way: Way, *, messages: int, requests: int) -> None:
    at_once = 5000
    for _ in range(max(messages // at_once, 1)):
        way.talk.run(FLUSHED.format(count=min(at_once, messages)))
        way.talk.take_outputs()
    for _ in range(requests):
        execute_nothing(way.talk)
    way.talk.take_outputs()


# --- buffers ----------------------------------------------------------------------------------------------


def buffers(
    ways: Sequence[Way], *, down_bytes: int, up_bytes: int, turns: int, patience_s: float
) -> tuple[Turns, Turns]:
    """Bytes a second of a comm's buffers from the kernel, and to it.

    Args:
        patience_s: how long one may take. The gateway client never answers again after one.
    """
    sent = bytes(up_bytes)
    opened: dict[str, str] = {}

    def comm(way: Way) -> str:
        if way.name not in opened:
            way.talk.run(COMMS)
            opened[way.name] = f"bench-{len(opened)}"
            content = {"comm_id": opened[way.name], "target_name": "bench", "data": {}}
            way.talk.until_idle(way.talk.client.send("shell", "comm_open", content))
        return opened[way.name]

    def down(way: Way) -> float:
        content = {"comm_id": comm(way), "data": {"down": down_bytes}}
        begun = time.perf_counter()
        msg_id = way.talk.client.send("shell", "comm_msg", content)
        way.talk.until_idle(msg_id, patience_s=patience_s)
        took_s = time.perf_counter() - begun
        _expect(sum(len(buffer) for heard in way.talk.take_outputs() for buffer in heard.buffers), down_bytes)
        return down_bytes / took_s

    def up(way: Way) -> float:
        content = {"comm_id": comm(way), "data": {}}
        begun = time.perf_counter()
        msg_id = way.talk.client.send("shell", "comm_msg", content, buffers=[sent])
        way.talk.until_idle(msg_id, patience_s=patience_s)
        took_s = time.perf_counter() - begun
        answers = [heard.parsed_content.get("data", {}) for heard in way.talk.take_outputs()]
        _expect(sum(answer.get("size", 0) for answer in answers), up_bytes)
        return up_bytes / took_s

    upward = take_turns(ways, up, turns=turns)
    return take_turns([way for way in ways if way.name not in upward.failed], down, turns=turns), upward


def _expect(size: int, wanted: int) -> None:
    if size != wanted:
        raise RuntimeError(f"{size:,} of {wanted:,} bytes arrived")


def cpu_s(way: Way) -> float:
    """The relay's time on a processor so far; 0 without a relay."""
    if way.relay is None:
        return 0.0
    times = way.relay.cpu_times()
    return float(times.user + times.system)
