# The study: the rules of each question, in its own folder, and the page with all answers.

from study import QUESTIONS
from study import asked as asked_questions  # all .smk files share their names: pipeline/rules.smk has an `asked`


def study_fits(wildcards):
    """Return no input: stop before any job if the study's settings do not fit the rest of the configuration."""
    try:
        CONFIG.check_study()
    except UserError as error:
        raise WorkflowError(str(error))
    return []


for question in QUESTIONS:

    include: f"{question}/rules.smk"


rule write_study:
    input:
        [PATHS.study(question) for question in asked_questions(CONFIG.study)],
        [PATHS.plan, PATHS.manifest_record] if CONFIG.study.needs_videos else [],
    output:
        PATHS.study_page,
    log:
        LOGS / "study" / "page.log",
    benchmark:
        BENCHMARKS / "study" / "page.tsv"
    message:
        "writing the study's page"
    shell:
        "python -m study {FLAGS} > {log:q} 2>&1"
