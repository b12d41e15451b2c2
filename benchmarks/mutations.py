"""Small changes to Python source, each of which should make a test fail."""

from __future__ import annotations

import ast
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
# Expressions that need parentheses within others.
_LOOSE = (ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Lambda, ast.Await)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_ANNOTATIONS = ("annotation", "returns")


class Mutation(NamedTuple):
    """One change: its kind, the bytes it replaces and by what, and the lines of the statement it is in."""

    kind: str
    start: int
    end: int
    text: str
    lines: range

    def apply(self, source: bytes) -> bytes:
        """Return the changed source."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    def matters(self, source: bytes) -> bool:
        """Whether the changed source is valid Python and means something else."""
        try:
            return ast.dump(ast.parse(self.apply(source))) != ast.dump(ast.parse(source))
        except SyntaxError:
            return False


def mutations(source: bytes) -> list[Mutation]:
    """Return every change of every kind. Annotations, docstrings and what only a type checker sees are left alone."""
    tree = ast.parse(source)
    starts = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]
    found = []
    for kind, lines, target, new in _visit(tree, range(1), inside=False):
        text = ast.unparse(new)
        start = starts[target.lineno - 1] + target.col_offset
        end = starts[target.end_lineno - 1] + target.end_col_offset
        found.append(Mutation(kind, start, end, f"({text})" if isinstance(new, _LOOSE) else text, lines))
    return found


def _visit(node: ast.AST, lines: range, *, inside: bool) -> Iterator[tuple[str, range, ast.AST, ast.AST]]:
    """Find changes in a node and below; `inside` says that it is in a function."""
    if _is_left_alone(node):
        return
    if isinstance(node, ast.stmt):
        header = getattr(node, "test", None) or getattr(node, "iter", None) or getattr(node, "subject", None)
        compound = hasattr(node, "body")
        last = header.end_lineno if header else node.lineno if compound else node.end_lineno
        lines = range(node.lineno, (last or node.lineno) + 1)
    for kind, target, new in _changes(node, inside=inside):
        yield kind, lines, target, new
    inside = inside or isinstance(node, _FUNCTIONS)
    for name, value in ast.iter_fields(node):
        if name not in _ANNOTATIONS:
            for child in value if isinstance(value, list) else [value]:
                # The text in an f-string is not written as a literal.
                in_text = isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)
                if isinstance(child, ast.AST) and not in_text:
                    yield from _visit(child, lines, inside=inside)


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.If(test=ast.Name("TYPE_CHECKING")):
            return True
        case ast.Expr(ast.Constant()):
            return True
        case ast.Expr(ast.Call(ast.Name("assert_never"))):
            # Never runs, as the type checker proves.
            return True
    return False


def _changes(node: ast.AST, *, inside: bool) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """Return each change of this node as its kind, what is replaced and by what."""
    match node:
        case ast.Constant(value):
            yield from ((kind, node, ast.Constant(new)) for kind, new in _other_values(value))
        case ast.expr():
            yield from ((kind, node, new) for kind, new in _other_expressions(node))
        case ast.stmt():
            yield from ((kind, node, new) for kind, new in _other_statements(node, inside=inside))
        case ast.ExceptHandler(ast.expr() as caught):
            yield "caught exception", caught, ast.Tuple([])
    for test in _conditions(node):
        yield "condition", test, ast.UnaryOp(ast.Not(), test)


def _other_values(value: object) -> Iterator[tuple[str, str | bytes | complex]]:
    match value:
        case bool():
            yield "boolean", not value
        case int() | float():
            yield "number", value + 1
        case str() if value:
            yield "text", "X" + value
        case bytes() if value:
            yield "text", b"X" + value


def _other_expressions(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Compare(left, [operator], [right]) if type(operator) in _SWAPS:
            yield "comparison", ast.Compare(left, [_swapped(operator)], [right])
        case ast.BoolOp(operator, values):
            yield "and/or", ast.BoolOp(_swapped(operator), values)
            for left_out in values:
                rest = [value for value in values if value is not left_out]
                yield "part of a condition", ast.BoolOp(operator, rest) if rest[1:] else rest[0]
        case ast.BinOp(left, operator, right) if type(operator) in _SWAPS:
            yield "arithmetic", ast.BinOp(left, _swapped(operator), right)
        case ast.UnaryOp(ast.Not(), operand):
            yield "not", operand
        case ast.Call(function, arguments, keywords):
            for left_out in keywords:
                rest = [keyword for keyword in keywords if keyword is not left_out]
                yield "keyword argument", ast.Call(function, arguments, rest)


def _other_statements(node: ast.stmt, *, inside: bool) -> Iterator[tuple[str, ast.stmt]]:
    match node:
        case ast.Return(ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "returned value", ast.Return(ast.Constant(None))
        case ast.Break():
            yield "loop", ast.Continue()
        case ast.Continue():
            yield "loop", ast.Break()
        case ast.Expr() | ast.Raise():
            yield "statement", ast.Pass()
        case ast.Assign() | ast.AugAssign() | ast.Delete() if inside:
            yield "statement", ast.Pass()


def _conditions(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.If(test) | ast.While(test) | ast.IfExp(test) | ast.match_case(guard=ast.expr() as test):
            return [test]
        case ast.comprehension(ifs=tests):
            return tests
    return []


def _swapped(operator: ast.AST) -> Any:  # noqa: ANN401  # of the same kind as the other
    return _SWAPS[type(operator)]()
