"""What is drawn once and kept: the same clips every time, and files that know what they belong to."""

from dataclasses import replace

import pytest
import torch

from sora_edu import cached, config
from sora_edu.cached import cache_captions, draw_captions, draw_pool, shard_states
from sora_edu.errors import CheckpointError
from sora_edu.render import render
from sora_edu.tokenizer import Tokenizer

FEW = replace(config.TINY, clips=24)


def test_the_pool_is_the_first_cached_clips_within_half_a_step_of_a_byte():
    clips = render(next(shard_states(FEW, 3)), FEW.world)
    pool = draw_pool(replace(FEW, pool=9), seed=3, device=torch.device("cpu"))
    assert pool.dtype == torch.uint8 and len(pool) == 9
    # how many are drawn at a time decides what is drawn
    few = render(next(shard_states(replace(FEW, clips=9), 3)), FEW.world)
    assert (pool.float() / 127.5 - 1 - few).abs().max() <= 0.5001 / 127.5
    whole = draw_pool(replace(FEW, pool=1000), seed=3, device=torch.device("cpu"))
    assert (whole.float() / 127.5 - 1 - clips).abs().max() <= 0.5001 / 127.5


def test_captions_are_kept_on_disk_until_clips_or_words_change(tmp_path, monkeypatch):
    drawn = []
    real = cached.draw_captions
    monkeypatch.setattr(cached, "draw_captions", lambda *a, seed: drawn.append(seed) or real(*a, seed=seed))
    first, again = (cache_captions(FEW, Tokenizer(), tmp_path, seed=0) for _ in range(2))
    assert drawn == [0] and torch.equal(first, again) and torch.equal(first, real(FEW, Tokenizer(), seed=0))
    cache_captions(FEW, Tokenizer(), tmp_path, seed=1)
    cache_captions(replace(FEW, clips=5), Tokenizer(), tmp_path, seed=1)
    cache_captions(replace(FEW, clips=5), Tokenizer((*Tokenizer().vocabulary, "zebra")), tmp_path, seed=1)
    assert drawn == [0, 1, 1, 1]


def test_a_damaged_file_of_captions_is_named(tmp_path):
    cache_captions(FEW, Tokenizer(), tmp_path, seed=0)
    path = tmp_path / "captions.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="captions.safetensors"):
        cache_captions(FEW, Tokenizer(), tmp_path, seed=0)


def test_captions_are_drawn_in_both_forms_for_the_clips_that_are_drawn():
    ids = draw_captions(FEW, Tokenizer(), seed=0)
    assert ids.shape == (24, 2, 32)
    lengths = (ids != 0).sum(-1)
    assert (lengths[:, 1] > lengths[:, 0]).all()
    assert sum(len(state) for state in shard_states(FEW, 0)) == 24
