# Extraction. It can take a month, so `params` of its jobs have only what must rerun them: the cache keys.

from functools import lru_cache

from config.paths import short
from pipeline import resources as asked
from pipeline.passes import passes


def plan():
    """Return the plan on disk, parsed again only when the file has changed. WorkflowError if there is none."""
    try:
        now = PATHS.plan.stat()
    except FileNotFoundError:
        raise WorkflowError(f"{PATHS.plan} does not exist; ask for `extract`, not for single shards, the first time")
    return parsed_plan(now.st_ino, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=1)
def parsed_plan(*stamp):
    try:
        return read_plan(PATHS)
    except UserError as error:
        raise WorkflowError(str(error))


def jobs():
    """Return the first shard of every job, once the checkpoint has made the plan. Only this asks the checkpoint: a job
    that runs on a cluster has none."""
    checkpoints.plan.get()
    return [f"{shard:05d}" for shard in range(0, plan().shards, CONFIG.shards_a_job)]


def rows_of(shard):
    """Return the number of videos of the job that begins with this shard."""
    size = plan().shard_videos
    return min(size * CONFIG.shards_a_job, plan().videos - int(shard) * size)


def cache_bytes():
    """Return the bytes of all features in memory; 0 before the plan, when nothing that needs them can run."""
    return plan().feature_bytes if PATHS.plan.exists() else 0


def key_of(backbone):
    """Return the backbone's cache key. WorkflowError if the plan does not know the backbone. Snakemake notices an old
    plan by its own records, but these are missing if the results were moved or are used from elsewhere."""
    if backbone not in plan().backbones:
        raise WorkflowError(f"{PATHS.plan} has no backbone '{backbone}'; delete that file, it is made again at once")
    return plan().key(backbone)


def job_done(part):
    return PATHS.job_done(part, "{shard}", CONFIG.shards_a_job)


# Which backbones share a decoding. The plan job asks for the same, with the same plan: `update` below lets it stay.
PASSES = passes(CONFIG, plan() if PATHS.plan.exists() else None)
ALONE = [names[0] for names in PASSES if len(names) == 1]
# A shard's number has leading zeros, which bash would read as octal.
SHARDS = f"--shard $((10#{{wildcards.shard}})) --shards {CONFIG.shards_a_job}"


def of_weights(wildcards):
    """Return the source of the weights; of a local file also its digest, if it is known."""
    source = CONFIG.backbones[wildcards.backbone].weights
    digest = weights_digest(source, PATHS.digests)
    return [source, digest] if digest else source


rule weights:
    output:
        record=PATHS.weights_record("{backbone}"),
        tensors=PATHS.weights("{backbone}"),
    params:
        source=of_weights,
        seed=lambda wc: CONFIG.backbones[wc.backbone].seed,
        options=lambda wc: BACKBONES[wc.backbone],
    log:
        PATHS.weights_log("{backbone}"),
    benchmark:
        BENCHMARKS / "weights" / "{backbone}.tsv"
    # Before anything else: weights that cannot be had stop the run before any work. They are not an input of the first
    # rules: Snakemake does not look at what else has changed for a rule that comes after one that runs.
    priority: 100
    localrule: True
    message:
        "getting the weights of {wildcards.backbone}"
    shell:
        "python -m pipeline.weights {FLAGS} --backbone {wildcards.backbone} > {log:q} 2>&1"


# A checkpoint, because only the manifest knows how many shards there are, and the Snakefile never reads the manifest.
checkpoint plan:
    input:
        PATHS.manifest_record,
        [PATHS.weights_record(name) for name in CONFIG.backbones],
    output:
        update(PATHS.plan),
    params:
        segments=CONFIG.segments.model_dump(),
        shard_videos=CONFIG.shard_videos,
        backbones=BACKBONES,
    log:
        LOGS / "plan.log",
    benchmark:
        BENCHMARKS / "plan.tsv"
    localrule: True
    message:
        "planning shards and cache keys"
    shell:
        "python -m pipeline.plan {FLAGS} > {log:q} 2>&1"


# `rows` reruns the probe of a shard that gained videos, and its new record the extraction.
rule probe:
    output:
        job_done("probe"),
    params:
        key=lambda wc: plan().segment_key,
        rows=lambda wc: rows_of(wc.shard),
    log:
        LOGS / "probe" / "{shard}.log",
    benchmark:
        BENCHMARKS / "probe" / "{shard}.tsv"
    resources:
        runtime=lambda wc, attempt: asked.minutes(CONFIG, ["probe"], rows_of(wc.shard), attempt),
        mem_mb=lambda wc, attempt: asked.megabytes(1, attempt),
    message:
        "finding the segments of shard {wildcards.shard}"
    shell:
        "python -m pipeline.probe {FLAGS} " + SHARDS + " > {log:q} 2>&1"


