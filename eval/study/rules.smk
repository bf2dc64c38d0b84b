# What the study measures: one rule a part, each of which writes study/PART.json.


rule study_relations:
    input:
        PATHS.features_record,
        PATHS.manifest_record,
        [PATHS.heads(e) / "embeddings.json" for e in CONFIG.heads.experiments],
    output: PATHS.study("relations"),
    params:
        relations=CONFIG.study.relations.model_dump(),
        eval=[CONFIG.eval.seed, CONFIG.eval.bootstrap],
        backbones=list(CONFIG.backbones),
        sides=[CONFIG.heads.audio, CONFIG.heads.video],
        seeds=CONFIG.heads.seeds,
    log: LOGS / "study" / "relations.log",
    benchmark: BENCHMARKS / "study" / "relations.tsv"
    threads: 2
    message: "looking for relations between sound and picture"
    shell: "python -m eval.study.relations {FLAGS} --threads {threads} > {log:q} 2>&1"
