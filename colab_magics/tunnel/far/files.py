"""Runs over there: files, in pieces. What arrives is a hidden part until it is whole and its hash agrees.

Whoever asks may ask for the same piece again: what is written already is not written twice.
"""


class ColabArrival:
    """A file that is on its way here.

    `part` lies beside `target` and has a name of this arrival's own: a later one takes the part over by
    renaming it, upon which this one has none.
    """

    def __init__(self, target, number):
        import hashlib
        import os
        import re

        self.target = target = os.path.realpath(target)
        folder, name = os.path.split(target)
        self.stem = ".%s." % colab_short(name)
        self.part = os.path.join(folder, "%s%s%s" % (self.stem, number, COLAB_PART))
        self.hasher = hashlib.sha256()
        self.size = 0
        os.makedirs(folder, exist_ok=True)
        # Behind its name only a number: a part of `model.pt` is none of `model`.
        parts = re.compile(re.escape(self.stem) + "[0-9a-f]{32}" + re.escape(COLAB_PART))
        old = [one for one in os.listdir(folder) if parts.fullmatch(one)]
        for one in old:
            os.replace(os.path.join(folder, one), self.part)
        descriptor = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self.file = os.fdopen(descriptor, "r+b", buffering=0)
        self.number = os.fstat(self.file.fileno()).st_ino
        while True:
            piece = self.file.read(COLAB_PIECE)
            if not piece:
                break
            self.hasher.update(piece)
            self.size += len(piece)

    def is_taken(self):
        import os

        try:
            return os.stat(self.part).st_ino != self.number
        except OSError:
            return True

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, OSError) and colab_is_full(error):
            self.give_up()

    def write(self, offset, piece):
        if offset < self.size:
            return
        if offset > self.size or self.is_taken():
            raise OSError("somebody else brings %s at the same time" % self.target)
        written = 0
        while written < len(piece):
            written += self.file.write(piece[written:])
        self.hasher.update(piece)
        self.size += len(piece)

    def give_up(self):
        """Take away what cannot become whole: a full disk needs the room."""
        import contextlib
        import os

        with contextlib.suppress(OSError):  # it may have its name, or the disk say again that it is full
            self.file.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.part)

    def restart(self):
        import hashlib

        self.file.seek(0)
        self.file.truncate()
        self.hasher, self.size = hashlib.sha256(), 0

    def finish(self, content):
        import os

        if self.is_taken():
            raise OSError("somebody else brings %s at the same time" % self.target)
        if self.hasher.hexdigest() != content["sha256"] or self.size != content["size"]:
            self.restart()
            raise OSError("%s did not arrive as it was sent: put it again" % self.target)
        expected = content.get("instead_of")
        if expected is not None and colab_hash_of(self.target) not in (expected, content["sha256"]):
            self.give_up()
            raise OSError("%s was changed there meanwhile, and was left as it is" % self.target)
        self.file.close()
        os.chmod(self.part, content["mode"])
        os.utime(self.part, ns=(content["mtime_ns"], content["mtime_ns"]))
        os.replace(self.part, self.target)


def colab_short(name):
    """A name, or the beginning and a hash of a long one: more than 255 bytes cannot be in a folder."""
    import hashlib
    import os

    data = os.fsencode(name)
    if len(data) <= 160:
        return name
    return "%s~%s" % (data[:160].decode("utf-8", "ignore"), hashlib.sha256(data).hexdigest()[:16])


def colab_is_text(name):
    """Whether a name crosses as it is: bytes that are not UTF-8 do not."""
    return name == name.encode(errors="replace").decode()


COLAB_PART = ".colab-part"
COLAB_KEPT_S = 7 * 24 * 3600.0
COLAB_PIECE = 1 << 20
colab_arrivals = {}


def colab_absolute(content):
    """The path that is meant: `~` is the home folder, and `base` is where a relative one begins."""
    import os

    base = os.path.expanduser(content["base"] or "")
    return os.path.abspath(os.path.join(base, os.path.expanduser(content["path"] or ".")))


def colab_hash_of(path):
    """The hash of a file; empty if there is none."""
    import hashlib

    hasher = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(COLAB_PIECE), b""):
                hasher.update(piece)
    except FileNotFoundError:
        return ""
    return hasher.hexdigest()


def colab_entry(path, name):
    import os
    import stat

    found = os.lstat(path)
    is_link = stat.S_ISLNK(found.st_mode)
    return {
        "name": name,
        "mode": found.st_mode,
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "is_folder": os.path.isdir(path),
        "target": os.readlink(path) if is_link else None,
    }


