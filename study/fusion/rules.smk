# Trainings are processes of one core each. What they have finished is kept in study/fusion/pieces, which Snakemake does
# not know, so that a killed job goes on.


rule study_fusion_train:
    input:
        features=PATHS.features_record,
        manifest=PATHS.manifest_record,
        labels=[PATHS.labels_record(task) for task in CONFIG.labels.tasks],
    output:
        PATHS.study_work("fusion") / "trained.safetensors",
    params:
        **CONFIG.heads.rounding(),
        settings=CONFIG.study.fusion.model_dump(),
        backbones=[CONFIG.heads.audio, CONFIG.heads.video],
        seeds=CONFIG.study.seeds,
    log:
        LOGS / "study" / "fusion_train.log",
    benchmark:
        BENCHMARKS / "study" / "fusion_train.tsv"
    threads: cores(at_most=16)
    message:
        "training fusions of audio and video"
    shell:
        "python -m study.fusion.train {FLAGS} --threads {threads} > {log:q} 2>&1"


rule study_fusion:
    input:
        rules.study_fusion_train.output,
        CACHE,
        [PATHS.labels_record(task) for task in CONFIG.labels.tasks],
    output:
        PATHS.study("fusion"),
    params:
        eval=[CONFIG.eval.seed, CONFIG.eval.bootstrap, *UNITS.values()],
    log:
        LOGS / "study" / "fusion.log",
    benchmark:
        BENCHMARKS / "study" / "fusion.tsv"
    message:
        "measuring the fusions of audio and video"
    shell:
        "python -m study.fusion.measure {FLAGS} > {log:q} 2>&1"
