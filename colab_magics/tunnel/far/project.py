"""Runs over there: a folder with a project as it was on the person's disk, in a Git repository of its own.

What both sides last agreed on is a commit, at `refs/colab/agreed`. What differs from it on disk was edited
here: it is told, and never overwritten unless the other side names the very content that it has seen.
"""

import os
import shutil
import subprocess

COLAB_AGREED = "refs/colab/agreed"
COLAB_MARK = "colab.project"
COLAB_SETTINGS = (
    *("core.hooksPath=/dev/null", "core.fsmonitor=false", "core.quotePath=false", "core.autocrlf=false"),
    *("gc.auto=0", "maintenance.auto=false", "commit.gpgSign=false", "core.logAllRefUpdates=false"),
)


class ColabProject:
    def __init__(self, root):
        self.root = os.path.realpath(os.path.expanduser(root))
        self.folder = os.path.join(self.root, ".git")
        self.incoming = os.path.join(self.folder, "colab-incoming")
        self.outgoing = os.path.join(self.folder, "colab-outgoing")
        self.index = os.path.join(self.folder, "colab-index")

    def git(self, *words, stdin=b"", ok=(0,), index=None, into=None):
        command = ["git", "--git-dir=" + self.folder, "--work-tree=" + self.root]
        for setting in COLAB_SETTINGS:
            command += ["-c", setting]
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        env.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull, LC_ALL="C")
        env.update(GIT_INDEX_FILE=index or self.index)
        given = {"stdin": stdin} if hasattr(stdin, "fileno") else {"input": stdin}
        done = subprocess.run(
            [*command, *words],
            cwd=self.root,
            env=env,
            stdout=into or subprocess.PIPE,
            stderr=subprocess.PIPE,
            **given,
        )
        if done.returncode not in ok:
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
            raise RuntimeError("git %s in %s: %s" % (words[0], self.root, said[0]))
        return done.stdout

    def lines(self, *words, **more):
        return os.fsdecode(self.git(*words, **more)).split("\0")[:-1]

    def agreed(self):
        return self.git("rev-parse", "-q", "--verify", COLAB_AGREED, ok=(0, 1)).decode().strip() or None

    def edits(self, agreed):
        """What differs from the agreed commit: path -> [mode, object id], or None where it is deleted."""
        looked = self.index + "-look"
        if os.path.exists(self.index):
            shutil.copy2(self.index, looked)
        else:
            self.git("read-tree", agreed, index=looked)
        try:
            self.git("add", "--update", ".", index=looked)
            fields = self.lines(
                *("diff-index", "--cached", "--raw", "-z", "--no-renames", "--abbrev=40", agreed),
                index=looked,
            )
        finally:
            os.unlink(looked)
        found = {}
        for about, path in zip(fields[::2], fields[1::2]):
            _, mode, _, name, status = about.split(" ")
            found[path] = None if status == "D" else [mode, name]
        return found

    def on_disk(self, path):
        """What is at a path now, as `edits` has it; no object's id where it is no file of the folder's."""
        full = os.path.join(self.root, path)
        try:
            if os.path.realpath(os.path.dirname(full)) != os.path.dirname(full):
                return ["link", ""]
            if os.path.islink(full):
                data = os.fsencode(os.readlink(full))
                return ["120000", self.git("hash-object", "-w", "--stdin", stdin=data).decode().strip()]
            if os.path.isdir(full):
                return ["folder", ""] if os.listdir(full) else None
            mode = "100755" if os.stat(full).st_mode & 0o100 else "100644"
            name = self.git("hash-object", "-w", "--", path).decode().strip()
            return [mode, name]
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            return ["file above", ""]


@colab_far.verb
def project_look(content, buffers):
    """Have the folder, if it may be had; say what was agreed on, and what was edited here since."""
    if shutil.which("git") is None:
        raise RuntimeError("git is not installed there, and a project needs it")
    project = ColabProject(content["root"])
    if os.path.isdir(project.folder):
        mark = project.git("config", "--local", "--get", COLAB_MARK, ok=(0, 1)).decode().strip()
        if mark != content["project"]:
            return {"root": project.root, "state": "other" if mark else "foreign"}, []
    else:
        os.makedirs(project.root, exist_ok=True)
        if os.listdir(project.root):
            return {"root": project.root, "state": "foreign"}, []
        project.git("init", "--quiet", "--template=", "--initial-branch=colab")
        project.git("config", "--local", COLAB_MARK, content["project"])
        os.makedirs(os.path.join(project.folder, "info"), exist_ok=True)
    agreed = project.agreed()
    edits = project.edits(agreed) if agreed else {}
    others = (
        project.lines("ls-files", "--others", "--exclude-standard", "--directory", "-z") if agreed else []
    )
    found = {"root": project.root, "state": "ready", "agreed": agreed, "edits": edits}
    return {**found, "new": others[:20], "new_count": len(others)}, []


