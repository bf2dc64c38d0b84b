# Extraction. What may rerun a month of it stands in `params` of extract_shard: the cache key and nothing else.

from functools import lru_cache

from config.variant import SHARDS_A_JOB, variant_backbones, variant_config
from pipeline import resources as asked


def plan():
    """The plan as it is on disk: parsed again only when the file is another one. UserError's words if there is none."""
    try:
        now = PATHS.plan.stat()
    except FileNotFoundError:
        raise WorkflowError(f"{PATHS.plan} does not exist; ask for `extract`, not for single shards, the first time")
    return parsed_plan(now.st_ino, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=1)
def parsed_plan(*stamp):
    return read_json(PATHS.plan)


def jobs():
    """The first shard of every job, once the checkpoint has made the plan. Nobody else asks the checkpoint, because a
    job that a cluster runs has none."""
    checkpoints.plan.get()
    return [f"{shard:05d}" for shard in range(0, plan()["shards"], CONFIG.shards_a_job)]


def rows_of(shard):
    """Videos of the job that begins with this shard."""
    known = plan()
    size = known["shard_videos"]
    return min(size * CONFIG.shards_a_job, known["videos"] - int(shard) * size)


def cache_bytes():
    """Bytes of all features in memory; 0 before the plan, when nothing that needs them can run."""
    if not PATHS.plan.exists():
        return 0
    known = plan()
    return 2 * known["videos"] * known["segments"]["count"] * sum(b["dim"] for b in known["backbones"].values())


def key_of(backbone):
    """The backbone's cache key. WorkflowError if the plan is older than it, which Snakemake sees by its own records;
    they are not there where the results were moved, or are worked on from elsewhere."""
    known = plan()["backbones"]
    if backbone not in known:
        raise WorkflowError(f"{PATHS.plan} has no backbone '{backbone}'; delete that file, it is made again at once")
    return known[backbone]["key"]


def job_done(part):
    return PATHS.job_done(part, "{shard}", CONFIG.shards_a_job)


# A shard's number has leading zeros, which bash would read as octal.
SHARDS = f"--shard $((10#{{wildcards.shard}})) --shards {CONFIG.shards_a_job}"


rule weights:
    output:
        record=PATHS.weights_record("{backbone}"),
        tensors=PATHS.weights("{backbone}"),
    params:
        source=lambda wc: CONFIG.backbones[wc.backbone].weights,
        seed=lambda wc: CONFIG.backbones[wc.backbone].seed,
        options=lambda wc: BACKBONES[wc.backbone],
    log: LOGS / "weights" / "{backbone}.log",
    benchmark: BENCHMARKS / "weights" / "{backbone}.tsv"
    localrule: True
    message: "getting the weights of {wildcards.backbone}"
    shell: "python -m pipeline.weights {FLAGS} --backbone {wildcards.backbone} > {log:q} 2>&1"


# A checkpoint, because only the manifest knows how many shards there are, and the Snakefile never reads the manifest.
checkpoint plan:
    input:
        PATHS.manifest_record,
        [PATHS.weights_record(name) for name in CONFIG.backbones],
    output: PATHS.plan,
    params:
        segments=CONFIG.segments.model_dump(),
        shard_videos=CONFIG.shard_videos,
        backbones=BACKBONES,
    log: LOGS / "plan.log",
    benchmark: BENCHMARKS / "plan.tsv"
    localrule: True
    message: "planning shards and cache keys"
    shell: "python -m pipeline.plan {FLAGS} > {log:q} 2>&1"


# `rows` reruns the probe of a shard that gained videos, and its new record the extraction.
rule probe:
    output: job_done("probe"),
    params:
        key=lambda wc: plan()["segment_key"],
        rows=lambda wc: rows_of(wc.shard),
    log: LOGS / "probe" / "{shard}.log",
    benchmark: BENCHMARKS / "probe" / "{shard}.tsv"
    resources:
        runtime=lambda wc, attempt: asked.minutes(CONFIG, "probe", rows_of(wc.shard), attempt),
        mem_mb=lambda wc, attempt: asked.megabytes(1, attempt),
    message: "finding the segments of shard {wildcards.shard}"
    shell: "python -m pipeline.probe {FLAGS} " + SHARDS + " > {log:q} 2>&1"


rule extract_shard:
    input:
        probe=job_done("probe"),
        # Their identity is in the key; their time stamp means nothing.
        weights=ancient(PATHS.weights("{backbone}")),
    output: job_done("{backbone}"),
    params: key=lambda wc: key_of(wc.backbone),
    log: LOGS / "extract" / "{backbone}" / "{shard}.log",
    benchmark: BENCHMARKS / "extract" / "{backbone}" / "{shard}.tsv"
    threads: lambda wc: CONFIG.backbones[wc.backbone].threads
    resources:
        runtime=lambda wc, attempt: asked.minutes(CONFIG, wc.backbone, rows_of(wc.shard), attempt),
        mem_mb=lambda wc, attempt: asked.megabytes(CONFIG.backbones[wc.backbone].threads, attempt),
        gpu=lambda wc: asked.gpus(CONFIG, wc.backbone),
    message: "{wildcards.backbone} looks at shard {wildcards.shard}"
    shell:
        "python -m pipeline.extract {FLAGS} --backbone {wildcards.backbone} " + SHARDS +
        # tee stays until the job is gone: asked to stop, that still has something to say.
        " 2>&1 | (trap '' INT TERM; exec tee {log:q})"


