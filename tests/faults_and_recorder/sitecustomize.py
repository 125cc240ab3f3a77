"""Put on PYTHONPATH by tests: cells that fail, and a record of what is trained, both."""

import runpy
from pathlib import Path

for folder in ("faults", "faults_recorder"):
    runpy.run_path(str(Path(__file__).parent.parent / folder / "sitecustomize.py"))
