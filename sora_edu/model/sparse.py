"""Sparse attention: windows of near tokens, strides of far ones; as masks to look at, and as groups to compute.

A mask says who may look at whom. A dense one, as here, saves nothing: every score is computed, and most are thrown
away (a kernel that skips whole blocks, such as flex_attention, can save). The modules first cut the tokens into groups
and attend within each, so that a pair that is not allowed is never computed (lesson 04).
"""

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn, tensor

from sora_edu.checked import checked
from sora_edu.errors import InputError
from sora_edu.model.attention import SelfAttention
from sora_edu.model.positions import Rope, grid_positions
from sora_edu.shapes import Grid, Tokens

Groups = Float[Tensor, "groups m d"]  # m tokens that look at each other, and at nobody else


def check_fit(name: str, box: Grid, grid: Grid) -> None:
    """Raise InputError, with the sizes that fit, unless ``box`` divides ``grid`` along each axis."""
    for axis, size, part in zip(("nf", "nh", "nw"), grid, box, strict=True):
        if part < 1 or size % part:
            fits = ", ".join(str(i) for i in range(1, size + 1) if size % i == 0)
            raise InputError(f"{name}={box} does not divide grid={grid}: {axis}={size} by {part}; use one of {fits}")


def check_tokens(tokens: int, grid: Grid) -> None:
    """Raise InputError unless ``grid`` holds this number of tokens."""
    nf, nh, nw = grid
    if nf * nh * nw != tokens:
        raise InputError(
            f"grid={grid} has {nf * nh * nw} cells, but there are n={tokens} tokens; pass the grid of these"
        )


def window_mask(grid: Grid, window: Grid, *, device=None) -> Bool[Tensor, "n n"]:
    """True where two tokens lie in one window of (wf, wh, ww) cells; windows lie side by side (W.A.L.T, 2312.06662).

    Each row holds wf * wh * ww True. Raises InputError unless the window divides the grid.
    """
    check_fit("window", window, grid)
    cell = grid_positions(grid, device=device) // tensor(window, device=device)
    return (cell[:, None] == cell[None]).all(-1)


def stride_mask(grid: Grid, stride: Grid, *, device=None) -> Bool[Tensor, "n n"]:
    """True where two tokens lie a whole number of strides (sf, sh, sw) apart along every axis: a coarse copy of all.

    Each row holds n / (sf * sh * sw) True. Raises InputError unless the stride divides the grid.
    """
    check_fit("stride", stride, grid)
    rest = grid_positions(grid, device=device) % tensor(stride, device=device)
    return (rest[:, None] == rest[None]).all(-1)


def factorised_masks(grid: Grid, *, device=None) -> tuple[Bool[Tensor, "n n"], Bool[Tensor, "n n"]]:
    """The two masks of factorised attention: all of one's frame, then all of one's column of time (ViViT, model 3)."""
    nf, nh, nw = grid
    return window_mask(grid, (1, nh, nw), device=device), window_mask(grid, (nf, 1, 1), device=device)


ROW = "b (nf wf nh wh nw ww) d"  # the row of tokens, each axis of the grid split into n boxes of w cells
WINDOWS = "(b nf nh nw) (wf wh ww) d"  # a group is one box
STRIDES = "(b wf wh ww) (nf nh nw) d"  # a group is one cell of every box


def split(name: str, box: Grid, grid: Grid) -> dict[str, int]:
    """The sizes of ROW's letters. Raises InputError unless the box divides the grid."""
    check_fit(name, box, grid)
    nf, nh, nw = grid
    wf, wh, ww = box
    return {"nf": nf // wf, "wf": wf, "nh": nh // wh, "wh": wh, "nw": nw // ww, "ww": ww}


@checked
def cut_windows(x: Tokens, *, grid: Grid, window: Grid) -> Groups:
    """Tokens of a grid as groups, one a window: ``b n d`` to ``(b n/m) m d`` with m = wf * wh * ww.

    Raises InputError where grid, window and tokens do not fit.
    """
    check_tokens(x.shape[1], grid)
    return rearrange(x, f"{ROW} -> {WINDOWS}", **split("window", window, grid))


@checked
def join_windows(groups: Groups, *, grid: Grid, window: Grid) -> Tokens:
    """Put the groups of cut_windows back in the order of the tokens; its inverse."""
    return rearrange(groups, f"{WINDOWS} -> {ROW}", **split("window", window, grid))


@checked
def cut_strides(x: Tokens, *, grid: Grid, stride: Grid) -> Groups:
    """Tokens of a grid as groups, one a starting point: ``b n d`` to ``(b sf sh sw) m d`` with m = n / (sf * sh * sw).

    Raises InputError where grid, stride and tokens do not fit.
    """
    check_tokens(x.shape[1], grid)
    return rearrange(x, f"{ROW} -> {STRIDES}", **split("stride", stride, grid))


@checked
def join_strides(groups: Groups, *, grid: Grid, stride: Grid) -> Tokens:
    """Put the groups of cut_strides back in the order of the tokens; its inverse."""
    return rearrange(groups, f"{STRIDES} -> {ROW}", **split("stride", stride, grid))


class WindowAttention(nn.Module):
    """Self-attention within windows of (wf, wh, ww) tokens: n * wf * wh * ww pairs, linear in n (W.A.L.T, 2312.06662).

    ``rope`` holds the angles of the whole grid; every window takes those of the first, for only displacement counts.
    """

    def __init__(self, d: int, heads: int, *, window: Grid):
        super().__init__()
        self.window = window
        self.attention = SelfAttention(d, heads)

    @checked
    def forward(self, x: Tokens, *, grid: Grid, rope: Rope | None = None) -> Tokens:
        fit = {"grid": grid, "window": self.window}
        groups = cut_windows(x, **fit)  #                                                (b windows) m d
        if rope is not None:
            rope = tuple(cut_windows(part[None], **fit)[0] for part in rope)  #          m dh/2 each
        return join_windows(self.attention(groups, rope=rope), **fit)  #                 b n d


class StridedAttention(nn.Module):
    """Self-attention among tokens whole strides (sf, sh, sw) apart: n * n / (sf * sh * sw) pairs, still quadratic.

    A relative of Open-Sora-Plan 1.3's Skiparse (2412.00131), which strides along the row of tokens, not the axes.
    """

    def __init__(self, d: int, heads: int, *, stride: Grid):
        super().__init__()
        self.stride = stride
        self.attention = SelfAttention(d, heads)

    @checked
    def forward(self, x: Tokens, *, grid: Grid, rope: Rope | None = None) -> Tokens:
        fit = {"grid": grid, "stride": self.stride}
        groups = cut_strides(x, **fit)  #                                                (b strides) m d
        if rope is not None:
            rope = tuple(cut_strides(part[None], **fit)[0] for part in rope)  #          m dh/2 each
        return join_strides(self.attention(groups, rope=rope), **fit)  #                 b n d
