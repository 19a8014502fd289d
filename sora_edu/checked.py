"""A check at the package's doors: a tensor that does not fit is refused where it is given, not deep inside.

``@checked`` reads a function's shapes from its signature once, when it is defined, and compares each call with them.
PyTorch does not: sizes that differ are often broadcast, and the answer is wrong without a word. Types and sizes are
read, never values: no GPU is waited for, and NaN passes through, so that NaN in is NaN out (lesson 02).
"""

import dataclasses
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import no_type_check  # a call would be checked twice in the tests, and slowly

import torch
from jaxtyping import AbstractArray, Shaped
from torch import Tensor

from sora_edu.checked_messages import look, not_a_tensor, other_size, unmet_size, wrong_kind, wrong_rank
from sora_edu.errors import InputError

Sizes = dict[object, tuple]  # axis -> (its size, the argument that had it first); "*rest" has the sizes of many axes
Check = Callable[[object, Sizes], None]  # raises InputError unless the value fits
Watch = Callable[[object], object]  # gives a function back with its results checked; raises InputError for others

UNIONS = (typing.Union, types.UnionType)


@no_type_check
def checked(fn: Callable | None = None, *, empty: bool = False) -> Callable:
    """Refuse calls of ``fn`` whose tensors do not fit its annotations, such as ``Float[Tensor, "b c h w"]``.

    Equal letters are equal sizes in all arguments, and none is 0 unless ``@checked(empty=True)``. What a function
    that is passed in returns has to fit its annotation too. Inside torch.compile nothing is done.
    Raises InputError, naming the function, the argument, what it got and what fits.
    """
    if fn is None:
        return functools.partial(checked, empty=empty)
    owner, (checks, watches) = owner_of(fn), checks_of(fn)
    method = next(iter(inspect.signature(fn).parameters), "") == "self"

    @functools.wraps(fn)
    def call(*args, **kwargs):
        if not torch.compiler.is_compiling():
            sizes, given = {"self": (args[0], "self")} if method else {}, len(args)
            for place, name, check in checks:
                if place < given:
                    check(args[place], sizes)
                elif name in kwargs:
                    check(kwargs[name], sizes)
            if not empty:
                refuse_empty(owner, sizes)
            for place, name, watch in watches:
                if place < given:
                    args = (*args[:place], watch(args[place]), *args[place + 1 :])
                elif name in kwargs:
                    kwargs[name] = watch(kwargs[name])
        return fn(*args, **kwargs)

    call.is_checked = True
    return call


def owner_of(fn: Callable) -> str:
    """What messages call a function: a method goes with its class, and forward by its class alone."""
    name = fn.__qualname__.split("<locals>.")[-1]
    return name.removesuffix(".forward").removesuffix(".__call__").removesuffix(".__init__")


@no_type_check
def refuse_empty(owner: str, sizes: Sizes) -> None:
    """Raise InputError where an axis has no elements: means of nothing are NaN, and loops over nothing do nothing."""
    for axis, (size, name) in sizes.items():
        if size == 0 or (type(size) is tuple and 0 in size):
            raise InputError(f"{owner}: {axis}={size} in {name}, which is empty; give at least 1 along each axis")


def checks_of(fn: Callable) -> tuple[list[tuple[int, str, Check]], list[tuple[int, str, Watch]]]:
    """(place, name, check) of each argument that holds tensors, and (place, name, watch) of each function of tensors.

    place is the index of the argument, beyond all others where it goes by name only.
    """
    owner = owner_of(fn)
    checks, watches = [], []
    for index, (name, parameter) in enumerate(inspect.signature(fn).parameters.items()):
        place = sys.maxsize if parameter.kind is parameter.KEYWORD_ONLY else index
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if check := check_of(parameter.annotation, f"{owner}: {name}"):
            checks.append((place, name, check))
        elif watch := watch_of(parameter.annotation, owner, name):
            watches.append((place, name, watch))
    return checks, watches


# --- from an annotation to its check ---------------------------------------------------------------------------------


