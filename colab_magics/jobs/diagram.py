"""The state table as a picture: the mermaid diagram of docs/reference/states.md."""

from __future__ import annotations

from collections.abc import Mapping

from colab_magics.jobs.state import FINAL, TRANSITIONS, State, Verb


def state_diagram(table: Mapping[State, Mapping[Verb, State]] = TRANSITIONS) -> str:
    """The table as a mermaid state diagram: one arrow for all verbs between the same two states."""
    arrows = [f"    [*] --> {State.QUEUED}"]
    for state, verbs in table.items():
        for target in dict.fromkeys(verbs.values()):
            told = ", ".join(verb for verb, after in verbs.items() if after is target)
            arrows.append(f"    {state} --> {target}: {told}")
    arrows += [f"    {state} --> [*]" for state in table if state in FINAL]
    return "stateDiagram-v2\n" + "\n".join(arrows) + "\n"
