"""What code asks of the environment when it takes all of it: names, prefixes, or everything.

    env = dict(os.environ); env["RATE"]                     RATE
    {k: v for k, v in os.environ.items()
     if k.startswith("APP_")}                               APP_*
    subprocess.run(command, env={**os.environ, "A": "1"})   nothing: what a child reads is not seen
    print(dict(os.environ))                                 *

A copy is a plain dict, which notes nothing. So the code says what becomes of it; where it does not,
everything counts.
"""

from __future__ import annotations

import ast
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import final

import attrs

from ductaflow.flows.pythontext import called, constant, is_environ
from ductaflow.flows.shelltext import EVERYTHING

_HARMLESS = frozenset({"update", "clear", "pop", "setdefault", "popitem", "__setitem__"})
_READING = frozenset({"get", "pop", "setdefault", "__getitem__"})
# These look up what they need, which is noted.
_LOOKING = frozenset({"substitute", "safe_substitute", "format_map", "ChainMap", "expandvars"})
_SAME_NAMES = frozenset({"sorted", "list", "tuple", "set", "frozenset", "iter", "reversed"})
_FOR_A_CHILD = frozenset({"env", "environ", "environment"})
_COPIES = frozenset({"dict", "copy", "deepcopy", "OrderedDict"})


class _AnythingError(Exception):
    """It cannot be told what is asked."""


def taken_by(trees: Sequence[ast.AST], constants: Mapping[str, str]) -> frozenset[str]:
    """What code asks for that was seen to take the whole environment.

    Args:
        trees: Its syntax trees, which share their names.
        constants: Texts that variables hold, as those of a config.

    Returns:
        Names; `PREFIX_*`, `*_SUFFIX` or `*PART*`; or `*`, which alone stands for everything.
    """
    reader = _Reader.of(trees, constants)
    try:
        asked = frozenset(name for source in reader.sources() for name in reader.of_environ(source))
    except _AnythingError:
        return frozenset({EVERYTHING})
    return asked if reader.seen else frozenset({EVERYTHING})


