from heads.runs import folders


rule train_heads:
    input:
        features=PATHS.features_record,
        manifest=PATHS.manifest_record,
    output:
        checkpoint=[folder / "checkpoint.safetensors" for folder in folders(CONFIG, "{experiment}")],
        metrics=[folder / "metrics.jsonl" for folder in folders(CONFIG, "{experiment}")],
        config=[folder / "config.json" for folder in folders(CONFIG, "{experiment}")],
    params:
        **CONFIG.heads.rounding(),
        experiment=lambda wc: CONFIG.heads.experiments[wc.experiment].model_dump(),
        backbones=lambda wc: CONFIG.sides(wc.experiment).names,
        seeds=CONFIG.heads.seeds,
    log:
        LOGS / "train" / "{experiment}.log",
    benchmark:
        BENCHMARKS / "train" / "{experiment}.tsv"
    threads: 2
    resources:
        mem_mb=lambda wc, attempt: asked.training_megabytes(cache_bytes(), attempt),
    message:
        "fitting the projection heads '{wildcards.experiment}' (epochs: {log})"
    shell:
        "python -m heads.train {FLAGS} --experiment {wildcards.experiment} --threads {threads} > {log:q} 2>&1"


rule embed:
    input:
        rules.train_heads.output.checkpoint,
        PATHS.features_record,
    output:
        [folder / "embeddings.json" for folder in folders(CONFIG, "{experiment}")],
    log:
        LOGS / "embed" / "{experiment}.log",
    benchmark:
        BENCHMARKS / "embed" / "{experiment}.tsv"
    threads: 2
    resources:
        mem_mb=lambda wc, attempt: asked.training_megabytes(cache_bytes(), attempt),
    message:
        "embedding all videos with '{wildcards.experiment}'"
    shell:
        "python -m heads.embed {FLAGS} --experiment {wildcards.experiment} --threads {threads} > {log:q} 2>&1"
