"""The check at the package's doors: every message, what it lets through, and that compiled code does not carry it."""

import functools
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor, nn

from sora_edu.checked import checked
from sora_edu.errors import InputError


@checked
def mix(x: Float[Tensor, "b *rest"], eps: Float[Tensor, "b *rest"], t: Float[Tensor, "b"]) -> Tensor:
    """Adds three tensors, and would broadcast them."""
    return x + eps + t.sum()


@checked
def look(image: Float[Tensor, "c h w"], ids: Int[Tensor, " n"] | None = None, *, mask: Bool[Tensor, "n"] | None = None):
    """Takes tensors of other types, by place or by name."""
    return image


X, T = torch.ones(2, 3, 4), torch.ones(2)


def refused(call: Callable, *args, **options) -> str:
    """The message of the refusal."""
    with pytest.raises(InputError) as error:
        call(*args, **options)
    return str(error.value)


# --- messages ------------------------------------------------------------------------------------------------------


def test_sizes_that_would_be_broadcast_are_refused():
    assert refused(mix, X, X, T[:1]) == "mix: t is float32 [1]: b=1, but x has b=2; x.expand(2) repeats it"
    assert refused(mix, X, X[:1], T) == "mix: eps is float32 [1, 3, 4]: b=1, but x has b=2; give both the same b"
    assert refused(mix, X, X[:, :1], T) == (
        "mix: eps is float32 [2, 1, 4]: *rest=(1, 4), but x has *rest=(3, 4); give both the same *rest"
    )


def test_a_missing_axis_and_one_too_many_are_refused():
    assert (
        refused(look, X[0])
        == "look: image is float32 [3, 4]: 2 axes instead of (c h w); add a missing axis with x[None]"
    )
    assert (
        refused(look, X[None]) == "look: image is float32 [1, 2, 3, 4]: 4 axes instead of (c h w); take one with x[0]"
    )
    assert "t is float32 []: 0 axes instead of (b)" in refused(mix, X, X, T[0])
    assert "x is float32 []: 0 axes instead of (b *rest)" in refused(mix, T[0], X, T)


def test_numbers_of_another_kind_are_refused():
    assert refused(look, X.byte()) == (
        "look: image is uint8 [2, 3, 4], but floating-point numbers are needed; "
        "use x.float(), or x / 127.5 - 1 for pixels of 0..255"
    )
    assert refused(look, X, T) == "look: ids is float32 [2], but whole numbers are needed; use x.long()"
    assert refused(look, X, mask=T) == "look: mask is float32 [2], but True and False are needed; use x.bool()"
    assert "complex64" in refused(look, X.cfloat())
    assert "ids is bool" in refused(look, X, T.bool())

    @checked
    def save(frames: UInt8[Tensor, "n"]): ...

    assert (
        refused(save, T) == "save: frames is float32 [2], but bytes are needed; use to_uint8(x) for pixels in [-1, 1]"
    )


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "look: image is None, not a tensor (c h w); pass a tensor"),
        ("x", "look: image is of type str, not a tensor (c h w); pass a tensor"),
        (np.ones((2, 3, 4)), "look: image is of type ndarray, not a tensor (c h w); use torch.from_numpy(x)"),
        ([X], "look: image is of type list, not a tensor (c h w); use torch.tensor(x), or torch.stack(x) for tensors"),
    ],
)
def test_what_is_not_a_tensor_is_refused(value, says):
    assert refused(look, value) == says
    assert refused(look, image=value) == says


def test_an_empty_axis_is_refused_unless_the_function_says_that_it_takes_one():
    assert refused(look, X[:, :0]) == "look: h=0 in image, which is empty; give at least 1 along each axis"
    assert refused(mix, X[..., :0], X[..., :0], T).startswith("mix: *rest=(3, 0) in x, which is empty")

    @checked(empty=True)
    def double(x: Float[Tensor, "n d"], y: Float[Tensor, "*shape"]):
        return 2 * x

    assert double(X[0, :0], T[:0]).shape == (0, 4)
    assert "double: x is float32 [2, 3, 4]: 3 axes" in refused(double, X, T)


def test_axes_of_fixed_or_computed_size():
    @checked
    def turn(x: Float[Tensor, "n k=2 d"], cos: Float[Tensor, "n d//2"], other: Shaped[Tensor, "_ _"]): ...

    x = torch.ones(5, 2, 6)
    turn(x, torch.ones(5, 3), torch.ones(1, 9))
    assert refused(turn, torch.ones(5, 3, 6), x, x) == "turn: x is float32 [5, 3, 6]: 3 where (n k=2 d) needs 2; give 2"
    assert refused(turn, x, torch.ones(5, 1), x) == "turn: cos is float32 [5, 1]: 1 where (n d//2) needs 3; give 3"
    assert "other is float32 [5, 2, 6]: 3 axes" in refused(turn, x, torch.ones(5, 3), x)


