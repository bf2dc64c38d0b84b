rule study_correlation_train:
    input:
        PATHS.features_record,
        PATHS.manifest_record,
    # The cells are not declared: Snakemake would delete those that are finished when a job is interrupted.
    output:
        PATHS.study_work("correlation") / "trained.json",
    params:
        **CONFIG.heads.rounding(),
        correlation=CONFIG.study.correlation.model_dump(),
        experiments={name: e.model_dump() for name, e in CONFIG.heads.experiments.items()},
        sides=[CONFIG.heads.audio, CONFIG.heads.video],
        render=CONFIG.render and CONFIG.render.model_dump(),
        seeds=CONFIG.study.seeds,
    log:
        LOGS / "study" / "correlation" / "train.log",
    benchmark:
        BENCHMARKS / "study" / "correlation" / "train.tsv"
    threads: cores(at_most=64)
    resources:
        mem_mb=lambda wc, threads: 1500 * threads,
    message:
        "fitting every recipe at every correlation"
    shell:
        "python -m study.correlation.train {FLAGS} --threads {threads} > {log:q} 2>&1"


rule study_correlation:
    input:
        rules.study_correlation_train.output,
        CACHE,
    output:
        PATHS.study("correlation"),
    params:
        eval=[CONFIG.eval.seed, CONFIG.eval.bootstrap, *UNITS.values()],
    log:
        LOGS / "study" / "correlation" / "measure.log",
    benchmark:
        BENCHMARKS / "study" / "correlation" / "measure.tsv"
    threads: cores(at_most=64)
    resources:
        mem_mb=lambda wc, threads: 1000 * threads,
    message:
        "measuring every recipe at every correlation"
    shell:
        "python -m study.correlation.measure {FLAGS} --threads {threads} > {log:q} 2>&1"
