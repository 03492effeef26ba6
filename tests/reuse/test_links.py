"""Paths walked along symbolic links, against what the system makes of them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_client import inside

from ductaflow.files.links import follow, lead, portable

pytestmark = pytest.mark.skipif(os.name != "posix", reason="symbolic links")

NAMES = st.sampled_from(["a", "b", "c", "l", "m"])
PARTS = st.sampled_from(["a", "b", "c", "l", "m", "..", "..", ".", ""])
TREES = st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3), st.booleans()), max_size=8)
LINKS = st.lists(
    st.tuples(
        st.lists(NAMES, min_size=1, max_size=3), st.lists(PARTS, min_size=1, max_size=4),
        st.booleans(),
    ),
    max_size=6,
)  # fmt: skip
PATHS = st.lists(st.lists(PARTS, min_size=1, max_size=6), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def links_class():
    return inside("observing.links").Links


def grow(base: str, tree: list, links: list) -> None:
    """Folders, files and links, as far as their places are free."""
    for parts, is_folder in tree:
        path = Path(base, *parts)
        try:
            path.mkdir(parents=True) if is_folder else path.touch()
        except OSError:
            continue
    for parts, target, absolute in links:
        text = "/".join(target) or "."
        try:
            os.symlink(f"{base}/{text}" if absolute else text, os.path.join(base, *parts))
        except OSError:
            continue


def exists(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(TREES, LINKS, PATHS)
def test_walked_as_the_system_does(links_class, tree, links, paths) -> None:
    with tempfile.TemporaryDirectory() as base:
        base = os.path.join(base, *"deeply")  # `..` must not lead out of it
        os.makedirs(base)
        grow(base, tree, links)
        walker = links_class()
        for parts in paths:
            path = os.path.join(base, "/".join(parts).lstrip("/"))
            kept = walker.walk(path)
            assert os.path.normpath(kept) == kept
            if not exists(path):
                continue
            real = os.path.realpath(path)
            assert follow(path, lead).end == real
            # By the links that were noted, its text alone leads there.
            assert follow(kept, walker.found.get).end == real
            assert all(lead(link) == target for link, target in walker.found.items())
            # Every link that the system follows was noted.
            assert set(follow(path, lead).links) <= set(walker.found)


@settings(max_examples=100, deadline=None)
@given(TREES, LINKS, PATHS)
def test_named_things_are_not_followed(links_class, tree, links, paths) -> None:
    with tempfile.TemporaryDirectory() as base:
        base = os.path.join(base, *"deeply")  # `..` must not lead out of it
        os.makedirs(base)
        grow(base, tree, links)
        walker = links_class()
        for parts in paths:
            path = os.path.join(base, "/".join(parts).lstrip("/"))
            folder, name = os.path.split(path)
            if name not in ("", ".", "..") and exists(folder):
                expected = os.path.join(os.path.realpath(folder), name)
                assert walker.walk(path, last=False) == expected


def test_a_link_made_anew(links_class, tmp_path: Path) -> None:
    """One name stands for one file: after a change links are replaced by where they lead."""
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
    link = tmp_path / "cur"
    link.symlink_to("v1")
    walker = links_class()
    assert walker.walk(f"{link}/x") == f"{link}/x"
    link.unlink()
    link.symlink_to("v2")
    assert walker.walk(f"{link}/x") == f"{link}/x"  # it is remembered
    walker.forget()
    assert walker.walk(f"{link}/x") == f"{tmp_path}/v2/x"
    assert walker.found == {str(link): "v1"}


def test_a_loop_leads_nowhere(links_class, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    walker = links_class()
    assert walker.walk(f"{tmp_path}/a/x") == f"{tmp_path}/a/x"
    assert set(walker.found) == {f"{tmp_path}/a", f"{tmp_path}/b"}
    assert set(follow(f"{tmp_path}/a/x", lead).links) == set(walker.found)


def test_targets_within_the_project_are_portable() -> None:
    assert portable("/p/data", "/p") == "{root}/data"
    assert portable("/p", "/p") == "{root}"
    assert portable("/project/data", "/p") == "/project/data"
    assert portable("../data", "/p") == "../data"
