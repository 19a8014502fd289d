import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sora_edu.config import COMPACT, TINY, TINY_SIZES, TrainConfig
from sora_edu.errors import CheckpointError
from sora_edu.model.dit import TextToVideo, VideoDiTBlock
from sora_edu.model.vae import ResBlock, VideoVAE
from sora_edu.train.loop import Stage, fit
from sora_edu.train.optimiser import (
    Muon,
    hidden_matrices,
    make_optimisers,
    orthogonalised,
    pack_optimisers,
    unpack_optimisers,
)
from sora_edu.train.run_folder import RunFolder

BOTH = TrainConfig(steps=12, batch=8, lr=1e-2, muon_lr=2e-2, warmup=2, save_every=4, log_every=1, ema=0.9)


class Toy(nn.Module):
    """Two blocks between a first and a last layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Linear(5, 6), nn.Linear(6, 2)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6)) for _ in range(2))

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def losses(module, generator):
    x = torch.randn(8, 5, generator=generator)
    return {"loss": (module(x) - x[:, :2]).square().mean()}


def trained(steps: int, config: TrainConfig = BOTH) -> tuple[Toy, list]:
    toy = Toy()
    optimisers = make_optimisers(toy, config)
    for step in range(steps):
        losses(toy, torch.Generator().manual_seed(step))["loss"].backward()
        for optimiser in optimisers:
            optimiser.step()
        toy.zero_grad()
    return toy, optimisers


def test_hidden_matrices_are_the_linear_weights_of_the_blocks_and_nothing_else():
    toy = Toy()
    expected = [toy.blocks[0][1].weight, toy.blocks[1][1].weight]
    assert [id(p) for p in hidden_matrices(toy)] == [id(p) for p in expected]
    with torch.device("meta"):
        model = TextToVideo(TINY.dit, TINY.text, 50)
        blocks = [module for module in model.modules() if isinstance(module, VideoDiTBlock)]
        tables = {id(block.scale_shift_table) for block in blocks}
        chosen = {id(p) for p in hidden_matrices(model)}
        assert chosen and not chosen & (tables | {id(model.dit.head.weight), id(model.dit.embed.weight)})


def test_of_a_vae_they_are_the_convolutions_of_its_residual_blocks():
    vae = VideoVAE(TINY.vae)
    names = {id(weight): name for name, weight in vae.named_parameters()}
    chosen = {names[id(weight)] for weight in hidden_matrices(vae)}
    blocks = {name for name, module in vae.named_modules() if isinstance(module, ResBlock)}
    expected = {f"{block}.{layer}.weight" for block in blocks for layer in ("space", "time.conv")}
    assert chosen == expected and len(blocks) == 12


@pytest.mark.parametrize("preset", [TINY, TINY_SIZES, COMPACT])
def test_every_parameter_has_exactly_one_optimiser(preset):
    with torch.device("meta"):
        model = TextToVideo(preset.dit, preset.text, 50)
    optimisers = make_optimisers(model, preset.dit_train)
    held = [id(p) for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_a_convolution_is_moved_as_the_matrix_of_its_rows_and_nothing_is_copied():
    config = TrainConfig(steps=1, batch=1, lr=1e-2, muon_lr=2e-2)
    torch.manual_seed(0)
    block = ResBlock(8)
    as_linear = nn.ModuleList([nn.Linear(8 * 9, 8, bias=False)])
    as_linear[0].weight.data = block.space.weight.detach().flatten(1).clone()
    muon, adamw = make_optimisers(block, config)
    alone, _ = make_optimisers(nn.Sequential(as_linear, nn.Linear(2, 2)), config)
    held = [p for group in adamw.param_groups for p in group["params"]]
    places = [p.data_ptr() for p in (*held, *muon.param_groups[0]["params"])]
    assert sorted(places) == sorted(p.data_ptr() for p in block.parameters())
    for step in range(3):
        for parameter in block.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
        as_linear[0].weight.grad = block.space.weight.grad.flatten(1).clone()
        muon.step()
        alone.step()
    assert torch.equal(block.space.weight.flatten(1), as_linear[0].weight)


def test_matrices_moved_together_by_shape_go_where_pytorchs_own_step_takes_them():
    torch.manual_seed(0)
    shapes = [(48, 16), (16, 16), (16, 64), (16, 16), (64, 16), (8, 4, 1, 3, 3)]
    first = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    second = [nn.Parameter(weight.detach().clone()) for weight in first]
    theirs, ours = (Muon(weights, lr=0.1, weight_decay=0.1) for weights in (first, second))
    for _ in range(4):
        for one, other in zip(first, second, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        theirs.step()
        for weight, matrix in zip(ours.weights, ours.param_groups[0]["params"], strict=True):
            matrix.grad = weight.grad.flatten(1)
        ours.step_by_shape()
    for one, other in zip(first, second, strict=True):
        assert torch.allclose(one, other, atol=2e-3)  # bf16's roundings, in steps of 0.1 each


def test_singular_values_become_about_one_whatever_the_shape():
    for shape in ((3, 12, 5), (2, 5, 12)):
        turned = orthogonalised(torch.randn(shape), (3.4445, -4.7750, 2.0315))
        values = torch.linalg.svdvals(turned.float())
        assert turned.shape == shape and values.min() > 0.5 and values.max() < 1.3


def test_a_weight_without_a_gradient_stays_where_it_is():
    block = ResBlock(8)
    before = block.space.weight.detach().clone()
    block.time.conv.weight.grad = torch.randn_like(block.time.conv.weight)
    make_optimisers(block, TrainConfig(steps=1, batch=1, lr=1e-2, muon_lr=2e-2))[0].step()
    assert torch.equal(block.space.weight, before) and block.time.conv.weight.abs().sum() > 0


def test_a_rate_of_zero_leaves_all_to_adamw():
    config = TrainConfig(steps=1, batch=1, lr=1e-3)
    assert [type(o).__name__ for o in make_optimisers(Toy(), config)] == ["AdamW"]


def test_muon_moves_all_directions_of_a_matrix_alike_and_adamw_does_not():
    u, _, v = torch.linalg.svd(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))
    gradient = u @ torch.diag(torch.tensor([10.0, 5, 2, 1, 0.5, 0.2])) @ v
    spread = {}
    for name, muon_lr in (("muon", 1e-2), ("adamw", 0.0)):
        toy = Toy()
        weight = toy.blocks[0][1].weight
        before = weight.detach().clone()
        weight.grad = gradient.clone()
        for optimiser in make_optimisers(toy, TrainConfig(steps=1, batch=1, lr=1e-2, muon_lr=muon_lr)):
            optimiser.step()
        sizes = torch.linalg.svdvals(weight.detach() - before)
        spread[name] = float(sizes[0] / sizes[-1])
    assert spread["muon"] < 2.5 < spread["adamw"]


def test_a_schedule_scales_each_optimisers_own_peak():
    optimisers = make_optimisers(Toy(), BOTH)
    for optimiser in optimisers:
        LambdaLR(optimiser, lambda step: 0.25, last_epoch=3)  # as in a run that goes on
    assert [group["lr"] for o in optimisers for group in o.param_groups] == [0.25 * BOTH.muon_lr, 0.25 * BOTH.lr]


def test_packed_tensors_come_back_bit_by_bit():
    _, old = trained(3)
    packed = {k: v.clone() for k, v in pack_optimisers(old).items()}
    assert {name.split(".")[1] for name in packed} == {"muon", "adamw"}
    new = make_optimisers(Toy(), BOTH)
    unpack_optimisers(packed, new)
    again = pack_optimisers(new)
    assert again.keys() == packed.keys() and all(torch.equal(again[k], packed[k]) for k in packed)


def test_a_missing_or_foreign_tensor_is_refused():
    _, old = trained(2)
    packed = pack_optimisers(old)
    for name in ("optimiser.muon.1.momentum_buffer", "optimiser.adamw.0.exp_avg_sq"):
        with pytest.raises(CheckpointError, match=f"does not fit this model: no {name}"):
            unpack_optimisers({k: v for k, v in packed.items() if k != name}, make_optimisers(Toy(), BOTH))
    adamw_alone = make_optimisers(Toy(), TrainConfig(steps=1, batch=1, lr=1e-2))
    with pytest.raises(CheckpointError, match="does not fit this model"):
        unpack_optimisers(packed, adamw_alone)


def test_a_run_with_muon_resumes_bit_by_bit(tmp_path):
    def stage(stop=None):
        def until(module, generator):
            until.calls += 1
            if until.calls == stop:
                raise KeyboardInterrupt
            return losses(module, generator)

        until.calls = 0
        return Stage("toy", 1, Toy(), until, BOTH)

    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    fit(stage(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(stage(stop=8), tmp_path / "cut")
    fit(stage(), tmp_path / "cut", resume=True)
    whole, cut = (RunFolder(tmp_path / name).newest("toy")[0] for name in ("whole", "cut"))
    assert whole.keys() == cut.keys() and all(torch.equal(whole[k], cut[k]) for k in whole)
