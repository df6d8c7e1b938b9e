"""Records what promtool's rule tests give for the alerts of tests/rules_files/templates/templates_rules.yml.

    python3 tests/tools/record_rule_templates.py PROMTOOL

Writes templates_test.yml beside it: the labels and annotations that PROMTOOL found, as what a test expects.
"""

import ast
import json
import pathlib
import re
import subprocess
import sys

HEAD = """# What Prometheus 3.5 makes of templates_rules.yml; written by tests/tools/record_rule_templates.py.
rule_files: [templates_rules.yml]
evaluation_interval: 1m
tests:
- interval: 1m
  external_labels: {region: eu}
  external_url: http://bell.example.org:9090/x
  input_series:
  - {series: 'up{instance="db.example.org:9100", job="node"}', values: '1x5'}
  - {series: 'load{instance="a"}', values: '2500x5'}
  - {series: 'load{instance="b"}', values: '0.25x5'}
  alert_rule_test:
"""


def pairs(written):
    found = re.findall(r'([A-Za-z_]\w*)=("(?:[^"\\]|\\.)*")', written)
    return {name: ast.literal_eval(quoted) for name, quoted in found}


promtool = sys.argv[1]
folder = pathlib.Path(__file__).resolve().parent.parent / "rules_files" / "templates"
target = folder / "templates_test.yml"
alerts = re.findall(r"alert: (\w+)", (folder / "templates_rules.yml").read_text())
asked = "".join(f"  - {{eval_time: 1m, alertname: {name}, exp_alerts: []}}\n" for name in alerts)
target.write_text(HEAD + asked)
ran = subprocess.run([promtool, "test", "rules", target], capture_output=True, text=True)
answers = dict(re.findall(r"alertname: (\w+), time: 1m,.*?got:\[(.*?)\n +\]", ran.stderr + ran.stdout, re.S))
recorded = []
for name in alerts:
    labels, annotations = re.search(r"Labels:\{(.*)\}\n +Annotations:\{(.*)\}$", answers[name].rstrip()).groups()
    labels = {key: value for key, value in pairs(labels).items() if key != "alertname"}
    alert = {"exp_labels": labels, "exp_annotations": pairs(annotations)}
    recorded.append(f"  - {{eval_time: 1m, alertname: {name}, exp_alerts: [{json.dumps(alert, ensure_ascii=False)}]}}\n")
target.write_text(HEAD + "".join(recorded))
sys.exit(subprocess.run([promtool, "test", "rules", target]).returncode)