def colab_sweep(folder):
    """Take away parts of files and of folders in a folder with which nobody has gone on for a week.

    Times of change are those of what they came from: what tells is when they were written here.
    """
    import contextlib
    import os
    import shutil
    import time

    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if not name.startswith(".") or not name.endswith(COLAB_PART) or os.path.islink(path):
                continue
            inside = [os.path.join(below, one) for below, _, names in os.walk(path) for one in [".", *names]]
            written_at = max(os.lstat(one).st_ctime for one in [path, *inside])
            if time.time() - written_at > COLAB_KEPT_S:
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


@colab_far.verb
def listing(content, buffers):
    """What is in a folder, or one file."""
    import os

    path = colab_absolute(content)
    if not os.path.isdir(path):
        return {"path": path, "entries": [colab_entry(path, os.path.basename(path))]}, []
    entries = []
    for name in sorted(os.listdir(path)):
        try:
            entries.append(colab_entry(os.path.join(path, name), name))
        except FileNotFoundError:
            pass
    return {"path": path, "entries": entries}, []


@colab_far.verb
def landing(content, buffers):
    """Where it goes, and what of a folder is there already.

    A path that is a folder, or ends with a slash, gets it inside. A new folder is built in a hidden one
    beside it, `root`, until all of it is there.
    """
    import os

    target, is_folder = colab_absolute(content), content["is_folder"]
    if not content["exact"] and (content["path"].endswith("/") or os.path.isdir(target)):
        target = os.path.join(target, content["name"])
    if is_folder and os.path.isfile(target):
        raise OSError("%s is a file there, and what is to go there is a folder" % target)
    if not is_folder and os.path.isdir(target):
        raise OSError("%s is a folder there, and what is to go there is a file" % target)
    folder, name = os.path.split(target)
    colab_sweep(folder)
    is_new = is_folder and not os.path.isdir(target)
    root = os.path.join(folder, ".%s%s" % (colab_short(name), COLAB_PART)) if is_new else target
    known = {}
    for below, _, names in os.walk(root) if is_folder else []:
        colab_sweep(below)
        for one in names:
            try:
                found = os.stat(os.path.join(below, one))
            except OSError:
                continue
            relative = os.path.relpath(os.path.join(below, one), root)
            known[relative] = [found.st_size, found.st_mtime_ns]
    return {"target": target, "root": root, "known": known}, []


@colab_far.verb
def landed(content, buffers):
    """All of a new folder is there: give it its name. Asked again it has it."""
    import os

    if os.path.isdir(content["root"]):
        os.rename(content["root"], content["target"])
    return {}, []


@colab_far.verb
def withdraw(content, buffers):
    """A new folder will not become whole: take away what of it is there."""
    import shutil

    shutil.rmtree(content["root"], ignore_errors=True)
    return {}, []


@colab_far.verb
def make_folders(content, buffers):
    import os

    for path in content["paths"]:
        os.makedirs(path, exist_ok=True)
    return {}, []


@colab_far.verb
def arrive(content, buffers):
    """Begin to take a file, or go on with it: how much of it is here, and that part's hash.

    `restart` throws away what is here.
    """
    import os
    import shutil

    number = content["transfer"]
    arrival = colab_arrivals.get(number) or ColabArrival(content["path"], number)
    colab_arrivals[number] = arrival
    if content["restart"]:
        arrival.restart()
    free_bytes = shutil.disk_usage(os.path.dirname(arrival.target)).free
    begun = {"size": arrival.size, "sha256": arrival.hasher.hexdigest(), "part": arrival.part}
    return {**begun, "free_bytes": free_bytes}, []


@colab_far.verb
def take(content, buffers):
    """One piece of it."""
    with colab_arrivals[content["transfer"]] as arrival:
        arrival.write(content["offset"], memoryview(buffers[0]).cast("B"))
    return {}, []


@colab_far.verb
def arrived(content, buffers):
    """The file is whole: give it its name."""
    arrival = colab_arrivals.pop(content["transfer"], None)
    if arrival is not None:  # else it was asked again
        with arrival:
            arrival.finish(content)
    return {}, []


@colab_far.verb
def give_up(content, buffers):
    """It will not become whole."""
    arrival = colab_arrivals.pop(content["transfer"], None)
    if arrival is not None:
        arrival.give_up()
    return {}, []


@colab_far.verb
def take_whole(content, buffers):
    """A small file, at once. Asked again it does the same again."""
    with ColabArrival(content["path"], content["transfer"]) as arrival:
        arrival.restart()
        arrival.write(0, memoryview(buffers[0]).cast("B"))
        arrival.finish(content)
    return {}, []


@colab_far.verb
def here(content, buffers):
    """Nothing: its answer shows that the answers before it have come, or were lost."""
    return {}, []
