# Not part of `all`: the map of all videos to browse, which `make explore` shows.
rule write_atlas:
    input:
        expand(rules.embed.output, experiment=list(CONFIG.heads.experiments)),
        CACHE,
        FOREIGN,
    output:
        PATHS.atlas,
    params:
        atlas=CONFIG.eval.atlas.model_dump(),
        seed=CONFIG.eval.seed,
        experiments=list(CONFIG.heads.experiments),
        backbones=list(CONFIG.backbones),
    log:
        LOGS / "atlas.log",
    benchmark:
        BENCHMARKS / "atlas.tsv"
    threads: cores(at_most=16)
    message:
        "writing the map of all videos"
    shell:
        "python -m eval.atlas {FLAGS} --threads {threads} 2>&1 | tee {log:q}"
