"""Makes a cohort from karyograms, or from images of single chromosomes listed in a manifest (CSV).

python jobs/ingest.py --karyograms karyograms --output cohorts/mine
python jobs/ingest.py --manifest images/manifest.csv --output cohorts/mine
"""

from collections.abc import Mapping

from homnet.imaging.manifest import read_manifest
from homnet.secret_key import read_secret_key
from homnet_platform.ingest import KEY_VARIABLE, IngestConfig, ingest, report_of
from homnet_platform.job import run_job
from homnet_platform.karyograms import pages_of


def facts(config: IngestConfig) -> Mapping[str, object]:
    """What the manifest or the folder holds."""
    if config.karyograms is not None:
        pages = pages_of(config.karyograms, config.karyogram)
        return {
            "karyograms": len(pages),
            "people": len({(page["hospital"], page["patient_id"]) for page in pages}),
            "report": report_of(config.output),
        }
    assert config.manifest is not None
    manifest = read_manifest(
        config.manifest, hospital=config.hospital, band_level=config.band_level
    )
    keyed = read_secret_key(config.pseudonym_key_file, KEY_VARIABLE) is not None
    return {
        "names": "replaced by pseudonyms" if keyed else "kept",
        "images": len(manifest),
        "people": len(manifest[["hospital", "patient_id"]].drop_duplicates()),
        "report": report_of(config.output),
    }


def main(config: IngestConfig) -> None:
    """Ingests the images and says what became of them."""
    done = ingest(config)
    print(f"images: {done.num_images}, of which {done.num_left_out} left out")
    for reason, count in done.reasons.most_common():
        print(f"  {count:6d} {reason}")
    print(f"flags on the {done.num_images - done.num_left_out} images used:")
    for flag, count in done.flags.most_common():
        print(f"  {count:6d} {flag}")
    levels = ", ".join(f"{count} at {level}" for level, count in sorted(done.estimated.items()))
    if levels:
        print(f"band levels of cells, estimated from their chromosomes: {levels}")
    if done.num_doubted:
        print(f"cells with other bands than their stated level has: {done.num_doubted}")
    print(f"every one of them: {done.report}")
    print(
        f"cohort: {config.output} ({done.num_pairs} pairs of homologs and {done.num_single} single "
        f"chromosomes of {done.cohort.num_patients} people, {len(done.cohort.files)} files)"
    )


if __name__ == "__main__":
    instead = f"give the key in a file, --pseudonym-key-file, or in the variable {KEY_VARIABLE}"
    removed = {"--pseudonym-key": f"{instead}: other users can read a command line"}
    run_job(IngestConfig, main, description=__doc__, facts=facts, removed=removed)
