"""Pages and pictures for people: a patient, a worklist, a cohort, an evaluation."""
