# The table of contents: data → pipeline → heads → eval. Every rule runs one `python -m <package>.<module>`.
#
#   snakemake --cores 8 --configfile config/paper.yaml            everything, to the report
#   snakemake extract --cores 8 --configfile config/paper.yaml    up to a stage: manifest labels extract train embeddings
#                                                                evaluate report
#   snakemake duplicates --cores 8 --configfile …                 groups of videos that are the same by their features
#   snakemake evaluate_duplicates --cores 8 --configfile …        retrieval with them counted as right answers
#   snakemake atlas --cores 8 --configfile …                      a map of all videos, which `make explore` shows
#   snakemake study --cores 2 --configfile config/study_demo.yaml  the paper's open questions, to report/study.html


include: "config/common.smk"
include: "data/rules.smk"
include: "pipeline/rules.smk"
include: "heads/rules.smk"
include: "eval/rules.smk"
include: "eval/atlas/rules.smk"
include: "study/rules.smk"


localrules:
    all,
    manifest,
    labels,
    extract,
    train,
    embeddings,
    evaluate,
    report,
    duplicates,
    evaluate_duplicates,
    atlas,
    study,


# The plan besides: Snakemake makes what a target names, but not what is missing behind an output that is there.
rule all:
    default_target: True
    input:
        rules.write_report.output,
        PATHS.plan,


rule manifest:
    input:
        rules.write_manifest.output,


rule labels:
    input:
        [PATHS.labels_record(task) for task in CONFIG.labels.tasks],


rule extract:
    input:
        checkpoints.index.rule.output,
        PATHS.plan,


rule train:
    input:
        [PATHS.heads(e) / "embeddings.json" for e in CONFIG.heads.experiments],


# All videos in every experiment's space, which `python -m eval.query` searches.
rule embeddings:
    input:
        rules.train.input,


rule evaluate:
    input:
        [
            PATHS.eval(e) / f"{what}.json"
            for e in CONFIG.heads.experiments
            for what in ("retrieval", "neighbours", "diagnosis")
        ],
        PATHS.comparison,
        neighbours_of_spaces(),
        probed(),


rule report:
    input:
        rules.write_report.output,
        PATHS.plan,


rule duplicates:
    input:
        rules.find_duplicates.output,
        PATHS.plan,


rule evaluate_duplicates:
    input:
        [PATHS.eval(e) / "duplicates.json" for e in CONFIG.heads.experiments],
        PATHS.plan,


rule atlas:
    input:
        rules.write_atlas.output,
        PATHS.plan,


# Not part of `all`, and needs nothing of the heads and the report above: only the cache.
rule study:
    input:
        rules.write_study.output,
