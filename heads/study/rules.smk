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
    threads: cores(at_most=64)
    resources:
        mem_mb=lambda wc, threads: 1500 * threads,
    message: "fitting every recipe at every correlation"
    shell: "python -m heads.study.correlation {FLAGS} --threads {threads} > {log:q} 2>&1"
# Trainings are processes of one core each. What they have finished is kept in study/PART/pieces, which Snakemake does
# not know, so that a killed job goes on.


rule study_aggregation_train:
    input:
        features=PATHS.features_record,
        manifest=PATHS.manifest_record,
    output: PATHS.study_work("aggregation") / "trained.safetensors",
    params:
        settings=CONFIG.study.aggregation.model_dump(),
        backbones=[CONFIG.heads.audio, CONFIG.heads.video],
        seeds=CONFIG.study.seeds,
    log: LOGS / "study" / "aggregation_train.log",
    benchmark: BENCHMARKS / "study" / "aggregation_train.tsv"
    threads: cores(at_most=16)
    message: "training every pooling of segments"
    shell: "python -m heads.study.aggregation {FLAGS} --threads {threads} > {log:q} 2>&1"


rule study_fusion_train:
    input:
        features=PATHS.features_record,
        manifest=PATHS.manifest_record,
        labels=[PATHS.labels_record(task) for task in CONFIG.labels.tasks],
    output: PATHS.study_work("fusion") / "trained.safetensors",
    params:
        settings=CONFIG.study.fusion.model_dump(),
        backbones=[CONFIG.heads.audio, CONFIG.heads.video],
        seeds=CONFIG.study.seeds,
    log: LOGS / "study" / "fusion_train.log",
    benchmark: BENCHMARKS / "study" / "fusion_train.tsv"
    threads: cores(at_most=16)
    message: "training fusions of sound and pictures"
    shell: "python -m heads.study.fusion {FLAGS} --threads {threads} > {log:q} 2>&1"