# tee stays until the job is gone: asked to stop, that still has something to say.
TO_LOG = " 2>&1 | (trap '' INT TERM; exec tee {log:q})"

# Backbones that are alone in their pass.
if ALONE:

    rule extract_shard:
        input:
            probe=job_done("probe"),
            # Their identity is in the key; their time stamp means nothing.
            weights=ancient(PATHS.weights("{backbone}")),
        output:
            job_done("{backbone}"),
        wildcard_constraints:
            backbone="|".join(ALONE),
        params:
            key=lambda wc: key_of(wc.backbone),
        log:
            LOGS / "extract" / "{backbone}" / "{shard}.log",
        benchmark:
            BENCHMARKS / "extract" / "{backbone}" / "{shard}.tsv"
        threads: lambda wc: asked.threads(CONFIG, [wc.backbone])
        resources:
            runtime=lambda wc, attempt: asked.minutes(CONFIG, [wc.backbone], rows_of(wc.shard), attempt),
            mem_mb=lambda wc, attempt: asked.megabytes(asked.threads(CONFIG, [wc.backbone]), attempt),
            gpu=lambda wc: asked.gpus(CONFIG, [wc.backbone]),
        message:
            "{wildcards.backbone} extracts features of shard {wildcards.shard}"
        shell:
            "python -m pipeline.extract {FLAGS} --backbone {wildcards.backbone} " + SHARDS + TO_LOG


class Together:
    """What the rule of a pass of several backbones asks for, bound to their names."""

    def __init__(self, names):
        self.names, self.threads = names, asked.threads(CONFIG, names)
        self.title = short("_with_".join(names))

    def keys(self, wildcards):
        return [key_of(name) for name in self.names]

    def minutes(self, wildcards, attempt):
        return asked.minutes(CONFIG, self.names, rows_of(wildcards.shard), attempt)

    def megabytes(self, wildcards, attempt):
        return asked.megabytes(self.threads, attempt, len(self.names))


# A job computes what its shard lacks: if one key has changed, or one record is gone, it decodes for that backbone alone.
for together in [Together(names) for names in PASSES if len(names) > 1]:

    rule:
        name:
            f"extract_{together.title}"
        input:
            probe=job_done("probe"),
            weights=[ancient(PATHS.weights(name)) for name in together.names],
        output:
            [job_done(name) for name in together.names],
        params:
            key=together.keys,
        log:
            LOGS / "extract" / together.title / "{shard}.log",
        benchmark:
            BENCHMARKS / "extract" / together.title / "{shard}.tsv"
        threads: together.threads
        resources:
            runtime=together.minutes,
            mem_mb=together.megabytes,
            gpu=asked.gpus(CONFIG, together.names),
        message:
            f"{', '.join(together.names)} extract features of shard {{wildcards.shard}}"
        shell:
            # Evaluated when the job runs, and `together` is the last pass then: its names are read from its inputs.
            "python -m pipeline.extract {FLAGS} $(basename -a -s .safetensors {input.weights:q} | sed 's/^/--backbone /') "
            + SHARDS
            + TO_LOG


# A checkpoint, because only the features tell whether there are enough videos for projection heads.
checkpoint index:
    input:
        lambda wc: [
            PATHS.job_done(backbone, shard, CONFIG.shards_a_job) for shard in jobs() for backbone in CONFIG.backbones
        ],
        # Named besides, so that Snakemake makes it again when somebody has deleted it.
        PATHS.plan,
        PATHS.manifest_record,
    output:
        failures=PATHS.failures,
        record=PATHS.features_record,
    params:
        sides=CONFIG.used_backbones,
    log:
        LOGS / "index.log",
    benchmark:
        BENCHMARKS / "index.tsv"
    localrule: True
    message:
        "collecting failures"
    shell:
        "python -m pipeline.index {FLAGS} > {log:q} 2>&1"


# Not part of `all`: it changes nothing.
rule find_duplicates:
    input:
        PATHS.features_record,
        PATHS.manifest_record,
    output:
        table=PATHS.duplicates_table,
        record=PATHS.duplicates,
    params:
        duplicates=CONFIG.duplicates.model_dump(),
        backbones=[CONFIG.heads.audio, CONFIG.heads.video],
    log:
        LOGS / "duplicates.log",
    benchmark:
        BENCHMARKS / "duplicates.tsv"
    threads: cores(at_most=64)
    message:
        "looking for near-duplicates"
    shell:
        "python -m pipeline.duplicates {PATHS.results:q} --threads {threads} 2>&1 | tee {log:q}"
