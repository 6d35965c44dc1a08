"""Find the nearest neighbours in the clouds of images and of their words, taken together."""

from pathlib import Path

from running import folder, job, names, work

with job(snakemake) as study:
    from layersight.geometry.graph_stages import find_pair_neighbours
    from layersight.geometry.pairs import pools_of

    activations = snakemake.input.activations
    outs = {Path(out).name: Path(out) for out in snakemake.output}
    for pool in pools_of(names(activations), study.activations.stored):
        find_pair_neighbours(
            subject=snakemake.wildcards.subject,
            pair=pool.name,
            activations=folder(activations),
            image_probe=pool.images,
            text_probe=pool.words,
            streams=pool.streams,
            out=outs[pool.name],
            k=study.geometry.neighbours,
            metric=study.geometry.metric,
            device=study.geometry.device,
            memory_mb=snakemake.params.search_mb,
            work=work() / pool.name,
        )
