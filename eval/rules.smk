rule retrieval:
    input: rules.embed.output,
    output:
        json=PATHS.eval("{experiment}") / "retrieval.json",
        resampled=PATHS.eval("{experiment}") / "retrieval.safetensors",
    params:
        eval=CONFIG.eval.model_dump(),
        seeds=CONFIG.heads.seeds,
    log: LOGS / "retrieval" / "{experiment}.log",
    benchmark: BENCHMARKS / "retrieval" / "{experiment}.tsv"
    threads: 2
    message: "ranking the true partners with '{wildcards.experiment}'"
    shell: "python -m eval.retrieval {FLAGS} --experiment {wildcards.experiment} --threads {threads} > {log:q} 2>&1"


rule compare:
    input: [PATHS.eval(e) / f"retrieval.{kind}" for e in CONFIG.heads.experiments for kind in ("json", "safetensors")],
    output: PATHS.comparison,
    params: experiments=list(CONFIG.heads.experiments),
    log: LOGS / "compare.log",
    benchmark: BENCHMARKS / "compare.tsv"
    message: "comparing the experiments"
    shell: "python -m eval.compare {FLAGS} > {log:q} 2>&1"


rule neighbours:
    input: rules.embed.output,
    output: PATHS.eval("{experiment}") / "neighbours.json",
    params: seed=CONFIG.eval.seed,
    log: LOGS / "neighbours" / "{experiment}.log",
    benchmark: BENCHMARKS / "neighbours" / "{experiment}.tsv"
    message: "finding nearest neighbours with '{wildcards.experiment}'"
    shell: "python -m eval.neighbours {FLAGS} --experiment {wildcards.experiment} > {log:q} 2>&1"


def measured():
    """What the report needs of every experiment; nothing where there are too few videos to fit projection heads."""
    record = read_json(Path(checkpoints.index.get().output.record))
    if not trainable(record["complete"]):
        return []
    return [
        path
        for e in CONFIG.heads.experiments
        for path in (
            PATHS.heads(e) / "metrics.jsonl",
            PATHS.eval(e) / "retrieval.json",
            PATHS.eval(e) / "neighbours.json",
        )
    ]


rule write_report:
    input:
        lambda wc: measured(),
        PATHS.failures,
        # Named besides, so that Snakemake makes it again when somebody has deleted it.
        PATHS.features_record,
    output: PATHS.report / "index.html",
    params: experiments=list(CONFIG.heads.experiments),
    log: LOGS / "report.log",
    benchmark: BENCHMARKS / "report.tsv"
    message: "writing the report"
    shell: "python -m eval.report {FLAGS} > {log:q} 2>&1"
