# Trainings are processes of one core each. What they have finished is kept in study/ablation/pieces, which Snakemake does
# not know, so that a killed job goes on.

ABLATION = CONFIG.study.ablation


rule study_ablation_train:
    input:
        study_fits,
        features=PATHS.features_record,
        manifest=PATHS.manifest_record,
    output:
        PATHS.study_work("ablation") / "trained.safetensors",
    params:
        **CONFIG.heads.rounding(),
        settings=ABLATION.model_dump(),
        simulated=CONFIG.study.correlation.simulated.model_dump(include={"factors", "noise"}),
        experiments={
            name: CONFIG.heads.experiments[name].model_dump()
            for name in (ABLATION.first, ABLATION.last)
            if name in CONFIG.heads.experiments
        },
        backbones=[CONFIG.heads.audio, CONFIG.heads.video],
        render=CONFIG.render and CONFIG.render.model_dump(),
    log:
        LOGS / "study" / "ablation_train.log",
    benchmark:
        BENCHMARKS / "study" / "ablation_train.tsv"
    threads: cores(at_most=16)
    message:
        "training every step from one recipe to the other"
    shell:
        "python -m study.ablation.train {FLAGS} --threads {threads} > {log:q} 2>&1"


rule study_ablation:
    input:
        rules.study_ablation_train.output,
        CACHE,
    output:
        PATHS.study("ablation"),
    params:
        eval=[CONFIG.eval.seed, CONFIG.eval.bootstrap],
    log:
        LOGS / "study" / "ablation.log",
    benchmark:
        BENCHMARKS / "study" / "ablation.tsv"
    message:
        "measuring every step from one recipe to the other"
    shell:
        "python -m study.ablation.measure {FLAGS} > {log:q} 2>&1"
