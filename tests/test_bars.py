from __future__ import annotations

import io

import pytest

from colab_magics.daemon.bars import find_progress, parse_bar
from colab_magics.jobs.record import Progress


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        (" 45%|████▌     | 45/100 [00:01<00:01, 44.9it/s]", Progress(45, 100, "")),
        ("epoch 3:  45%|████▌     | 45/100 [00:01<00:01, 44.9it/s, loss=0.3]", Progress(45, 100, "epoch 3")),
        ("  0%|          | 0/10 [00:00<?, ?it/s]", Progress(0, 10, "")),
        ("100%|##########| 170M/170M [00:10<00:00, 17.0MB/s]", Progress(170e6, 170e6, "")),
        ("dl:  7%|7         | 12.5k/170k [1:00:10<00:00, 17.0MB/s]", Progress(12500, 170000, "dl")),
        ("45it [00:01, 44.9it/s]", Progress(45, None, "")),
        ("rows: 3.00kB [00:01, 44.9kB/s]", Progress(3000, None, "rows")),
        ("\x1b[32m 50%|█████     | 1/2 [00:01<00:01,  1.00s/it]\x1b[0m", Progress(1, 2, "")),
        ("loss 0.3 at step 45/100", None),
        ("[00:01] done", None),
        ("", None),
    ],
)
def test_a_bar_says_how_far_it_is(line: str, progress: Progress | None) -> None:
    assert find_progress(line) == progress


def test_the_last_drawing_counts() -> None:
    drawn = "  0%| | 0/4 [00:00<?, ?it/s]\r 25%|█| 1/4 [00:00<00:03]\r 50%|█| 2/4 [00:00<00:02]"
    assert find_progress(f"before\n{drawn}\nloss: 0.5\n") == Progress(2, 4, "")


def test_what_tqdm_itself_draws_is_read() -> None:
    tqdm = pytest.importorskip("tqdm").tqdm
    for options in ({}, {"ascii": True}, {"desc": "train"}, {"unit_scale": True}, {"ncols": 40}):
        screen = io.StringIO()
        bar = tqdm(total=2000, file=screen, mininterval=0, **options)
        bar.update(500)
        bar.close()
        found = find_progress(screen.getvalue())
        assert found == Progress(500, 2000, str(options.get("desc", ""))), options


def test_an_endless_line_is_no_bar() -> None:
    assert parse_bar("x" * 1_000_000 + "[") is None