@colab_far.verb
def project_in_the_way(content, buffers):
    """What is on disk already of files that are to come."""
    project = ColabProject(content["root"])
    found = {path: project.on_disk(path) for path in content["paths"]}
    return {"found": {path: one for path, one in found.items() if one and one[0] != "file above"}}, []


@colab_far.verb
def project_pack(content, buffers):
    """Pack objects for the other side; the size of the pack."""
    project = ColabProject(content["root"])
    words = ["pack-objects", "--stdout", "-q", *(["--revs"] if content["whole"] else [])]
    with open(project.outgoing, "wb") as file:
        project.git(*words, stdin="\n".join([*content["objects"], ""]).encode(), into=file)
    return {"size_bytes": os.path.getsize(project.outgoing)}, []


@colab_far.verb
def project_read(content, buffers):
    """A part of the pack."""
    with open(ColabProject(content["root"]).outgoing, "rb") as file:
        file.seek(content["offset"])
        return {}, [file.read(content["count"])]


@colab_far.verb
def project_write(content, buffers):
    """A part of the pack that comes."""
    path = ColabProject(content["root"]).incoming
    with open(path, "r+b" if content["offset"] else "wb") as file:
        file.seek(content["offset"])
        file.write(buffers[0])
    return {}, []


@colab_far.verb
def project_agree(content, buffers):
    """Take what came, and bring the folder to the commit that both sides agree on.

    Of what was edited here, only what `settled` names is overwritten: path -> what it must be on disk.
    """
    project, commit, settled = ColabProject(content["root"]), content["commit"], content["settled"]
    try:
        if content["has_pack"]:
            with open(project.incoming, "rb") as pack:
                project.git("index-pack", "--stdin", "--fix-thin", stdin=pack)
        agreed = project.agreed()
        if agreed != content["agreed"]:
            raise RuntimeError("another sync with %s came between: sync again" % project.root)
        written, kept = colab_bring(project, agreed, commit, settled)
    finally:
        for path in (project.incoming, project.outgoing):
            if os.path.exists(path):
                os.unlink(path)
    return {"written": written, "kept": kept}, []


def colab_bring(project, agreed, commit, settled):
    empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git knows the empty tree without having it
    words = ("diff-tree", "-r", "--raw", "-z", "--no-renames", "--abbrev=40", agreed or empty, commit)
    fields = project.lines(*words)
    changes = []
    for about, path in zip(fields[::2], fields[1::2]):
        old_mode, mode, old, new, _ = about.lstrip(":").split(" ")
        before, target = (
            [one, name] if name.strip("0") else None for one, name in ((old_mode, old), (mode, new))
        )
        changes.append((path, before, target))
    changes.sort(key=lambda change: change[2] is not None)  # what goes away makes room first
    wanted, removed, kept = [], 0, []
    for path, before, target in changes:
        now = project.on_disk(path)
        if now == target:
            continue
        if now != before and not (path in settled and settled[path] == now):
            kept.append(path)
        elif target is None:
            colab_remove(project.root, path)
            removed += 1
        else:
            wanted.append(path)
    project.git("read-tree", "-i", "-m", commit)
    names = b"".join(os.fsencode(path) + b"\0" for path in wanted)
    project.git("checkout-index", "--force", "-u", "-z", "--stdin", stdin=names)
    project.git("update-index", "-q", "--refresh", ok=(0, 1))
    project.git("update-ref", COLAB_AGREED, commit)
    head = project.git("rev-parse", "-q", "--verify", "HEAD", ok=(0, 1)).decode().strip() or None
    if head == agreed:  # nobody has made commits of their own here: `git status` shows what was edited
        project.git("update-ref", "refs/heads/colab", commit)
        shutil.copy2(project.index, os.path.join(project.folder, "index"))
    return len(wanted) + removed, kept


def colab_remove(root, path):
    full = os.path.join(root, path)
    os.unlink(full)
    folder = os.path.dirname(full)
    while folder != root:
        try:
            os.rmdir(folder)
        except OSError:
            return
        folder = os.path.dirname(folder)
