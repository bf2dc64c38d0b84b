# The study's measurements, one rule a part (`study_PART`), and the page that tells all answers.

from eval.study.answer import PARTS


rule write_study:
    input: [PATHS.study(part) for part in PARTS],
    output: PATHS.study_page,
    log: LOGS / "study" / "page.log",
    benchmark: BENCHMARKS / "study" / "page.tsv"
    message: "writing the study's page"
    shell: "python -m eval.study {FLAGS} > {log:q} 2>&1"
