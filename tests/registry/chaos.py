"""A scan to be killed: it prints a line for each entry that is done, and writes its document when all of them are."""

import json
from functools import partial
from pathlib import Path

from onnxmark.registry.auditing import audit_chunk
from onnxmark.registry.conclude import conclude
from onnxmark.registry.discovery import discover
from onnxmark.registry.engines import Limits, open_engine
from onnxmark.registry.journal import open_journal
from onnxmark.registry.ring import load_ring, ring_folder
from onnxmark.registry.running import Batching, run_scan
from onnxmark.registry.terms import Terms
from onnxmark.report.documents.findings import public_key
from onnxmark.verdict import Policy
from tests.registry.engines.tasks import Cheap

LIMITS = Limits(seconds=60.0, memory=4 << 30)
BATCHING = Batching(4)


def scan(root, journal_path, task, terms, public, told, *, jobs=2):
    """The whole of a scan, as the command line does it."""
    with open_journal(journal_path, terms) as journal, open_engine("local", jobs=jobs, limits=LIMITS) as engine:
        journal.begin([root])
        for done in run_scan(discover([root]), task, journal, engine, batching=BATCHING):
            told(done)
        journal.finish()
        rows = [(row.found, row.result) for row in journal.rows()]
    # Companions are the journal's own.
    rows = [(found, result and {n: v for n, v in result.items() if n != "companions"}) for found, result in rows]
    return json.dumps(conclude(rows, Policy(), roots=["root"], keys=public), indent=1)


def cheap(root, journal, traces, told):
    key = {"commitment": "k", "scheme": "projection", "origin": "seed"}
    return scan(root, journal, Cheap(traces), Terms(("k",)), [key], told)


def real(root, journal, keys, told):
    with ring_folder(sorted(keys.glob("*.npy"))) as folder:
        public = [public_key(key) for key in load_ring(folder).keys]
        terms = Terms(tuple(key["commitment"] for key in public))
        return scan(root, journal, partial(audit_chunk, ring=folder), terms, public, told)


def main(kind, root, journal, room, document):
    text = {"cheap": cheap, "real": real}[kind](
        root,
        Path(journal),
        Path(room),
        lambda done: print("old" if done.reused else "new", done.found.identity, flush=True),
    )
    Path(document).write_text(text)
