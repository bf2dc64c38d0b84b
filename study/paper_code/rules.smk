# The authors' code runs in processes of one core each. What they have finished is kept in study/paper_code/pieces, which
# Snakemake does not know, so that a killed job goes on.

PAPER_CODE = CONFIG.study.paper_code
CACHED = [PATHS.features_record, PATHS.manifest_record] if PAPER_CODE.cache else []


rule study_paper_code_train:
    input:
        study_fits,
        CACHED,
        # Other code in the clone is run again.
        PAPER_CODE.module_files,
    output:
        PATHS.study_work("paper_code") / "trained.safetensors",
    params:
        settings=PAPER_CODE.model_dump(exclude={"clone", "checkpoints"}),
        simulated=CONFIG.study.correlation.simulated.model_dump(include={"factors", "noise"}),
        backbones=[CONFIG.heads.audio, CONFIG.heads.video] if PAPER_CODE.cache else [],
        seeds=CONFIG.study.seeds,
    log:
        LOGS / "study" / "paper_code" / "train.log",
    benchmark:
        BENCHMARKS / "study" / "paper_code" / "train.tsv"
    threads: cores(at_most=16)
    resources:
        mem_mb=lambda wc, threads: 2000 * threads,
    message:
        "running the paper's own code"
    shell:
        "python -m study.paper_code.train {FLAGS} --threads {threads} > {log:q} 2>&1"


rule study_paper_code:
    input:
        study_fits,
        rules.study_paper_code_train.output,
        CACHED,
        PAPER_CODE.checkpoints,
    output:
        PATHS.study("paper_code"),
    log:
        LOGS / "study" / "paper_code" / "measure.log",
    benchmark:
        BENCHMARKS / "study" / "paper_code" / "measure.tsv"
    message:
        "measuring what the paper's own code does"
    shell:
        "python -m study.paper_code.measure {FLAGS} > {log:q} 2>&1"
