"""jupyter_client is imported whole, whichever threads want what of it."""

from __future__ import annotations

import subprocess
import sys

IMPORTS = """
import sys, threading
from ductaflow_kernels.jupyterclient import import_jupyter_client
sys.setswitchinterval(1e-6)
wanted = ["jupyter_client.session", "jupyter_client.manager", "jupyter_client.kernelspec"]
failed, start = [], threading.Barrier(len(wanted))
def want(name):
    start.wait()
    try:
        import_jupyter_client()
        __import__(name)
    except ImportError as e:
        failed.append(e)
threads = [threading.Thread(target=want, args=[name]) for name in wanted]
for t in threads: t.start()
for t in threads: t.join()
sys.exit(str(failed) if failed else 0)
"""


def test_threads_that_want_different_parts_of_it() -> None:
    for _ in range(3):
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)