def test_an_axis_that_may_be_broadcast_says_so():
    @checked
    def attend(x: Float[Tensor, "b n"], mask: Bool[Tensor, "*#lead #b n"]): ...

    x = torch.ones(2, 3)
    for shape in ((2, 3), (1, 3), (7, 1, 2, 3)):
        attend(x, torch.ones(shape).bool())
    assert "mask is bool [5, 3]: 5 where (*#lead #b n) needs 2; give 2" in refused(attend, x, torch.ones(5, 3).bool())
    assert "mask is bool [2, 4]: n=4, but x has n=3" in refused(attend, x, torch.ones(2, 4).bool())


# --- tuples, records, methods, functions -----------------------------------------------------------------------------


class Words(NamedTuple):
    """Words of a prompt."""

    vectors: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]


@dataclass
class Balls:
    """Where some balls are."""

    centre: Float[Tensor, "b k 2"]
    radius: Float[Tensor, "b k"]
    name: str = ""


def test_the_parts_of_a_tuple_share_the_letters_of_the_other_arguments():
    @checked
    def plain(x: Float[Tensor, "b d"], text: tuple[Float[Tensor, "b n d"], Bool[Tensor, "b n"]]): ...

    @checked
    def named(x: Float[Tensor, "b d"], text: Words): ...

    x, vectors, mask = torch.ones(2, 4), torch.ones(2, 5, 4), torch.ones(2, 5).bool()
    plain(x, (vectors, mask))
    named(x, Words(vectors, mask))
    assert "plain: text[1] is bool [2, 4]: n=4, but text[0] has n=5" in refused(plain, x, (vectors, mask[:, :4]))
    assert "named: text.vectors is float32 [2, 5, 4]: b=2, but x has b=1" in refused(named, x[:1], Words(vectors, mask))
    assert "plain: text is float32 [2, 5, 4], not a tuple of 2" in refused(plain, x, vectors)
    assert "plain: text is of type tuple, not a tuple of 2" in refused(plain, x, (vectors,))


def test_the_fields_of_a_record_are_checked():
    @checked
    def draw(balls: Balls): ...

    draw(Balls(torch.ones(2, 3, 2), torch.ones(2, 3)))
    assert "draw: balls.radius is float32 [2, 1]: k=1" in refused(draw, Balls(torch.ones(2, 3, 2), torch.ones(2, 1)))
    assert "draw: balls.radius is None" in refused(draw, Balls(torch.ones(2, 3, 2), None))
    assert refused(draw, X) == "draw: balls is float32 [2, 3, 4], not a Balls"


def test_the_elements_of_a_list_and_the_members_of_a_union_are_checked():
    @checked
    def show(tables: Sequence[Int[Tensor, "h w"]], text: Tensor | tuple[Tensor, ...], scale: Tensor | float = 1.0): ...

    table = torch.ones(2, 3).long()
    show([table, table.T], X, 2.0)
    show((table,), (X, T), X)
    show([table, table[:1]], X)  # each has letters of its own
    assert "show: tables[i] is int64 [3]: 1 axes instead of (h w)" in refused(show, [table, table[0]], X)
    assert "show: tables is int64 [2, 3], not a list" in refused(show, table, X)
    assert "show: text[i] is None" in refused(show, [table], (X, None))
    assert "show: text is None" in refused(show, [table], None)


def test_of_a_union_the_letters_of_a_tensor_are_shared_and_those_of_a_tuple_are_its_own():
    Texts = tuple[Float[Tensor, "n"], Int[Tensor, "n"]] | Float[Tensor, "n"]

    @checked
    def both(x: Texts, y: Texts, z: Float[Tensor, "n"], w: Float[Tensor, "n"] | None): ...

    both((T, T.long()), (T[:1], T[:1].long()), T, None)
    assert "y is float32 [1]: n=1, but x has n=2" in refused(both, T, T[:1], T, T)
    assert "y[1] is float32 [2], but whole numbers are needed" in refused(both, T, (T, T), T, T)
    assert "w is float32 [1]: n=1, but y has n=2; x.expand(2) repeats it" in refused(
        both, (T, T.long()), T, z=T, w=T[:1]
    )


@pytest.mark.parametrize(
    ("t", "message"),
    [
        (torch.ones(3), "t is float32 [3]: b=3, but x has b=2"),
        (torch.ones(2, 4), "t is float32 [2, 4]: lf=4, but x has lf=5"),
        (torch.ones(3, 5), "t is float32 [3, 5]: b=3, but x has b=2"),
        (torch.ones(()), "t is float32 []: 0 axes instead of (b)"),
    ],
)
def test_the_error_is_of_the_member_of_a_union_with_as_many_axes(t, message):
    @checked
    def at(x: Float[Tensor, "b lf"], t: Float[Tensor, "b"] | Float[Tensor, "b lf"]): ...

    x = torch.ones(2, 5)
    at(x, torch.ones(2)), at(x, x)
    assert message in refused(at, x, t)


