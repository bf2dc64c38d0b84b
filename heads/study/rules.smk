# The study's trainings: what each part (eval/study/answer.py: PARTS) fits on the cached features, `study_PART_train`.


rule study_length_train:
    input: [Paths(PATHS.study_variant(variant.name)).features_record for variant in CONFIG.study.length.variants],
    # The embeddings are not declared: Snakemake would delete those that are finished when a job is interrupted.
    output: PATHS.study_work("length") / "trained.json",
    params:
        length=CONFIG.study.length.model_dump(),
        sides=[CONFIG.heads.audio, CONFIG.heads.video],
        seeds=CONFIG.study.seeds,
    log: LOGS / "study" / "length" / "train.log",
    benchmark: BENCHMARKS / "study" / "length" / "train.tsv"
    message: "fitting linear heads on segments of every length"
    shell: "python -m heads.study.length {FLAGS} --threads {threads} > {log:q} 2>&1"


rule study_correlation_train:
    input:
        PATHS.features_record,
        PATHS.manifest_record,
    # The cells are not declared: Snakemake would delete those that are finished when a job is interrupted.
    output: PATHS.study_work("correlation") / "trained.json",
    params:
        correlation=CONFIG.study.correlation.model_dump(),
        experiments={name: e.model_dump() for name, e in CONFIG.heads.experiments.items()},
        sides=[CONFIG.heads.audio, CONFIG.heads.video],
        render=CONFIG.render and CONFIG.render.model_dump(),
        seeds=CONFIG.study.seeds,
    log: LOGS / "study" / "correlation" / "train.log",
    benchmark: BENCHMARKS / "study" / "correlation" / "train.tsv"
    threads: min(workflow.cores or 1, 64)
    resources:
        mem_mb=lambda wc, threads: 1500 * threads,
    message: "fitting every recipe at every correlation"
    shell: "python -m heads.study.correlation {FLAGS} --threads {threads} > {log:q} 2>&1"
