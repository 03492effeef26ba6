"""The page with the status of a conductor's runs."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from ductaflow import generate_status_report, sweep


class Text(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.opened: list[bool] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "a":
            self.links.append(dict(attrs)["href"])
        if tag == "details":
            self.opened.append("open" in dict(attrs))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def test_runs_of_a_sweep(project):
    project.write("share", "print(1 / x)", parameters="config = {'x': 1}")
    runs = sweep("share", [{"x": 1}, {"x": 0}, {"x": 2}], instance="n{x}", progress=False)
    page = Text(generate_status_report(runs, project.root))
    assert "3 runs" in page.text
    assert "✓ 2 succeeded" in page.text
    assert "✗ 1 failed" in page.text
    assert "ZeroDivisionError: division by zero (flow/share.py:5)" in page.text
    assert page.opened == [True, False, False]
    assert page.links[0] == "runs/share/n0/share.html"
    assert all((project.root / link).is_file() for link in page.links)
    absolute = Text(generate_status_report(runs))
    assert all(link.startswith("file://") for link in absolute.links)


def test_dicts_as_conductors_collect_them(tmp_path):
    page = Text(
        generate_status_report(
            [
                {"scenario": "a<b>", "status": "success", "duration_minutes": 1.5},
                {"instance": "c", "status": "failed", "error": "<script>alert(1)</script>"},
                {"scenario": "../../x", "status": "error"},
            ],
            tmp_path,
        )
    )
    assert "90.0 s" in page.text
    assert "a<b>" in page.text
    assert "<script>alert(1)</script>" in page.text
    assert "script" not in page.tags
    assert "✗ 2 failed" in page.text


def test_nothing_and_nonsense():
    assert "0 runs." in Text(generate_status_report([])).text
    with pytest.raises(ValueError, match="no status is called 'perhaps'"):
        generate_status_report([{"scenario": "a", "status": "perhaps"}])
