"""Rebuild the bundles in this folder from their npm packages: `python -m ductaflow.static.refresh`.

Needs `npm` and network; a maintainer's tool, never used at run time. Each bundle is changed only
so that it works inlined in a page that is opened without a network:

* an address from which it might fetch something more is emptied;
* what would end or confuse an inline `<script>` is written another way;
* the widget bundle's icon fonts, files of their own in the package, become data URIs.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MATHJAX, WIDGETS, REQUIRE = (
    "mathjax@3.2.2",
    "@jupyter-widgets/html-manager@1.0.15",
    "requirejs@2.3.8",
)


def unpack(package: str, into: Path) -> Path:
    """Download `package` (name@version) from npm; its unpacked folder."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is not installed")
    done = subprocess.run(
        [npm, "pack", "--silent", package], cwd=into, check=True, capture_output=True, text=True
    )
    archive = into / done.stdout.split()[-1]
    folder = archive.with_suffix("")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / "package"


def inlinable(script: str) -> str:
    """`script` without CDN addresses, and safe between `<script>` tags."""
    script = re.sub(r"https://(?:cdn\.jsdelivr\.net/npm|fonts\.googleapis\.com)/", "", script)
    script = re.sub(r"</(script)", r"<\\/\1", script, flags=re.IGNORECASE)
    script = re.sub(r"^//# sourceMappingURL=.*$", "", script, flags=re.MULTILINE)
    return script.replace("<!--", r"<\!--").strip() + "\n"


def widgets(dist: Path) -> str:
    """The widget manager with its fonts inside; woff2 alone, which every browser of today reads."""

    def font(match: re.Match[str]) -> str:
        file = dist / match[1]
        data = file.read_bytes() if file.suffix == ".woff2" else b""
        return f'"data:font/woff2;base64,{base64.b64encode(data).decode()}"' if data else '"data:,"'

    script = (dist / "embed.js").read_text("utf-8")
    script = re.sub(r'\bn\.p\+"([0-9a-f]{20}\.\w+)"', font, script)
    # An inline script has no address of its own from which webpack could learn where it lies.
    refusal = 'throw new Error("Automatic publicPath is not supported in this browser")'
    if script.count(refusal) != 1:
        sys.exit("the widget bundle is built in another way: adapt this script")
    return script.replace(refusal, 'e=""')


def mathjax(es5: Path) -> str:
    """TeX to SVG, and in the same script what takes links and styles that do harm out of formulas.

    It must be there before MathJax begins, which is when the first script has ended.
    """
    return "\n".join((es5 / name).read_text("utf-8") for name in ("tex-svg-full.js", "ui/safe.js"))


def main() -> None:
    """Write the three bundles and print their hashes for README.md."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = {
            "mathjax.js": mathjax(unpack(MATHJAX, folder) / "es5"),
            "widgets.js": widgets(unpack(WIDGETS, folder) / "dist"),
            "require.js": (unpack(REQUIRE, folder) / "require.js").read_text("utf-8"),
        }
    for file, script in bundles.items():
        data = inlinable(script).encode()
        (HERE / file).write_bytes(data)
        print(f"{hashlib.sha256(data).hexdigest()}  {file}  {len(data):,} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
