"""Jobs that a killed Snakemake has left, without Slurm."""

import pytest

from config import scheduler


def test_jobs_of_other_work_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ["7 train resnet\n 8 bash\n12 features-0a_x\n13 features-0ab_x\n14 features-0a_y z\n\n", ""]
    asked: list[tuple[str, ...]] = []

    def output(*command: str) -> str:
        asked.append(command)
        return listed.pop(0) if command[0] == "squeue" else ""

    monkeypatch.setattr(scheduler, "_output", output)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    scheduler.cancel_leftovers("features-0a")
    assert ("scancel", "12", "14") in asked and not listed
