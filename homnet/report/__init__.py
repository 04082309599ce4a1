"""Pages and figures for readers: patient, worklist, cohort, evaluation."""
