if CONFIG.render is not None:

    rule render:
        input: WEIGHTS_FIRST,
        output: CONFIG.table
        params: render=CONFIG.render.model_dump(),
        log: LOGS / "render.log",
        benchmark: BENCHMARKS / "render.tsv"
        # On a cluster Snakemake knows no number of cores.
        threads: min(workflow.cores or 1, 64)
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
