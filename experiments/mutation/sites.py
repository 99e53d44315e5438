"""Where Python source can be changed by one small mutation, found on its syntax tree."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """One mutation of one file.

    `where` is the function or class, `nth` tells equal mutations within it apart; together with
    `file`, `kind`, `before` and `after` they name the mutation whatever lines are added elsewhere.
    """

    file: str
    where: str
    kind: str
    before: str
    after: str
    nth: int
    line: int
    start: int  # bytes of the source
    end: int

    @property
    def key(self) -> tuple[str, ...]:
        return self.file, self.where, self.kind, self.before, self.after, str(self.nth)


def sites(path: Path, root: Path) -> list[Site]:
    """All mutations of a file, in the order of its source."""
    source = path.read_bytes()
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    found: list[Site] = []
    seen: Counter[tuple[str, ...]] = Counter()
    for node, where, kind, after in _mutations(ast.parse(source)):
        start = lines[node.lineno - 1] + node.col_offset
        end = lines[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        before = " ".join(source[start:end].decode().split())
        key = (where, kind, before, after)
        name = path.relative_to(root).as_posix()
        found.append(Site(name, where, kind, before, after, seen[key], node.lineno, start, end))
        seen[key] += 1
    return sorted(found, key=lambda site: site.start)


def mutated(source: bytes, site: Site) -> bytes:
    return source[: site.start] + site.after.encode() + source[site.end :]


Mutation = tuple[ast.stmt | ast.expr, str, str, str]  # node, where, kind, its replacement


def _mutations(tree: ast.Module) -> Iterator[Mutation]:
    yield from _of_body(tree.body, "")


def _of_body(body: list[ast.stmt], where: str) -> Iterator[Mutation]:
    for statement in body:
        yield from _of_statement(statement, where)


def _of_statement(node: ast.stmt, where: str) -> Iterator[Mutation]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        inside = f"{where}.{node.name}".lstrip(".")
        if isinstance(node, ast.ClassDef):
            for value in node.keywords:
                yield from _of_expression(value.value, inside)
        else:
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    for changed in _of_expression(default, inside):
                        yield changed[0], inside, "default", changed[3]
        yield from _of_body(node.body, inside)
        return
    if _is_left_alone(node):
        return
    if where and isinstance(node, ast.Expr | ast.Assign | ast.AugAssign):
        yield node, where, "statement", "pass"
    for name, value in ast.iter_fields(node):
        if name in ("targets", "target", "annotation", "names", "module"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.stmt):
                yield from _of_statement(child, where)
            elif isinstance(child, ast.ExceptHandler):
                yield from _of_body(child.body, where)
            elif isinstance(child, ast.withitem):
                yield from _of_expression(child.context_expr, where)
            elif isinstance(child, ast.expr):
                yield from _of_expression(child, where)
    if isinstance(node, ast.If | ast.While):
        yield node.test, where, "condition", f"not ({ast.unparse(node.test)})"


def _is_left_alone(node: ast.stmt) -> bool:
    """Docstrings, imports, messages, and what only a type checker reads."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Raise | ast.Assert | ast.Pass):
        return True
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
        return True
    if isinstance(node, ast.Expr):
        call = node.value
        if isinstance(call, ast.Constant):
            return True
        return isinstance(call, ast.Call) and ast.unparse(call.func).startswith("log.")
    return False


def _of_expression(node: ast.expr, where: str) -> Iterator[Mutation]:
    if isinstance(node, ast.JoinedStr):
        return
    yield from ((node, where, kind, after) for kind, after in _of_node(node))
    if isinstance(node, ast.Lambda):
        yield from _of_expression(node.body, where)
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.comprehension):
            for part in (child.iter, *child.ifs):
                yield from _of_expression(part, where)
            for test in child.ifs:
                yield test, where, "condition", f"not ({ast.unparse(test)})"
        elif isinstance(child, ast.keyword):
            yield from _of_expression(child.value, where)
        elif isinstance(child, ast.expr):
            yield from _of_expression(child, where)


def _of_node(node: ast.expr) -> Iterator[tuple[str, str]]:
    """(kind, replacement) of one node by itself."""
    if isinstance(node, ast.Compare):
        for number, op in enumerate(node.ops):
            other = ast.Compare(node.left, [*node.ops], node.comparators)
            other.ops[number] = COMPARISONS[type(op)]()
            yield "comparison", f"({ast.unparse(other)})"
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        if not _is_text(node):
            other_op = ARITHMETIC[type(node.op)]()
            yield "arithmetic", f"({ast.unparse(ast.BinOp(node.left, other_op, node.right))})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield "operator", f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.BoolOp):
        other_bool = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "operator", f"({ast.unparse(ast.BoolOp(other_bool, node.values))})"
    elif isinstance(node, ast.IfExp):
        negated = ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
        yield "condition", f"({ast.unparse(negated)})"
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield "constant", repr(not node.value)
        elif isinstance(node.value, int | float):
            yield "constant", repr(node.value + 1)
    elif isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
        if not isinstance(node.args[0], ast.Starred):  # f(x) -> x
            yield "call", f"({ast.unparse(node.args[0])})"
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args:
        yield "call", f"({ast.unparse(node.func.value)})"  # x.f() -> x


def _is_text(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(
        isinstance(s, ast.JoinedStr) or (isinstance(s, ast.Constant) and isinstance(s.value, str))
        for s in sides
    )