# A checkpoint, because only the features tell whether there are enough videos for projection heads.
checkpoint index:
    input:
        lambda wc: [
            PATHS.job_done(backbone, shard, CONFIG.shards_a_job) for shard in jobs() for backbone in CONFIG.backbones
        ],
        # Named besides, so that Snakemake makes it again when somebody has deleted it.
        PATHS.plan,
    output:
        failures=PATHS.failures,
        record=PATHS.features_record,
    log: LOGS / "index.log",
    benchmark: BENCHMARKS / "index.tsv"
    localrule: True
    message: "collecting failures"
    shell: "python -m pipeline.index {FLAGS} > {log:q} 2>&1"


rule statistics_of:
    input: PATHS.features_record, PATHS.manifest_record,
    output: PATHS.statistics("{backbone}"),
    log: LOGS / "statistics" / "{backbone}.log",
    benchmark: BENCHMARKS / "statistics" / "{backbone}.tsv"
    threads: 2
    message: "mean and covariance of the features of {wildcards.backbone}"
    shell: "python -m pipeline.statistics {FLAGS} --backbone {wildcards.backbone} --threads {threads} > {log:q} 2>&1"


# A second look at some of the videos, for the study of the segments' length: each variant is a results folder of its own.
VARIANT = Paths(PATHS.study_variant("{variant}"))
VARIANT_FLAGS = f"--config {shlex.quote(str(Paths(PATHS.study_variant('{wildcards.variant}')).config))}"
VARIANT_BACKBONES = variant_backbones(CONFIG)
VARIANT_SHARDS = f"--shard 0 --shards {SHARDS_A_JOB}"
# One long job each: begun last, they would leave the other cores idle at the end. Snakemake gives what they need none of
# their priority.
FIRST = 1


rule study_length_variant:
    input:
        PATHS.manifest_record,
        [PATHS.weights_record(name) for name in VARIANT_BACKBONES],
    output: VARIANT.plan,
    priority: FIRST
    params:
        segments=CONFIG.segments.model_dump(),
        videos=CONFIG.study.length.videos,
        backbones={name: BACKBONES[name] for name in VARIANT_BACKBONES},
    log: LOGS / "study" / "length" / "{variant}" / "plan.log",
    benchmark: BENCHMARKS / "study" / "length" / "{variant}" / "plan.tsv"
    localrule: True
    message: "preparing the segments of {wildcards.variant}"
    shell: "python -m pipeline.variant {FLAGS} --variant {wildcards.variant} > {log:q} 2>&1"


rule study_length_probe:
    input: VARIANT.plan,
    output: VARIANT.job_done("probe", 0, SHARDS_A_JOB),
    priority: FIRST
    log: LOGS / "study" / "length" / "{variant}" / "probe.log",
    benchmark: BENCHMARKS / "study" / "length" / "{variant}" / "probe.tsv"
    resources:
        runtime=lambda wc, attempt: asked.minutes(CONFIG, "probe", CONFIG.study.length.videos, attempt),
        mem_mb=lambda wc, attempt: asked.megabytes(1, attempt),
    message: "finding the segments of {wildcards.variant}"
    shell: "python -m pipeline.probe " + VARIANT_FLAGS + " " + VARIANT_SHARDS + " > {log:q} 2>&1"


rule study_length_extract:
    input: VARIANT.job_done("probe", 0, SHARDS_A_JOB),
    output: VARIANT.job_done("{backbone}", 0, SHARDS_A_JOB),
    priority: FIRST
    log: LOGS / "study" / "length" / "{variant}" / "{backbone}.log",
    benchmark: BENCHMARKS / "study" / "length" / "{variant}" / "{backbone}.tsv"
    threads: lambda wc: CONFIG.backbones[wc.backbone].threads
    resources:
        runtime=lambda wc, attempt: asked.minutes(
            variant_config(CONFIG, wc.variant), wc.backbone, CONFIG.study.length.videos, attempt
        ),
        mem_mb=lambda wc, attempt: asked.megabytes(CONFIG.backbones[wc.backbone].threads, attempt),
        gpu=lambda wc: asked.gpus(CONFIG, wc.backbone),
    message: "{wildcards.backbone} looks at {wildcards.variant}"
    shell:
        "python -m pipeline.extract " + VARIANT_FLAGS + " --backbone {wildcards.backbone} " + VARIANT_SHARDS +
        " 2>&1 | (trap '' INT TERM; exec tee {log:q})"


rule study_length_index:
    input: [VARIANT.job_done(backbone, 0, SHARDS_A_JOB) for backbone in VARIANT_BACKBONES],
    output: VARIANT.features_record,
    log: LOGS / "study" / "length" / "{variant}" / "index.log",
    benchmark: BENCHMARKS / "study" / "length" / "{variant}" / "index.tsv"
    localrule: True
    message: "closing the cache of {wildcards.variant}"
    shell: "python -m pipeline.index " + VARIANT_FLAGS + " > {log:q} 2>&1"
