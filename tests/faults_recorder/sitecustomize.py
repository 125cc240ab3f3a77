"""Put on PYTHONPATH by tests: every training and every epoch is noted in one file of all processes.

A line is "built" or "epoch", the run's id and the process's.
"""

import os

from lenet_sweep.training import engines

_build = engines.build_engine


def note(*words: object) -> None:
    line = " ".join(map(str, (*words, os.getpid()))) + "\n"
    file = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(file, line.encode())  # one short write: the system keeps lines apart
    os.close(file)


def build(cell, images):
    engine = _build(cell, images)
    evaluate = engine.evaluate

    def noted():
        note("epoch", cell.run_id)
        return evaluate()

    engine.evaluate = noted
    note("built", cell.run_id)
    return engine


engines.build_engine = build
