# Trainings are processes of one core each. What they have finished is kept in study/sources/pieces, which Snakemake does not
# know, so that a killed job goes on.


rule study_sources_train:
    input:
        study_fits,
        features=PATHS.features_record,
        manifest=PATHS.manifest_record,
    output:
        PATHS.study_work("sources") / "trained.safetensors",
    params:
        **CONFIG.heads.rounding(),
        settings=CONFIG.study.sources.model_dump(include={"recipe", "folds", "near_duplicate", "others"}),
        backbones=[CONFIG.heads.audio, CONFIG.heads.video],
        seeds=CONFIG.study.seeds,
    log:
        LOGS / "study" / "sources_train.log",
    benchmark:
        BENCHMARKS / "study" / "sources_train.tsv"
    threads: cores(at_most=16)
    message:
        "training heads on folds of whole sources"
    shell:
        "python -m study.sources.train {FLAGS} --threads {threads} > {log:q} 2>&1"


rule study_sources:
    input:
        rules.study_sources_train.output,
        CACHE,
    output:
        PATHS.study("sources"),
    params:
        settings=CONFIG.study.sources.model_dump(),
        eval=[CONFIG.eval.seed, CONFIG.eval.bootstrap],
    log:
        LOGS / "study" / "sources.log",
    benchmark:
        BENCHMARKS / "study" / "sources.tsv"
    threads: cores(at_most=16)
    message:
        "ranking across sources and inside them"
    shell:
        "python -m study.sources.measure {FLAGS} --threads {threads} > {log:q} 2>&1"
