"""The table of the ablation, from rows of the study's answer."""

from __future__ import annotations

from typing import Any

from bench.ablation import findings, table


def row(source: str, step: str, gain: float | None, p: float | None, prefix: str = "before") -> dict[str, Any]:
    ends = {
        f"{prefix}_mrr_{end}": None if gain is None else gain + add for end, add in (("low", -0.01), ("high", 0.01))
    }
    made = {"source": source, "step": step, "setting": "", "median": 25.0, f"{prefix}_mrr": gain, f"{prefix}_holm": p}
    return made | ends


def test_gains_stand_beside_the_rank_and_are_bold_where_they_are_shown() -> None:
    steps = [row("rendered_0.5", "true rank", None, None), row("rendered_0.5", "temperature", 0.05, 0.01)]
    single = [row("rendered_0.5", "temperature", -0.002, 0.9, "first")]
    *_, first, last = table({"steps": steps, "single": single}).splitlines()
    assert first == "| true rank | 25.0 % |"
    assert last == "| temperature | 25.0 %, **+0.050 [+0.040, +0.060]**, -0.002 [-0.012, +0.008] |"


def test_a_source_without_a_step_leaves_its_cell_empty() -> None:
    steps = [row("rendered_0.5", "evaluation mode", 0.0, 1.0), row("simulated_0.5", "true rank", None, None)]
    *_, last = table({"steps": steps, "single": []}).splitlines()
    assert last == "| evaluation mode | 25.0 %, +0.000 [-0.010, +0.010] |  |"


def test_findings_say_how_sure_they_are_where_the_table_does_not() -> None:
    whole = {"claim": "With all changes: better.", "sure": "MRR +0.009 [+0.004, +0.014], p 0.0033."}
    steps = {"claim": "Steps that help: temperature.", "sure": "MRR. temperature +0.050 [+0.040, +0.060], p 0.01."}
    assert findings({"findings": [whole, steps]}).splitlines() == [
        "- With all changes: better. (MRR +0.009 [+0.004, +0.014], p 0.0033.)",
        "- Steps that help: temperature.",
    ]