def test_methods_static_and_class_methods_are_named_with_their_class():
    class Box(nn.Module):
        @checked
        def forward(self, x: Float[Tensor, "b d"]):
            return x

        @checked
        def turn(self, x: Float[Tensor, "b d"], /):
            return x

        @staticmethod
        @checked
        def fold(x: Float[Tensor, "b d"]):
            return x

        @classmethod
        @checked
        def make(cls, x: Float[Tensor, "b d"]):
            return cls, x

    box, x = Box(), torch.ones(2, 3)
    assert box(x) is box.turn(x) is Box.fold(x) is Box.make(x)[1] is x
    assert refused(box, x[0]).startswith("Box: x is float32 [3]: 1 axes instead of (b d)")
    for call, name in ((box.turn, "turn"), (box.fold, "fold"), (Box.make, "make")):
        assert f"Box.{name}: x is float32 [3]" in refused(call, x[0])


def test_a_size_may_be_asked_of_the_object():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.width = 3

        @checked
        def forward(self, x: Float[Tensor, "b {self.width} {2*self.width}"]):
            return x

    assert Layer()(torch.ones(2, 3, 6)).shape == (2, 3, 6)
    assert refused(Layer(), torch.ones(2, 4, 6)) == (
        "Layer: x is float32 [2, 4, 6]: 4 where (b {self.width} {2*self.width}) needs 3; give 3"
    )
    assert "needs 6" in refused(Layer(), torch.ones(2, 3, 3))


def test_what_a_function_returns_that_is_passed_in_is_checked():
    Model = Callable[[Float[Tensor, "b *rest"], Float[Tensor, "b"]], Float[Tensor, "b *rest"]]

    @checked
    def loss(model: Model, x: Float[Tensor, "b *rest"], *, other: Model | None = None) -> Tensor:
        return (model(x, T) - x).mean() + (0 if other is None else other(x, T).mean())

    same = lambda x, t: x  # noqa: E731
    assert loss(same, X) == 0
    assert loss(same, X, other=same) == 1 and loss(model=same, x=X, other=None) == 0
    assert (
        "loss: what model returned is float32 [2, 1, 4]: *rest=(1, 4), but model's argument 1 has *rest=(3, 4)"
        in refused(loss, lambda x, t: x[:, :1], X)
    )
    assert "loss: what model returned is float32 []: 0 axes instead of (b *rest)" in refused(
        loss, lambda x, t: x.mean(), X
    )
    assert "loss: what other returned is of type tuple, not a tensor" in refused(loss, same, X, other=lambda x, t: (x,))
    assert "loss: model is float32 [2, 3, 4], not a function" in refused(loss, X, X)
    assert "loss: model is None, not a function" in refused(loss, None, X)


# --- what goes through -----------------------------------------------------------------------------------------------


def test_every_floating_type_nan_and_a_default_go_through():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert look(X.to(dtype), None).dtype == dtype
    assert look(X * torch.nan, T.int(), mask=None).isnan().all()
    assert mix(eps=X, t=T, x=X).shape == X.shape


def test_arguments_that_are_missing_or_unknown_are_pythons_affair():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 't'"):
        mix(X, X)
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        mix(X, X, T, y=1)


def test_name_signature_and_docstring_stay():
    assert mix.__name__ == "mix" and mix.__doc__.startswith("Adds")
    assert functools.partial(mix, X)(eps=X, t=T).shape == X.shape


def test_meta_fake_and_batched_tensors_go_through():
    from torch._subclasses.fake_tensor import FakeTensorMode

    assert mix(X.to("meta"), X.to("meta"), T.to("meta")).is_meta
    with FakeTensorMode() as mode:
        assert mix(*(mode.from_tensor(x) for x in (X, X, T))).shape == X.shape
    assert torch.vmap(mix)(X[None], X[None], T[None]).shape == (1, 2, 3, 4)
    assert "t is float32 [2, 2]" in refused(torch.vmap(mix), X[None], X[None], torch.ones(1, 2, 2))
    assert torch.func.grad(lambda x: mix(x, X, T).sum())(X).shape == X.shape


def test_compiled_code_holds_no_check():
    compiled = torch.compile(mix, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(X, X, T), mix(X, X, T))
    assert compiled(X, X[:1], T).shape == X.shape, "inside torch.compile sizes are not compared"


BLOCK = """
import torch
from sora_edu.checked import checked
from sora_edu.config import DiTConfig
from sora_edu.model.dit import VideoDiTBlock
from sora_edu.model.positions import rope_nd
from sora_edu.model.text import TextState

class Checked(VideoDiTBlock):
    forward = checked(VideoDiTBlock.forward)

config = DiTConfig()
block, d = Checked(config), config.width
words = torch.ones(2, 5, config.text_width)
text = TextState(words, torch.ones(2, 5).bool(), words[:, 0])
given = torch.ones(2, 3, 4, d), torch.ones(2, 3, 6, d), text
rope = rope_nd((3, 2, 2), d // config.heads)
expected = block(*given, rope)
block.compile(fullgraph=True, backend="aot_eager")
torch.testing.assert_close(block(*given, rope), expected)
"""


def test_a_compiled_block_of_the_model_is_one_graph():
    """In a process of its own, without the tests' shape checks, which PyTorch cannot compile."""
    subprocess.run([sys.executable, "-c", BLOCK], check=True)
