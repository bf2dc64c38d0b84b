# The study's measurements, one rule a part (`study_PART`), and the page that tells all answers.


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
