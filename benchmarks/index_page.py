"""The page about many instances: its size, how fast it opens, filters and sorts in Chromium.

    python benchmarks/index_page.py [INSTANCES]

Writes that many records (10,000) into a temporary folder, collates them, and opens the page. Needs
playwright and a Chromium on PATH.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import CDPSession, Page, sync_playwright

from ductaflow import collate

NAMES = ("chromium", "chromium-browser", "google-chrome")
ROUNDS = 5
SEARCHES = ("region_7", "0042", "exact", "no such thing")
# From the key to what is drawn; the page waits 60 ms for the next key, which is not counted.
FILTER = """
text => new Promise(done => {
  const search = document.querySelector(".search");
  const began = performance.now();
  new MutationObserver((_, observer) => {
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - began - 60), 0));
  }).observe(document.querySelector(".found"), {childList: true, subtree: true});
  search.value = text;
  search.dispatchEvent(new Event("input"));
})
"""
SORT = """
() => new Promise(done => {
  const began = performance.now();
  document.querySelector("[tabulator-field='m:rmse'] .head").click();
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - began), 0));
})
"""


def write_instances(root: Path, count: int) -> None:
    """Records as a sweep over ten values would leave them."""
    rng = random.Random(1)
    for n in range(count):
        folder = root / "runs" / "model" / f"region_{n % 20:02d}_{n:05d}"
        folder.mkdir(parents=True)
        config = {
            "region": f"region_{n % 20}", "year": 2000 + n % 30, "seed": n, "label": f"number {n}",
            "params": {"alpha": rng.random(), "beta": n % 7, "mode": rng.choice(["fast", "exact"])},
            "paths": {"network": "inputs/network.gpkg", "zones": f"inputs/zones_{n % 5}.csv"},
        }  # fmt: skip
        failed = n % 50 == 0
        record = {
            "schema": 1, "status": "failed" if failed else "success", "flow": "flow/model.py",
            "step": "model", "instance": folder.name, "duration": rng.expovariate(0.3),
            "started": f"2026-01-0{1 + n % 9}T10:{n % 60:02d}:00+00:00", "warnings": n % 9 // 8,
            "peak_memory": 200_000_000 + 1000 * n, "fingerprints": {"config": "0" * 64},
            "metrics": {"rmse": rng.random(), "mae": rng.random(), "r2": rng.random(), "n": n % 40},
        }  # fmt: skip
        if failed:
            record["error"] = {
                "kind": "cell", "type": "ValueError", "message": f"bad {n % 3}", "cell": 4,
                "line": 30 + n % 3, "traceback": ["Traceback", "ValueError: bad"],
            }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
        (folder / "run.json").write_text(json.dumps(record), "utf-8")


def opened(page: Page, path: Path) -> float:
    """Seconds until rows are drawn."""
    began = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector(".tabulator-row .light")
    return time.perf_counter() - began


def cpu_of(metrics: CDPSession) -> float:
    """Seconds of CPU that the page's main thread has taken: more steady than a clock."""
    told = metrics.send("Performance.getMetrics")["metrics"]
    return next(m["value"] for m in told if m["name"] == "TaskDuration")


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    executable = next(filter(None, map(shutil.which, NAMES)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        write_instances(root, count)
        for figures in (False, True):
            began, cpu = time.perf_counter(), time.process_time()
            path = collate(root=root, figures=figures)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            what = "with its cells" if figures else "alone"
            print(f"collated {what}: {seconds:.1f} s, of which {cpu:.1f} s CPU")
        print(f"page: {path.stat().st_size / 1e6:.1f} MB for {count:,} instances")
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        times = [opened(browser.new_page(), path) for _ in range(ROUNDS)]
        print(f"opens: median {statistics.median(times):.2f} s, fastest {min(times):.2f}")
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        opened(page, path)
        metrics = page.context.new_cdp_session(page)
        metrics.send("Performance.enable", {"timeDomain": "threadTicks"})
        opened(page, path)
        before = cpu_of(metrics)
        filtered = [page.evaluate(FILTER, text) for _ in range(3) for text in SEARCHES]
        each = (cpu_of(metrics) - before) / len(filtered)
        print(f"CPU of its main thread: {before:.2f} s to open, {1000 * each:.0f} ms to filter")
        print(f"filters: median {statistics.median(filtered):.0f} ms, slowest {max(filtered):.0f}")
        print(f"sorts: {statistics.median(page.evaluate(SORT) for _ in range(5)):.0f} ms")
        browser.close()


if __name__ == "__main__":
    main()
