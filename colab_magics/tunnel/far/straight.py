"""Runs over there, behind `files`: for pieces that went past this kernel, straight to or from the disk."""


@colab_far.verb
def catch_up(content, buffers):
    """Hash what was written into a part, as far as `upto`."""
    arrival = colab_arrivals[content["transfer"]]
    arrival.file.seek(arrival.size)
    while arrival.size < content["upto"]:
        piece = arrival.file.read(min(COLAB_PIECE, content["upto"] - arrival.size))
        if not piece:
            raise OSError("%s did not arrive as it was sent: put it again" % arrival.target)
        arrival.hasher.update(piece)
        arrival.size += len(piece)
    return {}, []


@colab_far.verb
def look_through(content, buffers):
    """Hash the rest of a file that departs."""
    departure = colab_departures[content["transfer"]]
    while departure.position < departure.stat.st_size:
        left = departure.stat.st_size - departure.position
        departure.read(departure.position, min(COLAB_PIECE, left))
    return {}, []
