"""Find the nearest neighbours of every vector of one subject, probe set by probe set."""

from running import folder, job, names, parts, work

with job(snakemake) as study:
    from layersight.geometry.graph_stages import find_neighbours

    subject = snakemake.wildcards.get("subject", "base")
    probes = names(snakemake.input.activations)
    for probe, out in parts(probes).items():
        find_neighbours(
            subject=subject,
            probe=probe,
            activations=folder(snakemake.input.activations) / probe,
            streams=study.activations.stored,
            out=out,
            k=study.geometry.neighbours,
            metric=study.geometry.metric,
            device=study.geometry.device,
            memory_mb=snakemake.params.search_mb,
            work=work() / probe,
        )