@final
@attrs.define(eq=False)
class _Reader:
    """What becomes of the environment in some code.

    Attributes:
        trees: The code.
        parents: Each expression's place.
        constants: Names that stand for one text only.
        seen: Whether a place was found where all of it is taken.
    """

    trees: Sequence[ast.AST]
    parents: dict[ast.AST, ast.AST]
    constants: dict[str, str]
    seen: bool = False
    _followed: set[str] = attrs.field(factory=set)

    @classmethod
    def of(cls, trees: Sequence[ast.AST], constants: Mapping[str, str]) -> _Reader:
        """A reader of code."""
        nodes = [node for tree in trees for node in ast.walk(tree)]
        parents = {child: node for node in nodes for child in ast.iter_child_nodes(node)}
        given: dict[str, list[str | None]] = {}
        for node in nodes:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                parent = parents.get(node)
                whole = isinstance(parent, ast.Assign) and node in parent.targets
                value = constant(parent.value) if isinstance(parent, ast.Assign) and whole else None
                given.setdefault(node.id, []).append(value)
        once = {name: texts[0] for name, texts in given.items() if len(texts) == 1}
        known = {name: text for name, text in once.items() if text is not None}
        usual = {name: text for name, text in constants.items() if name not in given}
        return cls(trees, parents, {**usual, **known})

    def sources(self) -> Iterator[ast.expr]:
        """Where the environment itself stands in the code."""
        for tree in self.trees:
            for node in ast.walk(tree):
                if not isinstance(node, (ast.Name, ast.Attribute)):
                    continue
                if is_environ(node) and isinstance(node.ctx, ast.Load):
                    yield node

    def of_environ(self, node: ast.expr) -> Iterator[str]:
        """What is asked where the environment itself is used."""
        parent = self.parents.get(node)
        if isinstance(parent, (ast.Subscript, ast.Compare)):
            return  # looks it up
        if isinstance(parent, ast.Attribute):
            call = self.parents.get(parent)
            if parent.attr == "copy":
                yield from self._of_copy(call)
            elif parent.attr in ("items", "keys", "values"):
                yield from self._of_names(call, parent.attr)
            return
        if isinstance(parent, ast.keyword) and parent.arg in _FOR_A_CHILD:
            return
        if isinstance(parent, ast.Call) and (called(parent) in _LOOKING or _is_patch(parent)):
            return
        if isinstance(parent, (ast.Assign, ast.NamedExpr, ast.AnnAssign)):
            yield from self._of_name(parent, self.of_environ)
            return
        yield from self._of_whole(node, parent)

    def _of_whole(self, node: ast.expr, parent: ast.AST | None) -> Iterator[str]:
        """What is asked of what holds all of it, where it is copied or gone through."""
        self.seen = True
        if isinstance(parent, ast.Call) and node in parent.args:
            if called(parent) in _COPIES:
                yield from self._of_copy(parent)
                return
            if called(parent) in (*_SAME_NAMES, "filter"):
                yield from self._of_names(node, "keys")
                return
        if isinstance(parent, ast.keyword) and parent.arg is None:
            yield from self._of_arguments(self.parents.get(parent))
        elif (isinstance(parent, ast.Dict) and node in parent.values) or (
            isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.BitOr)
        ):
            yield from self._of_copy(parent)
        elif isinstance(parent, (ast.For, ast.comprehension)):
            yield from self._of_names(node, "keys")
        else:
            raise _AnythingError

    def _of_arguments(self, call: ast.AST | None) -> Iterator[str]:
        """All of it as the arguments of a call."""
        assert isinstance(call, ast.Call)
        text = constant(call.func.value) if isinstance(call.func, ast.Attribute) else None
        if called(call) == "dict":
            yield from self._of_copy(call)
        elif called(call) == "format" and text is not None:
            for _, field, _, _ in string.Formatter().parse(text):
                if field:
                    yield field
        else:
            raise _AnythingError

    def _of_copy(self, node: ast.AST | None) -> Iterator[str]:
        """What is asked where a copy is used."""
        self.seen = True
        parent = self.parents.get(node) if node is not None else None
        if isinstance(parent, ast.Subscript) and parent.value is node:
            if isinstance(parent.ctx, ast.Load):
                yield self._text(parent.slice)
        elif isinstance(parent, ast.Attribute):
            yield from self._of_method(parent)
        elif isinstance(parent, ast.AugAssign) or (
            isinstance(parent, ast.keyword) and parent.arg in _FOR_A_CHILD
        ):
            return
        elif isinstance(parent, ast.Compare) and isinstance(parent.ops[0], (ast.In, ast.NotIn)):
            yield self._text(parent.left)
        elif isinstance(parent, (ast.Assign, ast.NamedExpr, ast.AnnAssign)):
            yield from self._of_name(parent, self._of_copy)
        elif isinstance(node, ast.expr):
            yield from self._of_whole(node, parent)
        else:
            raise _AnythingError

    def _of_method(self, method: ast.Attribute) -> Iterator[str]:
        call = self.parents.get(method)
        if method.attr in _READING and isinstance(call, ast.Call) and call.args:
            yield self._text(call.args[0])
        elif method.attr == "copy":
            yield from self._of_copy(call)
        elif method.attr in ("items", "keys", "values"):
            yield from self._of_names(call, method.attr)
        elif method.attr not in _HARMLESS:
            raise _AnythingError

    def _of_name(
        self, assigned: ast.AST, follow: Callable[[ast.expr], Iterator[str]]
    ) -> Iterator[str]:
        """What is asked by the name of a copy, wherever the name stands."""
        targets = getattr(assigned, "targets", None) or [getattr(assigned, "target", None)]
        for target in targets:
            if not isinstance(target, ast.Name):
                raise _AnythingError
            if target.id in self._followed:
                continue
            self._followed.add(target.id)
            for tree in self.trees:
                for node in ast.walk(tree):
                    if (
                        isinstance(node, ast.Name)
                        and node.id == target.id
                        and isinstance(node.ctx, ast.Load)
                    ):
                        yield from follow(node)

    # --- going through all names ------------------------------------------------------------------

    def _of_names(self, node: ast.AST | None, what: str) -> Iterator[str]:
        """What is asked where one goes through all names, or names and values."""
        self.seen = True
        parent = self.parents.get(node) if node is not None else None
        if isinstance(parent, ast.Call) and called(parent) in _SAME_NAMES:
            yield from self._of_names(parent, what)
        elif isinstance(parent, ast.Call) and called(parent) == "filter":
            yield from self._of_filter(parent)
        elif isinstance(parent, ast.Compare) and what == "keys":
            return  # looks one up
        elif isinstance(parent, (ast.For, ast.comprehension)) and parent.iter is node:
            key = _key(parent.target, what)
            tests = parent.ifs if isinstance(parent, ast.comprehension) else _tests(parent)
            yield from self._first_told(key, tests)
        else:
            raise _AnythingError

    def _of_filter(self, call: ast.Call) -> Iterator[str]:
        function = call.args[0]
        if not isinstance(function, ast.Lambda) or len(function.args.args) != 1:
            raise _AnythingError
        yield from self._first_told(function.args.args[0].arg, [function.body])

    def _first_told(self, key: str, tests: Iterable[ast.expr]) -> Iterator[str]:
        """The names that pass all tests, as far as one of the tests tells."""
        for test in tests:
            told = self._told(key, test)
            if told is not None:
                yield from told
                return
        raise _AnythingError

    def _told(self, key: str, test: ast.expr) -> list[str] | None:
        """Which names can pass a test; None if it does not tell."""
        if isinstance(test, ast.BoolOp):
            each = [self._told(key, value) for value in test.values]
            if isinstance(test.op, ast.And):
                return next((told for told in each if told is not None), None)
            known = [told for told in each if told is not None]
            return [name for told in known for name in told] if len(known) == len(each) else None
        if isinstance(test, ast.Compare) and len(test.ops) == 1:
            return self._by_comparison(key, test)
        return self._by_method(key, test) if isinstance(test, ast.Call) else None

    def _by_method(self, key: str, test: ast.Call) -> list[str] | None:
        method = test.func
        if not isinstance(method, ast.Attribute) or _id(method.value) != key:
            return None
        form = {"startswith": "{}*", "endswith": "*{}"}.get(method.attr)
        texts = self._texts(test.args[0]) if len(test.args) == 1 else None
        return [form.format(text) for text in texts] if form and texts is not None else None

    def _by_comparison(self, key: str, test: ast.Compare) -> list[str] | None:
        left, operator, right = test.left, test.ops[0], test.comparators[0]
        if isinstance(operator, ast.Eq):
            other = right if _id(left) == key else left
            return self._texts(other) if key in (_id(left), _id(right)) else None
        if not isinstance(operator, ast.In):
            return None
        if _id(left) == key and isinstance(right, (ast.Tuple, ast.List, ast.Set)):
            return self._texts(right)
        if _id(right) == key:
            texts = self._texts(left)
            return None if texts is None else [f"*{text}*" for text in texts]
        return None

    def _texts(self, node: ast.expr) -> list[str] | None:
        """The texts of an expression, one or several; None if they are not written there."""
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            each = [self._known(element) for element in node.elts]
            return None if None in each else [text for text in each if text is not None]
        text = self._known(node)
        return None if text is None else [text]

    def _known(self, node: ast.expr) -> str | None:
        text = constant(node)
        return self.constants.get(node.id) if isinstance(node, ast.Name) else text

    def _text(self, node: ast.expr) -> str:
        text = self._known(node)
        if text is None:
            raise _AnythingError
        return text


def _is_patch(call: ast.Call) -> bool:
    """Whether it is `mock.patch.dict(os.environ, …)`."""
    function = call.func
    return isinstance(function, ast.Attribute) and _id(function.value) == "patch"


def _id(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", None)


def _key(target: ast.expr, what: str) -> str:
    """The variable that holds each name."""
    if what == "items" and isinstance(target, ast.Tuple) and isinstance(target.elts[0], ast.Name):
        return target.elts[0].id
    if what == "keys" and isinstance(target, ast.Name):
        return target.id
    raise _AnythingError


def _tests(loop: ast.For) -> list[ast.expr]:
    """What lets a name pass into a loop; nothing if all of them do."""
    first = loop.body[0]
    if isinstance(first, ast.If) and not first.orelse:
        if len(loop.body) == 1:
            return [first.test]
        inner = first.test
        leaves = isinstance(first.body[-1], ast.Continue)
        if leaves and isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.Not):
            return [inner.operand]
    raise _AnythingError
