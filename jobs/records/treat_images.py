r"""Measures what becomes of real images that are inverted, cut out, turned, framed, and so on.

python jobs/records/treat_images.py --manifest pki3/manifest.csv
"""

from homnet.records.treated_images import (
    TreatedImagesConfig,
    measure_treatments,
    treated_images_markdown,
)
from homnet_platform.job import run_job


def main(config: TreatedImagesConfig) -> None:
    """Measures, prints the table, and writes the result of record if one was asked for."""
    figures = measure_treatments(config)
    config.record.write({"treated_images": figures}, recipe="treat_images", seed=config.seed)
    print(treated_images_markdown(figures))


if __name__ == "__main__":
    run_job(TreatedImagesConfig, main, description=__doc__)
