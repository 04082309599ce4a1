"""Ray layer of HomNet: cohort sharding, training, sweeps, evaluation and jobs."""
