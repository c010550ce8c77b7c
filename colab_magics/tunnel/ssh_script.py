"""The shell script that runs `private_server.py` on another machine: it brings the program, finds a Python.

All of it travels on the standard input of `sh` there: nothing has to be quoted for a login shell, whichever
that is, and nothing of it is in a process list. The program's own folder is its owner's alone.
"""

from __future__ import annotations

import shlex

from colab_magics.tunnel.server_facts import PROGRAM

_MARK = "END-OF-THE-PROGRAM-THAT-COLAB-MAGICS-SENDS"

_BRING = """\
umask 077
set -f
base="${{XDG_STATE_HOME:-$HOME/.local/state}}/colab-magics/servers/"{name}
mkdir -p "$base" && chmod 700 "$base" && : >"$base/.program-$$" || {{
    echo '{{"error": "its home folder cannot be written to: is the disk full?"}}'
    exit 1
}}
cat >"$base/.program-$$" <<'{mark}'
{program}
{mark}
mv "$base/.program-$$" "$base/private_server.py"
"""

# Programs that run without a terminal get a short PATH: what people install by conda or venv is not in it.
_FIND = """\
can_serve() {
    "$1" -c 'import importlib.util as u, sys
sys.exit(sys.version_info < (3, 9) or None in map(u.find_spec, ("jupyter_server", "ipykernel")))' \\
        >/dev/null 2>&1 </dev/null
}
python=
fallback=
look() {
    for candidate in "$@"; do
        found=$(command -v "$candidate" 2>/dev/null) || continue
        [ -x "$found" ] || continue
        [ -n "$fallback" ] || fallback=$found
        if can_serve "$found"; then python=$found; return; fi
    done
    false
}
look "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" \\
    python3 python \\
    "$HOME/.venv/bin/python" "$HOME/venv/bin/python" "$HOME/miniconda3/bin/python" \\
    "$HOME/anaconda3/bin/python" "$HOME/miniforge3/bin/python" "$HOME/mambaforge/bin/python" \\
    /opt/conda/bin/python python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 \\
    /usr/local/bin/python3 /usr/bin/python3 \\
    || look "$("${SHELL:-sh}" -lc 'command -v python3' 2>/dev/null </dev/null | tail -n 1)"
[ -n "$python" ] || python=$fallback
if [ -z "$python" ]; then
    echo '{"error": "there is no Python 3.9 or later: install one, or name it with --python PATH"}'
    exit 1
fi
"""

_GIVEN = """\
python={python}
if ! command -v "$python" >/dev/null; then
    echo '{{"error": "the Python that --python names is not there"}}'
    exit 1
fi
"""


def script(verb: str, *arguments: str, name: str, python: str) -> str:
    """The script.

    Args:
        verb: `open`, `close` or `status`; arguments: more for it.
        name: which server, as `private_server.py` calls it.
        python: the interpreter to take; empty for the best there is.
    """
    program = PROGRAM.read_text(encoding="utf-8").rstrip("\n")
    bring = _BRING.format(name=shlex.quote(name), mark=_MARK, program=program)
    find = _GIVEN.format(python=shlex.quote(python)) if python else _FIND
    words = shlex.join([verb, "--name", name, *arguments])
    run = f'"$python" "$base/private_server.py" {words} </dev/null\n'
    tidy = 'code=$?\n[ $code != 0 ] || rm -rf "$base"\nexit $code\n' if verb == "close" else ""
    return bring + find + run + tidy
