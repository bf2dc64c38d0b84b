# The study's measurements, one rule a part (`study_PART`), and the page that tells all answers.

from eval.study.answer import PARTS


rule write_study:
    input: [PATHS.study(part) for part in PARTS],
    output: PATHS.study_page,
    log: LOGS / "study" / "page.log",
    benchmark: BENCHMARKS / "study" / "page.tsv"
    message: "writing the study's page"
    shell: "python -m eval.study {FLAGS} > {log:q} 2>&1"


rule study_length:
    input:
        rules.study_length_train.output,
        PATHS.manifest_record,
    output: PATHS.study("length"),
    params:
        eval=CONFIG.eval.model_dump(),
        render=CONFIG.render and CONFIG.render.model_dump(),
    log: LOGS / "study" / "length" / "measure.log",
    benchmark: BENCHMARKS / "study" / "length" / "measure.tsv"
    message: "comparing segments of every length"
    shell: "python -m eval.study.length {FLAGS} --threads {threads} > {log:q} 2>&1"


rule study_correlation:
    input: rules.study_correlation_train.output,
    output: PATHS.study("correlation"),
    params: eval=CONFIG.eval.model_dump(),
    log: LOGS / "study" / "correlation" / "measure.log",
    benchmark: BENCHMARKS / "study" / "correlation" / "measure.tsv"
    threads: cores(at_most=64)
    resources:
        mem_mb=lambda wc, threads: 1000 * threads,
    message: "measuring every recipe at every correlation"
    shell: "python -m eval.study.correlation {FLAGS} --threads {threads} > {log:q} 2>&1"


rule study_aggregation:
    input: rules.study_aggregation_train.output,
    output: PATHS.study("aggregation"),
    params: eval=[CONFIG.eval.seed, CONFIG.eval.bootstrap],
    log: LOGS / "study" / "aggregation.log",
    benchmark: BENCHMARKS / "study" / "aggregation.tsv"
    message: "measuring the poolings of segments"
    shell: "python -m eval.study.aggregation {FLAGS} > {log:q} 2>&1"


rule study_fusion:
    input: rules.study_fusion_train.output,
    output: PATHS.study("fusion"),
    params: eval=[CONFIG.eval.seed, CONFIG.eval.bootstrap],
    log: LOGS / "study" / "fusion.log",
    benchmark: BENCHMARKS / "study" / "fusion.tsv"
    message: "measuring the fusions of sound and pictures"
    shell: "python -m eval.study.fusion {FLAGS} > {log:q} 2>&1"


rule study_relations:
    input:
        PATHS.features_record,
        PATHS.manifest_record,
        # What the heads' embeddings know of the descriptors is a part of the answer.
        [PATHS.heads(e) / "embeddings.json" for e in CONFIG.heads.experiments],
    output: PATHS.study("relations"),
    params:
        relations=CONFIG.study.relations.model_dump(),
        eval=[CONFIG.eval.seed, CONFIG.eval.bootstrap],
        render=CONFIG.render and CONFIG.render.model_dump(),
        backbones=list(CONFIG.backbones),
        sides=[CONFIG.heads.audio, CONFIG.heads.video],
    log: LOGS / "study" / "relations.log",
    benchmark: BENCHMARKS / "study" / "relations.tsv"
    threads: 2
    message: "measuring which relations there are"
    shell: "python -m eval.study.relations {FLAGS} --threads {threads} > {log:q} 2>&1"
