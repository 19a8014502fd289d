"""Mutants: copies of a solution with one small mistake each, made from its syntax tree.

A check that tells right from wrong refuses each of them, but for those that come to the same as the solution.
"""

import ast
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mod,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
ORDERED = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult)  # where a op b is not b op a
COMPARISONS = {  # on the edge; turned; the opposite
    ast.Lt: (ast.LtE, ast.Gt, ast.GtE), ast.LtE: (ast.Lt, ast.GtE, ast.Gt), ast.Gt: (ast.GtE, ast.Lt, ast.LtE),
    ast.GtE: (ast.Gt, ast.LtE, ast.Lt), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
}  # fmt: skip
TWINS = {"sin": "cos", "cos": "sin", "min": "max", "max": "min", "mean": "sum", "sum": "mean", "std": "var"}


@dataclass(frozen=True)
class Mutant:
    """A text with one mistake, and the first line that shows it."""

    source: str
    told: str


def mutants(source: str, *, most: int | None = None) -> list[Mutant]:
    """All mutants of a text, each once; with ``most`` no more than so many, evenly out of all kinds and places."""
    tree = ast.parse(source)
    plain = ast.unparse(tree)
    found = {}
    for parent, name, new in edits(tree):
        old = getattr(parent, name)
        setattr(parent, name, new)
        text = ast.unparse(ast.fix_missing_locations(tree))
        setattr(parent, name, old)
        if text != plain:
            found.setdefault(text, Mutant(text, difference(plain, text)))
    every = list(found.values())
    if most is None or len(every) <= most:
        return every
    return [every[i * len(every) // most] for i in range(most)]


def difference(before: str, after: str) -> str:
    """The first line of ``after`` that ``before`` does not have in its place; what is missing where it is ``pass``."""
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    was, now = next(((a.strip(), b.strip()) for a, b in pairs if a != b), ("", after.splitlines()[-1].strip()))
    return f"without {was}" if now == "pass" else now


def names_of(tree: ast.AST) -> set[str]:
    """Names of a text's own: what it assigns, and the arguments of its functions."""
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}


def words_of(tree: ast.AST) -> list[str]:
    """The strings in a text, sorted."""
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return sorted({value for value in constants if isinstance(value, str)})


def edits(tree: ast.AST) -> Iterator[tuple[ast.AST, str, object]]:
    """(node, field, what stands there instead) for each single mistake."""
    words, own = words_of(tree), names_of(tree)
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if isinstance(value, ast.AST):
                for new in changes(value, parent, name, words, own):
                    yield parent, name, new
            elif isinstance(value, list):
                for i, node in enumerate(value):
                    for new in changes(node, parent, name, words, own) if isinstance(node, ast.AST) else ():
                        yield parent, name, [*value[:i], new, *value[i + 1 :]]
                for new in siblings(value, parent, name):
                    yield parent, name, new


def siblings(nodes: list, parent: ast.AST, name: str) -> Iterator[list]:
    """Lists with two neighbours swapped, or with one left out: arguments, elements, steps."""
    swapped = name in ("args", "elts") and not isinstance(parent, ast.arguments)
    swapped = swapped or (isinstance(parent, ast.Dict) and name == "values")
    steps = name == "body" and isinstance(parent, ast.FunctionDef | ast.For)
    for i, (a, b) in enumerate(pairwise(nodes)):
        if swapped or (steps and (is_step(a) or is_step(b)) and not isinstance(b, ast.Return)):
            yield [*nodes[:i], b, a, *nodes[i + 2 :]]
    left_out = name == "keywords" or (name == "elts" and isinstance(getattr(parent, "ctx", None), ast.Load))
    for i in range(len(nodes)):
        if left_out:
            yield nodes[:i] + nodes[i + 1 :]
        elif name == "body" and is_step(nodes[i]):
            yield [*nodes[:i], ast.Pass(), *nodes[i + 1 :]]


def is_step(node: ast.AST) -> bool:
    """A statement that does something and binds no name: a call, ``x += 1``, ``a.b = c`` or ``a[b] = c``."""
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    return isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))


