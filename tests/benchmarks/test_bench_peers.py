"""The peers, where the extra is installed: right shapes, like sizes, gradients; and the message where it is not."""

import importlib
import importlib.util

import pytest
import torch

from sora_edu.bench import peers
from sora_edu.bench.models import SMOKE, Size, image_dit, make_text, seeded, video_dit
from sora_edu.bench.peers import PACKAGES, cogvideox, latte, ltx, textbook_dit, unet_3d, wan
from sora_edu.bench.run import run_suite
from sora_edu.bench.vaes import CODERS, SMOKE_CLIPS, FrameAutoencoder, clips, coder_loss, psnr_after
from sora_edu.config import TINY
from sora_edu.errors import InputError
from sora_edu.model.scaling import count_parameters, measure_macs

CPU = torch.device("cpu")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
needs_peers = pytest.mark.skipif(bool(MISSING), reason=f"the extra bench is not installed: no {', '.join(MISSING)}")
TRANSFORMERS = [textbook_dit, ltx, wan, cogvideox, latte]


@pytest.mark.parametrize("name", ["step", "sample", "vae"])
def test_without_the_extra_the_message_says_what_to_install(name, monkeypatch):
    def missing(package):
        raise ModuleNotFoundError(f"No module named {package!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"not installed \(No module named .diffusers.\); pip install .*\.\[bench\]"):
        peers.check_peers()
    with pytest.raises(InputError, match="--suite attention or --suite data"):
        run_suite(name, smoke=True)


@needs_peers
@pytest.mark.parametrize("build", [*TRANSFORMERS, unet_3d])
def test_every_peer_predicts_a_velocity_and_learns(build):
    with seeded(0, CPU):
        model = build(SMOKE)
        x, text = torch.randn(2, *SMOKE.latent), make_text(SMOKE, 2, CPU)
    velocity = model.velocity(model.module, x, torch.tensor([0.2, 0.8]), text)
    assert velocity.shape == x.shape
    velocity.square().mean().backward()
    assert sum(float(p.grad.abs().sum()) for p in model.module.parameters() if p.grad is not None) > 0
    assert model.blocks and all(any(block is part for part in model.module.modules()) for block in model.blocks)


@needs_peers
def test_at_full_size_parameters_and_macs_are_comparable():
    size = Size(batch=1)

    def measured(build):
        with seeded(0, CPU):
            model, x = build(size), torch.randn(1, *size.latent)
            text, t = make_text(size, 1, CPU), torch.full((1,), 0.5)
        macs = measure_macs(lambda: model.velocity(model.module, x, t, text))
        return count_parameters(model.module, trained_only=True), macs, len(model.blocks)

    parameters, macs, _ = measured(video_dit)
    lesson = measured(image_dit)
    textbook = measured(textbook_dit)
    assert textbook[0] == pytest.approx(lesson[0], rel=0.01) and textbook[1] == pytest.approx(lesson[1], rel=0.01)
    for build in (ltx, wan, cogvideox, latte):
        theirs = measured(build)
        assert 0.9 < theirs[0] / parameters < 1.5 and 0.9 < theirs[1] / macs < 1.15
        assert theirs[2] == size.depth
    assert measured(unet_3d)[0] == pytest.approx(parameters, rel=0.15)


@needs_peers
@pytest.mark.parametrize("name", CODERS)
def test_every_vae_compresses_alike_and_learns(name):
    config = SMOKE_CLIPS.vae
    with seeded(0, CPU):
        coder = CODERS[name](config)
    video = clips(SMOKE_CLIPS, 2, "train", 0, CPU)
    z, _ = coder.encode(video)
    assert z.shape == (2, config.channels, 3, 4, 4) and coder.decode(z).shape == video.shape
    coder_loss(coder, video, torch.Generator().manual_seed(0)).backward()
    assert all(p.grad is not None for p in coder.module.parameters())


@needs_peers
def test_vaes_are_narrowed_to_our_parameters():
    with seeded(0, torch.device("meta")):
        counts = {name: count_parameters(build(TINY.vae).module) for name, build in CODERS.items()}
    for count in counts.values():
        assert count == pytest.approx(counts["ours"], rel=0.15)


def test_the_taehv_like_autoencoder_is_causal():
    with seeded(0, CPU):
        module = FrameAutoencoder(SMOKE_CLIPS.vae)
    video = clips(SMOKE_CLIPS, 1, "train", 0, CPU)
    changed = video.clone()
    changed[:, :, 5:] = 0
    with torch.no_grad():
        before, after = module.encoder(video), module.encoder(changed)
    assert torch.equal(before[:, :, :2], after[:, :, :2]) and not torch.equal(before[:, :, 2], after[:, :, 2])


def test_psnr_rises_with_training():
    few, many = (psnr_after(CODERS["ours"], SMOKE_CLIPS, steps=steps, device=CPU) for steps in (1, 100))
    assert many > few + 0.5


@needs_peers
@pytest.mark.parametrize("name", ["step", "sample", "vae"])
def test_suites_with_peers_run_at_smoke_size(name):
    result = run_suite(name, smoke=True)
    assert result["rounds"] == {"kept": 2, "dropped": 0} and not result["failed"]
    assert all(c["ratio"] > 0 for c in result["comparisons"])
    assert all(c["parameters"] and c["flops"] for c in result["contestants"] if not c["name"].startswith("matmul"))
    if name == "vae":
        assert set(result["afterwards"]) == set(CODERS)
