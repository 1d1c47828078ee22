#!/usr/bin/env bash
# Runs SuperGradients' own unit tests with our repairs: tests/host_suite.sh FOLDER, a checkout of its repository (they
# are not part of its package, nor of ours). Prints the counts, and with KEEP=FILE the outcome of each test.
# SG_RESNETS_AT_STARTUP=0 runs them without the repairs, for comparison. Some of them want
# pip install json_tricks onnxscript pycocotools xhtml2pdf
set -euo pipefail
folder=$(realpath "${1:?give a checkout of the super-gradients repository}")
python=$(realpath "$(dirname "$0")/..")/.venv/bin/python
[ -d "$folder/tests/unit_tests" ] || { echo "$folder has no tests/unit_tests" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$folder/tests" "$work/tests"
touch "$work/requirements.txt" # by which SuperGradients knows where a project's checkpoints go
cd "$work"
# A test that asks the network for weights waits for it; --forked would hide what one leaves for the next.
"$python" -m pytest tests/unit_tests -q --numprocesses=auto --dist=loadfile -p no:cacheprovider \
	--junitxml="$work/outcome.xml" > "$work/log" 2>&1 || true
"$python" - "$work/outcome.xml" "${KEEP:-}" <<'PY'
import collections, sys, xml.etree.ElementTree as tree
outcomes = {}
for case in tree.parse(sys.argv[1]).iter("testcase"):
    kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
    outcomes[f"{case.get('classname')}::{case.get('name')}"] = kinds[0] if kinds else "passed"
if sys.argv[2]:
    with open(sys.argv[2], "w") as file:
        file.writelines(f"{outcome} {name}\n" for name, outcome in sorted(outcomes.items()))
print(", ".join(f"{count} {kind}" for kind, count in sorted(collections.Counter(outcomes.values()).items())))
PY
