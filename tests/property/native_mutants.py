"""Conditions of what is compiled, each left out once: the tests must notice.

Run: python -m tests.property.native_mutants [NAME ...]

Every mutant is compiled in a copy of the checkout, so this takes some minutes and is a command of
its own. It prints what became of each, and fails if one was not noticed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = {
    "streams/engine/native.pyx": (
        "tests/unit/engine/test_native.py",
        "tests/property/test_bulk.py",
    ),
    "streams/runtime/native.pyx": (
        "tests/unit/test_lean.py",
        "tests/unit/runtime/test_placement.py",
    ),
}
COPIED = ("streams", "tests", "schemas", "pyproject.toml", "hatch_build.py")

_MODE = "if not _is(&paid.shipping_mode,"
_NUMBER = "if number[0] != 0xCF or number[1] != 0 or number[2] != 0:"
_BY_UPLOAD = "uploaded if row.stops & _STOPPED_BY_UPLOAD else _END_OF_TIME"
_BY_SCAN = "if row.stops & _STOPPED_BY_SCAN and scanned < stop:"
_OVER = "max(effective + clocks.clean, _paid(state) + late_payment)"
_AT_MOST = "min(timestamp + tolerance, _TIME_MAX)"
_AT_RANGE = "earliest <= parcel.at <= min(timestamp + tolerance, _TIME_MAX)"
# Where a text stands in several functions, the name of the one that is meant comes first.
_ENGINE = {
    "number-of-18-digits": ("", "if c.at - begin == 18:", "if False:"),
    "number-with-zero-first": ("", "(begin[0] != 0x30 or c.at - begin == 1)", "True"),
    "text-too-long": ("", "1 <= text.size <= _IDENTIFIER_MAX", "1 <= text.size"),
    "text-empty": ("", "1 <= text.size <= _IDENTIFIER_MAX", "text.size <= _IDENTIFIER_MAX"),
    "text-escaped": ("", "_ODD if _byte < 0x20 or _byte == 0x5C", "_ODD if _byte < 0x20"),
    "text-control": ("", "_ODD if _byte < 0x20 or _byte == 0x5C", "_ODD if _byte == 0x5C"),
    "text-colon": ("", "if _byte == 0x3A or _byte == 0x7F", "if _byte == 0x7F"),
    "text-delete": ("", "if _byte == 0x3A or _byte == 0x7F", "if _byte == 0x3A"),
    "text-c1": ("", "if c.at[0] == 0xC2 and", "if False and"),
    "no-utf8": ("_read_parcel", "(not c.high or _is_utf8(value))", "True"),
    "no-utf8-paid": ("_read_paid", "(not c.high or _is_utf8(value))", "True"),
    "behind-the-end": ("", "return END if c.at == c.end else UNUSUAL", "return END"),
    "field-twice": ("_read_parcel", "if found & bit:", "if False:"),
    "field-missing": ("_read_parcel", "and found == 15", ""),
    "paid-field-twice": ("_read_paid", "or found & bit:", "or False:"),
    "paid-field-missing": ("_read_paid", "and found & 127 == 127", ""),
    "replaces": ("_read_parcel", '_is(&name, b"replaces", 8)', "False"),
    "promised": ("_read_paid", 'not _is(&name, b"promised_ship_by", 16)', "True"),
    "products-twice": ("_read_products", "if _is(product,", "if False and _is(product,"),
    "products-few": ("_put_bought", "if paid.products_count < 16:", "if True:"),
    "currency": ("_read_currency", "if not 0x41 <= text.at[place] <= 0x5A:", "if False:"),
    "currency-size": ("_read_currency", "or text.size != 3", ""),
    "other-key": ("pay", "_is_key(&paid.order_id, key)", "PyBytes_CheckExact(key)"),
    "blocked": ("_passed", "PyDict_Contains(blocked, key)", "False"),
    "passed": ("_passed", "PyDict_Contains(passed, key)", "False"),
    "wild-timestamp": ("_is_tame", "0 <= timestamp < _TIMESTAMP_MAX", "True"),
    "wild-effective": ("_is_tame", "0 <= effective < _TIMESTAMP_MAX", "True"),
    "value-too-long": ("_open", "or PyBytes_GET_SIZE(value) > _VALUE_MAX", ""),
    "other-word": ("_skip_word", "or memcmp(c.at, word, size) != 0", ""),
    "other-lengths": ("_length", "if len(column) != length:", "if False:"),
    "time-too-large": ("pay", "min(timestamp + tolerance, _TIME_MAX)", "timestamp + tolerance"),
    "parcel-time-too-large": ("_take_parcels", _AT_MOST, "timestamp + tolerance"),
    "judged": ("_take_parcels", "<= judged_after", "< 0"),
    "judged-at": ("_take_parcels", "<= judged_after", "< judged_after"),
    "known": ("pay", "and not PyDict_Contains(packed, key)", ""),
    "mode": ("_is_door", _MODE, f"if False and {_MODE.removeprefix('if ')}"),
    "platform": ("_is_door", "return paid.platform.at == NULL", "return True"),
    "version-since": ("_way", "if since <= (paid.paid if by_paid else paid.placed):", "if True:"),
    "version-by": ("_way", "paid.paid if by_paid else paid.placed", "paid.placed"),
    "own-window": ("_way", "0 if odd and _within(odd, paid.paid) else number", "number"),
    "named-order": ("_exempt", "if PyDict_Contains(exemptions.orders, key):", "if False:"),
    "named-shop": ("_exempt", "if len(exemptions.shops) > 0 and", "if False and"),
    "paid-window": ("_exempt", "return _within(exemptions.windows, paid.paid)", "return False"),
    "told-apart": ("pay", "or (tells_apart and", "or (False and"),
    "placed-range": ("pay", "and earliest <= paid.placed <= latest", ""),
    "paid-range": ("pay", "and earliest <= paid.paid <= latest", ""),
    "too-late": ("pay", "and paid.paid >= effective - late_payment", ""),
    "due-passed": ("next_due", "return best if best > limit else _NOW", "return best"),
    "due-never": ("pay", "if 0 <= due < _NEVER:", "if 0 <= due:"),
    "amount": ("pay", "and paid.amount <= _AMOUNT_MAX", ""),
    "parcel-flags": ("_take_parcels", "or flags & odd", ""),
    "parcel-key": ("_take_parcels", "_is_key(&parcel.order_id, key)", "PyBytes_CheckExact(key)"),
    "parcel-range": ("_take_parcels", _AT_RANGE, "True"),
    "parcel-due": ("_take_parcels", "or _due(state) < effective - grace", ""),
    "upload-closure": ("_after_upload", "and due != placed + clocks.closure", ""),
    "upload-exempt": ("_after_upload", "or flags & _EXEMPT", ""),
    "upload-asks": ("_after_upload", "or not clocks.asks", ""),
    "scan-exempt": ("_after_scan", "or flags & _EXEMPT", ""),
    "scan-uploaded": ("_after_scan", "if flags & _UPLOADED:", "if False:"),
    "scan-number": ("_after_scan", _NUMBER, "if False:"),
    "clock-start": ("next_due", "paid if row.start == 1 else uploaded", "paid"),
    "stopped-by-upload": ("next_due", _BY_UPLOAD, "_END_OF_TIME"),
    "stopped-by-scan": ("next_due", _BY_SCAN, "if False:"),
    "boundary": ("next_due", "if row.on_time_at_limit:", "if False:"),
    "late-and-stopped": ("next_due", "if late <= stop and late < best:", "if late < best:"),
    "warning-started": ("next_due", "if start < at <= stop and", "if at <= stop and"),
    "warning-stopped": ("next_due", "if start < at <= stop and", "if start < at and"),
    "closure-uploaded": ("next_due", "if best > uploaded or best > scanned:", "if best > scanned:"),
    "closure-scanned": ("next_due", "if best > uploaded or best > scanned:", "if best > uploaded:"),
    "piece": ("_deadline", "if piece.begin <= start < piece.end:", "if piece.begin <= start:"),
    "scan-late": ("_after_scan", "_NEVER if at < _due(state) else _NOW", "_NEVER"),
    "scan-rest": ("_take_parcels", _OVER, "effective + clocks.clean"),
    "minute": ("add", "or due // _MINUTE != self.minute", ""),
    "timer-moved": ("_take_parcels", "elif due != _due(state):", "elif False:"),
    "timed-rests": ("timed", "& _REST == _RETIRING", "& _RETIRING"),
    "timed-begin": ("timed", "if begin_ms <= due < end_ms:", "if due < end_ms:"),
    "timed-end": ("timed", "if begin_ms <= due < end_ms:", "if begin_ms <= due:"),
    "parcels-again": ("_take_parcels", "if states[other - begin] == found:", "if False:"),
    "forget-again": ("forget", "if states[other - begin] == found:", "if False:"),
    "forget-rests": ("forget", "& _REST != _RETIRING", "& _RETIRING == 0"),
    "forget-over": ("forget", "or _due(state) > limit_ms", ""),
    "forget-new": ("forget", "<object> found is True", "True"),
}  # fmt: skip
_READING = {
    "batch-outside": ("columns", "not 0 <= begin <= end <= PyBytes_GET_SIZE(response)", "False"),
    "batch-magic": ("columns", "or batch[_MAGIC_AT] != 2", ""),
    "batch-compressed": ("", "_COMPRESSION = 0x07", "_COMPRESSION = 0x06"),
    "batch-append-time": ("columns", "_MAX_TIMESTAMP_AT if appended", "_MAX_TIMESTAMP_AT if False"),
    "record-append-time": ("columns", "began if appended", "began if False"),
    "batch-not-whole": ("columns", "if c.at != c.end:", "if False:"),
    "attributes": ("_read_attributes", "or c.at[0] >= 0x80", ""),
    "headers-count": ("_skip_headers", "or count < 0", ""),
    "headers-none": ("_skip_headers", "or size < 0", ""),
    "headers-end": ("_skip_headers", "return c.at == c.end", "return True"),
    "records-before": ("columns", "if offset >= first:", "if True:"),
    "bytes-below": ("_read_bytes", "or size[0] < -1", ""),
    "hash-of-three-left": ("_murmur2", "if size == 3:", "if False:"),
    "hash-of-two-left": ("_murmur2", "if size >= 2:", "if size == 2:"),
    "hash-of-one-left": ("_murmur2", "if size >= 1:", "if size == 1:"),
    "key-of-none": ("misplaced", "type(key) is bytes and", ""),
    "no-partitions": ("misplaced", "if not partitions:", "if False:"),
}  # fmt: skip
MUTANTS = {
    name: (source, *edit)
    for source, edits in zip(TESTS, (_ENGINE, _READING), strict=True)
    for name, edit in edits.items()
}


def mutated(source: str, function: str, found: str, instead: str) -> str:
    """Return the source with a mistake in a function, or wherever the text stands once."""
    begin = next(
        (
            at
            for at in range(len(source))
            if source.startswith(("cdef ", "def ", "    cdef "), at)
            and source[at - 1] == "\n"
            and f" {function}(" in source[at : source.index("\n", at)]
        ),
        0,
    )
    end = source.find("\n\n\n", begin) if function else len(source)
    if source[begin:end].count(found) != 1:
        raise ValueError(f"{found!r} is {source[begin:end].count(found)} times in {function}")
    return source[:begin] + source[begin:end].replace(found, instead) + source[end:]


def noticed(root: Path, *tests: str) -> bool:
    """Compile what is in a checkout, run the tests there, and tell whether they fail."""
    build = "from pathlib import Path; import hatch_build; hatch_build.compile_all(Path.cwd())"
    subprocess.run([sys.executable, "-c", build], cwd=root, check=True, capture_output=True)
    # The same examples each time: what fails is the mutant, not a draw.
    shutil.rmtree(root / ".hypothesis", ignore_errors=True)
    options = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0")
    command = [sys.executable, "-m", "pytest", *options, *tests]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode > 1:
        raise RuntimeError(done.stdout + done.stderr)
    # Below zero: it crashed.
    return done.returncode != 0


def main(*names: str) -> int:
    """Try the mutants; return how many were not noticed."""
    unnoticed = 0
    with tempfile.TemporaryDirectory(prefix="shipclock-mutants-") as folder:
        root = Path(folder)
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, root / name)
        for tests in TESTS.values():
            if noticed(root, *tests):
                raise RuntimeError("the tests fail as it is")
        for name in names or MUTANTS:
            source, *edit = MUTANTS[name]
            text = (root / source).read_text()
            (root / source).write_text(mutated(text, *edit))
            found = noticed(root, *TESTS[source])
            (root / source).write_text(text)
            unnoticed += not found
            print(f"{name}: {'noticed' if found else 'NOT NOTICED'}", flush=True)
    return unnoticed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