def changes(node: ast.AST, parent: ast.AST, name: str, words: list[str], own: set[str]) -> Iterator[ast.AST]:
    """What may stand in the place of one node by mistake."""
    if isinstance(node, ast.BinOp):
        yield from of_operation(node)
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        yield from (ast.Compare(node.left, [new()], node.comparators) for new in COMPARISONS[type(node.ops[0])])
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
        yield from node.values
    elif is_negative(node):
        yield from of_constant(-node.operand.value, words)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant) and not isinstance(parent, ast.Expr) and not is_negative(parent):
        yield from of_constant(node.value, words)
    elif isinstance(node, ast.Slice):
        yield from of_slice(node)
    elif isinstance(node, ast.Call):
        yield from of_call(node, own)
    elif isinstance(node, ast.Attribute) and node.attr in TWINS:
        yield ast.Attribute(node.value, TWINS[node.attr], node.ctx)
    elif isinstance(node, ast.Name) and node.id in TWINS and isinstance(node.ctx, ast.Load):
        yield ast.Name(TWINS[node.id], node.ctx)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    yield from by_place(node, parent, name)


def is_negative(node: ast.AST) -> bool:
    """Whether a node is a number with a minus before it, such as -1."""
    if not isinstance(node, ast.UnaryOp) or not isinstance(node.op, ast.USub):
        return False
    return isinstance(node.operand, ast.Constant) and isinstance(node.operand.value, int | float)


def by_place(node: ast.AST, parent: ast.AST, name: str) -> Iterator[ast.AST]:
    """Mistakes that depend on where a node stands: tests turned, time run backwards, an index one off."""
    if name in ("test", "ifs"):
        yield ast.UnaryOp(ast.Not(), node)
        yield from (ast.Constant(value) for value in (True, False) if isinstance(parent, ast.If))
    if name == "iter":
        yield ast.parse(f"list({ast.unparse(node)})[::-1]", mode="eval").body
    if isinstance(parent, ast.Return) and isinstance(node, ast.BinOp | ast.Call | ast.Name | ast.Subscript):
        yield ast.parse(f"({ast.unparse(node)}).flip(1)", mode="eval").body
    if isinstance(parent, ast.Subscript) and name == "slice" and isinstance(node, ast.Name):
        yield from one_off(node)
    if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) and parent.func.id == "range":
        yield from () if isinstance(node, ast.Constant) or node is parent.func else one_off(node)


def of_operation(node: ast.BinOp) -> Iterator[ast.AST]:
    """Another operator, the operands swapped, one of them missing."""
    if type(node.op) in OPERATORS:
        yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
    if isinstance(node.op, ORDERED):
        yield ast.BinOp(node.right, node.op, node.left)
    yield from (node.left, node.right)


def of_constant(value: object, words: list[str]) -> Iterator[ast.Constant]:
    """One more, one less, none, negated; the opposite; another word of the same text, or one letter too many."""
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield from (ast.Constant(new) for new in dict.fromkeys((value + 1, value - 1, type(value)(0), -value)))
    elif isinstance(value, str) and words:
        yield ast.Constant(words[(words.index(value) + 1) % len(words)])
        yield ast.Constant(f"{value}x")


def one_off(node: ast.AST) -> Iterator[ast.AST]:
    """A bound that is one too large or one too small."""
    yield ast.BinOp(node, ast.Add(), ast.Constant(1))
    yield ast.BinOp(node, ast.Sub(), ast.Constant(1))


def of_slice(node: ast.Slice) -> Iterator[ast.Slice]:
    """Bounds one off, the first or last left out, the step forgotten."""
    if node.lower is None:
        yield ast.Slice(ast.Constant(1), node.upper, node.step)
    if node.upper is None:
        yield ast.Slice(node.lower, ast.Constant(-1), node.step)
    if node.step is not None:
        yield ast.Slice(node.lower, node.upper, None)
    for part in ("lower", "upper", "step"):
        bound = getattr(node, part)
        if bound is not None and not isinstance(bound, ast.Constant):
            for new in one_off(bound):
                changed = deepcopy(node)
                setattr(changed, part, new)
                yield changed


def of_call(node: ast.Call, own: set[str]) -> Iterator[ast.AST]:
    """The call forgotten: ``x.exp()`` and ``f(x)`` become ``x``, where x is no module but the text's own."""
    if isinstance(node.func, ast.Attribute):
        receiver = node.func.value
        if isinstance(receiver, ast.Call | ast.BinOp | ast.Compare) or getattr(receiver, "id", None) in own:
            yield receiver
    if len(node.args) == 1 and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp):
        yield node.args[0]
