"""Random numbers after a fork: what was seeded from the system is seeded anew in each kernel.

A generator that an import has given a seed keeps it, as it would in a cold kernel.
"""

from __future__ import annotations

import functools
import gc
import os
import random
import secrets
import sys
import weakref
from typing import Any

_unseeded: dict[int, weakref.ref[random.Random]] = {}  # generators of Python, by their identity
_drawn: set[int] = set()  # what numpy has got from the system to seed generators with
_numpy: list[Any] = []  # its generators and seed sequences that were seeded so
_given = [False]  # whether an import has seeded Python's own generator
_state: list[Any] = []  # then what that has come to, which Python itself forgets in a forked child

_seed = random.Random.seed
_seed_global = random.seed
_randbits = secrets.randbits


def watch() -> None:
    """Note from now on which generators are seeded from the system."""
    random.Random.seed = _noted_seed  # type: ignore[method-assign]
    random.seed = _noted_seed_global
    secrets.randbits = _noted_randbits  # numpy takes it from there when it is imported


@functools.wraps(_seed)
def _noted_seed(self: random.Random, a: Any = None, *args: Any, **kwargs: Any) -> None:
    _seed(self, a, *args, **kwargs)
    if a is None:
        _unseeded[id(self)] = weakref.ref(self)
    else:
        _unseeded.pop(id(self), None)


@functools.wraps(_seed_global)
def _noted_seed_global(a: Any = None, *args: Any, **kwargs: Any) -> None:
    _seed_global(a, *args, **kwargs)
    _given[0] = a is not None


@functools.wraps(_randbits)
def _noted_randbits(k: int) -> int:
    bits = _randbits(k)
    _drawn.add(bits)
    return bits


def find() -> None:
    """Find, before the fork, what an import has seeded, and what of numpy the system has."""
    _state[:] = [random.getstate()] if _given[0] else []
    known = sys.modules.get("numpy.random.bit_generator")
    if known is None:
        return
    own = _seed_sequence(_global_bits())
    if not _drawn.difference({getattr(own, "entropy", None)}):
        return  # nothing but numpy's own: then no object need be looked at
    _numpy.clear()
    for item in gc.get_objects():
        if issubclass(type(item), known.BitGenerator):
            sequence = _seed_sequence(item)
        elif issubclass(type(item), known.SeedSequence):
            sequence = item
        else:
            continue
        entropy = getattr(sequence, "entropy", None)
        if sequence is not own and type(entropy) is int and entropy in _drawn:
            _numpy.append(item)


def _seed_sequence(bits: Any) -> Any:
    """That of a bit generator; None if it was seeded in the old way, which takes it away."""
    return getattr(bits, "_seed_seq", None)


def _global_bits() -> Any:
    return sys.modules["numpy.random"].mtrand._rand._bit_generator


def renew() -> None:
    """Seed in a forked kernel all that was seeded from the system, and stop noting."""
    random.Random.seed = _seed  # type: ignore[method-assign]
    random.seed, secrets.randbits = _seed_global, _randbits
    for reference in _unseeded.values():
        generator = reference()
        if generator is not None:
            _seed(generator)
    if not _given[0]:
        _seed_global()
    known = sys.modules.get("numpy.random.bit_generator")
    if known is not None:
        if vars(known).get("randbits") is _noted_randbits:
            known.randbits = _randbits  # type: ignore[attr-defined]
        if _seed_sequence(_global_bits()) is not None:
            sys.modules["numpy.random"].seed()
    for item in _numpy:
        item.__init__()  # in place: others hold it
    _renew_key()


def restore() -> None:
    """Give Python's own generator the state that an import has left it in.

    Late: a kernel draws while it starts, for the tip in its banner.
    """
    if _state:
        random.setstate(_state[0])


def _renew_key() -> None:
    """The key with which processes of one program know each other."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        key = process.AuthenticationString(os.urandom(32))
        process.current_process()._config["authkey"] = key
