"""Runs over there, behind `files`: files that are brought from there, in pieces.

Whoever asks may ask for the same piece again.
"""


class ColabDeparture:
    """A file that is on its way from here: its hash grows with the pieces that are read in order."""

    def __init__(self, path, upto):
        import hashlib
        import os

        self.path = path
        self.file = os.fdopen(os.open(path, os.O_RDONLY), "rb", buffering=0)
        self.stat = os.fstat(self.file.fileno())
        self.hasher = hashlib.sha256()
        self.position = 0
        while self.position < upto:
            self.read(self.position, min(COLAB_PIECE, upto - self.position))

    def read(self, offset, size):
        self.file.seek(offset)
        piece = bytearray(size)
        view, count = memoryview(piece), 0
        while count < size:
            got = self.file.readinto(view[count:])
            if not got:
                raise OSError("%s became shorter while it was fetched" % self.path)
            count += got
        if offset == self.position:
            self.hasher.update(piece)
            self.position += size
        return piece

    def check(self):
        import os

        now = os.fstat(self.file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self.stat.st_size, self.stat.st_mtime_ns):
            raise OSError("%s was changed while it was fetched: get it again" % self.path)


colab_departures = {}


@colab_far.verb
def survey(content, buffers):
    """All files below a path, as those of a folder are brought: through links to files, not to folders."""
    import os
    import stat

    path = colab_absolute(content)
    if not os.path.isdir(path):
        os.stat(path)  # raises for what is not there
    files, folders, skipped = [], [], []
    for folder, inside, names in os.walk(path) if os.path.isdir(path) else [(path, [], [""])]:
        below = os.path.relpath(folder, path)
        folders.append("" if below == "." else below)
        left = [
            one for one in inside
            if os.path.islink(os.path.join(folder, one)) or not colab_is_text(one) or one.endswith(COLAB_PART)
        ]  # fmt: skip
        skipped += [os.path.join(folder, one) for one in left]
        inside[:] = [one for one in inside if one not in left]
        for name in sorted(names):
            one = os.path.join(folder, name) if name else path
            try:
                found = os.stat(one)
            except OSError:
                skipped.append(one)
                continue
            if not stat.S_ISREG(found.st_mode) or name.endswith(COLAB_PART) or not colab_is_text(name):
                skipped.append(one)
                continue
            relative = os.path.relpath(one, path) if name else ""
            files.append([relative, found.st_size, stat.S_IMODE(found.st_mode), found.st_mtime_ns])
    is_folder = os.path.isdir(path)
    return {
        "path": path, "is_folder": is_folder, "files": files, "folders": folders if is_folder else [],
        "skipped": skipped,
    }, []  # fmt: skip


@colab_far.verb
def depart(content, buffers):
    """Begin to bring a file: the hash of its first `upto` bytes, which may be there already."""
    import os

    upto = min(content["upto"], os.stat(content["path"]).st_size)
    departure = ColabDeparture(content["path"], upto)
    colab_departures[content["transfer"]] = departure
    found = departure.stat
    sha256 = departure.hasher.hexdigest()
    return {"upto": upto, "sha256": sha256, "size": found.st_size, "mtime_ns": found.st_mtime_ns}, []


@colab_far.verb
def give(content, buffers):
    """One piece of it."""
    departure = colab_departures[content["transfer"]]
    return {}, [departure.read(content["offset"], content["size"])]


@colab_far.verb
def departed(content, buffers):
    """The hash of all of it, if it is as it was."""
    departure = colab_departures[content["transfer"]]
    departure.check()
    departure.file.close()
    return {"sha256": departure.hasher.hexdigest()}, []


@colab_far.verb
def give_whole(content, buffers):
    """A small file, at once."""
    import hashlib

    with open(content["path"], "rb") as file:
        data = file.read()
    return {"sha256": hashlib.sha256(data).hexdigest()}, [data]
