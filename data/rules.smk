if CONFIG.render is not None:

    # It stops where weights could not be had. They are no inputs: Snakemake looks at no parameter of a rule that comes after
    # one that runs. It needs all cores, so that it begins after them.
    rule render:
        output:
            CONFIG.table,
        params:
            render=CONFIG.render.model_dump(),
        log:
            LOGS / "render.log",
        benchmark:
            BENCHMARKS / "render.tsv"
        threads: cores(at_most=10**6)
        localrule: True
        message:
            "rendering music videos"
        shell:
            "python -m data.render {FLAGS} --threads {threads} 2>&1 | tee {log:q}"


# Of the user's own files the content counts, not the time: `ancient` hides their times, and a file under work/ that holds
# their digest is an input. It is looked up when a run is planned, not in jobs.
def of_table(wildcards):
    from data.videos import note_table

    return note_table(CONFIG)


def of_labels(wildcards):
    from data.labels import note_files

    return note_files(CONFIG, wildcards.task) or []


# manifest.parquet is not declared: Snakemake deletes outputs before it runs a rule again, and row numbers are for ever.
rule write_manifest:
    input:
        CONFIG.table if CONFIG.videos is None else [] if CONFIG.is_pattern else ancient(CONFIG.table),
        [] if CONFIG.videos is None else of_table,
    output:
        PATHS.manifest_record,
    params:
        splits=CONFIG.splits.model_dump(),
    log:
        LOGS / "manifest.log",
    benchmark:
        BENCHMARKS / "manifest.tsv"
    localrule: True
    message:
        "numbering the videos"
    # What a folder scan leaves out and files that are listed twice are for the user to see.
    shell:
        "python -m data.manifest {FLAGS} 2>&1 | tee {log:q}"


rule find_labels:
    input:
        PATHS.manifest_record,
        lambda wc: [ancient(path) for path in CONFIG.labels.files(wc.task).values()],
        of_labels,
    output:
        table=PATHS.labels("{task}"),
        record=PATHS.labels_record("{task}"),
    params:
        task=lambda wc: CONFIG.labels.task(wc.task).model_dump(),
    log:
        LOGS / "labels" / "{task}.log",
    benchmark:
        BENCHMARKS / "labels" / "{task}.tsv"
    localrule: True
    message:
        "finding the labels for '{wildcards.task}'"
    shell:
        "python -m data.labels {FLAGS} --task {wildcards.task} > {log:q} 2>&1"
