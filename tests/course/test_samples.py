"""README's moving picture holds a caption under each clip."""

import io

import numpy as np
import torch
from PIL import Image as Pillow

from sora_edu.course import samples


def test_each_clip_moves_above_its_own_caption():
    video = torch.linspace(-1, 1, 17).view(1, 1, 17, 1, 1).expand(3, 3, 17, 8, 8)
    film = Pillow.open(io.BytesIO(samples.captioned_gif(video, ["one", "two", ""], columns=2, zoom=5)))
    assert film.size == (2 * (40 + 6) + 6, 2 * (40 + 48) + 6) and film.n_frames == 17
    first = np.asarray(film.convert("L"))
    film.seek(16)
    last = np.asarray(film.convert("L"))
    assert first[20, 20] < 10 and last[20, 20] > 245 and last[108, 20] > 245
    assert first[47:94, 6:46].min() < 100, "words"
    assert first[135:, 6:46].min() > 245, "the third has none"


def test_the_command_makes_the_shipped_picture(tmp_path):
    shipped = Pillow.open(samples.FILE)
    samples.main(tmp_path / "samples.gif")
    made = Pillow.open(tmp_path / "samples.gif")
    for frame in range(shipped.n_frames):
        shipped.seek(frame), made.seek(frame)
        one, other = (np.asarray(picture.convert("L"), int) for picture in (shipped, made))
        far = np.abs(one - other) > 30
        assert far.mean() < 0.005, "another processor may round otherwise, and its palette have other shades, no more"
