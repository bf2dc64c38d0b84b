from study.length.config import SHARDS_A_JOB, variant_backbones, variant_config, videos_of

# Some of the videos with other segments: each variant is a results folder of its own. Its rules are those of
# pipeline/rules.smk for one job of all shards, without their `params`: what a variant depends on is in its plan.
VARIANT = Paths(PATHS.study_variant("{variant}"))
VARIANT_FLAGS = f"--config {shlex.quote(str(Paths(PATHS.study_variant('{wildcards.variant}')).config))}"
VARIANT_SHARDS = f"{VARIANT_FLAGS} --shard 0 --shards {SHARDS_A_JOB}"
VARIANT_LOGS, VARIANT_BENCHMARKS = (folder / "study" / "length" / "{variant}" for folder in (LOGS, BENCHMARKS))
VARIANT_BACKBONES = variant_backbones(CONFIG)
# These few jobs are long and start first: at the end they would leave the other cores idle. Snakemake gives their inputs
# no priority, so those have it too.
FIRST = 1


rule study_length_variant:
    input:
        PATHS.manifest_record,
        [PATHS.weights_record(name) for name in VARIANT_BACKBONES],
    output:
        # Without a plan nothing had been computed, and nothing would be said of videos that changed.
        plan=update(VARIANT.plan),
        manifest=VARIANT.manifest_record,
    priority: FIRST
    params:
        segments=CONFIG.segments.model_dump(),
        videos=lambda wc: videos_of(CONFIG),
        backbones={name: BACKBONES[name] for name in VARIANT_BACKBONES},
    log:
        VARIANT_LOGS / "plan.log",
    benchmark:
        VARIANT_BENCHMARKS / "plan.tsv"
    localrule: True
    message:
        "preparing the segments of {wildcards.variant}"
    # That known videos have other audio is for the user to see.
    shell:
        "python -m study.length.variant {FLAGS} --variant {wildcards.variant} 2>&1 | tee {log:q}"


rule study_length_probe:
    input:
        VARIANT.plan,
    output:
        VARIANT.job_done("probe", 0, SHARDS_A_JOB),
    priority: FIRST
    log:
        VARIANT_LOGS / "probe.log",
    benchmark:
        VARIANT_BENCHMARKS / "probe.tsv"
    resources:
        runtime=lambda wc, attempt: asked.minutes(CONFIG, ["probe"], CONFIG.study.length.videos, attempt),
        mem_mb=lambda wc, attempt: asked.megabytes(1, attempt),
    message:
        "finding the segments of {wildcards.variant}"
    shell:
        "python -m pipeline.probe " + VARIANT_SHARDS + " > {log:q} 2>&1"


rule study_length_extract:
    input:
        VARIANT.job_done("probe", 0, SHARDS_A_JOB),
        VARIANT.plan,
    output:
        VARIANT.job_done("{backbone}", 0, SHARDS_A_JOB),
    priority: FIRST
    log:
        VARIANT_LOGS / "{backbone}.log",
    benchmark:
        VARIANT_BENCHMARKS / "{backbone}.tsv"
    threads: lambda wc: CONFIG.backbones[wc.backbone].threads
    resources:
        runtime=lambda wc, attempt: asked.minutes(
            variant_config(CONFIG, wc.variant), [wc.backbone], CONFIG.study.length.videos, attempt
        ),
        mem_mb=lambda wc, attempt: asked.megabytes(CONFIG.backbones[wc.backbone].threads, attempt),
        gpu=lambda wc: asked.gpus(CONFIG, [wc.backbone]),
    message:
        "extracting {wildcards.backbone} of {wildcards.variant}"
    shell:
        "python -m pipeline.extract --backbone {wildcards.backbone} "
        + VARIANT_SHARDS
        + " 2>&1 | (trap '' INT TERM; exec tee {log:q})"


rule study_length_index:
    input:
        [VARIANT.job_done(backbone, 0, SHARDS_A_JOB) for backbone in VARIANT_BACKBONES],
        VARIANT.plan,
        VARIANT.manifest_record,
    output:
        VARIANT.features_record,
    log:
        VARIANT_LOGS / "index.log",
    benchmark:
        VARIANT_BENCHMARKS / "index.tsv"
    localrule: True
    message:
        "closing the cache of {wildcards.variant}"
    shell:
        "python -m pipeline.index " + VARIANT_FLAGS + " > {log:q} 2>&1"


# The features of every variant, and the manifest that says which videos they are of.
VARIANTS = [
    record
    for variant in CONFIG.study.length.variants
    for of in [Paths(PATHS.study_variant(variant.name))]
    for record in (of.features_record, of.manifest_record)
]


rule study_length_train:
    input:
        VARIANTS,
    # The embeddings are not declared: Snakemake would delete those that are finished when a job is interrupted.
    output:
        PATHS.study_work("length") / "trained.json",
    params:
        length=CONFIG.study.length.model_dump(),
        folds="of whole artists",  # what was made with others is made again
        sides=[CONFIG.heads.audio, CONFIG.heads.video],
        seeds=CONFIG.study.seeds,
    log:
        LOGS / "study" / "length" / "train.log",
    benchmark:
        BENCHMARKS / "study" / "length" / "train.tsv"
    message:
        "fitting linear heads on segments of every length"
    shell:
        "python -m study.length.train {FLAGS} --threads {threads} > {log:q} 2>&1"


rule study_length:
    input:
        rules.study_length_train.output,
        VARIANTS,
        PATHS.manifest_record,
    output:
        PATHS.study("length"),
    params:
        eval=[CONFIG.eval.seed, CONFIG.eval.bootstrap, *UNITS.values()],
        render=CONFIG.render and CONFIG.render.model_dump(),
    log:
        LOGS / "study" / "length" / "measure.log",
    benchmark:
        BENCHMARKS / "study" / "length" / "measure.tsv"
    message:
        "comparing segments of every length"
    shell:
        "python -m study.length.measure {FLAGS} --threads {threads} > {log:q} 2>&1"
