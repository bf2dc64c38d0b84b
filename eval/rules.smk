# What stands for the features, and for splits and labels of their own: every rule that reads them names it, even where
# another of its inputs was made from it. That one may come out the same, and then says nothing.
CACHE = [PATHS.features_record, PATHS.manifest_record]


# What is resampled for intervals (data/groups.py). It was videos once: intervals of both kinds must not be compared.
UNITS = {"units": "groups"}

# What of `eval` changes a measurement: not the map to browse (eval/atlas/rules.smk).
MEASURING = CONFIG.eval.model_dump(exclude={"atlas"})

# Backbones that only some experiments read: a video is ranked if all of them could read it.
ALSO_READ = {"backbones": CONFIG.used_backbones} if len(CONFIG.spaces) > 1 else {}


rule retrieval:
    input:
        rules.embed.output,
        CACHE,
    output:
        json=PATHS.eval("{experiment}") / "retrieval.json",
        resampled=PATHS.eval("{experiment}") / "retrieval.safetensors",
    params:
        eval=MEASURING | ALSO_READ | UNITS,
        seeds=CONFIG.heads.seeds,
    log:
        LOGS / "retrieval" / "{experiment}.log",
    benchmark:
        BENCHMARKS / "retrieval" / "{experiment}.tsv"
    threads: 2
    message:
        "ranking the positives with '{wildcards.experiment}'"
    shell:
        "python -m eval.retrieval {FLAGS} --experiment {wildcards.experiment} --threads {threads} > {log:q} 2>&1"


# Not part of `all`: only where near-duplicates were asked for.
rule retrieval_with_duplicates:
    input:
        rules.embed.output,
        CACHE,
        PATHS.duplicates,
        PATHS.duplicates_table,
    output:
        PATHS.eval("{experiment}") / "duplicates.json",
    params:
        eval=MEASURING | ALSO_READ | UNITS,
        seeds=CONFIG.heads.seeds,
    log:
        LOGS / "retrieval_with_duplicates" / "{experiment}.log",
    benchmark:
        BENCHMARKS / "retrieval_with_duplicates" / "{experiment}.tsv"
    threads: 2
    message:
        "ranking positives and their duplicates with '{wildcards.experiment}'"
    shell:
        "python -m eval.duplicates {FLAGS} --experiment {wildcards.experiment} --threads {threads} > {log:q} 2>&1"


rule compare:
    input:
        [PATHS.eval(e) / f"retrieval.{kind}" for e in CONFIG.heads.experiments for kind in ("json", "safetensors")],
    output:
        PATHS.comparison,
    params:
        experiments=list(CONFIG.heads.experiments),
    log:
        LOGS / "compare.log",
    benchmark:
        BENCHMARKS / "compare.tsv"
    message:
        "comparing the experiments"
    shell:
        "python -m eval.compare {FLAGS} > {log:q} 2>&1"


# Labels of other files than the manifest, which neighbours are compared by, in the diagnosis too.
FOREIGN = [PATHS.labels_record(task) for task in CONFIG.labels.tasks if CONFIG.labels.task(task).source != "manifest"]


rule neighbours_of_features:
    input:
        CACHE,
        FOREIGN,
    output:
        PATHS.eval("{space}") / "neighbours.json",
    params:
        eval=[CONFIG.eval.seed, CONFIG.eval.bootstrap, *UNITS.values()],
        sides=CONFIG.used_backbones,
    log:
        LOGS / "neighbours" / "{space}.log",
    benchmark:
        BENCHMARKS / "neighbours" / "{space}.tsv"
    message:
        "finding nearest neighbours with the backbones' features"
    shell:
        "python -m eval.neighbours {FLAGS} --space {wildcards.space} > {log:q} 2>&1"


rule neighbours:
    input:
        rules.embed.output,
        CACHE,
        FOREIGN,
    output:
        PATHS.eval("{experiment}") / "neighbours.json",
    params:
        eval=[CONFIG.eval.seed, CONFIG.eval.bootstrap, *ALSO_READ.values(), *UNITS.values()],
    log:
        LOGS / "neighbours" / "{experiment}.log",
    benchmark:
        BENCHMARKS / "neighbours" / "{experiment}.tsv"
    message:
        "finding nearest neighbours with '{wildcards.experiment}'"
    shell:
        "python -m eval.neighbours {FLAGS} --experiment {wildcards.experiment} > {log:q} 2>&1"


# What of the configuration the probes depend on, besides what their inputs carry.
PROBED = {
    "probes": CONFIG.probes.model_dump(),
    "seeds": CONFIG.heads.seeds,
    "sides": CONFIG.used_backbones,
    "bootstrap": [CONFIG.eval.bootstrap, CONFIG.eval.seed],
} | UNITS


