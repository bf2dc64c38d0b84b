# The study's trainings: what each part (eval/study/answer.py: PARTS) fits on the cached features, `study_PART_train`.


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
    threads: min(workflow.cores or 1, 16)
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
    threads: min(workflow.cores or 1, 16)
    message: "training fusions of sound and pictures"
    shell: "python -m heads.study.fusion {FLAGS} --threads {threads} > {log:q} 2>&1"
