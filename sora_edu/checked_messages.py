"""What ``checked`` says of a tensor that does not fit: the argument, what it got, what fits, and how to get there.

(lesson 02)
"""

from jaxtyping import AbstractArray
from torch import Tensor

KINDS = {  # jaxtyping's name of a type -> what it is called, and how to get it from x
    "Float": ("floating-point numbers", "x.float(), or x / 127.5 - 1 for pixels of 0..255"),
    "Int": ("whole numbers", "x.long()"),
    "Bool": ("True and False", "x.bool()"),
    "UInt8": ("bytes", "to_uint8(x) for pixels in [-1, 1]"),
}


def look(value: object) -> str:
    """A value in short: type and shape of a tensor, the type of anything else."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return "None" if value is None else f"of type {type(value).__name__}"


def axes_of(hint: type[AbstractArray]) -> str:
    """The axes of an annotation as they are written, "b c h w"."""
    return " ".join(hint.dim_str.split())


def not_a_tensor(value: object, hint: type[AbstractArray], where: str) -> str:
    """What to do about a list, an array or nothing where a tensor is needed."""
    mends = {"ndarray": "use torch.from_numpy(x)", "list": "use torch.tensor(x), or torch.stack(x) for tensors"}
    return (
        f"{where} is {look(value)}, not a tensor ({axes_of(hint)}); {mends.get(type(value).__name__, 'pass a tensor')}"
    )


def wrong_kind(value: Tensor, hint: type[AbstractArray], where: str) -> str:
    """What to do about numbers of another kind."""
    kind, mend = KINDS.get(hint.dtype.__name__, (hint.dtype.__name__, f"x.to(one of {', '.join(hint.dtypes)})"))
    return f"{where} is {look(value)}, but {kind} are needed; use {mend}"


def wrong_rank(value: Tensor, hint: type[AbstractArray], where: str) -> str:
    """What to do about a missing axis, or one too many."""
    mend = "add a missing axis with x[None]" if value.ndim < len(axes_of(hint).split()) else "take one with x[0]"
    return f"{where} is {look(value)}: {value.ndim} axes instead of ({axes_of(hint)}); {mend}"


def other_size(value: Tensor, axis: str, size: object, known: tuple, where: str) -> str:
    """What to do about two sizes that should be one."""
    needed, name = known
    mend = f"x.expand({needed}) repeats it" if tuple(value.shape) == (1,) else f"give both the same {axis}"
    return f"{where} is {look(value)}: {axis}={size}, but {name} has {axis}={needed}; {mend}"


def unmet_size(value: Tensor, size: object, needed: int, hint: type[AbstractArray], where: str) -> str:
    """What to do about a size that a number, or an expression of other sizes, asks for."""
    return f"{where} is {look(value)}: {size} where ({axes_of(hint)}) needs {needed}; give {needed}"
