"""How long should segments be, and how many?

Reads the variants' caches in study/length/SECONDSs_COUNT/, the manifest, and the embeddings that study/length/train.py
wrote. Writes study/length.json.
"""

from __future__ import annotations

from threadpoolctl import threadpool_limits

from config.cli import parser, run
from config.model import Config, read
from eval.bootstrap import few_groups
from study.answer import Answer, sentences, write_answer
from study.length.tables import EQUAL, differences, readings, retrieval, rows
from study.length.text import findings, limits, method
from study.length.train import load_variants


def answer(config: Config) -> Answer:
    """Measure everything and put the answer together."""
    variants, settings = load_variants(config), config.study.length
    ranked, probed = retrieval(config, variants), readings(config, variants)
    # Recall and the median are in the tables; the mean rank is tested because it uses every rank in full.
    ranks = {name: ranked[name] for name in ("mean rank", "mean rank" + EQUAL)}
    tested = differences(settings, {**ranks, **probed})
    return Answer(
        part="length",
        title="Segment length and number",
        question="The paper uses six segments of 3 s. Do audio and video align better with segments of other lengths, "
        "or with more of them?",
        findings=findings(settings, ranked, probed, tested, len(variants.names)),
        method=method(config, variants),
        limits=limits(config, variants, len(tested))
        + sentences(few_groups(int(variants.groups.max()) + 1, "the part of the collection that was extracted again")),
        random_weights=variants.random_weights,
        seeds=config.study.seeds,
        command=f"python -m study.length.measure --config {config.paths.config}",
        tables={"retrieval": rows(ranked), "differences": tested} | ({"reading": rows(probed)} if probed else {}),
    )


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__, "study.length.measure", "cores to use").parse_args()
    config = read(arguments.config)
    with threadpool_limits(arguments.threads):
        write_answer(config.paths, answer(config))


if __name__ == "__main__":
    run(main)