# One core each: there are as many jobs as tasks and experiments, and small matrices gain nothing from a second one.
rule probe_features:
    input:
        CACHE,
        PATHS.labels_record("{task}"),
    output:
        json=PATHS.eval("{space}") / "{task}.json",
        scores=PATHS.eval("{space}") / "{task}.safetensors",
    params:
        probed=PROBED,
    log:
        LOGS / "probe" / "{space}" / "{task}.log",
    benchmark:
        BENCHMARKS / "probe" / "{space}" / "{task}.tsv"
    message:
        "probing the backbones' features for '{wildcards.task}'"
    shell:
        "python -m eval.probe {FLAGS} --task {wildcards.task} --space {wildcards.space} > {log:q} 2>&1"


rule probe_experiment:
    input:
        rules.embed.output,
        CACHE,
        PATHS.labels_record("{task}"),
        lambda wc: expand(rules.probe_features.output, space=CONFIG.space(CONFIG.sides(wc.experiment)), task=wc.task),
    output:
        json=PATHS.eval("{experiment}") / "{task}.json",
        scores=PATHS.eval("{experiment}") / "{task}.safetensors",
    params:
        probed=PROBED,
    log:
        LOGS / "probe" / "{experiment}" / "{task}.log",
    benchmark:
        BENCHMARKS / "probe" / "{experiment}" / "{task}.tsv"
    message:
        "probing the embeddings of '{wildcards.experiment}' for '{wildcards.task}'"
    shell:
        "python -m eval.probe {FLAGS} --task {wildcards.task} --experiment {wildcards.experiment} > {log:q} 2>&1"


rule diagnose:
    input:
        rules.train_heads.output.checkpoint,
        rules.train_heads.output.metrics,
        rules.embed.output,
        CACHE,
        FOREIGN,
        PATHS.eval("{experiment}") / "retrieval.json",
        [PATHS.eval("{experiment}") / f"{task}.json" for task in CONFIG.labels.tasks],
    output:
        PATHS.eval("{experiment}") / "diagnosis.json",
    params:
        eval=MEASURING | UNITS,
    log:
        LOGS / "diagnose" / "{experiment}.log",
    benchmark:
        BENCHMARKS / "diagnose" / "{experiment}.tsv"
    threads: 2
    message:
        "looking for signatures of failure in '{wildcards.experiment}'"
    shell:
        "python -m eval.diagnose {FLAGS} --experiment {wildcards.experiment} --threads {threads} > {log:q} 2>&1"


def measured():
    """What the report needs of every experiment; nothing where there are too few videos to fit projection heads."""
    # The plan first: where its job changes nothing, the index has no reason to run, and only who has asked for the plan is
    # asked again for all that the report needs. Otherwise what else has changed would wait for the next run.
    checkpoints.plan.get()
    checkpoints.index.get()
    if not trainable(read_cache_record(PATHS).complete):
        return []
    return [
        path
        for e in CONFIG.heads.experiments
        for path in (
            PATHS.heads(e) / "metrics.jsonl",
            PATHS.eval(e) / "retrieval.json",
            PATHS.eval(e) / "neighbours.json",
            PATHS.eval(e) / "diagnosis.json",
        )
    ] + [PATHS.comparison, *neighbours_of_spaces(), *probed()]


def neighbours_of_spaces():
    """The neighbours by the features themselves, of every pair of sides."""
    return [PATHS.eval(space) / "neighbours.json" for space in CONFIG.spaces]


def probed():
    """The probes of all tasks: on the features and on every experiment's embeddings."""
    spaces = (*CONFIG.spaces, *CONFIG.heads.experiments)
    return [PATHS.eval(space) / f"{task}.json" for space in spaces for task in CONFIG.labels.tasks]


def found_duplicates():
    """What the report shows of near-duplicates, as one digest; nothing where they were not looked for.

    As inputs the files themselves would be made again where they are out of date, which nobody asked the report for.
    """
    files = [PATHS.duplicates, PATHS.duplicates_table]
    files += [PATHS.eval(e) / "duplicates.json" for e in CONFIG.heads.experiments]
    lines = [
        f"{file.relative_to(PATHS.results)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n"
        for file in files
        if file.exists()
    ]
    return [write_digest(PATHS.digest_of("duplicates"), "".join(lines))] if lines else []


rule write_report:
    input:
        lambda wc: measured(),
        lambda wc: found_duplicates(),
        PATHS.failures,
        # Named besides, so that Snakemake makes them again when somebody has deleted one.
        PATHS.plan,
        CACHE,
    output:
        PATHS.report / "index.html",
    params:
        experiments=list(CONFIG.heads.experiments),
    log:
        LOGS / "report.log",
    benchmark:
        BENCHMARKS / "report.tsv"
    message:
        "writing the report"
    shell:
        "python -m eval.report {FLAGS} > {log:q} 2>&1"
