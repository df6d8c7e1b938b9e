"""Records what the real Alertmanager's amtool prints for the cases of tests/notify/templates.

    python3 tests/tools/record_templates.py AMTOOL FOLDER

FOLDER holds Alertmanager's own default.tmpl and email.tmpl. Each line of cases.jsonl is [type, data, template] and gets the verdict and
the text: ["text", "mixed", "{{ .Status }}", true, "firing"].
"""

import json
import pathlib
import subprocess
import sys

amtool, defaults = sys.argv[1:3]
here = pathlib.Path(__file__).resolve().parent.parent / "notify" / "templates"
cases = here / "cases.jsonl"
recorded = []
for line in cases.read_text().splitlines():
    kind, data, template = json.loads(line)[:3]
    command = [amtool, "template", "render", f"--template.type={kind}", f"--template.text={template}"]
    command += [f"--template.data={here}/data/{data}.json", f"--template.glob={defaults}/default.tmpl"]
    command += [f"--template.glob={defaults}/email.tmpl", f"--template.glob={here}/*.tmpl"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    good = ran.returncode == 0
    text = ran.stdout if good else ran.stderr.removeprefix("amtool: error: ").strip()
    # A stack that overflows prints itself: the first line says it.
    recorded.append(json.dumps([kind, data, template, good, text if good else text.split("\n")[0]], ensure_ascii=False))
cases.write_text("\n".join(recorded) + "\n")
