rule study_relations:
    input:
        study_fits,
        PATHS.features_record,
        PATHS.manifest_record,
        # What the heads' embeddings know of the descriptors is a part of the answer.
        [PATHS.heads(e) / "embeddings.json" for e in CONFIG.heads.experiments],
    output:
        PATHS.study("relations"),
    params:
        relations=CONFIG.study.relations.model_dump(),
        tests="of whole artists",  # what was made with others is made again
        eval=[CONFIG.eval.seed, CONFIG.eval.bootstrap, *UNITS.values()],
        render=CONFIG.render and CONFIG.render.model_dump(),
        backbones=list(CONFIG.backbones),
        sides=[CONFIG.heads.audio, CONFIG.heads.video],
    log:
        LOGS / "study" / "relations.log",
    benchmark:
        BENCHMARKS / "study" / "relations.tsv"
    threads: 2
    message:
        "measuring which relations there are"
    shell:
        "python -m study.relations.measure {FLAGS} --threads {threads} > {log:q} 2>&1"
