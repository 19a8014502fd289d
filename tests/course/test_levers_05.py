import json

import torch

from sora_edu.config import TINY, WorldConfig
from sora_edu.course.lesson_05 import levers
from sora_edu.world.scenes import sample_state


def test_every_lever_changes_one_thing_of_the_one_that_it_is_held_against(tmp_path):
    plain, both = levers.LEVERS["plain"], levers.BOTH
    for name, lever in levers.LEVERS.items():
        base = both if name.startswith("and ") else plain
        changed = [k for k in vars(lever) if getattr(lever, k) != getattr(base, k)]
        assert len(changed) == (0 if lever == plain else 2 if lever == both else 1), name


def test_the_smaller_half_has_small_objects_and_no_other_share_of_pairs():
    state = sample_state(400, WorldConfig(pair_fraction=0.3), generator=torch.Generator().manual_seed(0))
    half = state[levers.smaller_half(state)]
    single, alone = (s.shape[:, 1] < 0 for s in (half, state))
    assert len(half) == 200 and int((~single).sum()) == int((~alone[:200]).sum())
    assert half.radius[single, 0].mean() < 0.8 * state.radius[alone, 0].mean()
    assert half.radius[~single].mean() < state.radius[~alone].mean()
    clips = levers.clips_of(TINY, levers.Lever(smaller=True))(torch.Generator())
    assert clips.shape == (TINY.vae_train.batch, 3, 17, 32, 32)


def test_a_training_is_recorded_once_and_the_record_has_every_split(tmp_path, monkeypatch):
    monkeypatch.setattr(levers, "compile_blocks", lambda *_: None)
    options = {"only": ("plain",), "steps": 2, "n": 6, "out": tmp_path / "runs", "record": tmp_path / "a.json"}
    threads = torch.get_num_threads()
    levers.main(**options)
    first = json.loads((tmp_path / "a.json").read_text())
    (row,) = first["rows"]
    assert row["name"] == "plain" and row["steps"] == 2 and row["macs"] > 1e8
    shares = [row[split][name] for split in ("seen", "heldout", "pairs") for name in ("all", "shape")]
    assert all(0 <= share["low"] <= share["high"] <= 1 for share in shares)
    levers.main(**options)  # nothing is trained again
    assert json.loads((tmp_path / "a.json").read_text()) == first
    torch.set_num_threads(threads)