def check_of(hint: object, where: str) -> Check | None:
    """The check of an annotation, or None where it holds no tensor; ``where`` opens its messages."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Tensor:
        return array(Shaped[Tensor, "..."], where)
    if kind in UNIONS:
        return either(inner, where)
    if kind is tuple and inner[-1] is not ...:
        return parts(dict(enumerate(inner)), where)
    if kind in (tuple, list, Sequence):
        return elements(inner[0], where)
    if not isinstance(hint, type):
        return None
    if issubclass(hint, AbstractArray):
        return array(hint, where) if hint.array_type is Tensor else None
    if dataclasses.is_dataclass(hint):
        return record(hint, where)
    return parts(hint.__annotations__, where) if hasattr(hint, "_fields") else None


@no_type_check
def array(hint: type[AbstractArray], where: str) -> Check:
    """Check one tensor: its type, how many axes it has, and their sizes."""
    kinds = {getattr(torch, name, None) for name in hint.dtypes} if isinstance(hint.dtypes, tuple) else None
    words = hint.dim_str.split()
    axes = [axis_of(word) for word in words]
    folded = next((i for i, word in enumerate(words) if word[0] in "*."), None)  # the one of many axes, if any
    name = where.split(": ")[1]

    def check(value: object, sizes: Sizes) -> None:
        if not isinstance(value, Tensor):
            raise InputError(not_a_tensor(value, hint, where))
        if kinds is not None and value.dtype not in kinds:
            raise InputError(wrong_kind(value, hint, where))
        shape = value.shape if folded is None else fold(value.shape, folded, len(axes))
        if len(shape) != len(axes):
            raise InputError(wrong_rank(value, hint, where))
        for axis, size in zip(axes, shape, strict=True):
            known = sizes.get(axis)
            if known is None:
                if type(axis) is str:
                    sizes[axis] = size, name
                elif (needed := computed(axis, size, sizes)) not in (None, size):
                    raise InputError(unmet_size(value, size, needed, hint, where))
            elif known[0] != size:
                raise InputError(other_size(value, axis, size, known, where))

    return check


def axis_of(word: str) -> object:
    """What one of "b k=2 _ n//2 {self.width} #m *rest" asks of a size: a name, number, expression, or nothing: None."""
    word = word.split("=")[-1]
    if word.removeprefix("*").isidentifier() and word.strip("*")[0] != "_":
        return word
    if word[0] == "#":  # a size of 1 is broadcast on purpose
        return compile(f"{word[1:]} if size != 1 else 1", word, "eval")
    if word.isdigit():
        return int(word)
    return None if word[0] in "_.*" else compile(re.sub("[{}]", "", word), word, "eval")


def computed(axis: object, size: object, sizes: Sizes) -> int | None:
    """The size that a number or an expression of other axes asks for; None where it asks for none, or they are open."""
    if isinstance(axis, types.CodeType):
        try:
            return eval(axis, {}, {name: known for name, (known, _) in sizes.items()} | {"size": size})
        except NameError:
            return None
    return axis


def fold(shape: Sequence[int], at: int, length: int) -> tuple:
    """The shape as ``length`` parts, of which the one at ``at`` is a tuple of all sizes that are left over."""
    end = len(shape) - (length - 1 - at)
    return (*shape[:at], tuple(shape[at:end]), *shape[end:]) if end >= at else ()


@no_type_check
def either(hints: tuple, where: str) -> Check | None:
    """Check that a value fits one of several annotations; one of them may be None or hold no tensor.

    The letters of a tensor hold for the other arguments too, those of a tuple or record are its own. If none fits, the
    error is of the one with as many axes as the value.
    """
    found = {hint: check_of(hint, where) for hint in hints}
    checks = [(check, len(hint.dims) if hasattr(hint, "dims") else None) for hint, check in found.items() if check]
    free = tuple(hint for hint, check in found.items() if check is None and isinstance(hint, type))
    if not checks:
        return None

    def check(value: object, sizes: Sizes) -> None:
        if isinstance(value, free):
            return
        if len(checks) == 1:
            return checks[0][0](value, sizes)
        refusal = None
        for attempt, axes in checks:
            read = dict(sizes)  # what one that does not fit has read must not stay
            try:
                attempt(value, read)
            except InputError as error:
                if refusal is None or axes == getattr(value, "ndim", None):
                    refusal = error
            else:
                if axes is not None:
                    sizes |= read
                return
        raise refusal

    return check


@no_type_check
def parts(hints: dict[object, object], where: str) -> Check | None:
    """Check a tuple, or NamedTuple, part by part."""
    names = [f"{where}[{key}]" if type(key) is int else f"{where}.{key}" for key in hints]
    checks = [check_of(hint, name) for hint, name in zip(hints.values(), names, strict=True)]

    def check(value: object, sizes: Sizes) -> None:
        if not isinstance(value, tuple | list) or len(value) != len(checks):
            raise InputError(f"{where} is {look(value)}, not a tuple of {len(checks)}")
        for part, check_part in zip(value, checks, strict=True):
            if check_part:
                check_part(part, sizes)

    return check if any(checks) else None


def elements(hint: object, where: str) -> Check | None:
    """Check a list, or a tuple of any length, element by element."""
    each = check_of(hint, where + "[i]")

    def check(value: object, sizes: Sizes) -> None:
        if not isinstance(value, tuple | list):
            raise InputError(f"{where} is {look(value)}, not a list; use [x]")
        for element in value:
            each(element, dict(sizes))  # the letters of an element are its own

    return check if each else None


def record(kind: type, where: str) -> Check | None:
    """Check a dataclass field by field."""
    found = {name: check_of(hint, f"{where}.{name}") for name, hint in kind.__annotations__.items()}
    checks = [(name, check) for name, check in found.items() if check]

    def check(value: object, sizes: Sizes) -> None:
        if not isinstance(value, kind):
            raise InputError(f"{where} is {look(value)}, not a {kind.__name__}")
        for name, check_field in checks:
            check_field(getattr(value, name), sizes)

    return check if checks else None


def watch_of(hint: object, owner: str, name: str) -> Watch | None:
    """What holds a function that is passed in to its annotation; None unless it returns tensors.

    In ``Callable[[Float[Tensor, "b *rest"], Times], Float[Tensor, "b *rest"]]`` each call has its own b and rest.
    """
    members = typing.get_args(hint) if typing.get_origin(hint) in UNIONS else (hint,)
    free = tuple(member for member in members if isinstance(member, type))
    hint = next((member for member in members if typing.get_origin(member) is Callable), None)
    inputs, output = typing.get_args(hint) if hint else ((), None)
    if not (check_output := check_of(output, f"{owner}: what {name} returned")):
        return None
    inputs = () if inputs is ... else inputs  # Callable[..., Tensor]
    inputs = [check_of(member, f"{owner}: {name}'s argument {i}") for i, member in enumerate(inputs, 1)]

    def watch(function: object) -> object:
        if not callable(function):
            if isinstance(function, free):
                return function
            raise InputError(f"{owner}: {name} is {look(function)}, not a function")

        def call(*args, **kwargs):
            result = function(*args, **kwargs)
            if not torch.compiler.is_compiling():
                sizes = {}
                for check, value in zip(inputs, args, strict=False):
                    if check:
                        check(value, sizes)
                check_output(result, sizes)
            return result

        return call

    return watch
