"""How much memory is taken around a method: the content and the result, and little more."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

HEIGHT, WIDTH = 2000, 3000
SCRIPT = """
    import json, sys
    import numpy as np
    import torch
    from PIL import Image
    from impasto import Session, device, images

    class Copying:  # a method that takes nothing itself
        settings, notes, sources, learnt = {"method": "copy"}, (), (), None
        device = torch.device("cpu")

        def prepare(self, styles, weights=None):
            return None

        def __call__(self, content, style, strength=1.0, on_step=None):
            return images.read(content).rgb.clone()

    def most():
        lines = open("/proc/self/status").read().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    source, target, options = json.loads(sys.argv[1])
    depth = options.pop("depth", 8)
    session = Session(Copying(), torch.rand(3, 40, 40), **options)
    small = session(np.zeros((20, 20, 3)))  # what is made once
    small.to_bytes("png"), small.to_bytes("jpeg")
    before = most()
    session(source).save(target, depth=depth)
    print(most() - before)
"""


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    from PIL import Image

    path = tmp_path_factory.mktemp("large") / "photo.jpg"
    Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 200)).save(path)
    return path


@pytest.mark.linux("its /proc counts memory")
@pytest.mark.parametrize(
    ("suffix", "options", "pictures"),
    [
        (".jpg", {}, 2),
        (".tif", {"depth": 16}, 2),
        (".png", {"color": "luminance"}, 2 + 1 / 3),  # and what the method is given, in one channel
        (".jpg", {"color": "match"}, 2),
        (".webp", {"color": "match-style"}, 2),
        (".jpg", {"size": 1000}, 1.5),
    ],
)
def test_a_large_picture_is_held_twice(tmp_path, photo, suffix, options, pictures):
    """In float32, beside its 8-bit levels (4 bytes a pixel), and strips."""
    arguments = json.dumps([str(photo), str(tmp_path / f"out{suffix}"), options])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), arguments],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
        # glibc's heap would keep what is freed: count what is held.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"},
    )
    strips = 40 << 20
    assert int(done.stdout) < (12 * pictures + 2) * HEIGHT * WIDTH + strips
