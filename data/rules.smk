if CONFIG.render is not None:

    rule render:
        input: WEIGHTS_FIRST,
        output: CONFIG.table
        params: render=CONFIG.render.model_dump(),
        log: LOGS / "render.log",
        benchmark: BENCHMARKS / "render.tsv"
        threads: cores(at_most=64)
        localrule: True
        message: "rendering music videos"
        shell: "python -m data.render {FLAGS} --threads {threads} 2>&1 | tee {log:q}"


# manifest.parquet is not declared: Snakemake deletes outputs before it runs a rule again, and row numbers are for ever.
rule write_manifest:
    input:
        CONFIG.table,
        WEIGHTS_FIRST,
    output: PATHS.manifest_record,
    params: splits=CONFIG.splits.model_dump(),
    log: LOGS / "manifest.log",
    benchmark: BENCHMARKS / "manifest.tsv"
    localrule: True
    message: "numbering the videos"
    shell: "python -m data.manifest {FLAGS} > {log:q} 2>&1"


rule find_labels:
    input:
        PATHS.manifest_record,
        lambda wc: list(CONFIG.labels.files(wc.task).values()),
    output:
        table=PATHS.labels("{task}"),
        record=PATHS.labels_record("{task}"),
    params: task=lambda wc: CONFIG.labels.task(wc.task).model_dump(),
    log: LOGS / "labels" / "{task}.log",
    benchmark: BENCHMARKS / "labels" / "{task}.tsv"
    localrule: True
    message: "finding the labels for '{wildcards.task}'"
    shell: "python -m data.labels {FLAGS} --task {wildcards.task} > {log:q} 2>&1"
