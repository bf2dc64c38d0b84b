# Trainings are processes of one core each. What they have finished is kept in study/aggregation/pieces, which Snakemake does
# not know, so that a killed job goes on.


rule study_aggregation_train:
    input:
        study_fits,
        features=PATHS.features_record,
        manifest=PATHS.manifest_record,
    output:
        PATHS.study_work("aggregation") / "trained.safetensors",
    params:
        **CONFIG.heads.rounding(),
        settings=CONFIG.study.aggregation.model_dump(),
        backbones=[CONFIG.heads.audio, CONFIG.heads.video],
        seeds=CONFIG.study.seeds,
    log:
        LOGS / "study" / "aggregation_train.log",
    benchmark:
        BENCHMARKS / "study" / "aggregation_train.tsv"
    threads: cores(at_most=16)
    message:
        "training every pooling of segments"
    shell:
        "python -m study.aggregation.train {FLAGS} --threads {threads} > {log:q} 2>&1"


rule study_aggregation:
    input:
        rules.study_aggregation_train.output,
        CACHE,
    output:
        PATHS.study("aggregation"),
    params:
        eval=[CONFIG.eval.seed, CONFIG.eval.bootstrap, *UNITS.values()],
    log:
        LOGS / "study" / "aggregation.log",
    benchmark:
        BENCHMARKS / "study" / "aggregation.tsv"
    message:
        "measuring the poolings of segments"
    shell:
        "python -m study.aggregation.measure {FLAGS} > {log:q} 2>&1"
